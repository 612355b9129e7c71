"""A learner's folder: copies of the labs that are the learner's own from then on."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dltlab.course.catalog import Course
from dltlab.course.notebooks import load
from dltlab.errors import LabError
from dltlab.files import write_atomically
from dltlab.paths import short_path

_NOTES = ".dltlab.json"


@dataclass(frozen=True)
class Workspace:
    """The copies of one course's labs in one folder.

    A file `.dltlab.json` notes, for each lab, the hash of the cells that the learner was given
    last. A copy whose cells still have that hash was never edited: JupyterLab rewrites a notebook's
    metadata by merely saving it. Without the file every copy counts as edited, so losing it loses
    nothing.
    """

    folder: Path
    course: Course

    def copy(self, name: str) -> Path:
        """The learner's copy of the lab `name` (`NN_topic`)."""
        return self.folder / f"{name}.ipynb"

    def update(self) -> list[str]:
        """Give the learner every lab of the course, and return what there is to say about it.

        A copy that was edited is never touched: when the course's has changed since, the new one is
        laid beside it.

        Raises:
            LabError: A lab has not been built, or the folder cannot be written.
        """
        given = self._given()
        said = []
        for name in self.course.lab_names():
            content = self._course_copy(name)
            if message := self._update_one(name, content, given.get(name)):
                said.append(message)
            given[name] = _hash(content)
        if given != self._given():
            write_atomically(self.folder / _NOTES, json.dumps(given, indent=1) + "\n")
        return said

    def reset(self, name: str) -> Path | None:
        """Start the lab `name` over; returns where the old copy is kept, None if there was none.

        Raises:
            LabError: The folder cannot be written; the old copy stays where it was.
        """
        content = self._course_copy(name)
        copy, kept = self.copy(name), None
        if copy.exists():
            mine = _read(copy)
            now = f"{datetime.now():%Y-%m-%d %H.%M.%S}"
            kept = _free(self.folder / "old" / f"{name} {now}.ipynb", mine)
            write_atomically(kept, mine)
        write_atomically(copy, content)
        write_atomically(
            self.folder / _NOTES,
            json.dumps(self._given() | {name: _hash(content)}, indent=1) + "\n",
        )
        return kept

    def _update_one(self, name: str, content: bytes, given: str | None) -> str | None:
        copy = self.copy(name)
        if not copy.exists():
            write_atomically(copy, content)
            return f"{short_path(copy)} was missing: a fresh copy is there." if given else None
        mine, course = _hash(_read(copy)), _hash(content)
        if course not in (mine, given):
            if mine == given:
                write_atomically(copy, content)
                return f"{short_path(copy)} is up to date again: you had not changed it."
            beside = _free(self.folder / f"{name}-new.ipynb", content)
            write_atomically(beside, content)
            return (
                f"The course's {name} has changed. Your copy is untouched: {short_path(copy)}; "
                f"the new one is beside it: {short_path(beside)}."
            )
        if load(copy) is None:
            return (
                f"{short_path(copy)} cannot be read as a notebook; it is left as it is. "
                f"`dltlab reset {name}` starts the lab over and keeps the file."
            )
        return None

    def _course_copy(self, name: str) -> bytes:
        path = self.course.labs / f"{name}.ipynb"
        try:
            return path.read_bytes()
        except OSError as error:
            raise LabError(
                f"{short_path(path)} cannot be read ({error.strerror}); make it with: dltlab build"
            ) from error

    def _given(self) -> dict[str, str]:
        """The hash of what the learner was given of each lab; empty where that is not known."""
        try:
            notes = json.loads((self.folder / _NOTES).read_bytes())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) else {}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LabError(f"{short_path(path)} cannot be read ({error.strerror}).") from error


def _hash(content: bytes) -> str:
    """The hash of a notebook's cells; of all of `content` where that is no notebook."""
    with suppress(ValueError, TypeError, KeyError):
        content = json.dumps(json.loads(content)["cells"], sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _free(path: Path, content: bytes) -> Path:
    """`path`, or the first of `path-2`, `path-3`, … that does not exist or holds `content`."""
    candidate, number = path, 2
    while candidate.exists() and _read(candidate) != content:
        candidate = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return candidate
