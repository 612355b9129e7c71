"""What the cells of a run output: the log, the figures as files, and limits for both."""

import base64
import re
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

from nbformat import NotebookNode

from dltlab.files import cannot_write

MAX_CELL_TEXT = 1_000_000  # characters that a cell prints
MAX_CELL_DATA = 20_000_000  # characters of its other outputs
MAX_LOG = 10_000_000  # characters
_MAX_TAIL = 10_000  # characters of the end, where there is more
_MAX_LAST_LINE = 200

_SUFFIXES = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
}
_DATA_URL = re.compile(rf"data:({'|'.join(map(re.escape, _SUFFIXES))});base64,(.+)", re.DOTALL)
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Shortened:
    """A long text of which only the beginning and the end are kept.

    Args:
        limit: The most characters of the beginning.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._num_dropped = 0
        self._tail = ""

    def take(self, text: str) -> str:
        """Return the part of a new piece of the text that is kept now."""
        kept = text[: self._left]
        self._left -= len(kept)
        if rest := text[len(kept) :]:
            self._num_dropped += len(rest)
            self._tail = (self._tail + rest)[-_MAX_TAIL:]
        return kept

    def end(self) -> str:
        """Return the note and the end of the text, where something was left out."""
        num_dropped = self._num_dropped - len(self._tail)
        if num_dropped <= 0:
            return self._tail
        return f"\n[{num_dropped:,} characters are left out here]\n{self._tail}"


class RunLog:
    """The file with what the cells print.

    Attributes:
        last_line: The last line that is not empty.
    """

    def __init__(self, path: Path) -> None:
        self.last_line = ""
        self._path = path
        self._shortened = Shortened(MAX_LOG)
        self._unfinished = ""

    def write(self, text: str, *, is_error: bool = False) -> None:
        """Append a text; that of an error is not the last line that is printed.

        Raises:
            Unavailable: The file cannot be written.
        """
        text = _ESCAPE.sub("", text)
        self._append(self._shortened.take(text))
        if not is_error:
            lines = (self._unfinished + text)[-_MAX_TAIL:].replace("\r", "\n").split("\n")
            self._unfinished = lines[-1]
            printed = [line.strip() for line in lines if line.strip()]
            self.last_line = printed[-1][:_MAX_LAST_LINE] if printed else self.last_line

    def close(self) -> None:
        """Append what was held back."""
        self._append(self._shortened.end())

    def _append(self, text: str) -> None:
        if not text:
            return
        try:
            # The notebook may have removed the folder meanwhile.
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            raise cannot_write(self._path, error) from error


def write_images(cell: NotebookNode, number: int, folder: Path) -> None:
    """Write the images in a cell's outputs to files, as `cell-03-1.png`.

    An image in HTML, as a figure with an alternative text is, counts where the output has no other.

    Raises:
        Unavailable: The folder cannot be written.
    """
    images = [image for output in cell.get("outputs", ()) for image in _images(output)]
    for index, (mime, data) in enumerate(images, 1):
        path = folder / f"cell-{number:02}-{index}{_SUFFIXES[mime]}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError as error:
            raise cannot_write(path, error) from error


def _images(output: NotebookNode) -> list[tuple[str, bytes]]:
    """Return the type and the content of each image in an output."""
    texts = {
        mime: content if isinstance(content, str) else "".join(content)
        for mime, content in output.get("data", {}).items()
        if mime in (*_SUFFIXES, "text/html")
    }
    parser = _ImageParser()
    parser.feed(texts.pop("text/html", ""))
    # Several types are the same figure in several formats.
    sources = list(texts.items())[:1] or parser.sources
    images = []
    for mime, text in sources:
        with suppress(ValueError):  # not base64
            is_text = mime == "image/svg+xml" and mime in texts
            images.append((mime, text.encode() if is_text else base64.b64decode(text)))
    return images


class _ImageParser(HTMLParser):
    """Finds the images that HTML contains.

    Attributes:
        sources: The type of each, and its content in base64.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an image."""
        address = dict(attrs).get("src") if tag == "img" else None
        if address and (match := _DATA_URL.fullmatch(address)):
            self.sources.append((match[1], match[2]))
