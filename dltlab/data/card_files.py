"""The cards of a course, found by name and validated."""

import tomllib
from pathlib import Path

from pydantic import ValidationError

from dltlab.data.card import DatasetCard
from dltlab.data.formats.registry import card_class, format_names
from dltlab.errors import Invalid
from dltlab.paths import card_folders


def card_names() -> list[str]:
    """Return the names of all cards, in alphabetical order."""
    return list(_card_paths())


def read_card(name: str) -> DatasetCard:
    """Read the card `name`, one of `card_names()`.

    Cards are in the folder `datasets` of the course in `DLTLAB_COURSE`, if that is set, and of
    dltlab's own course.

    Raises:
        Invalid: The card is wrong; the message names the file and the key.
    """
    path = _card_paths()[name]
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read as a card: {error}.") from error
    if content.get("format") not in format_names():
        raise Invalid(f"{path}: 'format': it must be one of {', '.join(format_names())}.")
    try:
        card = card_class(content["format"]).model_validate(content)
    except ValidationError as error:
        raise Invalid(f"{path}: {_explanation(error)}.") from error
    if card.name != name:
        raise Invalid(f"{path}: the name is '{card.name}'; it must be that of the file, '{name}'.")
    return card


def _card_paths() -> dict[str, Path]:
    # The last folder has precedence.
    paths = {path.stem: path for folder in card_folders() for path in folder.glob("*.toml")}
    return dict(sorted(paths.items()))


def _explanation(error: ValidationError) -> str:
    fault = error.errors()[0]
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"unknown key '{key}'; correct or remove it"
    if fault["type"] == "missing":
        return f"the key '{key}' is missing; add it"
    message = fault["msg"].removeprefix("Value error, ")
    return f"'{key}': {message[0].lower()}{message[1:]}" if key else message
