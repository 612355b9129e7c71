"""The versions that a run is executed with: of Python, packages, code and data."""

import json
import platform
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from dltlab.batch.run_folder import Run
from dltlab.course import Course
from dltlab.errors import LabError
from dltlab.files import write_atomically

_GIT_SECONDS = 10


def write_versions(run: Run, notebook: NotebookNode, path: Path) -> None:
    """Write the versions of a run as JSON.

    Raises:
        Unavailable: The file cannot be written.
    """
    versions = {
        "python": platform.python_version(),
        "packages": _packages(),
        "code": None if "://" in run.notebook else _code(Path(run.notebook)),
        "data": _data(run, notebook),
    }
    write_atomically(path, json.dumps(versions, indent=1) + "\n")


@cache
def _packages() -> dict[str, str]:
    """Return the version of each installed package."""
    found = {item.metadata["Name"]: item.version for item in distributions()}
    return dict(sorted(found.items(), key=lambda item: str(item[0]).lower()))


def _code(notebook: Path) -> dict[str, Any] | None:
    """Return the commit of the notebook's repository, and whether the notebook differs from it."""
    commit = _git(notebook.parent, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(notebook.parent, "status", "--porcelain", "--", notebook.name)
    return {"commit": commit, "is_changed": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _data(run: Run, notebook: NotebookNode) -> dict[str, str]:
    """Return the version of each data set that the notebook's lab or its parameters name."""
    from dltlab import data

    lab = notebook.metadata.get("dltlab", {}).get("lab")
    names = [*(_data_sets(lab) if lab else ()), *run.parameters.values()]
    versions = {}
    for name in names:
        if isinstance(name, str):
            with suppress(LabError):  # the value of another parameter
                versions[name.partition("@")[0]] = str(data.info(name).version)
    return versions


@cache
def _data_sets(lab: str) -> tuple[str, ...]:
    try:
        return tuple(Course.find().read([lab])[0].front_matter.datasets)
    except LabError:
        return ()
