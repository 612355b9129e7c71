"""Where an exercise is asked and answered: the lab's source, so that nothing is written twice."""

import ast
import dis
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

from dltlab.course.catalog import Course
from dltlab.course.source import Lab, read_lab
from dltlab.errors import LabError
from dltlab.paths import short_path


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
    """The author's function `name`, or its stub; it sees the lab's imports and nothing else.

    Raises:
        LabError: The lab does not define it, or defining it needs more than the lab's imports.
    """
    namespace: dict[str, Any] = {"__name__": f"{lab.name}.reference"}
    asked = lab.defining(name)
    nodes = [node for cell in lab.code_cells() for node in cell.tree.body]
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    try:
        _execute(imports, namespace)
        _execute([_definition(asked.stub if stub else asked.solution, name)], namespace)
    except Exception as error:
        raise LabError(
            f"{short_path(lab.path)}:{asked.line}: '{name}' cannot be defined from the imports of "
            f"the lab alone ({type(error).__name__}: {error})."
        ) from error
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
    """What a function does, whatever its docstring, comments, unused names and place."""
    return tuple(
        (each.opname, _fingerprint(each.argval))
        if isinstance(each.argval, CodeType)
        else (each.opname, each.argrepr)
        for each in dis.get_instructions(code)
    )
