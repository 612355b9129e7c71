import os
import socket
import subprocess
from ast import literal_eval
from pathlib import Path

import pytest
from jupyter_server.base.websocket import WebSocketMixin

from dltlab.course import (
    Course,
    Workspace,
    jupyterlab_command,
    jupyterlab_environment,
    unwritable_jupyter_folder,
)
from dltlab.errors import Unavailable
from tests.deadlines import HANG_SECONDS, drop_root_permissions

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


def test_a_host_is_used_only_if_this_machine_has_it(workspace):
    command = jupyterlab_command(workspace, None, None, browser=False, host="0.0.0.0")
    assert "--ServerApp.ip=0.0.0.0" in command

    for host in ("no such host", "192.0.2.1"):
        with pytest.raises(Unavailable, match=rf"^{host}, port any, cannot be used .* --host"):
            jupyterlab_command(workspace, None, None, browser=False, host=host)


def test_a_connection_to_the_browser_does_not_end_between_two_pings(workspace):
    command = jupyterlab_command(workspace, None, None, browser=False)
    options = [part.partition("=") for part in command]
    values = [value for name, _, value in options if name == "--ServerApp.tornado_settings"]

    class Connection(WebSocketMixin):
        settings = literal_eval(values[0]) if values else {}

    assert Connection().ping_timeout > Connection().ping_interval


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


def test_terminals_and_notebooks_find_the_commands_of_this_environment(workspace, monkeypatch):
    monkeypatch.setenv("PATH", "theirs")
    monkeypatch.setenv("SHELL", "/bin/my shell")

    folder, *others = jupyterlab_environment(workspace)["PATH"].split(os.pathsep)

    assert (Path(folder) / "dltlab").exists()
    assert others == ["theirs"]
    # Not a login shell ("-l"), which may replace PATH.
    setting = "--ServerApp.terminado_settings=shell_command='/bin/my shell'"
    assert setting in jupyterlab_command(workspace, None, None, browser=False)


@pytest.fixture
def unwritable_home(tmp_path):
    """A home folder that may not be written."""
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    yield home
    home.chmod(0o700)


def test_a_home_that_cannot_be_written_is_one_sentence_and_nothing_starts(
    script, unwritable_home, tmp_path
):
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "JUPYTER_", "IPYTHON"))
    }
    done = subprocess.run(
        [script, "lab", "--no-browser"],
        env=environment | {"HOME": str(unwritable_home)},
        cwd=tmp_path,
        preexec_fn=drop_root_permissions,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )

    assert done.returncode == 2
    assert done.stderr == (
        f"dltlab: JupyterLab must write to {unwritable_home}/.jupyter, and you may not: set HOME "
        "to a folder that you may write to, then run the command again.\n"
    )


def test_the_folders_of_jupyter_are_writable_here():
    assert unwritable_jupyter_folder() is None
