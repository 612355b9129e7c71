"""The author's solution and the learner's stub, both from the lab's source."""

import ast
import dis
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from dltlab.course import Course, Lab, parse_code, read_lab
from dltlab.errors import Invalid, NotFound
from dltlab.paths import short_path


@cache
def lab_of(module: str) -> Lab:
    """Return the lab whose exercises `module` holds: its topic is the last part of that name.

    It is looked up in the course of this session, in the folders above the module's file, and in
    dltlab's own course.

    Raises:
        NotFound: No course has such a lab.
    """
    topic = module.rpartition(".")[2]
    file = getattr(sys.modules.get(module), "__file__", None)
    above = [Course(folder) for folder in Path(file).resolve().parents] if file else []
    for course in (Course.find(), *above, Course.own()):
        for path in course.solutions.glob(f"[0-9][0-9]_{topic}.py"):
            return read_lab(path)
    raise NotFound(f"No lab of the course is called '{topic}', as the module {module} is.")


def reference(lab: Lab, name: str, *, stub: bool = False) -> Callable[..., Any]:
    """Return the author's function `name`, or the learner's stub of it.

    It sees those imports of the lab that it uses, and nothing else: a function that needs no
    TensorFlow is ready without it.

    Raises:
        LabError: The lab does not define it.
        Invalid: Defining it needs more than the lab's imports.
    """
    namespace: dict[str, Any] = {"__name__": f"{lab.name}.reference"}
    cell = lab.defining(name)
    definition = _definition(cell.stub if stub else cell.source, name)
    imports = _used_imports(lab, definition)
    ast.increment_lineno(definition, cell.line - 1)  # a traceback names the line of the lab
    try:
        # Apart, as in a notebook: in the module that imports a name, Python compiles calls of its
        # attributes to other instructions, and the stub would not be recognized.
        _execute(imports, namespace, lab.path)
        _execute([definition], namespace, lab.path)
    except Exception as error:
        raise Invalid(
            f"{short_path(lab.path)}:{cell.line}: '{name}' cannot be defined from the imports of "
            f"the lab alone ({type(error).__name__}: {error})."
        ) from error
    return namespace[name]  # type: ignore[no-any-return]


def is_stub(lab: Lab, name: str, function: Callable[..., Any]) -> bool:
    """Return whether `function` does no more than the stub of `name`."""
    module = compile(parse_code(lab.defining(name).stub), "<stub>", "exec")
    stubs = [c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == name]
    return _fingerprint(function.__code__) in map(_fingerprint, stubs)


def _definition(source: str, name: str) -> ast.FunctionDef:
    return next(
        node
        for node in parse_code(source).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )


def _used_imports(lab: Lab, definition: ast.FunctionDef) -> list[ast.stmt]:
    """Return the lab's imports of names that occur in a function."""
    used = {node.id for node in ast.walk(definition) if isinstance(node, ast.Name)}
    imports: list[ast.stmt] = []
    for cell in lab.code_cells():
        for node in cell.tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
                if names & used:
                    imports.append(node)
    return imports


def _execute(statements: list[ast.stmt], namespace: dict[str, Any], path: Path) -> None:
    module = ast.Module(body=statements, type_ignores=[])
    exec(compile(module, str(path), "exec"), namespace)  # noqa: S102 - the author's own source


def _fingerprint(code: CodeType) -> tuple[Any, ...]:
    """Return what a function does, whatever its docstring, comments, unused names and place."""
    return tuple(
        (instruction.opname, _fingerprint(instruction.argval))
        if isinstance(instruction.argval, CodeType)
        else (instruction.opname, instruction.argrepr)
        for instruction in dis.get_instructions(code)
    )
