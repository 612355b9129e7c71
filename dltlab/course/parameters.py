"""Check the parameters that papermill has set in a notebook."""

import ast
from typing import Any

from dltlab.errors import Invalid

_PAPERMILLS_OWN = ("PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")  # with --inject-paths
_INJECTED = "# Parameters\n"  # how the cell begins that papermill adds below the lab's own


def check_parameters() -> None:
    """Raise for a parameter that papermill has set and the lab does not have, or of another type.

    A notebook calls it in the cell after its parameters. Without papermill it does nothing.

    Raises:
        Invalid: The parameter's name or type is wrong.
    """
    from IPython import get_ipython

    shell = get_ipython()
    cells = shell.user_ns["In"] if shell else []
    places = [place for place, cell in enumerate(cells) if cell.startswith(_INJECTED)]
    if not places:
        return
    defaults, injected = (_values(cells[place]) for place in (places[-1] - 1, places[-1]))
    for name, value in injected.items():
        if name in _PAPERMILLS_OWN:
            continue
        if name not in defaults:
            raise Invalid(f"There is no parameter '{name}'; the lab has: {', '.join(defaults)}.")
        if not _fits(value, defaults[name]):
            kind = type(defaults[name]).__name__
            raise Invalid(f"Parameter {name} must be of type {kind}, which {value!r} is not.")


def _values(cell: str) -> dict[str, Any]:
    """Return the names that a cell assigns and their values; None for one that is no literal."""
    values: dict[str, Any] = {}
    for node in ast.parse(cell).body:
        match node:
            case ast.Assign(targets=[ast.Name(name)], value=value):
                try:
                    values[name] = ast.literal_eval(value)
                except ValueError:
                    values[name] = None
    return values


def _fits(value: Any, default: Any) -> bool:
    if value is None or default is None or (type(value), type(default)) == (int, float):
        return True
    return type(value) is type(default)
