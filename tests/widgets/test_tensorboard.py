"""TensorBoard in JupyterLab: how it starts, and where a notebook finds it."""

import gzip
import importlib
import io
import os
import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import psutil
import pytest
import tensorboard as tensorboard_package
from jupyter_server.serverapp import ServerApp
from jupyter_server_proxy.config import ServerProcess
from jupyter_server_proxy.handlers import RewritableResponse
from tornado.httpclient import HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders

from dltlab.widgets import tensorboard
from tests.deadlines import HANG_SECONDS

SERVER = """
import subprocess
from jupyter_server.serverapp import ServerApp
from dltlab.widgets.tensorboard import server_process
ServerApp.instance().root_dir = "."
subprocess.run(server_process()["command"](6789))
"""

TENSORBOARD_PAGE = zipfile.ZipFile(Path(tensorboard_package.__file__).with_name("webfiles.zip"))

module = importlib.import_module("dltlab.widgets.tensorboard")


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The outputs of a notebook in the root folder of one of two JupyterLab servers."""
    bundles: list[dict[str, str]] = []
    servers = [
        {"pid": 7, "base_url": "/other/", "root_dir": "/elsewhere"},
        {"pid": 8, "base_url": "/user/ada/", "root_dir": str(tmp_path)},
    ]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JPY_PARENT_PID", "8")
    monkeypatch.setattr(module, "in_notebook", lambda: True)
    monkeypatch.setattr("jupyter_server.serverapp.list_running_servers", lambda: servers)
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def test_url_has_the_prefix_of_the_server_that_started_the_kernel(
    outputs: list[dict[str, str]],
) -> None:
    tensorboard()
    assert 'src="/user/ada/tensorboard/" title="TensorBoard for runs"' in outputs[0]["text/html"]
    assert outputs[0]["text/plain"] == "TensorBoard for runs"


def test_folder_in_runs_shows_only_its_runs(outputs: list[dict[str, str]]) -> None:
    tensorboard("runs/a+b")
    assert "/tensorboard/?runFilter=%5Ea%5C%2Bb%28/%7C%24%29" in outputs[0]["text/html"]


def test_a_page_is_opened_by_its_name(outputs: list[dict[str, str]]) -> None:
    tensorboard("runs/a", page="profile")
    assert "/tensorboard/?runFilter=%5Ea%28/%7C%24%29#profile" in outputs[0]["text/html"]


def test_command_is_printed_for_runs_in_other_folders(
    outputs: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensorboard("logs")
    assert outputs == []
    printed = capsys.readouterr().out
    assert f"shows the runs in {tmp_path / 'runs'}" in printed
    assert '-m tensorboard.main --logdir "logs"' in printed


@pytest.mark.parametrize("variable", ["9", None])
def test_command_is_printed_in_a_kernel_without_a_server(
    outputs: list[dict[str, str]],
    variable: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if variable:
        monkeypatch.setenv("JPY_PARENT_PID", variable)
    else:
        monkeypatch.delenv("JPY_PARENT_PID")
    tensorboard()
    assert outputs == []
    assert '-m tensorboard.main --logdir "runs"' in capsys.readouterr().out


def test_command_is_printed_in_plain_python(capsys: pytest.CaptureFixture[str]) -> None:
    tensorboard()
    assert '-m tensorboard.main --logdir "runs"' in capsys.readouterr().out


def test_jupyter_server_proxy_accepts_the_entry_point() -> None:
    (entry,) = entry_points(group="jupyter_serverproxy_servers", name="tensorboard")
    process = ServerProcess(name="tensorboard", **entry.load()())
    assert process.launcher_entry.title == "TensorBoard"
    assert not process.absolute_url


@pytest.mark.parametrize("is_compressed", [True, False])
def test_the_page_of_tensorboard_finds_its_fonts_behind_the_proxy(is_compressed: bool) -> None:
    body = TENSORBOARD_PAGE.read("index.html")
    headers = HTTPHeaders({"Content-Type": "text/html; charset=utf-8"})
    if is_compressed:
        headers["Content-Encoding"] = "gzip"
    request = HTTPRequest("http://127.0.0.1:6789/")
    content = io.BytesIO(gzip.compress(body) if is_compressed else body)
    answer = HTTPResponse(request, 200, headers, content)
    response = RewritableResponse(orig_response=answer)

    module.server_process()["rewrite_response"](response)

    page = gzip.decompress(response.body) if is_compressed else response.body
    assert b"url(/" in body
    assert b"url(/" not in page
    assert page.count(b"url(font-roboto/") == body.count(b"url(/font-roboto/")


def test_the_data_of_tensorboard_are_not_changed() -> None:
    request = HTTPRequest("http://127.0.0.1:6789/data/runs")
    headers = HTTPHeaders({"Content-Type": "application/json"})
    answer = HTTPResponse(request, 200, headers, io.BytesIO(b'["url(/font-roboto/)"]'))
    response = RewritableResponse(orig_response=answer)

    module.server_process()["rewrite_response"](response)

    assert response.body == answer.body


def test_tensorboard_serves_the_root_folders_runs_on_loopback(
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
    os.name != "posix", reason="Windows does not report the end of a parent process"
)
def test_tensorboard_ends_when_its_server_is_killed(tmp_path: Path) -> None:
    fake = tmp_path / "tensorboard"
    fake.mkdir()
    (fake / "__init__.py").touch()
    (fake / "main.py").write_text(
        "import os, threading\n"
        "def run_main():\n"
        "    print(os.getpid(), flush=True)\n"
        f"    threading.Event().wait({2 * HANG_SECONDS})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        process = psutil.Process(int(server.stdout.readline()))
        server.kill()
    process.wait(timeout=HANG_SECONDS)


def test_server_imports_the_module_without_tensorflow_or_widgets() -> None:
    code = (
        "import sys, dltlab.widgets.tensorboard\n"
        "sys.exit(', '.join({'tensorflow', 'keras', 'ipywidgets', 'matplotlib'} & {*sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert loaded.stderr.decode().strip() == ""
