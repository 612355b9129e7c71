"""Sources of a user's images: a folder, an archive or a list."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from dltlab.data.importing.archives import TarSource, ZipSource
from dltlab.data.importing.candidates import Candidate, Content, Listing
from dltlab.data.importing.folder import FolderSource
from dltlab.data.importing.image_list import SUFFIXES_OF_LISTS, ListSource
from dltlab.data.importing.layout import Layout
from dltlab.errors import Invalid, NotFound, Unavailable


class Source(Protocol):
    """A place with images."""

    def listing(self) -> Listing:
        """List the files that may be images."""

    def contents(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Content]]:
        """Yield each candidate with its content, in any order; call `listing` first."""


def open_source(path: Path, layout: Layout | None = None) -> Source:
    """Return the source at `path`: a folder, a tar or zip archive, or a .txt, .csv or .tsv list.

    Args:
        path: Where it is.
        layout: What its folders mean; None: what their names and contents say.

    Raises:
        NotFound: It does not exist.
        Unavailable: It cannot be read.
        Invalid: It is none of these.
    """
    if path.is_dir():
        return FolderSource(path, layout)
    if not path.exists():
        raise NotFound(f"{path} does not exist. Name a folder, a tar or zip archive, or a list.")
    if path.suffix.lower() in SUFFIXES_OF_LISTS:
        if layout is not None:
            raise Invalid(f"layout (--layout) describes folders, but {path} is a list: omit it.")
        return ListSource(path)
    try:
        if zipfile.is_zipfile(path):
            return ZipSource(path, layout)
        if tarfile.is_tarfile(path):
            return TarSource(path, layout)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror or error}.") from error
    except (EOFError, zlib.error):  # a gzip file that ends or is damaged before its first member
        pass
    raise Invalid(
        f"{path} is not a folder of images, a tar or zip archive, or a .txt, .csv or .tsv list. "
        "If it is an archive, it may be damaged: download it again."
    )
