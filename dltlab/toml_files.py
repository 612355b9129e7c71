"""Read TOML files that people write, and say in which line a fault is."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from dltlab.errors import Invalid, NotFound
from dltlab.paths import short_path

Model = TypeVar("Model", bound=BaseModel)


class Table(BaseModel):
    """A table of a TOML file; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True)
class TomlFile(Generic[Model]):
    """A TOML file that is valid.

    Attributes:
        path: The file.
        text: Its text, in which `place` finds lines.
        content: Its content.
    """

    path: Path
    text: str
    content: Model

    def place(self, *key: str | int) -> str:
        """Return where a key is, as `SWEEP.toml:12`."""
        return f"{short_path(self.path)}:{_line(self.text, key)}"


def read_toml(path: Path, model: type[Model], kind: str) -> TomlFile[Model]:
    """Read and validate a TOML file.

    Args:
        path: The file.
        model: What it must contain.
        kind: What the file is, for the error, such as "sweep file".

    Raises:
        Invalid: It is not valid; the message names the file, the line and the key.
        NotFound: There is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except FileNotFoundError:
        raise NotFound(f"There is no {kind} {short_path(path)}.") from None
    except tomllib.TOMLDecodeError as error:
        message, _, position = str(error).partition(" (at ")
        number = re.match(r"line (\d+)", position)
        line = int(number[1]) if number else len(text.splitlines())
        raise Invalid(f"{short_path(path)}:{line}: {message}.") from error
    except (OSError, ValueError) as error:
        raise Invalid(f"{short_path(path)} cannot be read: {error}.") from error
    try:
        return TomlFile(path, text, model.model_validate(content))
    except ValidationError as error:
        raise Invalid(_explanation(error, path, text, content)) from error


def _explanation(error: ValidationError, path: Path, text: str, content: Any) -> str:
    """Return where a fault is and what is wrong, in one sentence."""
    faults = [(_known(fault["loc"], content), fault) for fault in error.errors()]
    key, fault = max(faults, key=lambda pair: len(pair[0]))  # what is meant, of a union's parts
    place = f"{short_path(path)}:{_line(text, key)}"
    name = ".".join(map(str, key))
    if fault["type"] == "extra_forbidden":
        return f"{place}: Unknown key '{name}'. Correct or remove it."
    if fault["type"] == "missing":
        missing = ".".join(map(str, [*key, fault["loc"][-1]]))
        return f"{place}: The key '{missing}' is missing. Add it."
    if fault["type"] == "model_type":
        return f"{place}: '{name}' must be a table."
    message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    return f"{place}: {f'{name!r}: ' if name else ''}{message}."


def _known(location: Sequence[str | int], content: Any) -> list[str | int]:
    """Return the part of a location that is in the file; pydantic names a union's types as well."""
    key: list[str | int] = []
    for part in location:
        if _contains(content, [*key, part]):
            key.append(part)
    return key


def _line(text: str, key: Sequence[str | int]) -> int:
    """Return the line in which a key begins, from 1.

    A statement begins after the longest part of the file that is valid without it.
    """
    lines = text.splitlines(keepends=True)
    start = 0
    for end in range(len(lines) + 1):
        try:
            content = tomllib.loads("".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if key and _contains(content, key):
            break
        start = end
    return start + 1 if key else 1


def _contains(content: Any, key: Sequence[str | int]) -> bool:
    try:
        for part in key:
            content = content[part]
    except (LookupError, TypeError):
        return False
    return True
