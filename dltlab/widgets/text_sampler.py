"""Generate text with a trained network, with sliders for the sampling: `TextSampler`."""

import html
import itertools
import threading
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING

from dltlab.data import Vocabulary
from dltlab.display import printable, show_widget
from dltlab.errors import Invalid, LabError

if TYPE_CHECKING:
    import keras

WIDE = {"description_width": "6.5em"}
_STYLE = """<style>
.dltlab-sampler pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: 8px 12px;
  min-height: 12em; line-height: 1.4; border: 1px solid var(--jp-border-color1, #bdbdbd);
  border-radius: 3px; background: var(--jp-layout-color1, #ffffff);
  color: var(--jp-content-font-color1, #212121); }
.dltlab-sampler pre b { color: var(--jp-brand-color1, #1976d2); }
</style>"""


class TextSampler:
    """A widget that generates text, with sliders for temperature, top-k and top-p.

    The button "Write" starts a text, which appears character by character; meanwhile the button
    says "Stop". A setting that changes meanwhile starts the text again. The last text is saved with
    the notebook.

    Args:
        model: As for `training.generate`.
        vocabulary: The vocabulary that the model was trained with.
        prompt: The text to continue.
        num_characters: The length of a text.

    Attributes:
        widget: The ipywidgets widget, for use in other layouts.

    Raises:
        Invalid: The model cannot run step by step, or does not fit the vocabulary.
    """

    redraw_seconds = 0.1  # between two updates of the text
    styles = _STYLE

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
            raise Invalid(f"num_characters is {num_characters}; it must be 1 or more.")
        self._generator = TextGenerator(model, vocabulary)
        self._num_characters = num_characters
        self._prompt = ipywidgets.Textarea(
            prompt, description="Prompt", placeholder="the text to continue",
            rows=2, style=WIDE, layout=ipywidgets.Layout(width="34em", max_width="100%"),
        )  # fmt: skip
        self._temperature = ipywidgets.FloatSlider(
            0.8, min=0, max=2, step=0.05, description="Temperature", style=WIDE,
            tooltip="0: always the most probable character; above 1: more random",
        )  # fmt: skip
        self._top_k = ipywidgets.IntSlider(
            len(vocabulary), min=1, max=len(vocabulary), description="Top-k", style=WIDE,
            tooltip="The number of most probable characters to draw from",
        )  # fmt: skip
        self._top_p = ipywidgets.FloatSlider(
            1, min=0.05, max=1, step=0.05, description="Top-p", style=WIDE,
            tooltip="The total probability of the characters to draw from",
        )  # fmt: skip
        self._button = ipywidgets.Button(tooltip="Generate a text, or stop it")
        self._button.on_click(lambda clicked: self._toggle())
        self._output = ipywidgets.HTML()
        self._status = ipywidgets.HTML()
        sliders = [self._temperature, self._top_k, self._top_p]
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(self.styles),
                self._prompt,
                *sliders,
                ipywidgets.HBox([self._button, self._status]),
                self._output,
            ]
        ).add_class("dltlab-sampler")
        for control in (self._prompt, *sliders):
            control.observe(lambda change: self._start_again(), "value")
        self._stopped = threading.Event()
        self._writer: threading.Thread | None = None
        self._text = ""
        self._store: Callable[[str], None] = lambda html: None
        self._show_idle("Press Write.")

    @property
    def text(self) -> str:
        """The last text, without its prompt."""
        return self._text

    def write(self, *, seed: int | None = None) -> str:
        """Generate a text with the current settings, and return it when it is complete.

        Args:
            seed: Equal seeds give equal texts; None: a new one for each call.

        Raises:
            Invalid: The prompt has a character that is not in the vocabulary.
        """
        self.stop()
        self._stopped.clear()
        self._stream(self._prompt.value, self._characters(seed))
        return self._text

    def stop(self) -> None:
        """Stop the text that is being generated, if there is one."""
        self._stopped.set()
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def show(self) -> None:
        """Show the widget with a first text; without a front end, print the text."""
        self.write()
        self._store = show_widget(self.widget, str(self), self._stored())

    def __str__(self) -> str:
        return f"{self._prompt.value}{self._text}"

    def _toggle(self) -> None:
        """Stop the text that is being generated, or start a new one."""
        if self._is_writing():
            self.stop()
        else:
            self._start()

    def _start_again(self) -> None:
        """Start the text that is being generated again, with the present settings.

        A busy kernel receives a click before the last changes of a slider.
        """
        if self._is_writing():
            self.stop()
            self._start()

    def _is_writing(self) -> bool:
        return self._writer is not None and self._writer.is_alive()

    def _start(self) -> None:
        try:
            characters = self._characters()
        except LabError as error:
            self._show_idle(str(error))
            return
        self._stopped.clear()
        self._button.description, self._button.icon = "Stop", "stop"
        # In a thread, so that the kernel can handle the click that stops it.
        self._writer = threading.Thread(
            target=self._stream_in_thread, args=(self._prompt.value, characters), daemon=True
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
        """Show the text as it is generated, until it is complete or stopped."""
        self._text = ""
        self._show(prompt)
        start = last_redraw = perf_counter()
        for character in itertools.islice(characters, self._num_characters):
            self._text += character
            if perf_counter() > last_redraw + self.redraw_seconds:
                self._show(prompt)
                last_redraw = perf_counter()
            if self._stopped.is_set():
                break
        self._show(prompt)
        rate = len(self._text) / (perf_counter() - start)
        self._show_idle(f"{len(self._text):,} characters, {rate:,.0f} per second.")

    def _stream_in_thread(self, prompt: str, characters: Iterator[str]) -> None:
        try:
            self._stream(prompt, characters)
        except Exception as error:  # an exception in a thread would not be seen
            self._show_idle(f"{type(error).__name__}: {error}")

    def _show(self, prompt: str) -> None:
        self._output.value = (
            f'<pre aria-label="The text"><b>{escaped(prompt)}</b>{escaped(self._text)}</pre>'
        )

    def _stored(self) -> str:
        return f'{self.styles}<div class="dltlab-sampler">{self._output.value}</div>'

    def _show_idle(self, sentence: str) -> None:
        self._status.value = f'<span aria-live="polite">{html.escape(sentence)}</span>'
        self._button.description, self._button.icon = "Write", "pencil"
        self._store(self._stored())


def escaped(text: str) -> str:
    """Escape text for HTML; keep line ends and tabs."""
    return html.escape("".join(char if char in "\n\t" else printable(char) for char in text))
