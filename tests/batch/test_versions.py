import json
import subprocess
from importlib.metadata import version

import nbformat
import pytest

from dltlab.batch.run_folder import Run
from dltlab.batch.versions import write_versions
from dltlab.data import info
from tests.batch.notebooks import write_notebook


@pytest.fixture
def versions(tmp_path):
    """A function that returns the versions of a run."""
    path = write_notebook(tmp_path / "code" / "train.ipynb", "1")

    def versions(parameters=None, lab=None, notebook=str(path)):
        node = nbformat.v4.new_notebook(metadata={"dltlab": {"lab": lab}} if lab else {})
        write_versions(Run(notebook, parameters or {}), node, tmp_path / "versions.json")
        return json.loads((tmp_path / "versions.json").read_text())

    return versions


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", folder, *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_packages_have_their_versions(versions):
    packages = versions()["packages"]

    assert packages["numpy"] == version("numpy")
    assert packages["papermill"] == version("papermill")


def test_code_is_a_commit_and_whether_the_notebook_differs_from_it(versions, tmp_path):
    folder = tmp_path / "code"
    git(folder, "init")
    assert versions()["code"] is None  # without a commit
    git(folder, "add", ".")
    git(folder, "commit", "-m", "Begin")
    commit = git(folder, "rev-parse", "HEAD")
    assert versions()["code"] == {"commit": commit, "is_changed": False}

    write_notebook(folder / "train.ipynb", "2")
    assert versions()["code"] == {"commit": commit, "is_changed": True}


def test_code_outside_a_repository_or_on_a_host_has_no_version(versions, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))

    assert versions()["code"] is None
    assert versions(notebook="https://host/train.ipynb")["code"] is None


def test_data_are_those_that_the_parameters_name(versions):
    data = versions({"DATASET": "shapes", "optimizer": "adam", "epochs": 3})["data"]

    assert data == {"shapes": info("shapes").version}


def test_data_are_those_of_the_lab(versions):
    data = versions(lab="01_first_network")["data"]

    assert data == {name: info(name).version for name in ("digits", "mnist")}
    assert versions(lab="99_unknown")["data"] == {}
