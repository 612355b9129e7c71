"""Write the reference: a page for each room of dltlab, with every name that it exports.

Docstrings have their sections in Google's style, for napoleon, and their text in Markdown.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.typing import ExtensionMetadata

from docs.extensions.course_pages import write_if_new

PACKAGE = Path(__file__).resolve().parents[2] / "dltlab"

# Modules that are no rooms, and the names of them that a lab or a script uses.
MODULES = {
    "dltlab": ["record"],
    "dltlab.display": ["NEUTRAL", "PALETTE", "Result", "in_notebook", "show"],
    "dltlab.errors": ["LabError", "NotFound", "Unavailable", "Damaged", "Invalid"],
}

INDEX = """\
Reference
=========

The rooms (subpackages) of dltlab and every name that they export. ``from dltlab import data``
imports a room; its modules are imported when they are first used.

.. toctree::
   :maxdepth: 1

   command_line
{pages}
"""


def exported(room: str) -> list[str]:
    """Return the names that a room exports, from `__all__` of its `__init__.pyi`."""
    tree = ast.parse((PACKAGE / room / "__init__.pyi").read_text())
    (names,) = [node.value for node in tree.body if isinstance(node, ast.Assign)]
    return list(ast.literal_eval(names))


def rooms() -> list[str]:
    """Return the names of all rooms, sorted."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))


def directive(module: str, name: str) -> str:
    """Return the lines in reStructuredText that document a name."""
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        options = "   :members:\n" + "   :show-inheritance:\n" * (kind == "exception")
    elif inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        kind, options = "function", ""
    else:
        kind, options = "data", "   :no-value:\n"
    return f".. auto{kind}:: {module}.{name}\n{options}"


def comment(module: str, name: str) -> str:
    """Return the comment on a constant in the source: beside its assignment, or in the line above.

    Args:
        module: A room, or another module.
        name: The constant, which is defined in `module` or in a module that the room takes it from.
    """
    path = PACKAGE.parent / module.replace(".", "/")
    if path.is_dir():
        for node in ast.parse((path / "__init__.pyi").read_text()).body:
            if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
                path = path / str(node.module).replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    lines = path.read_text().splitlines()
    (number,) = [n for n, line in enumerate(lines) if re.match(rf"{name}\b.* = ", line)]
    beside = lines[number].partition("  # ")[2].partition("noqa")[0]
    above = lines[number - 1].removeprefix("# ") if lines[number - 1].startswith("# ") else ""
    text = beside or above
    return f"{text[:1].upper()}{text[1:].rstrip('. ')}." if text else ""


def as_restructured_text(lines: list[str]) -> list[str]:
    """Return a docstring with its blocks of code, indented or fenced, as reStructuredText."""
    result: list[str] = []
    base, fence, code = 0, None, None  # the indentation of the text, of a fence, of a block
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if match := re.match(r"( *)```(\w*)$", line):
            if fence is None:
                fence = len(match[1])
                result += ["", f"{match[1]}.. code-block:: {match[2] or 'bash'}", ""]
            else:
                fence = None
                result.append("")
        elif fence is not None:
            result.append(f"    {line}" if line else "")
        elif not line.strip():
            result.append("")
        elif code is not None and indent >= code:
            result.append(line)
        else:
            code = None
            if result and not result[-1] and any(result) and indent >= base + 4:
                code = indent
                result += [f"{' ' * base}.. code-block:: python", ""]
            else:
                base = indent
            result.append(line)
    return result


def page(module: str, names: list[str]) -> str:
    """Return the page of a module, in reStructuredText."""
    summary = "\n".join(f"   {name}" for name in names)
    return "\n".join(
        [
            f"{module}\n{'=' * len(module)}\n",
            f".. automodule:: {module}\n   :no-members:\n",
            f".. currentmodule:: {module}\n",
            f".. autosummary::\n   :nosignatures:\n\n{summary}\n",
            *(directive(module, name) for name in names),
        ]
    )


def _generate(app: Sphinx, config: Config) -> None:
    folder = Path(app.srcdir) / "reference"
    modules = MODULES | {f"dltlab.{room}": exported(room) for room in rooms()}
    for module, names in modules.items():
        write_if_new(folder / f"{module}.rst", page(module, names).encode())
    for old in folder.glob("dltlab*.rst"):
        if old.stem not in modules:
            old.unlink()
    pages = "\n".join(f"   {module}" for module in sorted(modules))
    write_if_new(folder / "index.rst", INDEX.format(pages=pages).encode())


def _process(
    app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    module, _, constant = name.rpartition(".")
    if what == "data":
        lines[:] = [comment(module, constant)]
    else:
        lines[:] = as_restructured_text(lines)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Write the pages before Sphinx looks for its sources, and read docstrings before napoleon."""
    app.connect("config-inited", _generate)
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
