"""Where an exercise is asked and answered: the lab's source, so that nothing is written twice."""

import ast
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from dltlab.course.catalogue import Course
from dltlab.course.source import Lab, read_lab
from dltlab.errors import LabError


@cache
def lab_of(module: str) -> Lab:
    """The lab whose exercises `module` holds: its topic is the last part of the module's name.

    Looked for in the course of this session, in the folders above the module's file, and in
    dltlab's own course.

    Raises:
        LabError: No course has such a lab.
    """
    topic = module.rpartition(".")[2]
    file = getattr(sys.modules.get(module), "__file__", None)
    above = [Course(folder) for folder in Path(file).resolve().parents] if file else []
    for course in (Course.find(), *above, Course.own()):
        for path in course.solutions.glob(f"[0-9][0-9]_{topic}.py"):
            return read_lab(path)
    raise LabError(f"No lab of the course is called '{topic}', as the module {module} is.")


def reference(lab: Lab, name: str, *, stub: bool = False) -> Callable[..., Any]:
    """The author's function `name`, or its stub; it sees the lab's imports and nothing else."""
    namespace: dict[str, Any] = {"__name__": f"{lab.name}.reference"}
    for cell in lab.code_cells():
        imports = [n for n in cell.tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
        _execute(imports, namespace)
    cell = lab.defining(name)
    _execute([_definition(cell.stub if stub else cell.solution, name)], namespace)
    return namespace[name]  # type: ignore[no-any-return]


def is_stub(lab: Lab, name: str, answer: Callable[..., Any]) -> bool:
    """Whether `answer` does no more than the stub of `name`: nothing was written in it yet."""
    module = compile(lab.defining(name).stub, "<stub>", "exec")
    stubs = [c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == name]
    return _fingerprint(answer.__code__) in map(_fingerprint, stubs)


def _definition(source: str, name: str) -> Any:
    return next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )


def _execute(nodes: list[Any], namespace: dict[str, Any]) -> None:
    module = ast.Module(body=nodes, type_ignores=[])
    exec(compile(module, "<solution>", "exec"), namespace)  # noqa: S102 - the author's own source


def _fingerprint(code: CodeType) -> tuple[Any, ...]:
    """What a function does, whatever its docstring, comments and place."""
    constants = code.co_consts
    if constants and isinstance(constants[0], str):  # the docstring
        constants = constants[1:]
    nested = (_fingerprint(c) if isinstance(c, CodeType) else c for c in constants)
    return (code.co_code, code.co_names, code.co_varnames, *nested)
