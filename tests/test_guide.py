"""The commands and scripts on the pages of the site run as they are written.

Those of a page run from top to bottom in one folder, as a reader would run them, on data sets that
are shortened. Of lab 01 the first cells run: tests/notebooks and tests/browser run all of them.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
from PIL import Image

from dltlab import models
from dltlab.course import Course, Workspace
from tests.deadlines import HANG_SECONDS, spawn

REPOSITORY = Path(__file__).resolve().parents[1]
NOISE = "cuInit|Traceback"
IMPORT_NOISE = "oneDNN|cuda drivers|absl::"  # hidden where dltlab is imported before TensorFlow
# What these commands start is tested elsewhere; it installs packages, opens a browser or is slow.
NOT_RUN = ("make ", "pip ", "docker ", "dltlab lab", "dltlab workshop", "sudo ", "pytest --nbval")
SERVER = "dltlab serve"

LAB_01 = "workspace/01_first_network.ipynb"
FIRST_LEFT_OUT = "### Build it and train it"  # the heading of lab 01 from which cells are left out

SHORT_TEXT = """
name = "python_docs"
title = "A short text."
format = "text"
license = "CC0-1.0"
citation = "none"
version = "1"
splits.train.size = 5000
splits.validation.size = 1160
[[files]]
name = "short.txt"
urls = ["https://example.org/short.txt"]
size = {size}
sha256 = "{sha256}"
"""


class Block(NamedTuple):
    """A block of code that runs: its language, "" for a shell, and its text."""

    line: int
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    matches = re.finditer(r"(?ms)^```([^\n]*)\n(.*?)^```", text)
    found = [Block(text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in matches]
    return [block for block in found if block.language in ("", "python")]


PAGES = [path for path in sorted((REPOSITORY / "docs").glob("*/*.md")) if blocks(path)]


@pytest.fixture
def folder(tmp_path: Path, page: Path) -> Path:
    """The reader's folder: a workspace, images, and what another page has made."""
    Workspace(tmp_path / "workspace", Course.own()).update()
    lab = nbformat.read(tmp_path / LAB_01, 4)
    headings = [cell.source.partition("\n")[0] for cell in lab.cells]
    del lab.cells[headings.index(FIRST_LEFT_OUT) :]
    nbformat.write(lab, tmp_path / LAB_01)
    generator = np.random.default_rng(1)
    for name in ("cat", "dog"):
        (tmp_path / "my-images" / name).mkdir(parents=True)
        for number in range(12):
            pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "my-images" / name / f"{number}.png")
    cells = [
        nbformat.v4.new_markdown_cell("# Waves\n\nHow do waves add up?"),
        nbformat.v4.new_code_cell("print(sum([1, -1]))"),
    ]
    (tmp_path / "train.py").write_text("from dltlab import distribute; distribute.worker()")
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "waves.ipynb")
    if page.stem == "inference":  # which compiles what the page about training saves
        models.small_resnet().save(tmp_path / "network.keras")
    return tmp_path


@pytest.fixture
def environment(folder: Path, shared_runtime: Path) -> dict[str, str]:
    """The reader's environment variables, with a course whose data sets are short.

    Zygotes that the commands start end with the tests.
    """
    course = folder / "short"
    for name in ("datasets", "solutions"):
        shutil.copytree(
            REPOSITORY / name, course / name, ignore=shutil.ignore_patterns("*.ipynb", "__*")
        )
    shapes = course / "datasets" / "shapes.toml"
    shapes.write_text(re.sub(r"(?m)^size = \d+", "size = 600", shapes.read_text()))
    text = "The function prints a name.\n" * 220
    (folder / "mirror").mkdir()
    (folder / "mirror" / "short.txt").write_text(text)
    (course / "datasets" / "python_docs.toml").write_text(
        SHORT_TEXT.format(size=len(text), sha256=hashlib.sha256(text.encode()).hexdigest())
    )
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DLTLAB_COURSE": str(course),
        "DLTLAB_DATA_MIRROR": str(folder / "mirror"),
        "DLTLAB_DATA_DIR": str(folder / "store"),
        "DLTLAB_ENGINE_DIR": str(folder / "engines"),
        "DLTLAB_PROGRESS": str(folder / "progress.jsonl"),
        "XDG_RUNTIME_DIR": str(shared_runtime),
        "COLUMNS": "100",
    }


def run(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    timeout: float = HANG_SECONDS,
) -> None:
    """Run a command; it must succeed and print no warning of a library."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stdout + done.stderr
    is_lab = any("papermill" in part for part in command)  # which imports TensorFlow first
    noise = NOISE if is_lab else f"{NOISE}|{IMPORT_NOISE}"
    assert not re.search(noise, done.stderr), done.stderr


def serve(command: str, folder: Path, environment: dict[str, str]) -> None:
    """Start a server, wait until it prints its address, and stop it with Ctrl-C."""
    server = spawn(command.split(), cwd=folder, env=environment, stdout=subprocess.PIPE)
    assert server.stdout is not None
    lines = iter(server.stdout.readline, "")
    assert any("http://" in line for line in lines)
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=HANG_SECONDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_as_they_are_written(page, folder, environment):
    for language, neighbors in groupby(blocks(page), lambda block: block.language):
        if language == "python":
            run_scripts([*neighbors], folder, environment)
            continue
        for block in neighbors:
            print(f"{page.name}:{block.line}")
            run_commands(block, folder, environment)


def run_scripts(scripts: list[Block], folder: Path, environment: dict[str, str]) -> None:
    """Run each block as a script, in one process, which imports TensorFlow once."""
    names = [f"line_{block.line}.py" for block in scripts]
    for name, block in zip(names, scripts, strict=True):
        (folder / name).write_text(block.text)
    run_each = "import runpy, sys; [runpy.run_path(name) for name in sys.argv[1:]]"
    command = [sys.executable, "-c", run_each, *names]
    run(command, folder, environment, timeout=HANG_SECONDS * len(names))


def run_commands(block: Block, folder: Path, environment: dict[str, str]) -> None:
    lines = block.text.splitlines()
    # tests/notebooks runs lab 01 with papermill in a cold kernel; here it runs in a warm one.
    not_run = NOT_RUN if "dltlab-warm" in block.text else (*NOT_RUN, "papermill ")
    commands = [line for line in lines if not line.startswith((*not_run, SERVER))]
    run(["sh", "-e", "-c", "\n".join(commands)], folder, environment)
    for line in lines:
        if line.startswith(SERVER):
            serve(line, folder, environment)
