"""JupyterLab on a learner's workspace: on loopback, behind a token."""

import os
import socket
import sys
from pathlib import Path

from dltlab.course.workspace import Workspace
from dltlab.errors import LabError

_SETTINGS = Path(__file__).parent / "jupyter"


def jupyterlab_command(
    workspace: Workspace, lab: str | None, port: int | None, browser: bool
) -> list[str]:
    """The command that serves `workspace`, opened at `lab` (`NN_topic`) where one is named.

    Raises:
        LabError: `port` is taken.
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
        command += ["--allow-root"]  # in a container root is the only user there is
    return command


def jupyterlab_environment(workspace: Workspace) -> dict[str, str]:
    """This process's environment, with the course for the kernels and settings for JupyterLab.

    The kernelspec among the settings has a kernel leave what libraries write past Python, such as
    TensorFlow's remarks on a GPU that is not there, in the terminal.

    Args:
        workspace: The learner's.
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
            raise LabError(
                f"Port {port} cannot be used ({getattr(error, 'strerror', None) or error}); "
                "choose another with --port, or leave it out."
            ) from error
