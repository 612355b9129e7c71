"""Which columns of a list hold the path of an image, its class and its split."""

from dataclasses import dataclass
from itertools import zip_longest

from dltlab.data.image_file import SUFFIXES
from dltlab.data.importing.layout import split_of
from dltlab.data.importing.wording import listed
from dltlab.errors import Invalid

_LABEL_HEADINGS = ("label", "class", "category", "target")


@dataclass(frozen=True)
class Columns:
    """The columns of a list, counted from 0.

    Attributes:
        image: The column with the path of the image.
        label: The column with the name of the class.
        split: The column with the name of the split, if any.
        first: The index of the first line that names an image; above it are the heading and others.
        heading: The index of the line with the names of the columns, if any.
        note: How the list is read, where it has other columns than path and class.
    """

    image: int
    label: int
    split: int | None
    first: int
    heading: int | None
    note: str


def field_in(fields: list[str], column: int | None) -> str:
    """Return the field of a line in a column; "" where the line is too short."""
    return fields[column] if column is not None and column < len(fields) else ""


def names_image(field: str) -> bool:
    """Return whether a field ends like the name of an image file."""
    return field.lower().endswith(SUFFIXES)


def columns_of(rows: list[list[str]]) -> Columns:
    """Find the columns of a list, of whose lines some name an image.

    Raises:
        Invalid: It cannot be told which column holds the class; the message is the reason.
    """
    columns = list(zip_longest(*rows, fillvalue=""))
    num_images = [sum(map(names_image, column)) for column in columns]
    image = num_images.index(max(num_images))
    first = next(index for index, field in enumerate(columns[image]) if names_image(field))
    heading_row = next((index for index in reversed(range(first)) if columns[image][index]), None)
    heading = _heading(rows, first, heading_row, len(columns))
    values = [column[first:] for column in columns]
    others = [
        index
        for index, column in enumerate(values)
        if any(column) and 2 * num_images[index] < num_images[image]
    ]
    split = next((index for index in others if _names_splits(values[index])), None)
    if len(others) > 1 and split is not None:
        others.remove(split)
    else:
        split = None
    label = _label_column(others, values, heading, heading_row is not None)
    note = ""
    if len(columns) > 2 or label < image:
        note = f"Of the list, column {image + 1} is read as the path and column {label + 1} as the "
        note += "class." if split is None else f"class, column {split + 1} as the split."
    return Columns(image, label, split, first, heading_row, note)


def _heading(
    rows: list[list[str]], first: int, heading_row: int | None, num_columns: int
) -> list[str]:
    """Return the name of each column; "" for one without a name.

    R's `write.table` gives no name to the column of row names, which is the first.
    """
    names = [] if heading_row is None else rows[heading_row]
    if len(names) == num_columns - 1 and {len(row) for row in rows[first:]} == {num_columns}:
        names = ["", *names]
    return [*names, *[""] * (num_columns - len(names))]


def _label_column(
    others: list[int], values: list[tuple[str, ...]], heading: list[str], has_heading: bool
) -> int:
    """Return the column with the class, one of `others`.

    Raises:
        Invalid: There is none, or several might be it.
    """
    named = [
        index for index in others if any(word in heading[index].lower() for word in _LABEL_HEADINGS)
    ]
    # An index or a measurement is different in nearly every line; no heading is that of an index.
    repeated = [
        index
        for index in others
        if len(set(values[index])) < len(values[index]) and (heading[index] or not has_heading)
    ]
    candidates = named or (repeated if len(others) > 1 else others)
    if not candidates:
        raise Invalid("no column holds a class for several images")
    first = candidates[0]
    if all(_are_one_to_one(values[first], values[index]) for index in candidates):
        names = [index for index in candidates if not all(map(_is_number, values[index]))]
        return names[0] if names else first
    texts = {heading[index] or f"column {index + 1}" for index in candidates}
    raise Invalid(
        f"each of {listed(texts)} might hold the class; name one of them 'label' in a first line, "
        "or remove the others"
    )


def _names_splits(column: tuple[str, ...]) -> bool:
    splits = {split_of(text) for text in set(column)}
    return None not in splits and len(splits) > 1


def _are_one_to_one(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    pairs = set(zip(first, second, strict=True))
    return len(pairs) == len(set(first)) == len(set(second))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
