"""Show things to whoever reads: a notebook front end, or a plain terminal."""

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INVISIBLE = 2.0  # of 255 levels of brightness, the root of the mean square


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code, so that rich output reaches somebody."""
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


def printable(text: str) -> str:
    """`text` with whatever a terminal would not show, or would obey, written as an escape."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape", "surrogatepass").decode()
        for each in text
    )


def show(
    figure: "Figure", alt: str, *, display_id: str | None = None, update: bool = False
) -> None:
    """Show a Matplotlib figure with a description for those who do not see it, and close it.

    The description becomes the image's `alt` text on the web and the plain text of the output.

    Args:
        figure: Drawn; it is closed afterwards, so that it is not shown a second time.
        alt: One sentence that says what the image shows.
        display_id: Names the output, so that a later call with `update` replaces it.
        update: Replace the output called `display_id` instead of adding one.
    """
    import matplotlib.pyplot as plt

    if not in_notebook():
        plt.close(figure)
        if not update:
            print(alt)  # noqa: T201
        return
    png = io.BytesIO()
    # An image that is replaced keeps its size, so that the page stands still (and draws sooner).
    figure.savefig(png, format="png", dpi=100, bbox_inches=None if display_id else "tight")
    plt.close(figure)
    bundle = {"image/png": base64.b64encode(_smaller(png)).decode(), "text/plain": alt}
    _publish(bundle, {"image/png": {"alt": alt}}, display_id, update)


def _smaller(png: io.BytesIO) -> bytes:
    """The same image in 256 colors of its own where no eye sees the difference, else as it is.

    Charts take a third of the bytes so, and notebooks stay small.
    """
    from PIL import Image, ImageChops, ImageStat

    full = Image.open(png).convert("RGB")
    few = full.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    difference = ImageChops.difference(full, few.convert("RGB"))
    if max(ImageStat.Stat(difference).rms) > _INVISIBLE:
        return png.getvalue()
    smaller = io.BytesIO()
    few.save(smaller, format="png", optimize=True)
    return smaller.getvalue()


def show_html(html: str, text: str, *, display_id: str, update: bool = False) -> None:
    """Show HTML in a notebook, under a name by which a later call replaces it.

    Args:
        html: What a front end shows.
        text: The same in words.
        display_id: Names the output, so that a later call with `update` replaces it.
        update: Replace the output called `display_id` instead of adding one.
    """
    _publish({"text/html": html, "text/plain": text}, {}, display_id, update)


def show_widget(widget: Any, text: str) -> None:
    """Show an ipywidgets widget, or `text` where there is no front end to show it.

    The text is also what remains in a saved notebook.
    """
    if in_notebook():
        _publish({**widget._repr_mimebundle_(), "text/plain": text}, {}, None, False)
    else:
        print(text)  # noqa: T201


def _publish(
    bundle: dict[str, Any], metadata: dict[str, Any], display_id: str | None, update: bool
) -> None:
    from IPython.display import display

    named = {"display_id": display_id, "update": update} if display_id else {}
    display(bundle, raw=True, metadata=metadata, **named)
