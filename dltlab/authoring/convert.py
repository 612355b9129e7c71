"""Turn a notebook, or a script in percent format, into the source of a lab."""

import ast
import json
import re
from pathlib import Path

import jupytext
import nbformat
from jupytext.cell_metadata import is_jupyter_language
from jupytext.magics import comment_magic
from nbformat import NotebookNode

from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.paths import short_path

_SUFFIXES = (".ipynb", ".py")
_COMMENTED = "active-ipynb"  # in a script, jupytext comments every line of a cell with this tag
_TITLE = re.compile(r"(?m)^# (.+)\n*")
# What nbformat and jupytext raise for a file that is not what its name says.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError),
    nbformat.ValidationError,
)
_FILTERS = {"notebook_metadata_filter": "-all", "cell_metadata_filter": "tags,-all"}


def topic_of(path: Path) -> str:
    """Return the topic of a lab that is made of the notebook `path`: its name in lower case."""
    name = re.sub(r"\W+", "_", path.stem.lower(), flags=re.ASCII)
    return re.sub(r"^[\d_]+", "", name).rstrip("_")


def read_foreign(path: Path) -> NotebookNode:
    """Read a notebook, or a script in percent format, that is no lab yet.

    Raises:
        NotFound: There is no such file.
        Damaged: The file cannot be read as either of them.
        Invalid: It is another kind of file, or its language is not Python.
    """
    if not path.is_file():
        raise NotFound(f"There is no file {short_path(path)}.")
    if path.suffix not in _SUFFIXES:
        raise Invalid(f"{short_path(path)} is neither a notebook (.ipynb) nor a script (.py).")
    try:
        text = path.read_text(encoding="utf-8-sig")
        # Not validated: Jupyter, too, opens notebooks whose metadata is not complete.
        if path.suffix == ".ipynb":
            notebook = nbformat.convert(nbformat.reader.reads(text), 4)
        else:
            notebook = jupytext.reads(text, fmt="py")
        kinds = {(cell.cell_type, type(cell.source)) for cell in notebook.cells}
    except _UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise Damaged(f"{short_path(path)} cannot be read as a notebook ({reason}).") from error
    if not kinds <= {("code", str), ("markdown", str), ("raw", str)}:
        raise Damaged(f"{short_path(path)} has cells that are neither code nor text.")
    metadata = notebook.get("metadata", {})
    named = (metadata.get("kernelspec", {}), metadata.get("language_info", {}))
    language = next(filter(None, [named[0].get("language"), named[1].get("name")]), "python")
    if language.lower() not in ("python", "ipython"):
        raise Invalid(f"{short_path(path)} is written in {language}; labs are written in Python.")
    return notebook


def to_percent(notebook: NotebookNode) -> dict[str, str]:
    """Return the values of a lab's template: the cells, and the title if the notebook has one."""
    body = notebook.cells[1 if has_header(notebook) else 0 :]
    cells = [_converted(cell) for cell in body if cell.source.strip()]
    values = {}
    for cell in cells:
        if cell.cell_type == "markdown" and (title := _TITLE.search(cell.source)):
            values["title"] = json.dumps(title[1].strip(), ensure_ascii=False)[1:-1]
            cell.source = _TITLE.sub("", cell.source, count=1)
            break
    new = nbformat.v4.new_notebook(
        cells=[cell for cell in cells if cell.source.strip()], metadata={"jupytext": _FILTERS}
    )
    return values | {"cells": jupytext.writes(new, fmt="py:percent").strip("\n")}


def has_header(notebook: NotebookNode) -> bool:
    """Return whether a notebook begins with a raw cell of YAML, as jupytext reads front matter."""
    first = notebook.cells[:1]
    return any(cell.cell_type == "raw" and cell.source.startswith("---") for cell in first)


def _converted(cell: NotebookNode) -> NotebookNode:
    """Return a cell as a percent script can hold it: without outputs, with its images inside."""
    source = cell.source.strip("\n")
    for name, formats in cell.get("attachments", {}).items():
        for mime_type, content in list(formats.items())[:1]:
            address = f"data:{mime_type};base64,{''.join(content).strip()}"
            source = source.replace(f"attachment:{name}", address)
    tags = [re.sub(r"[^\w-]+", "-", tag) for tag in cell.get("metadata", {}).get("tags", [])]
    metadata = {"tags": tags} if tags else {}
    if cell.cell_type == "code":
        if not _is_python(source):
            metadata["tags"] = [*tags, _COMMENTED]
        return nbformat.v4.new_code_cell(source, metadata=metadata)
    if cell.cell_type == "raw":
        source = f"```\n{source}\n```"
    return nbformat.v4.new_markdown_cell(source, metadata=metadata)


def _is_python(source: str) -> bool:
    """Return whether a cell is Python when its magics are comments, unlike `%%writefile x.txt`."""
    first, *_ = lines = source.splitlines()
    if first.startswith("%%") and is_jupyter_language(first[2:].partition(" ")[0]):
        return True  # jupytext comments every line of its own accord
    try:
        ast.parse("\n".join(comment_magic(lines)))
    except SyntaxError:
        return False
    return True
