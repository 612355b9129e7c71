"""Images in a folder with a folder for each class."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dltlab.data.importing.candidates import Candidate, LeftOut, Listing, listing_of
from dltlab.data.importing.layout import Layout


@dataclass(frozen=True)
class FolderSource:
    """A folder that contains a folder for each class."""

    path: Path
    layout: Layout | None = None

    def listing(self) -> Listing:
        """List every file below the folder, except hidden ones."""
        names: list[str] = []
        left_out: list[LeftOut] = []

        def leave_out(error: OSError) -> None:
            left_out.append((str(error.filename), f"cannot be read ({error.strerror})"))

        for parent, folders, files in os.walk(self.path, onerror=leave_out):
            below = Path(parent).relative_to(self.path)
            for name in folders:
                if Path(parent, name).is_symlink():
                    left_out.append(((below / name).as_posix(), "is a link to a folder"))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            names += [(below / name).as_posix() for name in files]
        return listing_of(names, left_out, self.layout)

    def contents(self, candidates: Iterable[Candidate]) -> Iterator[tuple[Candidate, Path]]:
        """Yield each candidate with its path."""
        return ((candidate, self.path / candidate.name) for candidate in candidates)
