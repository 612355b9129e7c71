import os
import socket

import pytest

from dltlab.course import Course, Workspace, jupyterlab_command, jupyterlab_environment
from dltlab.errors import Unavailable

LAB = "01_my_topic"


@pytest.fixture
def workspace(course, tmp_path):
    return Workspace(tmp_path / "workspace", course)


def test_jupyterlab_serves_the_workspace_on_loopback_and_keeps_its_token(workspace):
    command = jupyterlab_command(workspace, LAB, None, browser=True)

    assert "--ServerApp.ip=127.0.0.1" in command
    assert f"--ServerApp.root_dir={workspace.folder}" in command
    assert f"--LabApp.default_url=/lab/tree/{LAB}.ipynb" in command
    assert "--no-browser" not in command
    assert not any("token" in part.lower() or "password" in part for part in command)


def test_a_port_is_used_only_if_it_is_free(workspace):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"Port {port} cannot be used .* --port"):
            jupyterlab_command(workspace, None, port, browser=False)

    command = jupyterlab_command(workspace, None, port, browser=False)
    assert {f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--no-browser"} <= {*command}


def test_the_environment_names_the_course_and_our_settings_first(workspace, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "theirs")
    monkeypatch.delenv("JUPYTER_CONFIG_PATH", raising=False)

    environment = jupyterlab_environment(workspace)

    assert environment["DLTLAB_COURSE"] == str(workspace.course.root)
    settings, *others = environment["JUPYTER_PATH"].split(os.pathsep)
    assert others == ["theirs"]
    assert environment["JUPYTER_CONFIG_PATH"] == settings
    assert os.path.isfile(os.path.join(settings, "kernels", "python3", "kernel.json"))


def test_the_environment_adds_no_course_for_dltlabs_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")

    environment = jupyterlab_environment(Workspace(tmp_path, Course.own()))

    assert "DLTLAB_COURSE" not in environment
    assert environment["TF_CPP_MIN_LOG_LEVEL"] == "0"
