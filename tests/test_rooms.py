"""The structure of the package: what rooms export, what they import, and how tests mirror them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "dltlab"
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.pyi"))
PLAIN_MODULES = ("display", "doctor", "errors", "files", "paths")


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


TREES = trees()
USES = {path: set(uses(tree)) for path, tree in TREES.items()}
for document in (path for path in USES if path.suffix == ".md"):
    USES[document].update(inline_uses(document.read_text()))


def exported(room: str) -> list[str]:
    (names,) = (
        node.value
        for node in ast.parse((PACKAGE / room / "__init__.pyi").read_text()).body
        if isinstance(node, ast.Assign)
    )
    return list(ast.literal_eval(names))


def used_outside(qualified: str, inside: Path) -> bool:
    entry_points = (REPOSITORY / "pyproject.toml").read_text()
    room, _, name = qualified.rpartition(".")
    return f'"{room}:{name}"' in entry_points or any(
        used == qualified or used.startswith(f"{qualified}.")
        for path, names in USES.items()
        if path != inside and inside not in path.parents
        for used in names
    )


def unused_exports() -> list[str]:
    return [
        f"dltlab.{room}.{name}"
        for room in ROOMS
        for name in exported(room)
        if not used_outside(f"dltlab.{room}.{name}", PACKAGE / room)
    ]


def unused_public_names() -> list[str]:
    """Return public names of the plain modules that no other module uses."""
    names = []
    for module in PLAIN_MODULES:
        path = PACKAGE / f"{module}.py"
        for node in TREES[path].body:
            targets = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
            if isinstance(node, ast.Assign):
                targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
            names += [
                f"dltlab.{module}.{name}"
                for name in targets
                if not name.startswith("_") and not used_outside(f"dltlab.{module}.{name}", path)
            ]
    return names


def inner_imports() -> list[str]:
    """Return imports of a room's inner module from outside the room."""
    offenders = []
    for path, names in USES.items():
        for used in sorted(names if path.suffix == ".py" else ()):
            _, room, *rest = [*used.split("."), ""]
            inside = PACKAGE / room
            if room not in ROOMS or inside in path.parents or not rest[0]:
                continue
            is_module = (inside / f"{rest[0]}.py").exists() or (inside / rest[0]).is_dir()
            if is_module and rest[0] not in exported(room):
                offenders.append(f"{path.relative_to(REPOSITORY)}: {used}")
    return offenders


def modules_without_tests() -> list[str]:
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE)
        if (
            path.name != "__init__.py"
            and not (REPOSITORY / "tests" / module.parent / f"test_{path.name}").exists()
        ):
            missing.append(str(module))
    return missing


def private_names_in_tests() -> list[str]:
    offenders = []
    private = re.compile(r"_(?!_)\w*(?<!_)")
    for path in sorted((REPOSITORY / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dltlab"):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
                names = [node.attr]
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
                names = [
                    argument.value.rpartition(".")[2]
                    for argument in node.args[:2]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                ]
            line = getattr(node, "lineno", 0)
            offenders += [
                f"{path.relative_to(REPOSITORY)}:{line}: {name}"
                for name in names
                if private.fullmatch(name)
            ]
    return offenders


if __name__ == "__main__":
    for check in (
        unused_exports,
        unused_public_names,
        inner_imports,
        private_names_in_tests,
        modules_without_tests,
    ):
        offenders = check()
        print(f"\n{check.__name__}: {len(offenders)}", *offenders, sep="\n  ")
