"""Prepare images and names for figures."""

import numpy as np

from dltlab.display import printable


def as_image(pixels: np.ndarray) -> np.ndarray:
    """Convert pixels to values in [0, 1], as Matplotlib draws them.

    Values outside [0, 1] are scaled into it. Images with three channels are drawn in color, all
    others as the mean over their channels.

    Args:
        pixels: `(height, width, channels)`.

    Returns:
        float32 `(height, width, 3)` or `(height, width)`.
    """
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    scaled = (pixels.astype(np.float32) - low) / (high - low)
    return scaled if scaled.shape[-1] == 3 else scaled.mean(axis=-1)


def label(text: str, max_length: int = 18) -> str:
    """Shorten a name and escape it for a figure; characters that the font lacks become □."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    is_long = len(text) > max_length
    short = f"{printable(text[: max_length - 1])}…" if is_long else printable(text)
    drawn = "".join(char if font.get_char_index(ord(char)) else "□" for char in short)
    return drawn.replace("$", r"\$")  # a plain $ would begin a formula
