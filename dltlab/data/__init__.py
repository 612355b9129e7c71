"""Data sets by their cards: `arrays`, `info`."""

from dltlab.data.card import Card, info
from dltlab.data.load import arrays

__all__ = ["Card", "arrays", "info"]
