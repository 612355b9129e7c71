"""TensorBoard inside JupyterLab, which passes its pages on (jupyter-server-proxy).

JupyterLab loads this module when it starts, so that it imports nothing heavy.
"""

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
_START_SECONDS = (
    120  # TensorBoard imports TensorFlow: seconds on an idle machine, more on a full one
)
_HEIGHT = 600


def tensorboard(logdir: str = "runs") -> None:
    """Show TensorBoard on the runs in `logdir`, below the cell.

    JupyterLab starts TensorBoard when it is first asked for, on the folder `runs` beside the
    labs. Where this is no notebook in JupyterLab, or the runs lie elsewhere, a sentence says how to
    start TensorBoard by hand.

    Args:
        logdir: The folder `runs` of the workspace, or a folder in it to show only its runs.
    """
    server = _server()
    by_hand = f'start it by hand: python -m tensorboard.main --logdir "{logdir}"'
    if server is None:
        print(f"TensorBoard is shown in JupyterLab; here, {by_hand}")  # noqa: T201
        return
    served, wanted = Path(server["root_dir"], _LOGDIR).resolve(), Path(logdir).resolve()
    if not wanted.is_relative_to(served):
        print(f"JupyterLab shows the runs in {served}; for others, {by_hand}")  # noqa: T201
        return
    url = f"{server['base_url']}tensorboard/"
    if wanted != served:
        inside = re.escape(wanted.relative_to(served).as_posix())
        url += f"?runFilter={quote(f'^{inside}(/|$)')}"
    _show_page(url, f"TensorBoard on {logdir}")


def server_process() -> dict[str, Any]:
    """How jupyter-server-proxy starts TensorBoard; the entry point in `pyproject.toml` names it."""
    return {
        "command": _command,
        "timeout": _START_SECONDS,
        "absolute_url": False,
        "launcher_entry": {"title": "TensorBoard"},
    }


def _command(port: int) -> list[str]:
    """The command line of TensorBoard; runs in the server, whose root folder it asks for."""
    from jupyter_server.serverapp import ServerApp

    logdir = Path(ServerApp.instance().root_dir, _LOGDIR)
    code = f"from dltlab.widgets.tensorboard import run; run({os.getpid()})"
    command = [sys.executable, "-c", code, "--logdir", str(logdir)]
    return [*command, "--host", "127.0.0.1", "--port", str(port)]


def run(parent: int) -> None:
    """Run TensorBoard for the process `parent`, no longer than that lives.

    A server that is stopped ends what it started; one that is killed cannot, and a TensorBoard left
    behind would show the runs to everybody on the machine.
    """

    def end_with_parent() -> None:
        while os.getppid() == parent:
            sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=end_with_parent, daemon=True).start()
    from tensorboard.main import run_main

    run_main()


def _server() -> dict[str, Any] | None:
    """The Jupyter server that started this kernel; None for a kernel that none started.

    A server leaves a file about itself, and a kernel knows the process that started it. So this
    holds under any port and prefix, on a hub too, with several servers running.
    """
    if not in_notebook():
        return None
    from jupyter_server.serverapp import list_running_servers

    parent = os.environ.get("JPY_PARENT_PID")
    return next((s for s in list_running_servers() if str(s["pid"]) == parent), None)


def _show_page(url: str, title: str) -> None:
    from IPython.display import display

    # TensorBoard takes seconds to start; until its page comes, the words show through the frame.
    frame = (
        '<div style="position: relative"><p style="position: absolute; inset: 0; padding: 2em">'
        "TensorBoard is starting; the first time this takes a few seconds.</p>"
        f'<iframe src="{html.escape(url)}" title="{html.escape(title)}" width="100%" '
        f'height="{_HEIGHT}" style="position: relative; border: 0"></iframe></div>'
    )
    display({"text/html": frame, "text/plain": title}, raw=True)
