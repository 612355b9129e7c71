"""Show what is in a data set: examples and the mean image of each class, and the counts."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dltlab.data.catalog import ImageDataset, info
from dltlab.data.packed_images import PackedImages
from dltlab.display import PALETTE, Result, printable
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_NUM_EXAMPLES, _MAX_CLASSES, _MEAN_OF = 10, 20, 500
_GAP = 0.08  # of an image's side
_MAX_LABEL = 18  # characters of a class name
_COLORS = {"train": PALETTE[0], "validation": PALETTE[5], "test": PALETTE[1]}


@dataclass(frozen=True, repr=False)
class ContactSheet(Result):
    """The images of a data set at a glance; see `contact_sheet`.

    Attributes:
        name: The name of the data set, with its version if it was imported.
        class_names: The names of the classes.
        counts: For each split, the number of images in each class.
        rows: For each class that is shown, the mean image and examples side by side, float32 in
            [0, 1].
    """

    name: str
    class_names: list[str]
    counts: dict[str, list[int]]
    rows: list[np.ndarray] = field(compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Return names and counts as plain values; without the images."""
        return {"name": self.name, "class_names": self.class_names, "counts": self.counts}

    @property
    def summary(self) -> str:
        """The number of images and classes."""
        total = sum(map(sum, self.counts.values()))
        return f"{printable(self.name)}: {total:,} images of {len(self.class_names)} classes."

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each class with its number of images in each split."""
        import pandas as pd

        return pd.DataFrame({"class": map(printable, self.class_names), **self.counts})

    @property
    def alt(self) -> str:
        """The description of the figure for people who do not see it."""
        totals = np.sum(list(self.counts.values()), axis=0)
        num_shown = len(self.rows)
        classes = "; ".join(
            f"{printable(name)} {total}"
            for name, total in zip(self.class_names[:num_shown], totals, strict=False)
        )
        more = ""
        if len(self.class_names) > num_shown:
            more = f" {len(self.class_names) - num_shown} more classes are not shown."
        return (
            f"Images of the data set {printable(self.name)}, by class, with their number: "
            f"{classes}.{more}"
        )

    def figure(self) -> "Figure":
        """Draw mean and examples of each class, and beside them the counts as bars."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 1 + 0.62 * len(self.rows)), layout="constrained")
        images, bars = figure.subplots(1, 2, width_ratios=(11, 4))
        images.imshow(np.concatenate(self.rows), cmap="gray", vmin=0, vmax=1, aspect="equal")
        height, width = self.rows[0].shape[:2]
        middle = (height / (1 + _GAP) - 1) / 2
        shown = range(len(self.rows))
        images.set_yticks(
            [height * row + middle for row in shown],
            [_tick_label(self.class_names[label]) for label in shown],
        )
        images.set_xticks([middle, width * 0.55], ["mean", "examples"])
        images.tick_params(length=0)
        images.spines[:].set_visible(False)
        left = np.zeros(len(shown))
        for split, counts in self.counts.items():
            visible = counts[: len(shown)]
            bars.barh(shown, visible, left=left, color=_COLORS[split], label=split)
            left += visible
        bars.set_yticks([])
        bars.set_ylim(len(shown) - 0.5, -0.5)
        bars.set_xlabel("images")
        bars.spines[["top", "right"]].set_visible(False)
        bars.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
        figure.suptitle(self.summary.removesuffix("."))
        return figure


def contact_sheet(name: str) -> ContactSheet:
    """Show the images of a data set: mean, first examples and number of each class.

    The mean image of a class shows what its images have in common; a sharp one means that they are
    all alike. At most 20 classes are drawn.

    Raises:
        NotFound: There is no such data set.
        Invalid: It does not hold images.
        LabError: Its files are not available or damaged.
    """
    dataset = info(name)
    if not isinstance(dataset, ImageDataset):
        raise Invalid(f"The data set '{name}' holds {dataset.kind}, not images.")
    splits = {split: dataset.read(split) for split in dataset.split_names}
    num_classes = len(dataset.class_names)
    first = next(iter(splits.values()))
    return ContactSheet(
        name=dataset.tag,
        class_names=dataset.class_names,
        counts={
            split: np.bincount(images.labels, minlength=num_classes).tolist()
            for split, images in splits.items()
        },
        rows=[_row(first, label) for label in range(min(num_classes, _MAX_CLASSES))],
    )


def _row(images: PackedImages, label: int) -> np.ndarray:
    """Return the mean of a class and its first images, side by side, float32 in [0, 1]."""
    of_class = images.select(np.flatnonzero(images.labels == label)[:_MEAN_OF])
    pixels = of_class.pixels().astype(np.float32) / images.max_value
    height, width, channels = pixels.shape[1:]
    gap = max(1, round(_GAP * width))
    row_width = (1 + _NUM_EXAMPLES) * (width + gap) + gap
    row = np.ones((height + gap, row_width, channels), np.float32)
    if len(pixels):
        row[:height, :width] = pixels.mean(axis=0)
    for index, image in enumerate(pixels[:_NUM_EXAMPLES]):
        start = width + 2 * gap + index * (width + gap)
        row[:height, start : start + width] = image
    return row[..., 0] if channels == 1 else row


def _tick_label(name: str) -> str:
    """Return a class name, short enough for a tick, with a box for what the font lacks."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    text = printable(name) if len(name) <= _MAX_LABEL else f"{printable(name[: _MAX_LABEL - 1])}…"
    text = "".join(char if font.get_char_index(ord(char)) else "□" for char in text)
    return text.replace("$", r"\$")  # otherwise it would begin a formula
