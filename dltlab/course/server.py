"""Start JupyterLab on a learner's workspace, on loopback and with a token."""

import os
import socket
import sys
from pathlib import Path

from dltlab.course.workspace import Workspace
from dltlab.errors import Unavailable

_SETTINGS = Path(__file__).parent / "jupyter"


def jupyterlab_command(
    workspace: Workspace, lab: str | None, port: int | None, browser: bool
) -> list[str]:
    """Return the command that serves `workspace`, opened at `lab` (`NN_topic`) or its start page.

    Raises:
        Unavailable: `port` is in use.
    """
    command = [sys.executable, "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1"]
    command += [f"--ServerApp.root_dir={workspace.folder.resolve()}", "--log-level=WARN"]
    command += ["--KernelManager.transport_encryption=auto"]  # between server and kernels
    if lab:
        command += [f"--LabApp.default_url=/lab/tree/{lab}.ipynb"]
    if port is not None:
        _require_free(port)
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if not browser:
        command += ["--no-browser"]
    if os.name == "posix" and os.geteuid() == 0:
        command += ["--allow-root"]  # in a container, root is the only user
    return command


def jupyterlab_environment(workspace: Workspace) -> dict[str, str]:
    """Return this process's environment with the course and our settings for JupyterLab added.

    With the kernelspec in these settings, what libraries write to the file descriptors, such as
    TensorFlow's messages about a missing GPU, stays in the terminal.
    """

    def with_settings(variable: str) -> str:
        return os.pathsep.join(filter(None, [str(_SETTINGS), os.environ.get(variable)]))

    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
        **workspace.course.environment,
        "JUPYTER_CONFIG_PATH": with_settings("JUPYTER_CONFIG_PATH"),
        "JUPYTER_PATH": with_settings("JUPYTER_PATH"),
    }


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise Unavailable(
                f"Port {port} cannot be used ({getattr(error, 'strerror', None) or error}); "
                "choose another with --port, or leave it out."
            ) from error
