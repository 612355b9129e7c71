"""Write with a trained network: a prompt, what it goes on with, and how boldly."""

import html
import itertools
import threading
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from dltlab.data import Vocabulary
from dltlab.display import printable, show_widget
from dltlab.errors import LabError

if TYPE_CHECKING:
    import keras

_REDRAW_SECONDS = 0.1
_WIDE = {"description_width": "6.5em"}
_STYLE = """<style>
.dltlab-sampler pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: 8px 12px;
  min-height: 12em; line-height: 1.4; border: 1px solid var(--jp-border-color1, #bdbdbd);
  border-radius: 3px; background: var(--jp-layout-color1, #ffffff);
  color: var(--jp-content-font-color1, #212121); }
.dltlab-sampler pre b { color: var(--jp-brand-color1, #1976d2); }
</style>"""


class TextSampler:
    """A network that writes, under sliders for temperature, top-k and top-p.

    The button "Write" lets the text stream in, character by character; meanwhile it says "Stop".
    What is set while a text is written counts for the next one. The one written last is kept with
    the notebook.

    Args:
        model: As `training.generate` takes it.
        vocabulary: The one that the model was trained with.
        prompt: What the network reads first.
        num_characters: How long a text it writes.

    Raises:
        LabError: The model cannot be run step by step, or does not fit the vocabulary.
    """

    def __init__(
        self,
        model: "keras.Model",
        vocabulary: Vocabulary,
        *,
        prompt: str = "",
        num_characters: int = 400,
    ) -> None:
        import ipywidgets

        from dltlab.training import TextGenerator

        if num_characters < 1:
            raise LabError(f"num_characters is {num_characters}; it must be 1 or more.")
        self._generator = TextGenerator(model, vocabulary)
        self._num_characters = num_characters
        self._prompt = ipywidgets.Textarea(
            prompt, description="Prompt", placeholder="what the text begins with",
            rows=2, style=_WIDE, layout=ipywidgets.Layout(width="34em"),
        )  # fmt: skip
        self._temperature = ipywidgets.FloatSlider(
            0.8, min=0, max=2, step=0.05, description="Temperature", style=_WIDE,
            tooltip="0: always the most probable character; 1: as the network says; above: wilder",
        )  # fmt: skip
        self._top_k = ipywidgets.IntSlider(
            len(vocabulary), min=1, max=len(vocabulary), description="Top-k", style=_WIDE,
            tooltip="How many of the most probable characters may be drawn",
        )  # fmt: skip
        self._top_p = ipywidgets.FloatSlider(
            1, min=0.05, max=1, step=0.05, description="Top-p", style=_WIDE,
            tooltip="The probability that those which may be drawn have together",
        )  # fmt: skip
        self._button = ipywidgets.Button(tooltip="Write a text, or stop the one being written")
        self._button.on_click(lambda clicked: self._pressed())
        self._output = ipywidgets.HTML()
        self._said = ipywidgets.HTML()
        sliders = [self._temperature, self._top_k, self._top_p]
        self._widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(_STYLE),
                self._prompt,
                *sliders,
                ipywidgets.HBox([self._button, self._said]),
                self._output,
            ]
        ).add_class("dltlab-sampler")
        self._stopped = threading.Event()
        self._writer: threading.Thread | None = None
        self._text = ""
        self._show_idle("Press Write.")

    @property
    def text(self) -> str:
        """What was written last, without its prompt."""
        return self._text

    def write(self, *, seed: int | None = None) -> str:
        """Write a text as the sliders say, and return it when it is complete.

        Args:
            seed: Equal seeds give equal texts; None: another one each time.

        Raises:
            LabError: A character of the prompt is none of the vocabulary's.
        """
        self.stop()
        self._stopped.clear()
        self._stream(self._prompt.value, self._characters(seed))
        return self._text

    def stop(self) -> None:
        """End the text that is being written, if one is."""
        self._stopped.set()
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def show(self) -> None:
        """Show the sampler with a first text; without a front end, print that."""
        self.write()
        show_widget(self._widget, str(self))

    def __str__(self) -> str:
        return f"{self._prompt.value}{self._text}"

    def _pressed(self) -> None:
        """The button: stop what is being written, or begin."""
        if self._writer is not None and self._writer.is_alive():
            self.stop()
            return
        try:
            characters = self._characters()
        except LabError as error:
            self._show_idle(str(error))
            return
        self._stopped.clear()
        self._button.description, self._button.icon = "Stop", "stop"
        # In a thread of its own: the kernel is free for the click that stops it.
        self._writer = threading.Thread(
            target=self._stream_alone, args=(self._prompt.value, characters), daemon=True
        )
        self._writer.start()

    def _characters(self, seed: int | None = None) -> Iterator[str]:
        return self._generator.characters(
            self._prompt.value,
            temperature=self._temperature.value,
            top_k=self._top_k.value,
            top_p=self._top_p.value,
            seed=seed,
        )

    def _stream(self, prompt: str, characters: Iterator[str]) -> None:
        """Show what is written as it comes, until it is long enough or stopped."""
        self._text = ""
        self._show(prompt)
        began = shown = perf_counter()
        for each in itertools.islice(characters, self._num_characters):
            self._text += each
            if perf_counter() > shown + _REDRAW_SECONDS:
                self._show(prompt)
                shown = perf_counter()
            if self._stopped.is_set():
                break
        self._show(prompt)
        rate = len(self._text) / (perf_counter() - began)
        self._show_idle(f"{len(self._text):,} characters, {rate:,.0f} a second.")

    def _stream_alone(self, prompt: str, characters: Iterator[str]) -> None:
        try:
            self._stream(prompt, characters)
        except Exception as error:  # nobody else would see what happens in a thread
            self._show_idle(f"{type(error).__name__}: {error}")

    def _show(self, prompt: str) -> None:
        self._output.value = (
            f'<pre aria-label="The text"><b>{_escaped(prompt)}</b>{_escaped(self._text)}</pre>'
        )

    def _show_idle(self, sentence: str) -> None:
        self._said.value = f'<span aria-live="polite">{html.escape(sentence)}</span>'
        self._button.description, self._button.icon = "Write", "pencil"


def _escaped(text: str) -> str:
    """`text` as HTML shows it, line ends and tabs as they are."""
    return html.escape("".join(each if each in "\n\t" else printable(each) for each in text))
