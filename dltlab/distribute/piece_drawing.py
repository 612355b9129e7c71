"""Draw how the pieces of arrays move from rank to rank."""

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dltlab.display import NEUTRAL, PALETTE
from dltlab.distribute.schedules import Step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

_MORE_COLORS = ("#000000", "#F0E442")  # the other two of Okabe and Ito, for ranks 6 and 7
_EMPTY = "#EEEEEE"
_GRAYS = (_EMPTY, NEUTRAL, "#FFFFFF", "#555555", "#AAAAAA")  # also of the edges of letters
_MAX_COLUMNS = 4  # panels in a row

# Of the animation, in pixels and milliseconds.
_CELL_WIDTH, _CELL_HEIGHT, _MARGIN, _GAP = 64, 30, 60, 2
_MOVES, _MOVE_TIME, _REST_TIME, _LAST_TIME = 8, 60, 700, 2500
_REPEATS = 2  # after the first time


def draw_strip(contents: np.ndarray, steps: Sequence[Step], title: str) -> "Figure":
    """Draw one panel for the start and for each step.

    Args:
        contents: Whose data each cell contains, `(num_steps + 1, ranks, pieces, ranks)`.
        steps: The messages of each step, drawn as arrows.
        title: The title of the figure.
    """
    from matplotlib.figure import Figure

    num_ranks, num_pieces = contents.shape[1:3]
    num_columns = min(_MAX_COLUMNS, len(contents))
    num_rows = -(-len(contents) // num_columns)
    height = 0.4 + num_rows * (0.5 + 0.28 * num_ranks)
    figure = Figure(figsize=(9, height), layout="constrained")
    grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.ravel())
    for number, (axes, state) in enumerate(zip(panels, contents, strict=False)):
        extent = (-0.5, num_pieces - 0.5, num_ranks - 0.5, -0.5)
        axes.imshow(_colored(state), extent=extent, aspect="auto", interpolation="nearest")
        axes.set_xticks(np.arange(num_pieces + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(num_ranks + 1) - 0.5, minor=True)
        # Thin enough to leave the outer stripes of a small cell visible.
        axes.grid(which="minor", color="white", linewidth=12 / max(4, num_pieces))
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
        axes.set_xticks(range(num_pieces))
        axes.set_yticks(range(num_ranks), [f"rank {rank}" for rank in range(num_ranks)])
        axes.set_title(f"after step {number}" if number else "start", fontsize=10)
        _draw_arrows(axes, steps[number - 1] if number else ())
    for axes in panels[len(contents) :]:
        axes.set_axis_off()
    figure.supxlabel("piece", fontsize=10)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw_arrows(axes: "Axes", step: Step) -> None:
    for message in step:
        if not message.pieces:
            continue  # of an array that is shorter than the number of ranks
        column = message.pieces[len(message.pieces) // 2]
        style = {"arrowstyle": "->", "color": "black", "connectionstyle": "arc3,rad=0.3"}
        ends = ((column, message.target), (column, message.source))
        axes.annotate("", *ends, arrowprops={**style, "shrinkA": 2, "shrinkB": 2})


def _colored(state: np.ndarray) -> np.ndarray:
    """Return an image with a stripe for each rank in each cell, colored if its data are there.

    Args:
        state: bool `(ranks, pieces, ranks)`.

    Returns:
        uint8 `(ranks, pieces · ranks, 3)`.
    """
    num_ranks = len(state)
    colors = np.array([_rgb(color) for color in (*PALETTE, *_MORE_COLORS)[:num_ranks]], np.uint8)
    image = np.where(state[..., None], colors, np.array(_rgb(_EMPTY), np.uint8))
    return image.reshape(num_ranks, -1, 3)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def draw_gif(contents: np.ndarray, steps: Sequence[Step]) -> bytes:
    """Draw an animated GIF of the pieces moving, which plays three times and stops at the end.

    Args:
        contents: Whose data each cell contains, `(num_steps + 1, ranks, pieces, ranks)`.
        steps: The messages of each step.
    """
    frames = [_frame(contents[0], "start")]
    times = [_REST_TIME]
    for number, (step, before, after) in enumerate(
        zip(steps, contents[:-1], contents[1:], strict=True), 1
    ):
        text = f"step {number} of {len(steps)}"
        frames += [_frame(before, text, step, move / _MOVES) for move in range(1, _MOVES + 1)]
        frames.append(_frame(after, text))
        times += [*[_MOVE_TIME] * _MOVES, _REST_TIME]
    times[-1] = _LAST_TIME
    gif = io.BytesIO()
    frames[0].save(
        gif,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        duration=times,
        loop=_REPEATS,
        optimize=True,  # stores what differs from the frame before
    )
    return gif.getvalue()


def _frame(state: np.ndarray, text: str, step: Step = (), moved: float = 0.0) -> "Image":
    """Draw the cells of all ranks, and the pieces of a step on their way."""
    from PIL import Image, ImageDraw, ImageFont

    num_ranks, num_pieces, _ = state.shape
    size = (_MARGIN + num_pieces * _CELL_WIDTH, (num_ranks + 1) * _CELL_HEIGHT)
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    draw.text((_MARGIN, 6), text, "black", font)
    cells = Image.fromarray(_colored(state)).resize(
        (num_pieces * _CELL_WIDTH, num_ranks * _CELL_HEIGHT), Image.Resampling.NEAREST
    )

    def paste(piece: int, rank: int, row: float, outline: str) -> None:
        corner = (piece * _CELL_WIDTH, rank * _CELL_HEIGHT)
        cell = cells.crop((*corner, corner[0] + _CELL_WIDTH, corner[1] + _CELL_HEIGHT))
        place = (_MARGIN + corner[0], round((row + 1) * _CELL_HEIGHT))
        image.paste(cell, place)
        end = (place[0] + _CELL_WIDTH - 1, place[1] + _CELL_HEIGHT - 1)
        draw.rectangle((*place, *end), outline=outline, width=_GAP)

    for rank in range(num_ranks):
        draw.text((4, (rank + 1) * _CELL_HEIGHT + 7), f"rank {rank}", NEUTRAL, font)
        for piece in range(num_pieces):
            paste(piece, rank, rank, "white")
    for message in step:
        row = message.source + moved * (message.target - message.source)
        for piece in message.pieces:
            paste(piece, message.source, row, "black")
    palette = Image.new("P", (1, 1))  # the same for all frames
    palette.putpalette(
        [value for color in (*PALETTE, *_MORE_COLORS, *_GRAYS) for value in _rgb(color)]
    )
    return image.quantize(palette=palette, dither=Image.Dither.NONE)
