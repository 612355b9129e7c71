"""A pad on which a digit is painted, pixel by pixel, and read by a network at each click."""

import html
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dltlab.display import show_widget
from dltlab.errors import LabError

_PIXEL = 28  # pixels of the screen, across one pixel of the pad
_INK = 0.5  # a value from here on counts as ink
_NUM_CLASSES = 10

# Ink on paper, in JupyterLab's light theme and in its dark one. The theme's own rules for buttons
# are many, hence `!important`.
_STYLE = f"""<style>
.dltlab-pad {{ display: grid !important; gap: 1px; padding: 1px; background: #c3cbd4;
  border-radius: 3px; overflow: hidden; width: max-content; }}
.dltlab-pad .dltlab-pixel {{ width: {_PIXEL}px !important; height: {_PIXEL}px !important;
  min-width: 0; margin: 0 !important; padding: 0 !important; border: 0 !important;
  border-radius: 0 !important; box-shadow: none !important; background: #fbfbf8 !important; }}
.dltlab-pad .dltlab-pixel:hover {{ background: #d5dce4 !important; }}
.dltlab-pad .dltlab-pixel.mod-active {{ background: #1b2430 !important; }}
.dltlab-pad .dltlab-pixel.mod-active:hover {{ background: #46566a !important; }}
.dltlab-pad .dltlab-pixel:focus-visible {{ outline: 3px solid #1976d2 !important;
  outline-offset: -3px !important; }}
.dltlab-pad.jupyter-widgets-disconnected::before,
.dltlab-pad .jupyter-widgets-disconnected::before {{ display: none; }}
</style>"""


class DigitPad:
    """A square of pixels to paint a digit on, beside what a network makes of it.

    Args:
        predict: Takes a float32 array `(1, size, size, 1)` of zeros and ones and returns the
            probabilities of the ten digits, `(10,)` or `(1, 10)`.
        size: Pixels along a side.
        examples: Images `(n, size, size)` or `(n, size, size, 1)` in [0, 1] that the button
            "Example" paints in turn; without any there is no such button.

    Raises:
        LabError: The examples have another shape.
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
        self._examples = cycle([self._inked(each) for each in examples])
        self._painting = False
        self._pixels = [self._pixel(row, column) for row in range(size) for column in range(size)]
        self._bars = ipywidgets.HTML()
        buttons = [self._button("Clear", "Start with an empty pad", self.clear)]
        if len(examples):
            tip = "Paint an example from the data"
            buttons.append(self._button("Example", tip, lambda: self.paint(next(self._examples))))
        columns = ipywidgets.Layout(grid_template_columns=f"repeat({size}, {_PIXEL}px)")
        grid = ipywidgets.GridBox(self._pixels, layout=columns).add_class("dltlab-pad")
        self._widget = ipywidgets.HBox(
            [
                ipywidgets.VBox([ipywidgets.HTML(_STYLE), grid, ipywidgets.HBox(buttons)]),
                self._bars,
            ],
            layout=ipywidgets.Layout(
                flex_flow="row wrap", grid_gap="24px", align_items="flex-start"
            ),
        )
        self._read()

    @property
    def image(self) -> np.ndarray:
        """What is painted: float32 `(size, size)`, 1 for ink and 0 for paper."""
        values = [pixel.value for pixel in self._pixels]
        return np.array(values, np.float32).reshape(self._size, self._size)

    @property
    def probabilities(self) -> np.ndarray | None:
        """What the network said last: float `(10,)`; None on an empty pad and after a failure."""
        return self._probabilities

    def paint(self, image: ArrayLike) -> None:
        """Replace what is painted.

        Args:
            image: `size` × `size` values in [0, 1], in rows; from 0.5 on a value is ink.

        Raises:
            LabError: There are more or fewer values, or they lie outside [0, 1].
        """
        self._painting = True
        for pixel, value in zip(self._pixels, self._inked(image).flat, strict=True):
            pixel.value = bool(value)
        self._painting = False
        self._read()

    def clear(self) -> None:
        """Start with an empty pad."""
        self.paint(np.zeros((self._size, self._size)))

    def show(self) -> None:
        """Show the pad; where no widget can be shown, print what is painted and how it is read."""
        show_widget(self._widget, str(self))

    def __str__(self) -> str:
        rows = ["".join("██" if ink else "··" for ink in row) for row in self.image]
        lines = [self._message]
        if self.probabilities is not None:
            lines += [f"{digit}  {share:6.1%}" for digit, share in enumerate(self.probabilities)]
        return "\n".join(rows + lines)

    def _inked(self, image: ArrayLike) -> np.ndarray:
        values = np.asarray(image, np.float32)
        if values.size != self._size**2:
            raise LabError(
                f"The pad has {self._size} × {self._size} pixels; "
                f"an image of shape {values.shape} does not fit on it."
            )
        if not ((values >= 0) & (values <= 1)).all():
            raise LabError("The pad takes values from 0 to 1; divide the image by its maximum.")
        return values >= _INK

    def _pixel(self, row: int, column: int) -> Any:
        import ipywidgets

        pixel = ipywidgets.ToggleButton(tooltip=f"row {row + 1}, column {column + 1}")
        pixel.observe(self._clicked, "value")
        return pixel.add_class("dltlab-pixel")

    def _button(self, text: str, tip: str, action: Callable[[], None]) -> Any:
        import ipywidgets

        button = ipywidgets.Button(
            description=text, tooltip=tip, layout=ipywidgets.Layout(width="max-content")
        )
        button.on_click(lambda clicked: action())
        return button

    def _clicked(self, change: Any) -> None:
        if not self._painting:
            self._read()

    def _read(self) -> None:
        """Ask the network what is painted, and show its answer."""
        self._probabilities, self._message = self._answer()
        self._bars.value = _bars(self._probabilities, self._message)

    def _answer(self) -> tuple[np.ndarray | None, str]:
        """What the network says, in numbers and in a sentence; no numbers where it says nothing."""
        image = self.image
        if not image.any():
            return None, "Paint a digit: click the pixels."
        try:
            answer = np.asarray(self._predict(image[np.newaxis, ..., np.newaxis]), float)
        except Exception as error:  # whatever a learner's function does, the pad stays alive
            return None, f"predict raised {type(error).__name__}: {' '.join(str(error).split())}"
        if answer.shape not in ((_NUM_CLASSES,), (1, _NUM_CLASSES)):
            return None, f"predict returned the shape {answer.shape}; ten probabilities are wanted."
        if not ((answer >= 0) & (answer <= 1)).all():
            return None, "predict returned values outside [0, 1]: softmax makes probabilities."
        answer = answer.reshape(_NUM_CLASSES)
        return answer, f"The network reads this as {answer.argmax()}."


def _bars(probabilities: np.ndarray | None, message: str) -> str:
    """Ten bars below a sentence; the longest is marked. Without probabilities they stay blank."""
    shares = [None] * _NUM_CLASSES if probabilities is None else probabilities
    best = None if probabilities is None else probabilities.argmax()
    rows = "".join(_bar(digit, share, digit == best) for digit, share in enumerate(shares))
    return (
        '<div class="dltlab-bars" style="width: 320px; font-variant-numeric: tabular-nums">'
        f'<div aria-live="polite" style="line-height: 1.4; margin-bottom: 6px">'
        f"{html.escape(message)}</div>{rows}</div>"
    )


def _bar(digit: int, share: float | None, best: bool) -> str:
    color = "var(--jp-brand-color1, #1976d2)" if best else "var(--jp-ui-font-color2, #757575)"
    percent = "" if share is None else f"{share:.1%}"
    return (
        f'<div style="display: flex; align-items: center; gap: 8px; line-height: 20px; '
        f'font-weight: {700 if best else 400}">'
        f"<span>{digit}</span>"
        '<span style="flex: 1; height: 12px; background: var(--jp-layout-color2, #eeeeee)">'
        f'<span style="display: block; height: 100%; width: {percent or 0}; background: {color}">'
        f'</span></span><span style="width: 4.5em; text-align: right">{percent}</span>'
        f'<span style="width: 1em">{"◀" if best else ""}</span></div>'
    )
