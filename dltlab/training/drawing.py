"""What the figures of this room share: images to draw, and names that are safe in them."""

import numpy as np

from dltlab.display import printable


def as_image(pixels: np.ndarray) -> np.ndarray:
    """`(height, width, channels)` as Matplotlib draws it: values in [0, 1], gray without channels.

    Values beyond [0, 1] are scaled into it, those within stay as they are. Of images that have
    neither one channel nor three the mean over the channels is taken.
    """
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    scaled = (pixels.astype(np.float32) - low) / (high - low)
    return scaled if scaled.shape[-1] == 3 else scaled.mean(axis=-1)


def label(text: str, longest: int = 18) -> str:
    """A name, short enough for a figure, with a box for what its font does not have."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    short = printable(text) if len(text) <= longest else f"{printable(text[: longest - 1])}…"
    drawn = "".join(each if font.get_char_index(ord(each)) else "□" for each in short)
    return drawn.replace("$", r"\$")  # or it would begin a formula
