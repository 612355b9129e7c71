"""The package as a whole: its code is clean, its lock holds, and its wheel needs no clone."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BIN = Path(sys.executable).parent
MEGABYTE = 10**6


@pytest.mark.parametrize(
    "command",
    ["ruff check", "ruff format --check", "mypy dltlab", "lint-imports", "dltlab build --check"],
)
def test_the_code_is_clean(repository, command):
    tool, *arguments = command.split()

    done = subprocess.run([BIN / tool, *arguments], cwd=repository, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_lock_holds_pins_only_and_one_for_each_need(repository):
    lines = (repository / "requirements.lock").read_text().splitlines()
    pins = {}
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.+]+( ; [^#]+)?", line), line
        name, version = line.partition(" ;")[0].split("==")
        pins.setdefault(name, set()).add(version)

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for need in map(Requirement, project["dependencies"] + extras["test"] + extras["inference"]):
        versions = pins[canonicalize_name(need.name)]
        assert all(version in need.specifier for version in versions), need


def test_notebooks_are_of_modest_size(repository):
    sizes = {
        path: path.stat().st_size
        for folder in ("labs", "solutions")
        for path in (repository / folder).glob("*.ipynb")
    }

    assert sizes
    assert max(sizes.values()) < MEGABYTE, sizes


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    (archive,) = folder.glob("*.whl")
    zipfile.ZipFile(archive).extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_wheel_brings_the_whole_course(repository, wheel):
    for folder in ("labs", "solutions", "datasets"):
        ours = {path.name for path in (repository / folder).iterdir() if path.is_file()}
        theirs = {path.name for path in (wheel / "dltlab" / "_course" / folder).iterdir()}
        assert theirs == ours - {".gitkeep"}
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == {"dltlab"}


def test_the_wheel_works_in_a_folder_without_a_clone(wheel, tmp_path):
    def dltlab(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from dltlab.cli import main; main()", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(wheel)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert "01_first_network" in dltlab("list")
    assert dltlab("build", "--check") == ""
    assert dltlab("lint") == ""
    assert dltlab("reset", "1") == "workspace/01_first_network.ipynb is fresh.\n"
    ours = wheel / "dltlab" / "_course" / "labs" / "01_first_network.ipynb"
    assert (tmp_path / "workspace" / ours.name).read_bytes() == ours.read_bytes()
