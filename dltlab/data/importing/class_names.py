"""Names of classes that look the same but are not."""

import unicodedata
from collections.abc import Iterable

from dltlab.data.importing.wording import shortened

ONLY_IN = "only in case, spaces or Unicode form"


def similar_names(names: Iterable[str]) -> list[list[str]]:
    """Return groups of different names that differ only in case, spaces or Unicode form."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(names)):
        key = unicodedata.normalize("NFKC", name).casefold()
        groups.setdefault("".join(key.split()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def shown_apart(names: list[str]) -> list[str]:
    """Return names in quotes; as ASCII with escapes where they would look the same."""
    composed = {unicodedata.normalize("NFC", name) for name in names}
    if len(composed) < len(names):
        return [ascii(name) for name in names]
    return [f"'{shortened(name)}'" for name in names]
