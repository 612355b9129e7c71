"""Type a caption and see it painted: `CaptionPainter`."""

import base64
import html
import io
from collections.abc import Callable
from time import perf_counter

import numpy as np

from dltlab.data import CAPTION_ATTRIBUTES, read_caption
from dltlab.display import show_widget
from dltlab.errors import Invalid, LabError

# A function of captions and a guidance that returns images (n, height, width, 3) in [0, 1].
Paint = Callable[[list[str], float], np.ndarray]

_SIDE = 112  # pixels on the screen
_WIDE = {"description_width": "6.5em"}
_STYLE = f"""<style>
.dltlab-painter .dltlab-paintings {{ display: flex; flex-wrap: wrap; gap: 4px;
  min-height: {_SIDE}px; }}
.dltlab-painter img {{ width: {_SIDE}px; height: {_SIDE}px; image-rendering: pixelated;
  border-radius: 3px; margin: 0; }}
</style>"""


class CaptionPainter:
    """A widget with a text box: a network paints what one types.

    A caption is painted several times when Enter is pressed or the text box is left; the button
    paints it again. Attributes that it does not give are chosen at random, and named. The last
    images are saved with the notebook.

    Args:
        paint: A function of captions and a guidance, such as 2.0, that returns an image for each
            caption, `(n, height, width, 3)` in [0, 1].
        caption: The first caption.
        guidance: The first guidance.
        num_images: How many images are painted at once.
        seed: Of the attributes that are chosen at random.

    Attributes:
        widget: The ipywidgets widget, for use in other layouts.

    Raises:
        Invalid: `num_images` is not positive.
    """

    def __init__(
        self,
        paint: Paint,
        *,
        caption: str = "a large red circle at the left",
        guidance: float = 2.0,
        num_images: int = 6,
        seed: int | None = None,
    ) -> None:
        import ipywidgets

        if num_images < 1:
            raise Invalid(f"num_images is {num_images}; it must be 1 or more.")
        self._paint, self._num_images = paint, num_images
        self._random = np.random.default_rng(seed)
        self._text = ipywidgets.Text(
            caption, description="Caption", placeholder="a small red circle at the left",
            continuous_update=False, style=_WIDE,
            layout=ipywidgets.Layout(width="34em", max_width="100%"),
        )  # fmt: skip
        self._guidance = ipywidgets.FloatSlider(
            guidance, min=0, max=6, step=0.5, description="Guidance", style=_WIDE,
            continuous_update=False,
            tooltip="0: the caption is ignored; 1: as trained; above: obeyed more strictly",
        )  # fmt: skip
        button = ipywidgets.Button(
            description="Paint again", icon="paint-brush", tooltip="Paint other images of it"
        )
        button.on_click(lambda clicked: self._update())
        self._status, self._output = ipywidgets.HTML(), ipywidgets.HTML()
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HTML(_STYLE),
                self._text,
                self._guidance,
                ipywidgets.HBox([button, self._status]),
                self._output,
            ]
        ).add_class("dltlab-painter")
        for control in (self._text, self._guidance):
            control.observe(lambda change: self._update(), "value")
        self._store: Callable[[str], None] = lambda html: None
        self._captions: list[str] = []

    def paint(self) -> np.ndarray:
        """Paint the present caption; return the images `(num_images, height, width, 3)`.

        Raises:
            Invalid: The caption has an unknown word, or gives an attribute twice.
        """
        given = read_caption(self._text.value)
        self._captions = [self._completed(given) for _ in range(self._num_images)]
        start = perf_counter()
        painted = self._paint(self._captions, self._guidance.value)
        images: np.ndarray = np.clip(np.asarray(painted), 0, 1)
        seconds = perf_counter() - start
        self._output.value = _as_html(images, self._captions)
        missing = [attribute for attribute in CAPTION_ATTRIBUTES if attribute not in given]
        chosen = f" Not given, so chosen at random: {', '.join(missing)}." if missing else ""
        self._say(f"{len(images)} images in {seconds:.1f} s.{chosen}")
        return images

    def show(self) -> None:
        """Show the widget with the first images; without a front end, print the captions."""
        self._update()
        self._store = show_widget(self.widget, str(self), self._stored())

    def __str__(self) -> str:
        return "\n".join(self._captions or [self._text.value])

    def _update(self) -> None:
        """Paint, or say why not."""
        self._say("Painting …")
        try:
            self.paint()
        except LabError as error:
            self._captions, self._output.value = [], ""
            self._say(str(error))
        self._store(self._stored())

    def _completed(self, given: dict[str, str]) -> str:
        """Return a caption with an arbitrary value for each attribute that is not given."""
        return " ".join(
            given[attribute] if attribute in given else str(self._random.choice(words))
            for attribute, words in CAPTION_ATTRIBUTES.items()
        )

    def _say(self, sentence: str) -> None:
        self._status.value = f'<span aria-live="polite">{html.escape(sentence)}</span>'

    def _stored(self) -> str:
        caption = html.escape(self._text.value)
        return f'{_STYLE}<div class="dltlab-painter"><p>{caption}</p>{self._output.value}</div>'


def _as_html(images: np.ndarray, captions: list[str]) -> str:
    """Return images side by side as HTML, with their captions as descriptions."""
    from PIL import Image

    parts = []
    for image, caption in zip(np.rint(255 * images).astype(np.uint8), captions, strict=True):
        png = io.BytesIO()
        Image.fromarray(image).save(png, format="png")
        source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        text = html.escape(caption, quote=True)
        parts.append(f'<img src="{source}" alt="{text}" title="{text}">')
    return f'<div class="dltlab-paintings">{"".join(parts)}</div>'
