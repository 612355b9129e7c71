"""See what is in a data set: some images of each class, the mean of them, and how many."""

from typing import TYPE_CHECKING

import numpy as np

from dltlab.data import read
from dltlab.data.store import info
from dltlab.display import printable
from dltlab.errors import LabError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_EXAMPLES, _MOST_CLASSES, _MEAN_OF = 10, 20, 500
_GAP = 0.08  # of an image's side
_LONGEST = 18  # characters of a class's name
_COLORS = {"train": "#4c78a8", "validation": "#f2a541", "test": "#b04a5a"}


def contact_sheet(name: str) -> tuple["Figure", str]:
    """A figure of the first images of each class, and its description in words.

    To the left the mean image of a class, which shows what its images have in common: a
    sharp one means that they are all alike. To the right how many each split has.

    Raises:
        LabError: There is no such data set of images, or its files cannot be had.
    """
    from matplotlib.figure import Figure

    about = info(name)
    if about.kind != "images":
        raise LabError(f"The data set '{name}' holds {about.kind}, no images to show.")
    classes: list[str] = about.classes  # type: ignore[union-attr]
    splits = {split: read.images(name, split) for split in read.splits_of(about)}
    counts = {
        split: np.bincount(found.labels, minlength=len(classes)) for split, found in splits.items()
    }
    shown = range(min(len(classes), _MOST_CLASSES))
    first = next(iter(splits.values()))
    rows = [_row(first, label) for label in shown]
    figure = Figure(figsize=(11, 1 + 0.62 * len(rows)), layout="constrained")
    sheet, bars = figure.subplots(1, 2, width_ratios=(11, 4))
    sheet.imshow(np.concatenate(rows), cmap="gray", vmin=0, vmax=1, aspect="equal")
    height = len(rows[0])
    middle = (height / (1 + _GAP) - 1) / 2
    sheet.set_yticks(
        [height * row + middle for row in shown], [_label(classes[label]) for label in shown]
    )
    sheet.set_xticks([middle, rows[0].shape[1] * 0.55], ["mean", "examples"])
    sheet.tick_params(length=0)
    sheet.spines[:].set_visible(False)
    left = np.zeros(len(shown))
    for split, count in counts.items():
        bars.barh(shown, count[: len(shown)], left=left, color=_COLORS[split], label=split)
        left += count[: len(shown)]
    bars.set_yticks([])
    bars.set_ylim(len(shown) - 0.5, -0.5)
    bars.set_xlabel("images")
    bars.spines[["top", "right"]].set_visible(False)
    bars.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    total = int(sum(map(sum, counts.values())))
    figure.suptitle(f"{printable(about.tag)}: {total:,} images of {len(classes)} classes")
    listed = "; ".join(
        f"{printable(classes[label])} {int(sum(each[label] for each in counts.values()))}"
        for label in shown
    )
    more = f" {len(classes) - len(shown)} further classes are not shown." * (
        len(classes) > len(shown)
    )
    return figure, f"Images of the data set {name}, by class, with their number: {listed}.{more}"


def _row(found: read.Images, label: int) -> np.ndarray:
    """The mean of a class and its first images, side by side, float32."""
    of_class = found.only(np.flatnonzero(found.labels == label)[:_MEAN_OF])
    pixels = of_class.pixels().astype(np.float32) / found.white
    height, width, channels = pixels.shape[1:]
    gap = max(1, round(_GAP * width))
    row = np.ones((height + gap, (1 + _EXAMPLES) * (width + gap) + gap, channels), np.float32)
    if len(pixels):
        row[:height, :width] = pixels.mean(axis=0)
    for place, image in enumerate(pixels[:_EXAMPLES]):
        start = width + 2 * gap + place * (width + gap)
        row[:height, start : start + width] = image
    return row[..., 0] if channels == 1 else row


def _label(text: str) -> str:
    """A class's name, short enough for a figure, with a box for what its font does not have."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    short = printable(text) if len(text) <= _LONGEST else f"{printable(text[: _LONGEST - 1])}…"
    drawn = "".join(each if font.get_char_index(ord(each)) else "□" for each in short)
    return drawn.replace("$", r"\$")  # or it would begin a formula
