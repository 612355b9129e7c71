"""Cards of a course of one's own, each with a file beside it."""

import hashlib
from pathlib import Path

CARD = """
name = "{name}"
title = "A test."
format = "{format}"
license = "CC0-1.0"
citation = "None."
version = "1"
{keys}
[[files]]
name = "{file}"
size = {size}
sha256 = "{sha256}"
"""


def write_card(name: str, format_: str, file: Path, keys: str) -> Path:
    """Write the card of a data set beside its file; return its path."""
    content = file.read_bytes()
    card = file.with_name(f"{name}.toml")
    text = CARD.format(
        name=name,
        format=format_,
        keys=keys,
        file=file.name,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    card.write_text(text)
    return card
