"""Check the parameters that papermill has set in a notebook."""

import ast
from typing import Any

from dltlab.errors import Invalid

_PAPERMILLS_OWN = ("PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")  # with --inject-paths
# Where values of other types are correct, too: YAML and JSON have no tuples and sets.
ACCEPTED_TYPES: dict[type, tuple[type, ...]] = {
    float: (float, int),
    tuple: (tuple, list),
    set: (set, list),
}
_INJECTED = "# Parameters\n"  # how the cell begins that papermill adds below the lab's own


def check_parameters(**types: type | None) -> None:
    """Raise for a parameter that papermill has set and the lab does not have, or of another type.

    A notebook calls it in the cell after its parameters. Without papermill it does nothing.

    Args:
        types: The type of each parameter of the lab; None: any type.

    Raises:
        Invalid: The parameter's name or type is wrong.
    """
    from IPython import get_ipython

    shell = get_ipython()
    cells = shell.user_ns["In"] if shell else []
    injected = [cell for cell in cells if cell.startswith(_INJECTED)]
    for name, value in _values(injected[-1]).items() if injected else ():
        if name in _PAPERMILLS_OWN:
            continue
        if name not in types:
            raise Invalid(f"There is no parameter '{name}'; the lab has: {', '.join(types)}.")
        kind = types[name]
        if kind and value is not ... and type(value) not in ACCEPTED_TYPES.get(kind, (kind,)):
            raise Invalid(
                f"Parameter {name} must be of type {kind.__name__}, which {value!r} is not."
            )


def _values(cell: str) -> dict[str, Any]:
    """Return the names that papermill's cell assigns, and their values.

    Those that a person has changed to something computed are `...`.
    """
    return {
        target.id: _value(value)
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign)
        for target, value in [(node.targets[0], node.value)]
        if isinstance(target, ast.Name)
    }


def _value(node: ast.expr) -> Any:
    """Return the value of a literal, or of `float('nan')`, as papermill writes it."""
    match node:
        case ast.Call(ast.Name("float"), [ast.Constant(text)], []):
            return float(str(text))
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...
