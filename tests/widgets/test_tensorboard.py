"""TensorBoard in JupyterLab: how it is started and where the notebook finds it."""

import importlib
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_server.serverapp import ServerApp
from jupyter_server_proxy.config import ServerProcess

from dltlab.widgets import tensorboard

SERVER = """
import subprocess
from jupyter_server.serverapp import ServerApp
from dltlab.widgets.tensorboard import server_process
ServerApp.instance().root_dir = "."
subprocess.run(server_process()["command"](6789))
"""

module = importlib.import_module("dltlab.widgets.tensorboard")


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What a notebook in the root folder of a JupyterLab shows; another server runs beside it."""
    found: list[dict[str, str]] = []
    servers = [
        {"pid": 7, "base_url": "/other/", "root_dir": "/elsewhere"},
        {"pid": 8, "base_url": "/user/ada/", "root_dir": str(tmp_path)},
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JPY_PARENT_PID", "8")
    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr("jupyter_server.serverapp.list_running_servers", lambda: servers)
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: found.append(bundle))
    return found


def test_the_page_lies_under_the_prefix_of_the_server_that_started_the_kernel(
    shown: list[dict[str, str]],
) -> None:
    tensorboard()
    assert 'src="/user/ada/tensorboard/" title="TensorBoard on runs"' in shown[0]["text/html"]
    assert shown[0]["text/plain"] == "TensorBoard on runs"


def test_a_folder_in_runs_shows_only_its_runs(shown: list[dict[str, str]]) -> None:
    tensorboard("runs/a+b")
    assert "/tensorboard/?runFilter=%5Ea%5C%2Bb%28/%7C%24%29" in shown[0]["text/html"]


def test_runs_elsewhere_are_for_a_tensorboard_of_their_own(
    shown: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensorboard("logs")
    assert shown == []
    said = capsys.readouterr().out
    assert f"shows the runs in {tmp_path / 'runs'}" in said
    assert '-m tensorboard.main --logdir "logs"' in said


@pytest.mark.parametrize("variable", ["9", None])
def test_a_kernel_that_no_server_started_is_told_how_to_go_on(
    shown: list[dict[str, str]],
    variable: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if variable:
        monkeypatch.setenv("JPY_PARENT_PID", variable)
    else:
        monkeypatch.delenv("JPY_PARENT_PID")
    tensorboard()
    assert shown == []
    assert '-m tensorboard.main --logdir "runs"' in capsys.readouterr().out


def test_plain_python_is_told_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    tensorboard()
    assert '-m tensorboard.main --logdir "runs"' in capsys.readouterr().out


def test_jupyter_server_proxy_takes_the_entry_point() -> None:
    (entry,) = entry_points(group="jupyter_serverproxy_servers", name="tensorboard")
    process = ServerProcess(name="tensorboard", **entry.load()())
    assert process.launcher_entry.title == "TensorBoard"
    assert not process.absolute_url


def test_tensorboard_serves_the_runs_of_the_servers_root_folder_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Server:
        root_dir = str(tmp_path)

    monkeypatch.setattr(ServerApp, "instance", lambda: Server())
    command: list[Any] = module.server_process()["command"](port=6789)
    assert command[:2] == [sys.executable, "-c"]
    options = dict(zip(command[3::2], command[4::2], strict=True))
    assert options == {
        "--logdir": str(tmp_path / "runs"),
        "--host": "127.0.0.1",
        "--port": "6789",
    }


@pytest.mark.skipif(
    os.name != "posix", reason="Windows does not tell a process of its parent's end"
)
def test_tensorboard_ends_with_the_server_even_with_one_that_is_killed(tmp_path: Path) -> None:
    stand_in = tmp_path / "tensorboard"
    stand_in.mkdir()
    (stand_in / "__init__.py").touch()
    (stand_in / "main.py").write_text(
        "import os, threading\n"
        "def run_main():\n"
        "    print(os.getpid(), flush=True)\n"
        "    threading.Event().wait(120)\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    started = psutil.Process(int(server.stdout.readline()))
    server.kill()
    server.wait()
    started.wait(timeout=60)


def test_the_server_loads_the_room_without_tensorflow_or_widgets() -> None:
    code = (
        "import sys, dltlab.widgets.tensorboard\n"
        "sys.exit(', '.join({'tensorflow', 'keras', 'ipywidgets', 'matplotlib'} & {*sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert loaded.stderr.decode().strip() == ""
