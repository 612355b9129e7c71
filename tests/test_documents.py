"""Commands, options, functions, arguments and files in README and other documents exist."""

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from dltlab import paths
from dltlab.cli import app

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    path
    for pattern in ("*.md", "benchmarks/*.md", "docs/**/*.md")
    for path in sorted(REPOSITORY.glob(pattern))
]

every_document = pytest.mark.parametrize(
    "path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY))
)


def code(path: Path) -> Iterator[str]:
    """Yield the lines of code blocks and the spans of inline code."""
    fenced = False
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced:
            yield line
        else:
            yield from re.findall(r"`([^`]+)`", line)


def commands(path: Path) -> Iterator[list[str]]:
    """Yield the words of each dltlab command, without comments and what follows `--`."""
    for text in code(path):
        for command in re.findall(r"(?:^|&& )dltlab ([^#&]+)", text):
            yield command.partition(" -- ")[0].split()


@every_document
def test_every_command_and_option_exists(path):
    root = typer.main.get_command(app)
    for words in commands(path):
        command: Any = root  # a click.Command, which Typer brings along
        for word in words:
            if hasattr(command, "commands") and not word.startswith("-"):
                assert word in command.commands, words
                command = command.commands[word]
        options = {option for parameter in command.params for option in parameter.opts}
        options |= {option for parameter in command.params for option in parameter.secondary_opts}
        assert {word for word in words if word.startswith("--")} <= {*options, "--help"}, words


@every_document
def test_every_call_of_a_function_fits_its_signature(path):
    for block in re.findall(r"(?ms)^```python\n(.*?)^```", path.read_text()):
        tree = ast.parse(block)
        rooms = {
            alias.name: importlib.import_module(f"dltlab.{alias.name}")
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "dltlab"
            for alias in node.names
        }
        for node in ast.walk(tree):
            match node:
                case ast.Call(ast.Attribute(ast.Name(room), name)) if room in rooms:
                    arguments = {word.arg: None for word in node.keywords if word.arg}
                    signature = inspect.signature(getattr(rooms[room], name))
                    signature.bind(*node.args, **arguments)


@every_document
def test_every_environment_variable_exists(path):
    known = {value for value in vars(paths).values() if isinstance(value, str)}

    assert set(re.findall(r"\bDLTLAB_[A-Z_]+\b", path.read_text())) <= known


def test_every_extra_is_in_the_table_of_the_guide():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    table = re.findall(r"(?m)^\| (`.+?`) \|", (REPOSITORY / "docs/guide/install.md").read_text())

    assert {*project["optional-dependencies"]} <= {*re.findall(r"`(\w+)`", " ".join(table))}


@pytest.mark.parametrize(
    "path",
    # tests/docs/test_site.py looks at the links of the site's pages, also to what is generated.
    [path for path in DOCUMENTS if REPOSITORY / "docs" not in path.parents],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_every_relative_link_leads_to_a_file(path):
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())

    assert [target for target in targets if not (path.parent / target).exists()] == []
