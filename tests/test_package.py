"""The package as a whole: its pinned requirements, its wheel, and its hooks."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dltlab import __version__
from dltlab.workshop.connection import free_ports
from tests.deadlines import HANG_SECONDS, spawn, wait_for_port

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
    (install,) = [line for line in done.stdout.splitlines() if "-r .venv/pins.txt" in line]
    assert install.startswith(uv or ".venv/bin/pip")
    assert "--quiet" not in install


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize(
    ("system", "has_driver", "build"),
    [
        ("Linux-x86_64", False, "tensorflow-cpu"),
        ("Linux-x86_64", True, "tensorflow"),
        ("Linux-aarch64", False, "tensorflow"),
        ("Darwin-arm64", False, "tensorflow"),
    ],
)
def test_a_machine_gets_the_build_of_tensorflow_that_it_needs(
    repository, tmp_path, system, has_driver, build
):
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(repository / name, tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "make", "uname", "tr", "awk"):
        (programs / name).symlink_to(str(shutil.which(name)))
    if has_driver:
        (programs / "nvidia-smi").symlink_to("/bin/true")

    done = subprocess.run(
        [programs / "make", "--dry-run", "lab", f"PLATFORM={system}", f"PYTHON={sys.executable}"],
        cwd=tmp_path,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"s/^tensorflow==/{build}==/" in done.stdout
    other = {"tensorflow": "tensorflow-cpu", "tensorflow-cpu": "tensorflow"}[build]
    assert f"pip uninstall --quiet --yes {other}\n" in done.stdout


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
def distributions(repository, tmp_path_factory) -> Path:
    """The folder of the wheel and of the source distribution, of which it is built."""
    folder = tmp_path_factory.mktemp("distributions")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, repository],
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(distributions, tmp_path_factory) -> Path:
    """The folder of the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    (archive,) = distributions.glob("*.whl")
    zipfile.ZipFile(archive).extractall(folder)
    return folder


def test_the_distributions_are_what_an_index_accepts(distributions, repository):
    files = [*distributions.iterdir()]
    assert {path.suffix for path in files} == {".whl", ".gz"}
    for command in (
        ["twine", "check", "--strict", *files],
        ["check-wheel-contents", distributions],
    ):
        program = Path(sys.executable).with_name(command[0])
        done = subprocess.run(
            [program, *command[1:]], cwd=repository, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


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


class Installation(NamedTuple):
    """An environment with dltlab's wheel, and an empty folder to work in."""

    environment: Path
    folder: Path

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return spawn(
            [self.environment / "bin" / "dltlab", *arguments],
            cwd=self.folder,
            env=os.environ | {"DLTLAB_PROGRESS": str(self.folder / "progress.jsonl")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=HANG_SECONDS)
        assert process.returncode == 0, out + err
        return out


@pytest.fixture(scope="module")
def installation(distributions, tmp_path_factory) -> Installation:
    """The wheel in an environment of its own, which borrows only the packages that it needs."""
    folder = tmp_path_factory.mktemp("installation")
    environment = folder / "environment"
    venv.create(environment, with_pip=False)
    (wheel,) = distributions.glob("*.whl")
    python = environment / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-index"]
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, wheel]
    subprocess.run(command, check=True)
    packages = sysconfig.get_path("purelib", vars={"base": str(environment)})
    # A link to this clone that is in the folder is not followed.
    Path(packages, "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    (environment / "share").symlink_to(Path(sys.prefix) / "share")  # JupyterLab itself
    (folder / "empty").mkdir()
    return Installation(environment, folder / "empty")


def test_an_installed_wheel_has_the_whole_course(installation, wheel):
    course = wheel / "dltlab" / "_course"
    num_labs = len([*(course / "solutions").glob("*.py")])

    assert str(installation.environment) in installation.run("doctor")
    assert installation.run("list").count("\n") > num_labs
    assert installation.run("build", "--check") == ""
    assert installation.run("lint") == f"lint: {num_labs} labs, no findings\n"


def test_an_installed_wheel_runs_a_lab(installation):
    installation.run("run", "01", "--profile", "smoke")

    (run,) = json.loads(installation.run("runs", "list", "--json"))["runs"]
    assert run["status"] == "done"


def test_an_installed_wheel_opens_the_course(installation):
    (port,) = free_ports(1)
    server = installation.start("lab", "--cold", "--no-browser", "--port", str(port))
    try:
        assert server.stderr is not None
        address = next(line for line in server.stderr if "token=" in line).split()[-1]
        wait_for_port(port)
        with urllib.request.urlopen(address) as page:
            assert "JupyterLab" in page.read().decode()
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate(timeout=HANG_SECONDS)
    lab = "01_first_network.ipynb"
    own = next(installation.environment.glob(f"lib/*/site-packages/dltlab/_course/labs/{lab}"))
    copy = installation.folder / "workspace" / lab
    assert copy.read_bytes() == own.read_bytes()
    copy.write_text("{}")
    assert f"workspace/{lab} is new" in installation.run("reset", "1")
    assert copy.read_bytes() == own.read_bytes()
