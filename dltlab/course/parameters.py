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
    # A person who runs the notebook by hand may have run other cells between the two.
    others = [cell for cell in cells[: places[-1]] if not cell.startswith(_INJECTED)]
    earlier = [values for cell in others if (values := _values(cell))]
    if not earlier:
        return
    defaults = earlier[-1]
    for name, value in (_values(cells[places[-1]]) or {}).items():
        if name in _PAPERMILLS_OWN:
            continue
        if name not in defaults:
            raise Invalid(f"There is no parameter '{name}'; the lab has: {', '.join(defaults)}.")
        if not _fits(value, defaults[name]):
            kind = type(defaults[name]).__name__
            raise Invalid(f"Parameter {name} must be of type {kind}, which {value!r} is not.")


def _values(cell: str) -> dict[str, Any] | None:
    """Return the names and values of a cell that does nothing but assign literals; else None."""
    values: dict[str, Any] = {}
    try:
        for node in ast.parse(cell).body:
            match node:
                case ast.Assign(targets=[ast.Name(name)], value=value):
                    values[name] = _value(value)
                case _:
                    return None
    except (SyntaxError, ValueError):  # a magic, or a value that is computed
        return None
    return values


def _value(node: ast.expr) -> Any:
    """Return the value of a literal, or of `float('nan')`, as papermill writes it.

    Raises:
        ValueError: It is something else.
    """
    match node:
        case ast.Call(ast.Name("float"), [ast.Constant(text)], []):
            return float(str(text))
    return ast.literal_eval(node)


def _fits(value: Any, default: Any) -> bool:
    if default is None or (type(value), type(default)) == (int, float):
        return True
    return type(value) is type(default)
