"""The card of a data set: what it is, its license, and its files with their hashes."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self, TypeVar, cast, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from dltlab.data.packed_images import PackedImages
from dltlab.data.padded_molecules import Molecules
from dltlab.errors import Invalid

Sentence = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0)]
Kind = Literal["images", "text", "series", "table", "signals", "molecules"]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
ALL = "all"  # in place of a split's name: all splits, one after the other
Url = Annotated[str, Field(pattern=r"^https?://")]
SequenceT = TypeVar("SequenceT", str, np.ndarray)


class StrictModel(BaseModel):
    """A part of a card: an unknown key and a value of another type are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(StrictModel):
    """A file of a data set.

    Attributes:
        name: The name of the file.
        urls: Where to download it, in order of preference; none for a file beside the card.
        size: Its size in bytes.
        sha256: The SHA-256 hash of its bytes.
        unpacked_sha256: The hash of the content of a `.gz` file. With it, a file that was
            compressed again is as good as the original.
    """

    name: FileName
    urls: list[Url] = []
    size: PositiveInt
    sha256: Sha256
    unpacked_sha256: Sha256 | None = None


OneFile = Annotated[list[File], Field(min_length=1, max_length=1)]


class Split(StrictModel):
    """A part of a data set, of `size` images, characters or values; None where it varies."""

    size: PositiveInt | None = None


class SizedSplit(Split):
    """A split of a known size."""

    size: PositiveInt


class HoldOut(StrictModel):
    """How to hold out test images from images that come in one piece.

    Attributes:
        every: One image in so many is held out, stratified by label.
        seed: Seed of the shuffle before the images are chosen.
    """

    every: Annotated[int, Field(ge=2)]
    seed: Seed

    def part(self, images: PackedImages, split: str) -> PackedImages:
        """Return the images of `split`, "train" or "test", in their original order."""
        # RandomState's stream never changes; those of newer generators may between versions.
        shuffled = np.random.RandomState(self.seed).permutation(len(images.labels))
        by_label = shuffled[np.argsort(images.labels[shuffled], kind="stable")]
        is_test = np.zeros(len(images.labels), bool)
        is_test[by_label[:: self.every]] = True
        return images.select(is_test if split == "test" else ~is_test)


class DatasetCard(StrictModel):
    """What is known of a data set; a format adds its own keys."""

    kind: ClassVar[Kind]

    name: str
    title: Sentence
    format: str
    license: Sentence
    citation: Sentence
    version: Sentence
    files: list[File]
    splits: Mapping[SplitName, Split]

    @model_validator(mode="after")
    def _has_splits(self) -> Self:
        if "train" not in self.splits or len(self.splits) < 2:
            raise ValueError("describe the split 'train', and 'validation' or 'test' or both")
        return self

    @property
    def tag(self) -> str:
        """The name that `load` takes."""
        return self.name

    @property
    def split_names(self) -> list[SplitName]:
        """The names of the splits, in the order of the card."""
        return list(self.splits)

    @property
    def content_hash(self) -> str:
        """The SHA-256 hash of the card, which includes the hashes of its files."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def file(self, name: str) -> File:
        """Return the entry of a file.

        Raises:
            Invalid: The card has no file of this name.
        """
        for file in self.files:
            if file.name == name:
                return file
        names = ", ".join(file.name for file in self.files) or "none"
        raise Invalid(
            f"The card of '{self.name}' has no file '{name}'; its files are: {names}. Correct the "
            "name, or add an entry [[files]]."
        )

    @property
    @abstractmethod
    def contents(self) -> str:
        """What the data set holds, in a few words."""

    @property
    def total_size(self) -> int:
        """The size of all splits together; 0 where it is not known."""
        return sum(split.size or 0 for split in self.splits.values())

    def consecutive_part(self, sequence: SequenceT, split: str) -> SequenceT:
        """Return the part `split` of a sequence that holds the splits in the card's order."""
        start = 0
        for name in self.splits:
            size = self.splits[name].size or 0
            if name == split:
                break
            start += size
        return sequence[start : start + size]


class ImageCard(DatasetCard):
    """Labeled images.

    Attributes:
        shape: Height, width and channels of an image.
        dtype: The dtype of the pixels that `load` returns.
        class_names: The names of the classes; a label is an index into this list.
    """

    kind = "images"

    splits: Mapping[SplitName, SizedSplit]
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
    dtype: Literal["float32"]
    class_names: Annotated[list[Sentence], Field(min_length=2)]

    @property
    def contents(self) -> str:
        """The number of images, their size, and the number of classes."""
        return describe_images(self.total_size, self.shape, len(self.class_names))

    def read(self, split: str) -> PackedImages:
        """Return the images of a split, or of "all".

        Raises:
            LabError: The files are not available or damaged.
            Invalid: A label is not an index into `class_names`.
        """
        images = self.read_all() if split == ALL else self.read_split(cast(SplitName, split))
        num_classes = len(self.class_names)
        invalid = images.labels[(images.labels < 0) | (images.labels >= num_classes)]
        if invalid.size:
            raise Invalid(
                f"The data set '{self.name}' has an image with the label {invalid[0]}; with its "
                f"{num_classes} class names, labels are 0 to {num_classes - 1}: correct "
                "'class_names' in its card."
            )
        return images

    def read_all(self) -> PackedImages:
        """Return the images of all splits, one after the other."""
        return PackedImages.concatenate(self.read_split(split) for split in self.splits)

    @abstractmethod
    def read_split(self, split: SplitName) -> PackedImages:
        """Return the images of one split."""

    def pack(self, split: SplitName, images: np.ndarray, labels: np.ndarray) -> PackedImages:
        """Pack the images of a split.

        Args:
            split: The name of the split.
            images: uint8 `(n, height, width, channels)`.
            labels: Integers `(n,)`.

        Raises:
            Invalid: Their number or their shape is not that of the card.
        """
        size = self.splits[split].size
        if images.shape != (size, *self.shape) or labels.shape != (size,):
            raise Invalid(
                f"The files of '{self.name}' hold images {images.shape} and labels {labels.shape}; "
                f"its card says {(size, *self.shape)} and {(size,)}: correct the card."
            )
        return PackedImages.of(images, labels)


class TextCard(DatasetCard):
    """Text, in one or several documents."""

    kind = "text"

    @property
    def contents(self) -> str:
        """The number of characters, where it is known."""
        return f"{self.total_size:,} characters" if self.total_size else "text"

    @abstractmethod
    def read(self, split: str) -> list[str]:
        """Return the documents of a split, or of "all".

        Raises:
            LabError: The files are not available or damaged.
        """


class SeriesCard(DatasetCard):
    """A series of numbers, in one channel or in several."""

    kind = "series"

    splits: Mapping[SplitName, SizedSplit]

    @property
    def contents(self) -> str:
        """The number of values."""
        return f"{self.total_size:,} values"

    @abstractmethod
    def read(self, split: str) -> np.ndarray:
        """Return the values of a split, or of "all", float32 `(n,)`, or `(n, channels)`.

        Raises:
            LabError: The files are not available or damaged.
        """


class TableCard(DatasetCard):
    """Rows of numbers, each with a label.

    Attributes:
        features: The names of the numbers in a row.
        class_names: The names of the classes, if the labels are classes; a label is then an index
            into this list, else a number.
    """

    kind = "table"

    splits: Mapping[SplitName, SizedSplit]
    features: Annotated[list[Sentence], Field(min_length=1)]
    class_names: Annotated[list[Sentence], Field(min_length=2)] | None = None

    @property
    def contents(self) -> str:
        """The number of rows and features."""
        classes = f", {len(self.class_names)} classes" if self.class_names else ""
        return f"{self.total_size:,} rows of {len(self.features)} numbers{classes}"

    @abstractmethod
    def read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of a split, or of "all".

        Returns:
            The features, float32 `(n, k)`; the labels, int64 `(n,)` for classes, else float32.

        Raises:
            LabError: The files are not available or damaged.
        """


class SignalCard(DatasetCard):
    """Windows of a signal, each with a label.

    Attributes:
        sampling_rate: In Hz.
        seconds: The length of a window.
        dtype: The dtype of the windows that `load` returns.
        class_names: The names of the classes; a label is an index into this list.
    """

    kind = "signals"

    splits: Mapping[SplitName, SizedSplit]
    sampling_rate: PositiveInt
    seconds: Annotated[float, Field(gt=0)]
    dtype: Literal["float32"]
    class_names: Annotated[list[Sentence], Field(min_length=2)]

    @property
    def samples(self) -> int:
        """The number of samples in a window."""
        return round(self.seconds * self.sampling_rate)

    @property
    def contents(self) -> str:
        """The number of windows, their length, and the number of classes."""
        return (
            f"{self.total_size:,} windows of {self.samples:,} samples, "
            f"{len(self.class_names)} classes"
        )

    @abstractmethod
    def read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the windows of a split, or of "all".

        Returns:
            The windows, float32 `(n, samples)`; the labels, int64 `(n,)`.

        Raises:
            LabError: The files are not available or damaged.
        """


class MoleculesCard(DatasetCard):
    """Conformations of molecules, with energies.

    Attributes:
        method: How the energies were computed, with versions.
        parts: What the test split consists of, and a name for the training molecules.
    """

    kind = "molecules"

    splits: Mapping[SplitName, SizedSplit]
    method: Sentence
    parts: Annotated[list[Sentence], Field(min_length=1)]

    @property
    def contents(self) -> str:
        """The number of conformations."""
        return f"{self.total_size:,} conformations of molecules"

    @abstractmethod
    def read(self, split: str) -> Molecules:
        """Return the conformations of a split, or of "all".

        Raises:
            LabError: The files are not available or damaged.
        """


def describe_images(total: int, shape: Sequence[int], num_classes: int) -> str:
    """Describe labeled images in a few words."""
    height, width, channels = shape
    color = "color" if channels == 3 else "gray"
    return f"{total:,} {color} images {height}×{width}, {num_classes} classes"
