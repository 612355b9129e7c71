"""One version of a data set of imported images."""

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from dltlab.data.card import ALL, SPLITS, SplitName, describe_images
from dltlab.data.image_file import Resize
from dltlab.data.packed_images import PackedImages
from dltlab.errors import Damaged
from dltlab.files import sha256_of
from dltlab.paths import data_dir


class ImportedDataset(BaseModel):
    """What is known of one version of a data set of imported images; its `manifest.json`.

    Attributes:
        name: The name of the data set.
        version: Counted from 1.
        content_hash: The SHA-256 hash of the settings and of each image's name, class, split and
            pixels: equal hashes mean equal data.
        source: The name of the folder, archive or list of images.
        imported: The date of the import as YYYY-MM-DD.
        size: The side of an image in pixels.
        resize: How images of other shapes became squares.
        seed: The seed of the division into splits.
        class_names: The names of the classes; a label is an index into this list.
        counts: For each split, the number of images in each class.
        mean: The mean of the training images' red, green and blue, in [0, 1].
        std: Their standard deviation.
        white: The value in images of 16 bits of gray that became white; None where there is none.
        files: The SHA-256 hash of each file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: ClassVar[Literal["images"]] = "images"

    name: str
    version: int
    content_hash: str
    source: str
    imported: str
    size: int
    resize: Resize
    seed: int
    class_names: list[str]
    counts: dict[SplitName, list[int]]
    mean: list[float]
    std: list[float]
    white: int | None = None
    files: dict[str, str]

    @property
    def title(self) -> str:
        """One sentence that says what it is."""
        return (
            f"{self.num_images:,} images of {len(self.class_names)} classes, "
            f"{self.size}×{self.size} pixels, imported from {self.source}."
        )

    @property
    def contents(self) -> str:
        """The number of images, their size, and the number of classes."""
        return describe_images(self.num_images, self.shape, len(self.class_names))

    @property
    def num_images(self) -> int:
        """The number of images in all splits."""
        return sum(map(sum, self.counts.values()))

    @property
    def shape(self) -> list[int]:
        """Height, width and channels of an image."""
        return [self.size, self.size, 3]

    @property
    def split_names(self) -> list[SplitName]:
        """The names of the splits that are not empty."""
        return [split for split in SPLITS if sum(self.counts[split])]

    @property
    def folder(self) -> Path:
        """The folder with its files."""
        return version_dir(self.name, self.version)

    @property
    def tag(self) -> str:
        """The name that `load` takes for this very version, such as "pets@1"."""
        return f"{self.name}@{self.version}"

    def read(self, split: str) -> PackedImages:
        """Map the images of a split, or of "all", into memory; other processes share them.

        Raises:
            Damaged: A file is missing or cannot be read.
        """
        try:
            shards = [
                np.load(self.folder / name, mmap_mode="c")
                for name in self.files
                if name.startswith("images-")
            ]
            labels, splits = (np.load(self.folder / f"{name}.npy") for name in ("labels", "splits"))
        except (OSError, ValueError, EOFError) as error:
            raise Damaged(
                f"The data set '{self.tag}' is damaged ({error}). Remove it (dltlab data remove "
                f"{self.tag}) and import the images again."
            ) from error
        images = PackedImages(shards, np.arange(len(labels)), labels)
        return images if split == ALL else images.select(splits == SPLITS.index(split))

    def problems(self) -> list[str]:
        """Return a sentence for each file that is missing or changed."""
        problems = []
        for name, expected in self.files.items():
            path = self.folder / name
            if not path.is_file():
                problems.append(f"{path} is missing.")
            elif sha256_of(path) != expected:
                problems.append(f"{path} does not have the SHA-256 of its manifest.")
        return problems


def version_dir(name: str, version: int) -> Path:
    """Return the folder of a version of an imported data set, whether it exists or not."""
    return data_dir() / name / str(version)
