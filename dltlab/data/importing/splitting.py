"""Divide imported images into splits."""

import numpy as np

from dltlab.data.card import SPLITS, SplitName
from dltlab.data.importing.selection import Selection, random_key
from dltlab.data.importing.settings import Settings


def split_images(selection: Selection, settings: Settings) -> np.ndarray:
    """Return the split of each image as an index into `SPLITS`, int8 `(n,)`.

    Images keep the split of their source. Of the others, those without a split or in "train", the
    fractions of the settings are held out of each class, unless the source has that split. Which
    images these are depends on nothing but the seed and the pixels of each image.
    """
    declared = {candidate.split for candidate in selection.candidates if candidate.split}
    fractions: dict[SplitName, float] = {
        "test": 0 if "test" in declared else settings.test,
        "validation": 0 if "validation" in declared else settings.validation,
    }
    splits = np.array(
        [SPLITS.index(candidate.split or "train") for candidate in selection.candidates], np.int8
    )
    rows_by_label: dict[str, list[int]] = {}
    for row, candidate in enumerate(selection.candidates):
        if splits[row] == SPLITS.index("train"):
            rows_by_label.setdefault(candidate.label, []).append(row)
    for rows in rows_by_label.values():
        rows.sort(key=lambda row: random_key(settings.seed, selection.digests[row]))
        start = 0
        for split, fraction in fractions.items():
            count = _count(len(rows), fraction, len(rows) - start)
            splits[rows[start : start + count]] = SPLITS.index(split)
            start += count
    return splits


def _count(total: int, fraction: float, remaining: int) -> int:
    """Return `total * fraction`, rounded: 0 only if `fraction` is 0, all only if it is 1."""
    if fraction in (0, 1):
        return min(int(total * fraction), remaining)
    return min(max(1, round(total * fraction)), max(0, remaining - 1))
