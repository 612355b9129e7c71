"""Names and lists of names in messages: printable, and short however many and long they are."""

from collections.abc import Collection

from dltlab.display import printable

_MAX_LISTED, _MAX_CHARACTERS = 10, 80


def shortened(name: str) -> str:
    """Return a printable name without the middle of a long one."""
    text = printable(name)
    if len(text) <= _MAX_CHARACTERS:
        return text
    half = _MAX_CHARACTERS // 2
    return f"{text[:half]}…{text[-half:]}"


def listed(names: Collection[str]) -> str:
    """Return names in quotes, sorted: the first ten, and how many more there are."""
    return joined([f"'{shortened(name)}'" for name in sorted(names)])


def joined(items: Collection[str], separator: str = ", ") -> str:
    """Join items: the first ten, and how many more there are."""
    first = separator.join(list(items)[:_MAX_LISTED])
    return first if len(items) <= _MAX_LISTED else f"{first} and {len(items) - _MAX_LISTED:,} more"
