"""Show figures, widgets and results: in a notebook as rich output, in a terminal as text."""

import base64
import dataclasses
import html
import io
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# The colors of Okabe and Ito, distinguishable with any color vision (jfly.uni-koeln.de/color).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
NEUTRAL = "#777777"  # for context: baselines, grids, annotations

# The plain text of the output that is shown in the place of a widget without a kernel.
RUN_AGAIN = "Run this cell again to bring it back to life."

# The output before this one, if it is a widget that no kernel listens to: JupyterLab marks it as
# disconnected, or shows an error where it has not saved it, or says that the kernel ends. A new
# widget is not there yet for a moment, which the animation bridges.
_STOPPED = """:is(
  .jp-OutputArea-child:not(:has(.dltlab-widget:not(.jupyter-widgets-disconnected))),
  .jp-NotebookPanel:has(.jp-Notebook-ExecutionIndicator:is(
    [data-status="terminating"], [data-status="dead"], [data-status="unknown"]
  )) .jp-OutputArea-child
)"""
_STYLE = f"""<style>
.dltlab-stopped {{ display: none; animation: dltlab-appear 2s step-end; }}
@keyframes dltlab-appear {{ from {{ opacity: 0; }} }}
{_STOPPED} + .jp-OutputArea-child .dltlab-stopped {{ display: block; }}
{_STOPPED}:has(+ .jp-OutputArea-child .dltlab-stopped)
  > .jp-OutputArea-output:not([data-mime-type]) {{ display: none; }}
</style>"""

# JupyterLab takes keys such as the arrows for its own commands, unless the element with the focus
# has this attribute; those with Ctrl, such as Ctrl-S, still are commands. The radio buttons of
# ipywidgets have no name, without which the arrow keys do not move between them.
_KEYS = """<style onload="
if (!window.dltlabKeys) {
  window.dltlabKeys = true;
  window.addEventListener('keydown', (event) => {
    if (!event.target.closest?.('.dltlab-widget')) return;
    const isCommand = event.ctrlKey || event.metaKey || event.shiftKey;
    event.target.toggleAttribute('data-lm-suppress-shortcuts', !isCommand);
    const radios = event.target.closest('.widget-radio-box')?.querySelectorAll('input') ?? [];
    const name = 'dltlab-' + Math.random();
    for (const radio of radios) radio.name ||= name;
  }, true);
}"></style>"""

_DPI = 100  # pixels of the page per inch of a figure
_SCALE = 1.5  # pixels of the image per pixel of the page: sharp when the page is enlarged
_MAX_SHARP_BYTES = 40_000  # larger figures are of photographs: one pixel per pixel of the page
_INVISIBLE = 2.0  # root mean square difference of two images, in levels of brightness of 255


class Result(ABC):
    """Base class of what a measurement or an analysis returns.

    A subclass is a frozen dataclass, declared with `repr=False`. It states `summary` and `table`,
    and draws `figure` where a figure shows more than the table does.
    """

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {}  # column of the table: formatter
    _shows_index: ClassVar[bool] = False
    _max_rows: ClassVar[int] = 40  # of the table, when it is printed

    @property
    @abstractmethod
    def summary(self) -> str:
        """The result in one or two sentences."""

    @property
    @abstractmethod
    def table(self) -> "pd.DataFrame":
        """The result as a table."""

    @property
    def alt(self) -> str:
        """The description of the figure for people who do not see it."""
        return self.summary

    def figure(self) -> "Figure | None":
        """Draw the result; None where the table is all there is."""
        return None

    def show(self) -> None:
        """Show the figure, or the table where there is no figure."""
        figure = self.figure()
        if figure is not None:
            show(figure, self.alt)
        elif in_notebook():
            _publish({"text/html": self._repr_html_(), "text/plain": repr(self)})
        else:
            print(repr(self))  # noqa: T201

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values (lists, dicts, numbers, text), ready for JSON."""
        return {
            field.name: plain(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
        }

    def __repr__(self) -> str:
        table = self.table
        if table.empty:
            return self.summary
        padded = _pad_text_columns(table, self._formats)
        lines = padded.to_string(**self._table_options()).splitlines()
        return "\n".join([self.summary, *(line.rstrip() for line in lines)])

    def _repr_html_(self) -> str:
        table = self.table
        if table.empty:
            return f"<p>{html.escape(self.summary)}</p>"
        is_text = all(_is_text(table[name]) for name in table.columns)
        body = table.to_html(justify="left" if is_text else None, **self._table_options())
        if is_text:
            body = body.replace("<td>", '<td style="text-align: left">')
        return f"<p>{html.escape(self.summary)}</p>{body}"

    def _table_options(self) -> dict[str, Any]:
        return {
            "index": self._shows_index,
            "max_rows": self._max_rows,
            "na_rep": "–",
            "formatters": dict(self._formats),
        }


def _pad_text_columns(table: "pd.DataFrame", formats: Mapping[str, Any]) -> "pd.DataFrame":
    """Pad the values and the name of each column of text to one width, which aligns them left."""
    padded, names = table.copy(), {}
    for name in table.columns:
        if name not in formats and _is_text(table[name]):
            width = max(len(str(name)), table[name].str.len().max())
            padded[name] = table[name].str.ljust(width)
            names[name] = str(name).ljust(width)
    return padded.rename(columns=names)


def _is_text(column: "pd.Series[Any]") -> bool:
    return all(isinstance(value, str) for value in column)


def plain(value: Any) -> Any:
    """Convert `value` to lists, dicts, numbers and text; NaN and infinity to None.

    Dataclasses become dicts of their fields, NumPy arrays and tuples become lists, enumerations
    their value, paths text.
    """
    import numpy as np

    if isinstance(value, Result) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type)
    ):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)  # type: ignore[arg-type]
        }
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def in_notebook() -> bool:
    """Return whether this code runs in a Jupyter kernel, which can show rich output."""
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def printable(text: str) -> str:
    """Return `text` with non-printable characters, such as control codes, as escape sequences."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def show(
    figure: "Figure", alt: str, *, display_id: str | None = None, update: bool = False
) -> None:
    """Show a Matplotlib figure with a text description, and close it.

    The description is the image's `alt` text and the plain text of the output. In a terminal only
    the description is printed.

    Args:
        figure: The figure; it is closed so that it is not shown a second time.
        alt: One sentence that describes the image for people who do not see it.
        display_id: An identifier of the output, with which `update` replaces it later.
        update: Replace the output `display_id` instead of adding one.
    """
    import matplotlib.pyplot as plt
    from PIL import Image

    if not in_notebook():
        plt.close(figure)
        if not update:
            print(alt)  # noqa: T201
        return
    # An image that is updated keeps its size, so that the page does not jump, and is drawn fast.
    box = None if display_id else "tight"
    for scale in (1.0,) if display_id else (_SCALE, 1.0):
        webp = _webp(figure, scale, box)
        if len(webp) <= _MAX_SHARP_BYTES:
            break
    plt.close(figure)
    width = round(Image.open(io.BytesIO(webp)).width / scale)
    # As HTML: JupyterLab and nbconvert show an output of the type image/png without its alt text.
    source = f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
    image = f'<img alt="{html.escape(alt)}" width="{width}" src="{source}">'
    _publish({"text/html": image, "text/plain": alt}, display_id, update)


def _webp(figure: "Figure", scale: float, bbox_inches: str | None) -> bytes:
    """Draw a figure with 256 colors if the difference is not visible, else with all of them.

    This reduces a chart to a third of its size, which keeps notebooks small. WebP, without loss,
    takes a fifth less than PNG for charts, and half of it for grids of small enlarged images.
    """
    from PIL import Image, ImageChops, ImageStat

    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI * scale, bbox_inches=bbox_inches)
    full = Image.open(png).convert("RGB")
    reduced = full.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    difference = ImageChops.difference(full, reduced.convert("RGB"))
    image = full if max(ImageStat.Stat(difference).rms) > _INVISIBLE else reduced.convert("RGB")
    webp = io.BytesIO()
    image.save(webp, format="webp", lossless=True, quality=50, method=2)  # as fast as PNG
    return webp.getvalue()


def show_html(html: str, text: str, *, display_id: str, update: bool = False) -> None:
    """Show HTML in a notebook as an output that a later call can replace.

    Args:
        html: What a notebook front end shows.
        text: The same content as plain text.
        display_id: An identifier of the output, with which `update` replaces it later.
        update: Replace the output `display_id` instead of adding one.
    """
    _publish({"text/html": html, "text/plain": text}, display_id, update)


def show_widget(widget: Any, text: str, stored: str = "") -> Callable[[str], None]:
    """Show an ipywidgets widget; in a terminal and in a saved notebook, show `text` instead.

    A widget does nothing once its kernel is restarted or shut down. In its place, the notebook
    then shows `stored` and how to start the widget again.

    Args:
        widget: The widget.
        text: The same content as plain text.
        stored: HTML that stays in the notebook, such as what the widget was last set to.

    Returns:
        A function that replaces `stored`.
    """
    if not in_notebook():
        print(text)  # noqa: T201
        return lambda stored: None
    import ipywidgets

    box = ipywidgets.VBox([ipywidgets.HTML(_KEYS), widget]).add_class("dltlab-widget")
    _publish({**box._repr_mimebundle_(), "text/plain": text})
    name = uuid.uuid4().hex
    show_html(_stopped(stored), RUN_AGAIN, display_id=name)
    return lambda stored: show_html(_stopped(stored), RUN_AGAIN, display_id=name, update=True)


def _stopped(stored: str) -> str:
    """Return what is shown in the place of a widget that has no kernel."""
    return f'{_STYLE}<div class="dltlab-stopped">{stored}<p><em>{RUN_AGAIN}</em></p></div>'


def _publish(bundle: dict[str, Any], display_id: str | None = None, update: bool = False) -> None:
    from IPython.display import display

    options = {"display_id": display_id, "update": update} if display_id else {}
    display(bundle, raw=True, **options)
