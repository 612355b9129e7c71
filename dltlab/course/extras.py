"""The modules that labs import and that are not installed, and the extras that install them."""

import ast
import importlib.util
import re

_IMPORT = re.compile(r"(?m)^(?:import|from) (\w.*?)(?: import .*)?$")
_NAME = re.compile(r"(?:^|,)\s*(\w+)")  # of a top-level module in such a line


def missing_modules(program: str) -> list[str]:
    """Return the names of modules that are not installed and that a program begins by importing.

    Imports in functions and in blocks such as `try` are not counted.

    Args:
        program: Python source.

    Raises:
        SyntaxError: It is not Python.
    """
    # Strings may contain such lines, too, but a syntax tree takes ten times as long.
    candidates = {name for line in _IMPORT.findall(program) for name in _NAME.findall(line)}
    if all(map(_is_installed, candidates)):
        return []
    names: dict[str, None] = {}  # in their order
    for statement in ast.parse(program).body:
        match statement:
            case ast.Import():
                names |= {alias.name.partition(".")[0]: None for alias in statement.names}
            case ast.ImportFrom(module=str(module), level=0):
                names[module.partition(".")[0]] = None
    return [name for name in names if not _is_installed(name)]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def extra_of(module: str) -> str | None:
    """Return the extra of dltlab that installs a top-level module; None if there is none."""
    from importlib.metadata import PackageNotFoundError, metadata, requires

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    package = canonicalize_name({"dask": "distributed"}.get(module, module))
    try:
        requirements = [Requirement(line) for line in requires("dltlab") or ()]
        extras = metadata("dltlab").get_all("Provides-Extra") or []
    except PackageNotFoundError:  # dltlab is imported from a folder
        return None
    markers = [r.marker for r in requirements if canonicalize_name(r.name) == package and r.marker]
    for extra in extras:
        if any(m.evaluate({"extra": extra}) and not m.evaluate({"extra": ""}) for m in markers):
            return str(extra)
    return None


def how_to_install(modules: list[str]) -> str:
    """Return a sentence that says what installs modules."""
    extras = [extra_of(module) for module in modules]
    known = sorted({extra for extra in extras if extra})
    if None in extras or not known:
        return "Install them in the environment of dltlab."
    return f"Run: pip install 'dltlab[{','.join(known)}]'"
