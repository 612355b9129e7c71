"""What parameters a notebook has, and whether values fit them."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode

from dltlab.course import ACCEPTED_TYPES, parse_code
from dltlab.errors import Invalid

_TYPES = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, set)}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a notebook.

    Attributes:
        types: The types of its values; empty: any.
        is_required: Whether the notebook gives it no value.
    """

    types: tuple[type, ...] = ()
    is_required: bool = False

    def accepts(self, value: Any) -> bool:
        """Return whether a value has the type of the parameter; a bool is no number."""
        accepted = [kind for own in self.types for kind in ACCEPTED_TYPES.get(own, (own,))]
        return not accepted or type(value) in accepted


def notebook_parameters(notebook: NotebookNode, name: str) -> dict[str, Parameter] | None:
    """Return the parameters of a notebook: what its cell tagged `parameters` assigns.

    Args:
        notebook: The notebook.
        name: What an error calls it.

    Returns:
        The parameters; None where the names cannot be told, in a language other than Python.

    Raises:
        Invalid: Several cells are tagged `parameters`, or the cell is not Python.
    """
    cells = [
        (number, cell)
        for number, cell in enumerate(notebook.cells, start=1)
        if "parameters" in cell.metadata.get("tags", ())
    ]
    if len(cells) > 1:
        numbers = " and ".join(str(number) for number, _ in cells)
        raise Invalid(
            f"{name} has several cells tagged 'parameters', {numbers}: keep the tag of one."
        )
    if not cells:
        return {}
    language = language_of(notebook)
    if language != "python":
        return None
    number, cell = cells[0]
    try:
        tree = parse_code(cell.source)
    except SyntaxError as error:
        raise Invalid(
            f"Cell {number} of {name}, tagged 'parameters', is not Python: {error.msg}."
        ) from error
    return dict(parameter for statement in tree.body for parameter in _parameters_of(statement))


def check_values(
    parameters: Mapping[str, Parameter] | None, values: Mapping[str, Any], name: str
) -> None:
    """Raise for a value that a notebook does not take, and for one that it lacks.

    Args:
        parameters: As `notebook_parameters` returns them.
        values: What the run sets.
        name: What an error calls the notebook.

    Raises:
        Invalid: A name or a type is wrong, or a value is missing.
    """
    if parameters is None:
        return
    if values and not parameters:
        raise Invalid(
            f"{name} has no parameters, so {', '.join(values)} cannot be set: tag a cell with its "
            "default values as 'parameters'."
        )
    for key, value in values.items():
        if key not in parameters:
            raise Invalid(f"{name} has no parameter '{key}'; it has: {', '.join(parameters)}.")
        if not parameters[key].accepts(value):
            kinds = " or ".join(_type_name(kind) for kind in parameters[key].types)
            raise Invalid(f"Parameter {key} of {name} must be of type {kinds}, not {value!r}.")
    missing = [
        key for key, parameter in parameters.items() if parameter.is_required and key not in values
    ]
    if missing:
        raise Invalid(
            f"{name} needs a value for {', '.join(missing)}: -p {missing[0]} VALUE; "
            f"its parameters are: {', '.join(parameters)}."
        )


def language_of(notebook: NotebookNode) -> str:
    """Return the programming language of a notebook; Python where it names none."""
    metadata = notebook.metadata
    return str(
        metadata.get("language_info", {}).get("name")
        or metadata.get("kernelspec", {}).get("language")
        or "python"
    )


def parse_value(text: str) -> Any:
    """Return the value of a word on the command line, as papermill's option -p reads it.

    Lists, dictionaries and strings in quotes are read, too.
    """
    import yaml

    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    if text[:1] in ("[", "{", '"', "'"):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            pass
    return text


def _parameters_of(statement: ast.stmt) -> list[tuple[str, Parameter]]:
    """Return the parameters that a line of the cell declares."""
    match statement:
        case ast.AnnAssign(target=ast.Name(name), annotation=annotation, value=value):
            return [(name, Parameter(_annotated(annotation), is_required=value is None))]
        case ast.Assign(targets=targets, value=value):
            types = _types_of(value)
            return [
                (node.id, Parameter(types if isinstance(target, ast.Name) else ()))
                for target in targets
                for node in ast.walk(target)
                if isinstance(node, ast.Name)
            ]
    return []


def _types_of(value: ast.expr) -> tuple[type, ...]:
    """Return the type of a literal; nothing, for any, of None and of an expression."""
    try:
        literal = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError):
        return ()
    return () if literal is None else (type(literal),)


def _annotated(annotation: ast.expr) -> tuple[type, ...]:
    """Return the types that an annotation names; nothing, for any, where it names another one."""
    match annotation:
        case ast.Constant(None):
            return (type(None),)
        case ast.Constant(str(text)):
            return _annotated(ast.parse(text, mode="eval").body)
        case ast.Name(name) if name in _TYPES:
            return (_TYPES[name],)
        case ast.Subscript(value=ast.Name("Optional"), slice=inner) if _annotated(inner):
            return (*_annotated(inner), type(None))
        case ast.Subscript(value=inner):
            return _annotated(inner)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            types = _annotated(left), _annotated(right)
            return (*types[0], *types[1]) if all(types) else ()
    return ()


def _type_name(kind: type) -> str:
    return "None" if kind is type(None) else kind.__name__
