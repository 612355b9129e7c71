"""A data set's card: what it is, who may use it, where its bytes are and how to know them."""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from dltlab.errors import LabError
from dltlab.paths import course_dir, own_course_dir

Sentence = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0)]
SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Url = Annotated[str, Field(pattern=r"^https?://")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(_Strict):
    """A file of a data set: its size in bytes, its hash, and its content's where it is a gzip file.

    With the hash of its content, a file that was compressed anew serves as well as the original.
    """

    name: FileName
    urls: Annotated[list[Url], Field(min_length=1)]
    size: PositiveInt
    sha256: Sha256
    unpacked_sha256: Sha256 | None = None


OneFile = Annotated[list[File], Field(min_length=1, max_length=1)]


class Split(_Strict):
    """A part of a data set: how many images, characters or values (of some cards not known).

    Attributes:
        images: The file that holds the images, where the split has one of its own.
        labels: The file that holds the labels, likewise.
    """

    size: PositiveInt | None = None
    images: str | None = None
    labels: str | None = None


class HoldOut(_Strict):
    """Divides images that come in one piece: every `every`-th tests, after a seeded shuffle."""

    every: Annotated[int, Field(ge=2)]
    seed: Seed


class Card(_Strict):
    """All that is known of a data set; an unknown key is an error."""

    kind: ClassVar[Literal["images", "text", "series"]]
    name: str
    title: Sentence
    license: Sentence
    citation: Sentence
    version: Sentence
    files: list[File]
    splits: dict[SplitName, Split]

    @model_validator(mode="after")
    def _has_splits(self) -> Self:
        if "train" not in self.splits or len(self.splits) < 2:
            raise ValueError("describe the split 'train', and 'validation' or 'test' or both")
        return self

    @property
    def tag(self) -> str:
        """The name by which it is asked for."""
        return self.name

    @property
    def content_hash(self) -> str:
        """The SHA-256 of all that the card says, the hashes of its files among it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def file(self, name: str | None) -> File:
        """The file called `name`, which a split of this card names."""
        return next(file for file in self.files if file.name == name)


class ImageCard(Card):
    """Labeled images; `shape` and `dtype` are those of one as `dltlab.data` returns it."""

    kind = "images"
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
    dtype: Literal["float32"]
    classes: Annotated[list[Sentence], Field(min_length=2)]


class DigitsCard(ImageCard):
    """The digits that come with scikit-learn."""

    format: Literal["sklearn_digits"]
    hold_out: HoldOut


class IdxCard(ImageCard):
    """Images and labels in files of MNIST's format.

    `hold_out` divides the test images where a mirror folder has no others.
    """

    format: Literal["idx"]
    hold_out: HoldOut | None = None

    @model_validator(mode="after")
    def _names_its_files(self) -> Self:
        known = {file.name for file in self.files}
        for name, split in self.splits.items():
            for file in (split.images, split.labels):
                if file not in known:
                    raise ValueError(f"split '{name}' names the file {file}, which has no entry")
        return self


class CifarCard(ImageCard):
    """Images in the binary files of CIFAR-10, in one archive."""

    format: Literal["cifar"]
    files: OneFile


class ShapesCard(ImageCard):
    """The images of `dltlab.data.shapes`."""

    format: Literal["shapes"]
    seed: Seed


class TextCard(Card):
    """A text file in UTF-8, divided where its splits' sizes say, in the order of the card."""

    kind = "text"
    format: Literal["text"]
    files: OneFile


class PythonDocsCard(Card):
    """The texts of `dltlab.data.python_docs`."""

    kind = "text"
    format: Literal["python_docs"]


class MackeyGlassCard(Card):
    """The series of `dltlab.data.mackey_glass`, divided in the order of the card."""

    kind = "series"
    format: Literal["mackey_glass"]
    seed: Seed


_AnyCard = Annotated[
    DigitsCard | IdxCard | CifarCard | ShapesCard | TextCard | PythonDocsCard | MackeyGlassCard,
    Field(discriminator="format"),
]


def card_names() -> list[str]:
    """The names of all cards, in alphabetical order."""
    return list(_cards())


def read_card(name: str) -> Card:
    """The card called `name`, which is one of `card_names()`.

    Cards stand in the folder `datasets` of the course in `DLTLAB_COURSE`, where that is set, and in
    dltlab's own.

    Raises:
        LabError: The card is wrong; names the file and the key.
    """
    path = _cards()[name]
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        card: Card = TypeAdapter(_AnyCard).validate_python(content)
    except ValidationError as error:
        raise LabError(f"{path}: {_explain(error)}.") from error
    except (OSError, ValueError) as error:
        raise LabError(f"{path} cannot be read as a card: {error}.") from error
    if card.name != name:
        raise LabError(f"{path}: the name is '{card.name}'; it must be that of the file, '{name}'.")
    return card


def _cards() -> dict[str, Path]:
    """Every card by its name, in alphabetical order."""
    folders = [own_course_dir() / "datasets"]
    if course := course_dir():
        folders.append(course / "datasets")  # last, so that its cards win
    cards = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    return dict(sorted(cards.items()))


def _explain(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"][1:])  # the first one is the format
    if fault["type"].startswith("union_tag"):
        return "'format': it must be one of " + str(fault["ctx"].get("expected_tags", "the known"))
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'; correct or remove it"
    if fault["type"] == "missing":
        return f"the key '{key}' is missing; add it"
    message = fault["msg"].removeprefix("Value error, ")
    return f"'{key}': {message[0].lower()}{message[1:]}" if key else message
