"""Show TensorBoard in JupyterLab through jupyter-server-proxy: `tensorboard`.

JupyterLab imports this module when it starts, so it must not import anything slow.
"""

import gzip
import html
import os
import re
import signal
import sys
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any
from urllib.parse import quote

from dltlab.display import in_notebook

_LOGDIR = "runs"
_START_SECONDS = 120  # TensorBoard imports TensorFlow, which takes long on a busy machine
_HEIGHT = 600


def tensorboard(logdir: str = "runs", *, page: str = "") -> None:
    """Show TensorBoard for the runs in `logdir`, below the cell.

    JupyterLab starts TensorBoard at the first request, for the folder `runs` of the workspace.
    Outside of JupyterLab, or for runs in other folders, this function prints the command to start
    TensorBoard.

    Args:
        logdir: The folder `runs` of the workspace, or a folder in it to show only its runs.
        page: The page to open, such as "profile" for traces, which the package `xprof` (extra
            `profile`) shows; by default the first one that has something to show.
    """
    server = _server()
    command = f'python -m tensorboard.main --logdir "{logdir}"'
    if server is None:
        print(f"TensorBoard can be shown in JupyterLab only; here, start it with: {command}")  # noqa: T201
        return
    root, folder = Path(server["root_dir"], _LOGDIR).resolve(), Path(logdir).resolve()
    if not folder.is_relative_to(root):
        print(f"JupyterLab shows the runs in {root}; for others, start TensorBoard with: {command}")  # noqa: T201
        return
    url = f"{server['base_url']}tensorboard/"
    if folder != root:
        run = re.escape(folder.relative_to(root).as_posix())
        url += f"?runFilter={quote(f'^{run}(/|$)')}"
    if page:
        url += f"#{quote(page)}"
    _show_page(url, f"TensorBoard for {logdir}")


def server_process() -> dict[str, Any]:
    """Return how jupyter-server-proxy starts TensorBoard, for the entry point in pyproject.toml."""
    return {
        "command": _command,
        "timeout": _START_SECONDS,
        "absolute_url": False,
        "launcher_entry": {"title": "TensorBoard"},
        "rewrite_response": _find_fonts,
    }


def _find_fonts(response: Any) -> None:
    """Let TensorBoard's page look for its fonts below its own address, not the server's."""
    if not response.headers.get("Content-Type", "").startswith("text/html"):
        return
    is_compressed = response.headers.get("Content-Encoding") == "gzip"
    page = gzip.decompress(response.body) if is_compressed else response.body
    page = page.replace(b"url(/font-roboto/", b"url(font-roboto/")
    response.body = gzip.compress(page) if is_compressed else page


def _command(port: int) -> list[str]:
    """Return the command line of TensorBoard; called in the server, for its root folder."""
    from jupyter_server.serverapp import ServerApp

    logdir = Path(ServerApp.instance().root_dir, _LOGDIR)
    code = f"from dltlab.widgets.tensorboard import run; run({os.getpid()})"
    command = [sys.executable, "-c", code, "--logdir", str(logdir)]
    return [*command, "--host", "127.0.0.1", "--port", str(port)]


def run(parent: int) -> None:
    """Run TensorBoard until the process `parent` ends.

    A server that is killed cannot stop its child processes, and a TensorBoard that goes on would
    show the runs to all users of the machine.
    """

    def end_with_parent() -> None:
        while os.getppid() == parent:
            sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=end_with_parent, daemon=True).start()
    from tensorboard.main import run_main

    run_main()


def _server() -> dict[str, Any] | None:
    """Return the Jupyter server that started this kernel, or None.

    Every server writes a file with its process number, and a kernel knows its parent's. This works
    for any port and prefix, on a hub, and with several servers.
    """
    if not in_notebook():
        return None
    from jupyter_server.serverapp import list_running_servers

    parent = os.environ.get("JPY_PARENT_PID")
    return next((server for server in list_running_servers() if str(server["pid"]) == parent), None)


def _show_page(url: str, title: str) -> None:
    from IPython.display import display

    # TensorBoard takes seconds to start; until then the text is visible through the frame.
    frame = (
        '<div style="position: relative"><p style="position: absolute; inset: 0; padding: 2em">'
        "TensorBoard is starting, which takes a few seconds.</p>"
        f'<iframe src="{html.escape(url)}" title="{html.escape(title)}" width="100%" '
        f'height="{_HEIGHT}" style="position: relative; border: 0"></iframe></div>'
    )
    display({"text/html": frame, "text/plain": title}, raw=True)
