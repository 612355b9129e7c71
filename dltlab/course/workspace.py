"""A learner's folder with copies of the labs, which belong to the learner."""

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dltlab.course.catalog import Course
from dltlab.course.notebooks import read_notebook
from dltlab.errors import NotFound, Unavailable
from dltlab.files import write_atomically
from dltlab.paths import short_path

_HASHES = ".dltlab.json"
_LINK = re.compile(rb"\[(\w+)\]\(\1\.ipynb\)")  # to another lab, as a build writes it


@dataclass(frozen=True)
class Workspace:
    """The copies of a course's labs in a folder.

    The file `.dltlab.json` holds, for each lab, the hash of the cells that the learner last
    received. A copy with the same hash is unedited; saving it in JupyterLab changes only its
    metadata. Without the file every copy counts as edited, so that nothing is ever overwritten.

    Attributes:
        folder: The learner's folder.
        course: The course.
        profile: Whose parameters new copies have: smoke, workshop or full.
    """

    folder: Path
    course: Course
    profile: str = "workshop"

    @classmethod
    def find(cls, folder: Path | None, course: Course) -> "Workspace":
        """Return the workspace in `folder`, else in the working folder, else in `workspace`."""
        if folder is None:
            folder = Path.cwd() if Path(_HASHES).is_file() else Path("workspace")
        return cls(folder, course)

    def copy(self, name: str) -> Path:
        """Return the path of the learner's copy of the lab `name` (`NN_topic`)."""
        return self.folder / f"{name}.ipynb"

    def update(self, required: str | None = None) -> list[str]:
        """Copy new and changed labs into the folder, and return messages for the learner.

        An edited copy is not touched: the new version of its lab is written next to it. A lab that
        has not been built is left out, with a message.

        Args:
            required: A lab (`NN_topic`) that must be there.

        Raises:
            Unavailable: The lab `required` has not been built, or the folder cannot be written.
        """
        old_hashes = self._hashes()
        hashes, messages = dict(old_hashes), []
        for name in self.course.lab_names():
            try:
                content = self._course_copy(name)
            except Unavailable as error:
                if name == required:
                    raise
                messages.append(f"{name} is left out: {error}")
                continue
            if message := self._update_lab(name, content, old_hashes.get(name)):
                messages.append(message)
            hashes[name] = _hash(content)
        if hashes != old_hashes:
            self._write_hashes(hashes)
        return messages

    def reset(self, name: str) -> Path | None:
        """Replace the copy of the lab `name` by the course's notebook.

        Returns:
            Where the old copy was moved to, or None if there was none.

        Raises:
            NotFound: The folder is not a workspace.
            Unavailable: The folder cannot be written; the old copy stays where it was.
        """
        copy, backup = self.copy(name), None
        if not copy.exists() and not (self.folder / _HASHES).is_file():
            raise NotFound(
                f"{self.folder.resolve()} is not a workspace: name yours with --dir, or make one "
                f"with: {self.course.command('lab')}"
            )
        content = self._course_copy(name)
        if copy.exists():
            old = _read(copy)
            now = f"{datetime.now():%Y-%m-%d %H.%M.%S}"
            backup = _free(self.folder / "old" / f"{name} {now}.ipynb", old)
            write_atomically(backup, old)
        write_atomically(copy, content)
        self._write_hashes(self._hashes() | {name: _hash(content)})
        return backup

    def _update_lab(self, name: str, content: bytes, old_hash: str | None) -> str | None:
        copy = self.copy(name)
        if not copy.exists():
            write_atomically(copy, content)
            return f"{short_path(copy)} was missing; it is copied again." if old_hash else None
        copy_hash, new_hash = _hash(_read(copy)), _hash(content)
        if new_hash not in (copy_hash, old_hash):
            if copy_hash == old_hash:
                write_atomically(copy, content)
                return f"{short_path(copy)} is updated; you had not edited it."
            new = _free(self.folder / f"{name}-new.ipynb", content)
            write_atomically(new, content)
            return (
                f"The course has a new version of {name}: {short_path(new)}. "
                f"Your edited copy {short_path(copy)} is unchanged."
            )
        if read_notebook(copy) is None:
            folder = short_path(self.folder)
            option = [] if folder == "workspace" else ["--dir", folder]
            return (
                f"{short_path(copy)} cannot be read as a notebook; it is left as it is. "
                f"To start the lab over and keep the file, run: "
                f"{self.course.command('reset', name, *option)}"
            )
        return None

    def _course_copy(self, name: str) -> bytes:
        """Return the course's notebook, without links to labs that have not been built."""
        path = self.course.labs / f"{name}.ipynb"
        try:
            content = _LINK.sub(self._link_or_name, path.read_bytes())
        except OSError as error:
            raise Unavailable(
                f"{short_path(path)} cannot be read ({error.strerror}); make it with: "
                f"{self.course.command('build', name)}"
            ) from error
        if self.profile == "workshop":  # a build writes these
            return content
        (lab,) = self.course.read([name])
        return _with_parameters(content, getattr(lab.front_matter.profiles, self.profile))

    def _link_or_name(self, link: re.Match[bytes]) -> bytes:
        other = self.course.labs / f"{link[1].decode()}.ipynb"
        return link[0] if other.is_file() else link[1]

    def _hashes(self) -> dict[str, str]:
        """Return the hash of what the learner last received of each lab; empty if unknown."""
        try:
            hashes = json.loads((self.folder / _HASHES).read_bytes())
        except (OSError, ValueError):
            return {}
        return hashes if isinstance(hashes, dict) else {}

    def _write_hashes(self, hashes: dict[str, str]) -> None:
        write_atomically(self.folder / _HASHES, json.dumps(hashes, indent=1) + "\n")


def _with_parameters(content: bytes, values: Mapping[str, Any]) -> bytes:
    """Return a lab's notebook with other values in the cell of its parameters."""
    notebook = json.loads(content)
    for cell in notebook["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            source = "".join(cell["source"])
            for name, value in values.items():
                (node,) = (
                    node.value
                    for node in ast.parse(source).body
                    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
                )
                source = source.replace(
                    f"{name} = {ast.get_source_segment(source, node)}", f"{name} = {value!r}", 1
                )
            cell["source"] = source.splitlines(keepends=True)
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"{short_path(path)} cannot be read ({error.strerror}).") from error


def _hash(content: bytes) -> str:
    """Return the hash of a notebook's cells, or of all of `content` if it is not a notebook."""
    with suppress(ValueError, TypeError, KeyError):
        content = json.dumps(json.loads(content)["cells"], sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()


def _free(path: Path, content: bytes) -> Path:
    """Return `path`, or the first of `path-2`, `path-3`, … that is missing or holds `content`."""
    candidate, number = path, 2
    while candidate.exists() and _read(candidate) != content:
        candidate = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return candidate
