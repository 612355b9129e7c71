import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dltlab.course import Course
from dltlab.workshop import learner_server


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Start a learner's server, up to where JupyterHub takes over; return its options."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("PATH", "JUPYTER_PATH", "JUPYTER_CONFIG_PATH", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.setenv(name, "x")
    calls = []
    module = SimpleNamespace(main=lambda: calls.append(sys.argv[1:]))
    monkeypatch.setitem(sys.modules, "jupyterhub.singleuser", module)

    def serve(*arguments):
        monkeypatch.setattr(sys, "argv", ["learner_server", *arguments])
        learner_server.main()
        return calls[-1]

    return serve


def test_a_learner_gets_the_labs_of_the_workshop(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("DLTLAB_LABS", "01_first_network,03_recurrent_networks")
    options = serve("workshop", "--log-level=WARN")

    folder = tmp_path / "dltlab"
    assert sorted(path.name for path in folder.glob("*.ipynb")) == [
        "01_first_network.ipynb",
        "03_recurrent_networks.ipynb",
    ]
    assert options[0] == f"--ServerApp.root_dir={folder}"
    assert options[-1] == "--log-level=WARN"


def test_what_a_learner_has_is_served_when_a_lab_cannot_be_copied(serve, tmp_path, capsys):
    (tmp_path / "dltlab").mkdir()
    (tmp_path / "dltlab" / "01_first_network.ipynb").mkdir()

    assert serve("workshop")
    assert "01_first_network" in capsys.readouterr().err


def test_a_learner_gets_the_parameters_of_the_workshops_profile(serve, tmp_path):
    serve("smoke")

    notebook = (tmp_path / "dltlab" / "01_first_network.ipynb").read_text()
    (lab,) = Course.own().read(["01"])
    assert f"STEPS = {lab.front_matter.profiles.smoke['STEPS']}  # " in notebook
    assert "RUN_CHALLENGE = False  #" in notebook


def test_kernels_are_as_elsewhere_but_have_no_debugger(serve, repository):
    serve("workshop")

    folder, *_ = os.environ["JUPYTER_PATH"].split(os.pathsep)
    own = json.loads(Path(folder, "kernels/python3/kernel.json").read_text())
    usual = repository / "dltlab/course/jupyter/kernels/python3/kernel.json"
    usual_spec = json.loads(usual.read_text())
    assert own["metadata"]["debugger"] is False
    usual_spec["metadata"]["debugger"] = False
    assert own == usual_spec
