"""A notebook to run, with different values of its parameters: `read_template`."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal

import nbformat
from nbformat import NotebookNode

from dltlab.batch.parameters import Parameter, check_values, notebook_parameters
from dltlab.batch.run_folder import Run
from dltlab.course import Course, Lab
from dltlab.errors import Damaged, Invalid, LabError, NotFound, Unavailable
from dltlab.paths import short_path

ProfileName = Literal["smoke", "workshop", "full"]
ANSWER_SECONDS = 120.0  # for a notebook from another machine


@dataclass(frozen=True)
class Template:
    """A notebook that can be run with different values of its parameters.

    Attributes:
        notebook: Its path, or an address that papermill reads.
        name: The name of its lab, or its stem.
        source_hash: SHA-256 of its cells.
        parameters: Its parameters; None where they cannot be told.
        lab: The lab whose notebook it is.
    """

    notebook: str
    name: str
    source_hash: str
    parameters: Mapping[str, Parameter] | None = field(hash=False)
    lab: Lab | None = field(default=None, compare=False)

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        profile: ProfileName | None = None,
        **options: Any,
    ) -> Run:
        """Return one run of the notebook.

        Args:
            parameters: The parameters that differ from the notebook's own.
            profile: The profile of a lab, whose values `parameters` may change.
            options: Other fields of `Run`, such as `timeout`.

        Raises:
            Invalid: The notebook does not have these parameters or this profile, a value has
                another type, or one is missing.
        """
        values: dict[str, Any] = {}
        if profile:
            if not self.lab:
                raise Invalid(f"{self.name} is no lab, so it has no profile '{profile}'.")
            values = dict(getattr(self.lab.front_matter.profiles, profile))
        values |= parameters or {}
        check_values(self.parameters, values, self.name)
        return Run(self.notebook, values, self.name, self.source_hash, **options)


def read_template(name: str, course: Course, *, solved: bool = False) -> Template:
    """Read a lab or a notebook, and check that it can be run.

    Args:
        name: The number or name of a lab, the path of a notebook, or an address that papermill
            reads.
        course: The course of the labs.
        solved: Take the lab's notebook with the answers instead of the learner's.

    Raises:
        NotFound: There is no such lab or notebook.
        Damaged: The notebook is not valid.
        Invalid: Its parameters are not valid.
        Unavailable: The notebook cannot be read, or the lab has not been built.
    """
    lab = None
    if _is_lab(name):
        (lab,) = course.read([name])
        path = (course.solutions if solved else course.labs) / f"{lab.name}.ipynb"
        if not path.is_file():
            raise Unavailable(
                f"{short_path(path)} is missing; make it with: {course.command('build', lab.name)}"
            )
        address = str(path)
    else:
        address = name if "://" in name else os.path.abspath(name)
    notebook = read_source(address)
    if lab is None:
        lab = _lab_of(notebook, course)
    stem = lab.name if lab else Path(address.split("?")[0]).stem
    return Template(address, stem, source_hash(notebook), notebook_parameters(notebook, stem), lab)


def read_source(address: str) -> NotebookNode:
    """Read a notebook from wherever papermill can read it, in the newest format.

    Raises:
        NotFound: The file does not exist.
        Damaged: It is not a valid notebook.
        Unavailable: It cannot be read.
    """
    shown = address if "://" in address else short_path(Path(address))
    try:
        notebook = nbformat.from_dict(_load(address))  # old formats have own classes
        for cell in notebook.cells:  # as papermill, no more: a schema has other requirements
            _ = cell.cell_type, cell.source, cell.metadata
    except FileNotFoundError as error:
        raise NotFound(f"There is no notebook {shown}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Damaged(f"{shown} is not a valid notebook ({reason[:200]}).") from error
    except Exception as error:  # each handler of papermill raises the errors of its library
        raise Unavailable(f"{shown} cannot be read ({error}).") from error
    return notebook


def _load(address: str) -> NotebookNode:
    """Let papermill read a notebook, from elsewhere within a time, which papermill does not limit.

    Raises:
        TimeoutError: No answer came.
    """
    from papermill.iorw import load_notebook_node

    if "://" not in address:
        return load_notebook_node(address)
    results: SimpleQueue[NotebookNode | BaseException] = SimpleQueue()

    def read() -> None:
        try:
            results.put(load_notebook_node(address))
        except BaseException as error:
            results.put(error)

    Thread(target=read, daemon=True).start()
    try:
        result = results.get(timeout=ANSWER_SECONDS)
    except Empty:
        raise TimeoutError(f"no answer within {ANSWER_SECONDS:g} s") from None
    if isinstance(result, BaseException):
        raise result
    return result


def source_hash(notebook: NotebookNode) -> str:
    """Return the SHA-256 hash of a notebook's cells and kernel, without outputs."""
    cells = [
        [cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in notebook.cells
    ]
    kernel = notebook.metadata.get("kernelspec", {}).get("name")
    return hashlib.sha256(json.dumps([kernel, cells]).encode()).hexdigest()


def _is_lab(name: str) -> bool:
    """Return whether a name on the command line is that of a lab, not of a file."""
    return not ("/" in name or name.endswith((".ipynb", ".json")) or os.path.exists(name))


def _lab_of(notebook: NotebookNode, course: Course) -> Lab | None:
    """Return the lab that a notebook was built from, where the course has it."""
    name = notebook.metadata.get("dltlab", {}).get("lab")
    try:
        return course.read([name])[0] if name else None
    except LabError:
        return None
