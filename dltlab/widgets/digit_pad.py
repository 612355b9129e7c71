"""Paint a digit on a grid of pixels and see how a network classifies it: `DigitPad`."""

import html
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dltlab.display import show_widget
from dltlab.errors import Invalid

_PIXEL_SIZE = 28  # pixels on the screen per pixel of the pad
_INK = 0.5  # a value of this or more is ink
_NUM_CLASSES = 10

# Ink on paper in JupyterLab's light and dark themes, whose own rules for buttons need `!important`.
_STYLE = f"""<style>
.dltlab-pad {{ display: grid !important; gap: 1px; padding: 1px; background: #c3cbd4;
  border-radius: 3px; overflow: hidden; width: max-content; touch-action: none; }}
.dltlab-pad .dltlab-pixel {{ width: {_PIXEL_SIZE}px !important; height: {_PIXEL_SIZE}px !important;
  min-width: 0; margin: 0 !important; padding: 0 !important; border: 0 !important;
  border-radius: 0 !important; box-shadow: none !important; background: #fbfbf8 !important; }}
.dltlab-pad .dltlab-pixel:hover {{ background: #d5dce4 !important; }}
.dltlab-pad .dltlab-pixel.mod-active {{ background: #1b2430 !important; }}
.dltlab-pad .dltlab-pixel.mod-active:hover {{ background: #46566a !important; }}
.dltlab-pad .dltlab-pixel:focus-visible {{ outline: 3px solid #1976d2 !important;
  outline-offset: -3px !important; }}
</style>"""

# ipywidgets has no painting and no `aria-pressed`. The browser runs this when it shows the pad,
# which may be before the pixels are there.
_SCRIPT = """
const root = this.closest('.dltlab-painting');
const pixels = () => [...root.querySelectorAll('.dltlab-pixel')];
const isInk = (pixel) => pixel.classList.contains('mod-active');
let current = 0;  // the place of the pixel that Tab and the arrow keys start from
let ink = null;  // what the pointer paints while it is down

const describe = () => pixels().forEach((pixel, place) => {
  pixel.setAttribute('aria-pressed', isInk(pixel));
  pixel.setAttribute('aria-label', pixel.title);
  pixel.tabIndex = place === current ? 0 : -1;
});
const paint = (element) => {
  const pixel = element?.closest('.dltlab-pixel');
  if (pixel && root.contains(pixel) && isInk(pixel) !== ink) pixel.click();
};
if (!root.dataset.isReady) {
  root.dataset.isReady = true;
  new MutationObserver(describe)
    .observe(root, { subtree: true, childList: true, attributeFilter: ['class'] });
  root.addEventListener('pointerdown', (event) => {
    const pixel = event.target.closest('.dltlab-pixel');
    if (!pixel || event.button) return;
    event.target.releasePointerCapture(event.pointerId);
    ink = !isInk(pixel);
    paint(pixel);
  });
  root.addEventListener('pointermove', (event) => {
    if (ink === null) return;
    for (const step of event.getCoalescedEvents())
      paint(document.elementFromPoint(step.clientX, step.clientY));
  });
  for (const end of ['pointerup', 'pointercancel'])
    window.addEventListener(end, () => { ink = null; });
  root.addEventListener('click', (event) => {  // the pointer has painted this pixel already
    if (event.isTrusted && event.detail && event.target.closest('.dltlab-pixel'))
      event.stopPropagation();
  }, true);
  root.addEventListener('focusin', (event) => {
    const place = pixels().indexOf(event.target);
    if (place >= 0) current = place;
    describe();
  });
  root.addEventListener('keydown', (event) => {
    const all = pixels(), place = all.indexOf(event.target), size = Math.sqrt(all.length);
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -size, ArrowDown: size };
    if (place < 0 || !(event.key in steps)) return;
    event.preventDefault();
    const next = place + steps[event.key];
    const isSameRow = Math.floor(next / size) === Math.floor(place / size);
    if (isSameRow || Math.abs(steps[event.key]) === size) all[next]?.focus();
  });
  describe();
}
"""


class DigitPad:
    """A square of pixels to paint a digit on, and a network's probabilities for it.

    Args:
        predict: A function from a float32 array `(1, size, size, 1)` of zeros and ones to the
            probabilities of the ten digits, `(10,)` or `(1, 10)`.
        size: The number of pixels along a side.
        examples: Images `(n, size, size)` or `(n, size, size, 1)` in [0, 1] that the button
            "Example" paints in turn; without examples there is no such button.

    Attributes:
        widget: The ipywidgets widget, for use in other layouts.

    Raises:
        Invalid: The examples have another shape.
    """

    def __init__(
        self,
        predict: Callable[[np.ndarray], ArrayLike],
        size: int = 8,
        examples: Sequence[ArrayLike] | np.ndarray = (),
    ) -> None:
        import ipywidgets

        self._predict = predict
        self._size = size
        self._examples = itertools.cycle([self._to_ink(example) for example in examples])
        self._is_painting = False
        self._store: Callable[[str], None] = lambda html: None
        self._pixels = [
            self._new_pixel(row, column) for row in range(size) for column in range(size)
        ]
        self._bars = ipywidgets.HTML()
        script = ipywidgets.HTML(f'<style onload="{html.escape(_SCRIPT)}"></style>')
        buttons = [self._new_button("Clear", "Start with an empty pad", self.clear)]
        if len(examples):
            tip = "Paint an example from the data"
            buttons.append(
                self._new_button("Example", tip, lambda: self.paint(next(self._examples)))
            )
        columns = ipywidgets.Layout(grid_template_columns=f"repeat({size}, {_PIXEL_SIZE}px)")
        grid = ipywidgets.GridBox(self._pixels, layout=columns).add_class("dltlab-pad")
        self.widget = ipywidgets.HBox(
            [
                ipywidgets.VBox(
                    [ipywidgets.HTML(_STYLE), grid, ipywidgets.HBox(buttons), script]
                ).add_class("dltlab-painting"),
                self._bars,
            ],
            layout=ipywidgets.Layout(
                flex_flow="row wrap", grid_gap="24px", align_items="flex-start"
            ),
        )
        self._update()

    @property
    def image(self) -> np.ndarray:
        """The painted image: float32 `(size, size)`, 1 for ink and 0 for paper."""
        values = [pixel.value for pixel in self._pixels]
        return np.array(values, np.float32).reshape(self._size, self._size)

    @property
    def probabilities(self) -> np.ndarray | None:
        """The network's last output: float `(10,)`; None for an empty pad and after an error."""
        return self._probabilities

    def paint(self, image: ArrayLike) -> None:
        """Replace the painted image.

        Args:
            image: `size` × `size` values in [0, 1], in rows; a value of 0.5 or more is ink.

        Raises:
            Invalid: The number of values is wrong, or one is outside [0, 1].
        """
        self._is_painting = True
        for pixel, value in zip(self._pixels, self._to_ink(image).flat, strict=True):
            pixel.value = bool(value)
        self._is_painting = False
        self._update()

    def clear(self) -> None:
        """Erase the painted image."""
        self.paint(np.zeros((self._size, self._size)))

    def show(self) -> None:
        """Show the pad; without a front end, print the image and its probabilities."""
        self._store = show_widget(self.widget, str(self), self._stored())

    def __str__(self) -> str:
        rows = ["".join("██" if ink else "··" for ink in row) for row in self.image]
        lines = [self._message]
        if self.probabilities is not None:
            lines += [f"{digit}  {value:6.1%}" for digit, value in enumerate(self.probabilities)]
        return "\n".join(rows + lines)

    def _to_ink(self, image: ArrayLike) -> np.ndarray:
        values = np.asarray(image, np.float32)
        if values.size != self._size**2:
            raise Invalid(
                f"The pad has {self._size} × {self._size} pixels; "
                f"an image of shape {values.shape} does not fit on it."
            )
        if not ((values >= 0) & (values <= 1)).all():
            raise Invalid("The pad takes values from 0 to 1; divide the image by its maximum.")
        return values >= _INK

    def _new_pixel(self, row: int, column: int) -> Any:
        import ipywidgets

        pixel = ipywidgets.ToggleButton(tooltip=f"row {row + 1}, column {column + 1}")
        pixel.observe(self._clicked, "value")
        return pixel.add_class("dltlab-pixel")

    def _new_button(self, text: str, tip: str, action: Callable[[], None]) -> Any:
        import ipywidgets

        button = ipywidgets.Button(
            description=text, tooltip=tip, layout=ipywidgets.Layout(width="max-content")
        )
        button.on_click(lambda clicked: action())
        return button

    def _clicked(self, change: Any) -> None:
        if not self._is_painting:
            self._update()

    def _update(self) -> None:
        """Classify the painted image and show the result."""
        self._probabilities, self._message = self._classify()
        self._bars.value = _bars(self._probabilities, self._message)
        self._store(self._stored())

    def _stored(self) -> str:
        return f'<pre style="font-family: monospace">{html.escape(str(self))}</pre>'

    def _classify(self) -> tuple[np.ndarray | None, str]:
        """Return the network's probabilities, None if there are none, and a sentence."""
        image = self.image
        if not image.any():
            return None, "Paint a digit: drag over the pixels."
        try:
            output = np.asarray(self._predict(image[np.newaxis, ..., np.newaxis]), float)
        except Exception as error:  # the learner's function may raise anything
            return None, f"predict raised {type(error).__name__}: {' '.join(str(error).split())}"
        if output.shape not in ((_NUM_CLASSES,), (1, _NUM_CLASSES)):
            return None, f"predict returned the shape {output.shape}; it must be (10,) or (1, 10)."
        if not ((output >= 0) & (output <= 1)).all():
            return None, "predict returned values outside [0, 1]: apply a softmax."
        output = output.reshape(_NUM_CLASSES)
        return output, f"The network reads this as {output.argmax()}."


def _bars(probabilities: np.ndarray | None, message: str) -> str:
    """Return HTML with a sentence and ten bars, the longest marked; empty bars for None."""
    values = [None] * _NUM_CLASSES if probabilities is None else probabilities
    best = None if probabilities is None else probabilities.argmax()
    rows = "".join(_bar(digit, value, digit == best) for digit, value in enumerate(values))
    return (
        '<div class="dltlab-bars" '
        'style="width: 320px; max-width: 100%; font-variant-numeric: tabular-nums">'
        f'<div aria-live="polite" style="line-height: 1.4; margin-bottom: 6px">'
        f"{html.escape(message)}</div>{rows}</div>"
    )


def _bar(digit: int, value: float | None, is_best: bool) -> str:
    color = "var(--jp-brand-color1, #1976d2)" if is_best else "var(--jp-ui-font-color2, #757575)"
    percent = "" if value is None else f"{value:.1%}"
    return (
        f'<div style="display: flex; align-items: center; gap: 8px; line-height: 20px; '
        f'font-weight: {700 if is_best else 400}">'
        f"<span>{digit}</span>"
        '<span style="flex: 1; height: 12px; background: var(--jp-layout-color2, #eeeeee)">'
        f'<span style="display: block; height: 100%; width: {percent or 0}; background: {color}">'
        f'</span></span><span style="width: 4.5em; text-align: right">{percent}</span>'
        f'<span style="width: 1em">{"◀" if is_best else ""}</span></div>'
    )
