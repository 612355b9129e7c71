"""A data set's card: what it is, who may use it, where its bytes are and how to know them."""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

import dltlab
from dltlab.errors import LabError

Sentence = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Url = Annotated[str, Field(pattern=r"^https?://")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class File(_Strict):
    """A gzip file of a data set: its size in bytes, and the hash of it and of its content."""

    name: FileName
    urls: Annotated[list[Url], Field(min_length=1)]
    size: PositiveInt
    sha256: Sha256
    unpacked_sha256: Sha256


class Split(_Strict):
    """A part of a data set: how many pictures, and the files that hold it where it has its own."""

    size: PositiveInt
    images: str | None = None
    labels: str | None = None


class HoldOut(_Strict):
    """Divides pictures that come in one piece: every `every`-th tests, after a seeded shuffle."""

    every: Annotated[int, Field(ge=2)]
    seed: Annotated[int, Field(ge=0)]


class Card(_Strict):
    """All that is known of a data set; an unknown key is an error.

    `shape` and `dtype` are those of one image as `dltlab.data.arrays` returns it.
    """

    name: str
    title: Sentence
    format: Literal["sklearn_digits", "idx"]
    licence: Sentence
    citation: Sentence
    version: Sentence
    shape: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
    dtype: Literal["float32"]
    classes: Annotated[list[Sentence], Field(min_length=2)]
    hold_out: HoldOut
    splits: dict[Literal["train", "test"], Split]
    files: list[File]

    @model_validator(mode="after")
    def _complete(self) -> "Card":
        if set(self.splits) != {"train", "test"}:
            raise ValueError("the splits are 'train' and 'test'; describe both")
        if self.format == "idx":
            known = {file.name for file in self.files}
            for name, split in self.splits.items():
                for file in (split.images, split.labels):
                    if file not in known:
                        raise ValueError(
                            f"split '{name}' names the file {file}, which has no entry"
                        )
        return self

    def file(self, name: str | None) -> File:
        """The file called `name`, which a split of this card names."""
        return next(file for file in self.files if file.name == name)


def info(name: str) -> Card:
    """The card of the data set `name`.

    Cards stand in the folder `datasets` of the course in `DLTLAB_COURSE`, where that is set, and in
    dltlab's own.

    Raises:
        LabError: There is no such data set, or its card is wrong; names the file and the key.
    """
    cards = _cards()
    if name not in cards:
        raise LabError(f"There is no data set '{name}'. The data sets are: {', '.join(cards)}.")
    path = cards[name]
    try:
        card = Card.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise LabError(f"{path}: {_explain(error)}.") from error
    except (OSError, ValueError) as error:
        raise LabError(f"{path} cannot be read as a card: {error}.") from error
    if card.name != name:
        raise LabError(f"{path}: the name is '{card.name}'; it must be that of the file, '{name}'.")
    return card


def _cards() -> dict[str, Path]:
    """Every card by its name, in alphabetical order."""
    package = Path(dltlab.__file__).resolve().parent
    installed = package / "_course" / "datasets"
    folders = [installed if installed.is_dir() else package.parent / "datasets"]
    if course := os.environ.get("DLTLAB_COURSE"):
        folders.append(Path(course) / "datasets")  # last, so that its cards win
    cards = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    return dict(sorted(cards.items()))


def _explain(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'; correct or remove it"
    if fault["type"] == "missing":
        return f"the key '{key}' is missing; add it"
    message = fault["msg"].removeprefix("Value error, ")
    return f"'{key}': {message[0].lower()}{message[1:]}" if key else message
