"""Prepare images and names for figures."""

import numpy as np

from dltlab.display import printable

_TILE_PIXELS = 32  # of a tile in a mosaic, at least half of it


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


def mosaic(tiles: np.ndarray, num_columns: int) -> np.ndarray:
    """Arrange small images in rows, with a blank line between them.

    Matplotlib draws one image much faster than an axes for each tile. Tiles of few pixels are
    enlarged, so that the line stays thin.

    Args:
        tiles: Gray `(n, height, width)`, or color `(n, height, width, 3)` in [0, 1].
        num_columns: Tiles per row; the last row may have fewer.

    Returns:
        float32 `(rows, columns)` or `(rows, columns, 3)`. Blank pixels are NaN in gray, which
        Matplotlib leaves empty, and white in color.
    """
    scale = max(1, _TILE_PIXELS // max(tiles.shape[1:3]))
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    num_rows = -(-len(tiles) // num_columns)
    height, width, *colors = tiles.shape[1:]
    shape = (num_rows * num_columns, height + 1, width + 1, *colors)
    cells = np.full(shape, 1 if colors else np.nan, np.float32)
    cells[: len(tiles), :height, :width] = tiles
    cells = cells.reshape(num_rows, num_columns, *shape[1:]).swapaxes(1, 2)
    grid: np.ndarray = cells.reshape(num_rows * (height + 1), num_columns * (width + 1), *colors)
    return grid[:-1, :-1]


def label(text: str, max_length: int = 18) -> str:
    """Shorten a name and escape it for a figure; characters that the font lacks become □."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    is_long = len(text) > max_length
    short = f"{printable(text[: max_length - 1])}…" if is_long else printable(text)
    drawn = "".join(char if font.get_char_index(ord(char)) else "□" for char in short)
    return drawn.replace("$", r"\$")  # a plain $ would begin a formula
