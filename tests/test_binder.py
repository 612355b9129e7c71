"""The Binder configuration, as far as it can be tested without Docker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def pins(path: Path) -> dict[str, str]:
    """Return versions by name, without markers."""
    return dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", path.read_text()))


def test_binder_has_the_pins_of_the_lock_with_the_smaller_tensorflow() -> None:
    binder, lock = pins(ROOT / "binder/requirements.txt"), pins(ROOT / "requirements.lock")

    assert binder.pop("tensorflow-cpu") == lock["tensorflow"]
    assert binder.items() <= lock.items()


def test_binder_pins_every_dependency_of_the_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[><=]", requirement)[0] for requirement in project["dependencies"]}

    assert names - {"tensorflow"} <= pins(ROOT / "binder/requirements.txt").keys()


def start(folder: Path, *command: str) -> str:
    """Return what a command prints that Binder's hub starts in `folder`."""
    done = subprocess.run(
        [ROOT / "binder/start", *command],
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_start_serves_a_workspace_with_every_lab(tmp_path: Path) -> None:
    assert start(tmp_path, "pwd").strip() == str(tmp_path / "workspace")
    labs = {path.name for path in (ROOT / "labs").glob("*.ipynb")}
    assert labs <= {path.name for path in (tmp_path / "workspace").iterdir()}


def test_start_turns_the_start_page_on(tmp_path: Path) -> None:
    code = (
        "from jupyter_core.paths import jupyter_config_path, jupyter_path\n"
        "print(*jupyter_config_path(), *jupyter_path(), sep='\\n')"
    )

    folders = [Path(line) for line in start(tmp_path, "python", "-c", code).splitlines()]

    for name in ("jupyter_server_config.d/dltlab.json", "labextensions/dltlab/package.json"):
        assert any((folder / name).is_file() for folder in folders), name


@pytest.mark.parametrize("script", ["postBuild", "start"])
def test_scripts_are_executable_and_parse(script: str) -> None:
    path = ROOT / "binder" / script

    assert os.access(path, os.X_OK)
    subprocess.run(["bash", "-n", path], check=True)
