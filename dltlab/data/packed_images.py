"""Labeled images packed in a few large arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PackedImages:
    """The labeled images of a split.

    Attributes:
        shards: uint8 arrays `(n, height, width, channels)`, in memory or mapped from files.
        rows: int64 `(m,)`: the rows of all shards together that belong to the split.
        labels: int64 `(m,)`: the labels of these rows.
        max_value: The value of the brightest pixel.
    """

    shards: Sequence[np.ndarray]
    rows: np.ndarray
    labels: np.ndarray
    max_value: int = 255

    @classmethod
    def of(cls, images: np.ndarray, labels: np.ndarray, max_value: int = 255) -> "PackedImages":
        """Pack all rows of one array."""
        return cls([images], np.arange(len(labels)), labels.astype(np.int64), max_value)

    @classmethod
    def concatenate(cls, parts: Iterable["PackedImages"]) -> "PackedImages":
        """Join several parts in memory, one after the other."""
        parts = list(parts)
        return cls.of(
            np.concatenate([part.pixels() for part in parts]),
            np.concatenate([part.labels for part in parts]),
            parts[0].max_value,
        )

    def select(self, selection: np.ndarray) -> "PackedImages":
        """Return some of the images.

        Args:
            selection: A mask, bool `(m,)`, or indices into `rows`, integers `(k,)`.
        """
        return PackedImages(
            self.shards, self.rows[selection], self.labels[selection], self.max_value
        )

    def pixels(self) -> np.ndarray:
        """Return a copy of the images, uint8 `(m, height, width, channels)`."""
        starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        pixels = np.empty((len(self.rows), *self.shards[0].shape[1:]), np.uint8)
        for start, shard in zip(starts, self.shards, strict=False):
            in_shard = (self.rows >= start) & (self.rows < start + len(shard))
            pixels[in_shard] = shard[self.rows[in_shard] - start]
        return pixels

    def in_memory(self) -> "PackedImages":
        """Return the same images, copied from mapped files into memory."""
        return PackedImages.of(self.pixels(), self.labels, self.max_value)
