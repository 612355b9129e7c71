"""The command line: its output, its exit codes, and what it imports."""

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from dltlab import __version__
from dltlab.cli import app
from tests.conftest import CommandResult

LAB = "01_my_topic"
HEAVY = {"tensorflow", "keras", "numpy", "matplotlib", "pandas", "IPython", "jupytext", "nbformat"}
COMMANDS = (
    "lab",
    "reset",
    "doctor",
    "new",
    "build",
    "lint",
    "verify",
    "classify",
    "optimize",
    "serve",
    "kernels",
    "launch",
    "run",
)
IMPORTED = f"""
import atexit, sys
atexit.register(lambda: print(*sorted({HEAVY} & sys.modules.keys()), file=sys.stderr))
from dltlab.cli import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        *([command, "--help"] for command in COMMANDS),
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(command):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *command], capture_output=True, text=True
    )

    assert "Usage: " in done.stdout
    assert (done.returncode, done.stderr) == (0, "\n")


@pytest.mark.parametrize("command", [["list"], ["progress"], ["lint"], ["build", "--check"]])
def test_reading_the_course_does_not_import_tensorflow(command):
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *command], capture_output=True, text=True
    )

    assert "Traceback" not in done.stderr
    assert not {"tensorflow", "keras"} & set(done.stderr.split())


def every_command(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield the words and the object of each command."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


ALL_COMMANDS = dict(every_command(typer.main.get_command(app)))


@pytest.mark.parametrize("name", ALL_COMMANDS)
def test_every_help_has_examples_that_parse(name):
    command = ALL_COMMANDS[name]

    heading, *lines = (command.epilog or "").split("\n\n")

    assert heading.startswith("Example")
    assert lines
    for line in (line.removeprefix("sudo ") for line in lines):
        assert line.startswith(f"dltlab {name}")
        arguments = line.removeprefix(f"dltlab {name}").partition(" > ")[0]
        command.make_context(name, shlex.split(arguments))


def test_the_version_is_printed(dltlab):
    assert dltlab("--version") == CommandResult(0, f"dltlab {__version__}\n", "")


def test_a_shell_completes_commands_and_labs(script):
    def completions(line: str) -> list[str]:
        variables = {"_DLTLAB_COMPLETE": "complete_bash", "COMP_WORDS": line}
        variables["COMP_CWORD"] = str(len(line.split()) - 1)
        environment = {**os.environ, **variables}
        done = subprocess.run([script], env=environment, capture_output=True, text=True)
        return done.stdout.split()

    assert completions("dltlab prog") == ["progress"]
    assert completions("dltlab lab 01") == ["01_first_network"]


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("lab 7", "There is no lab '7'"),
        ("reset 7", "There is no lab '7'"),
        ("build 7", "There is no lab '7'"),
        ("lint nothing", "There is no lab 'nothing'"),
        ("new 2nd-topic", "'2nd-topic'"),
        ("list --course nowhere", "nowhere"),
        ("progress --course nowhere", "nowhere"),
        ("build --check --course nowhere", "nowhere"),
        ("lab --port {taken} --no-browser --dir mine", "Port {taken} cannot be used"),
    ],
)
def test_an_error_is_one_line_and_exit_code_2(
    dltlab, built, monkeypatch, tmp_path, taken, command, message
):
    monkeypatch.chdir(tmp_path)
    words = command.format(taken=taken).split()
    course = [] if "--course" in words else ["--course", built.root]

    result = dltlab(*words, *course)

    assert result.code == 2
    assert result.err.startswith("dltlab: ")
    assert message.format(taken=taken) in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("words", ["lab --port seven", "lab --port 70000", "buidl", "reset"])
def test_a_usage_error_has_exit_code_2_and_no_traceback(dltlab, words):
    result = dltlab(*words.split())

    assert result.code == 2
    assert "Traceback" not in result.err
    assert "Usage: " in result.err


@pytest.mark.parametrize("command", ["build", "build --check"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda source: source.write_text(source.read_text().replace("title:", "titel:")), "titel"),
        (lambda source: source.write_text(source.read_text() + "\n# %%\ndef (\n"), "invalid"),
        (lambda source: source.write_bytes(b"\xff"), "UTF-8"),
        (lambda source: source.with_name("01_other.py").write_text(source.read_text()), "01"),
    ],
    ids=["a typo in the front matter", "not Python", "not text", "two labs with one number"],
)
def test_building_reports_an_invalid_source(dltlab, course, source, command, damage, message):
    damage(source)

    result = dltlab(*command.split(), "--course", course.root)

    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert "01_my_topic.py" in result.err
    assert message in result.err


def test_a_command_prints_its_error_and_tensorflow_prints_nothing(script, tmp_path):
    done = subprocess.run(
        [script, "optimize", "missing.keras"], cwd=tmp_path, capture_output=True, text=True
    )

    error = (
        "dltlab: missing.keras is not a saved model: name a .keras file, or the folder of a "
        "training run that contains model.keras.\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", error)
