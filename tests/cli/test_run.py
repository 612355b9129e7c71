import json
from xml.etree import ElementTree

import pytest

from dltlab.batch import RunFolder, Status
from tests.batch.notebooks import light_kernels, write_notebook


@pytest.fixture
def notebook(tmp_path):
    return write_notebook(
        tmp_path / "train.ipynb", "print(epochs, name)", parameters="epochs = 3\nname = 'adam'"
    )


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    with light_kernels(tmp_path_factory.mktemp("kernels")):
        yield


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def folders(out):
    return [RunFolder(path) for path in sorted(out.iterdir()) if path.is_dir()]


def test_labs_are_run_in_a_profile(cold_kernels, dltlab, built, tmp_path):
    done = dltlab("run", "--all", "--profile", "smoke", "--course", built.root)

    assert done.code == 0, done
    (folder,) = folders(tmp_path / "runs")
    assert folder.run().notebook == str(built.labs / "01_my_topic.ipynb")
    (lab,) = built.read(["01"])
    assert folder.run().parameters == lab.front_matter.profiles.smoke


def test_notebooks_are_run_and_finished_runs_are_kept(light, dltlab, notebook, tmp_path):
    failing = write_notebook(tmp_path / "fails.ipynb", "1/0", parameters="epochs = 1")
    command = ("run", notebook, failing, "--jobs", "1", "-p", "epochs", "5")

    done = dltlab(*command)

    fails, train = folders(tmp_path / "runs")
    assert done.code == 1
    assert f"started {train.path.name} (epochs=5)" in done.err
    assert f"failed {fails.path.name} after" in done.err
    assert "1 failed, 1 done" in done.out
    assert "Report: runs/report.html" in done.out
    assert "ZeroDivisionError: division by zero" in done.out
    assert train.log.read_text() == "5 adam\n"
    assert fails.state().status is Status.FAILED

    write_notebook(failing, "print('corrected')", parameters="epochs = 1")
    assert dltlab(*command).code == 0
    assert len(folders(tmp_path / "runs")) == 3
    assert train.state().attempt == 1


def test_options_reach_the_runs(light, dltlab, tmp_path):
    notebook = write_notebook(tmp_path / "where.ipynb", "import os; print(os.getcwd())")

    options = ("--cwd", tmp_path, "--timeout", "500", "--jobs", "1", "--json", "--junit", "x.xml")
    done = dltlab("run", notebook, "--out", "out", *options)

    (folder,) = folders(tmp_path / "out")
    assert done.code == 0, done
    assert json.loads(done.out)["counts"] == {"done": 1}
    (case,) = ElementTree.parse(tmp_path / "x.xml").iter("testcase")
    assert case.get("name") == folder.path.name
    assert folder.log.read_text() == f"{tmp_path}\n"
    assert folder.run().timeout == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Name labs or notebooks to run, or give --all"),
        (["--all", "train.ipynb"], "Name labs or notebooks to run, or give --all"),
        (["missing.ipynb"], "There is no notebook missing.ipynb"),
        (["train.ipynb", "-p", "epoch", "1"], "train has no parameter 'epoch'; it has: epochs, na"),
        (["train.ipynb", "-p", "epochs", "1.5"], "Parameter epochs of train must be of type int"),
        (["train.ipynb", "-p", "name", "5"], "Parameter name of train must be of type str, not 5"),
        (["train.ipynb", "-p", "epochs"], "-p takes a name and a value; the value of epochs"),
        (["train.ipynb", "--profile", "smoke"], "train is no lab, so it has no profile 'smoke'"),
        (["no_lab"], "There is no lab 'no_lab'. The labs are: 01_first_network"),
    ],
)
def test_wrong_input_is_one_sentence_and_nothing_starts(
    dltlab, notebook, tmp_path, arguments, message
):
    done = dltlab("run", *arguments)

    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "runs").exists()
