"""The package as a whole: its pinned requirements, its wheel, and its hooks."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dltlab import __version__

MEGABYTE = 10**6


def test_the_lock_has_only_pins_and_one_for_each_requirement(repository):
    lines = (repository / "requirements.lock").read_text().splitlines()
    pins: dict[str, set[str]] = {}
    for line in lines:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.+]+( ; [^#]+)?", line), line
        name, version = line.partition(" ;")[0].split("==")
        pins.setdefault(name, set()).add(version)

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [
        *project["dependencies"],
        *extras["test"],
        *extras["inference"],
        *extras["batch"],
        *extras["profile"],
    ]
    for requirement in map(Requirement, requirements):
        versions = pins[canonicalize_name(requirement.name)]
        assert all(version in requirement.specifier for version in versions), requirement


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("uv", ["", "uv"])
def test_the_set_up_names_its_steps_and_shows_what_is_installed(repository, tmp_path, uv):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(repository / name, tmp_path)

    command = ["make", "--dry-run", "lab", f"UV={uv}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert re.findall(r"Step (\d) of 3", done.stdout) == ["1", "2", "3"]
    (install,) = [line for line in done.stdout.splitlines() if "-r requirements.lock" in line]
    assert install.startswith(uv or ".venv/bin/pip")
    assert "--quiet" not in install


def test_every_pre_commit_hook_is_local_and_runs_an_installed_tool(repository):
    config = yaml.safe_load((repository / ".pre-commit-config.yaml").read_text())

    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    for hook in config["repos"][0]["hooks"]:
        program = Path(hook["entry"].split()[0])
        assert program.parent == Path(".venv/bin")
        assert Path(sys.executable).with_name(program.name).exists()


def test_no_notebook_is_larger_than_a_megabyte(repository):
    sizes = {
        path: path.stat().st_size
        for folder in ("labs", "solutions")
        for path in (repository / folder).glob("*.ipynb")
    }

    assert sizes
    assert max(sizes.values()) < MEGABYTE, sizes


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """The folder of the unpacked wheel."""
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


def test_the_wheel_contains_the_package_and_the_whole_course(repository, wheel):
    for folder in ("labs", "solutions", "datasets"):
        files = {path.name for path in (repository / folder).iterdir() if path.is_file()}
        installed = {path.name for path in (wheel / "dltlab" / "_course" / folder).iterdir()}
        assert installed == files - {".gitkeep"}
    assert {path.name for path in wheel.iterdir() if path.suffix != ".dist-info"} == {"dltlab"}


def test_the_wheel_has_the_version_and_the_license(wheel):
    (info,) = wheel.glob("dltlab-*.dist-info")
    metadata = Parser().parsestr((info / "METADATA").read_text())

    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "The dltlab authors"
    assert "Apache License" in (info / "licenses" / "LICENSE").read_text()


def test_the_wheel_works_in_a_folder_without_a_clone(wheel, tmp_path):
    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(wheel)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def dltlab(*arguments: str) -> str:
        return python("-c", "from dltlab.cli import main; main()", *arguments)

    assert "01_first_network" in dltlab("list")
    assert dltlab("build", "--check") == ""
    num_labs = len([*(wheel / "dltlab" / "_course" / "solutions").glob("*.py")])
    assert dltlab("lint") == f"lint: {num_labs} labs, no findings\n"
    python(
        "-c",
        "from pathlib import Path; from dltlab.course import Course, Workspace; "
        "Workspace(Path('workspace'), Course.own()).update()",
    )
    lab = wheel / "dltlab" / "_course" / "labs" / "01_first_network.ipynb"
    copy = tmp_path / "workspace" / lab.name
    assert copy.read_bytes() == lab.read_bytes()
    copy.write_text("{}")
    assert "workspace/01_first_network.ipynb is new" in dltlab("reset", "1")
    assert copy.read_bytes() == lab.read_bytes()
