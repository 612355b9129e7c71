"""The structure of the package: what rooms export, what they import, and how tests mirror them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "dltlab"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))
PLAIN_MODULES = ("display", "doctor", "errors", "files", "paths", "tensorflow_import")

# Modules without a test file of their own, and where their behavior is tested.
TESTED_ELSEWHERE = {
    "checks": "tests/checks/test_checks.py verifies the checks of every lab",
    "inference/backends": "tests/inference/test_backends.py runs every backend",
    "distribute/transports": "tests/distribute/test_transports.py sums over every transport",
}


@cache
def trees() -> dict[Path, ast.Module]:
    """Return the syntax trees of all code that may use a room: package, labs, benchmarks, docs."""
    texts = {
        path: path.read_text()
        for pattern in ("dltlab/**/*.py", "solutions/*.py", "benchmarks/*.py")
        for path in REPOSITORY.glob(pattern)
    }
    for path in (REPOSITORY / "dltlab" / "authoring" / "templates").glob("*.py.txt"):
        texts[path] = path.read_text().replace("$package", "package").replace("$topic", "topic")
    for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")):
        texts[path] = "\n".join(re.findall(r"(?ms)^```python\n(.*?)^```", path.read_text()))
    return {path: ast.parse(text) for path, text in texts.items()}


def uses(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names under `dltlab` that a module imports or reads as attributes."""
    names: dict[str, str] = {}  # what a local name stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "dltlab":
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "dltlab":
                    names[alias.asname or "dltlab"] = alias.name if alias.asname else "dltlab"
                    yield alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root, *attributes = ast.unparse(node).split(".")
            if root in names:
                yield ".".join([names[root], *attributes])


def inline_uses(text: str) -> Iterator[str]:
    """Yield the dotted names under `dltlab` in the inline code of a document."""
    for span in re.findall(r"`([^`\n]+)`", text):
        for room, name in re.findall(r"\b([a-z]+)\.([A-Za-z_]\w*)", span):
            if room in ROOMS:
                yield f"dltlab.{room}.{name}"


@cache
def uses_by_path() -> dict[Path, set[str]]:
    """Return the dotted names under `dltlab` that each file uses, in code and in prose."""
    names = {path: set(uses(tree)) for path, tree in trees().items()}
    for path in names:
        if path.suffix == ".md" or path.parent.name == "solutions":
            names[path].update(inline_uses(path.read_text()))
    return names


def exported(room: str) -> list[str]:
    """Return `__all__` of a room."""
    (names,) = (
        node.value
        for node in ast.parse((PACKAGE / room / "__init__.pyi").read_text()).body
        if isinstance(node, ast.Assign)
    )
    return list(ast.literal_eval(names))


def is_used_outside(qualified: str, inside: Path) -> bool:
    """Return whether other code than that in `inside` uses a name, or an entry point names it."""
    entry_points = (REPOSITORY / "pyproject.toml").read_text()
    room, _, name = qualified.rpartition(".")
    return f'"{room}:{name}"' in entry_points or any(
        used == qualified or used.startswith(f"{qualified}.")
        for path, names in uses_by_path().items()
        if path != inside and inside not in path.parents
        for used in names
    )


def public_names(module: str) -> list[str]:
    """Return the names that a plain module defines without an underscore."""
    names: list[str] = []
    for node in trees()[PACKAGE / f"{module}.py"].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign):
            names += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [name for name in names if not name.startswith("_")]


@pytest.mark.parametrize("room", ROOMS)
def test_every_exported_name_is_used_outside_its_room(room: str) -> None:
    unused = [
        name
        for name in exported(room)
        if not is_used_outside(f"dltlab.{room}.{name}", PACKAGE / room)
    ]

    assert unused == []


@pytest.mark.parametrize("module", PLAIN_MODULES)
def test_every_public_name_of_a_plain_module_is_used_elsewhere(module: str) -> None:
    unused = [
        name
        for name in public_names(module)
        if not is_used_outside(f"dltlab.{module}.{name}", PACKAGE / f"{module}.py")
    ]

    assert unused == []


def test_nobody_outside_a_room_imports_its_inner_modules() -> None:
    offenders = []
    for path, names in uses_by_path().items():
        for used in sorted(names if path.suffix == ".py" else ()):
            _, room, name, *_ = [*used.split("."), "", ""]
            folder = PACKAGE / room
            if room not in ROOMS or folder in path.parents or name in ("", *exported(room)):
                continue
            if (folder / f"{name}.py").exists() or (folder / name).is_dir():
                offenders.append(f"{path.relative_to(REPOSITORY)}: {used}")

    assert offenders == []


def test_every_module_has_a_test_file_of_its_own() -> None:
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE)
        test = REPOSITORY / "tests" / module.parent / f"test_{path.name}"
        if not (
            path.name == "__init__.py" or test.exists() or str(module.parent) in TESTED_ELSEWHERE
        ):
            missing.append(str(module))

    assert missing == []


def test_no_test_uses_a_private_name() -> None:
    private = re.compile(r"_(?!_|repr_|render_)\w*(?<!_)")  # not `_repr_html_` and its like
    offenders = []
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            offenders += [
                f"{path.relative_to(REPOSITORY)}:{getattr(node, 'lineno', 0)}: {name}"
                for name in foreign_names(node)
                if private.fullmatch(name)
            ]

    assert offenders == []


def foreign_names(node: ast.AST) -> list[str]:
    """Return the names of dltlab or another object that an import, attribute or patch uses."""
    match node:
        case ast.ImportFrom(module=str(module), names=aliases) if module.startswith("dltlab"):
            return [alias.name for alias in aliases]
        case ast.Attribute(value=ast.Name("self" | "cls")):
            return []
        case ast.Attribute(attr=name):
            return [name]
        case ast.Call(func=ast.Attribute(attr="setattr"), args=[*arguments]):
            return [
                argument.value.rpartition(".")[2]
                for argument in arguments[:2]
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            ]
    return []
