"""A text file in UTF-8."""

from collections.abc import Mapping

from dltlab.data.card import ALL, OneFile, SizedSplit, SplitName, TextCard
from dltlab.data.formats.registry import register
from dltlab.data.verified_files import file_content


@register("text")
class TextFileCard(TextCard):
    """A text file in UTF-8; its splits follow each other, in the order and sizes of the card."""

    files: OneFile
    splits: Mapping[SplitName, SizedSplit]

    def read(self, split: str) -> list[str]:
        """Return the text of a split, or of "all", as one document."""
        text = file_content(self, self.files[0]).decode()
        return [text if split == ALL else self.consecutive_part(text, split)]
