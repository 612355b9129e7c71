"""Start JupyterLab on a learner's workspace, on loopback and with a token."""

import os
import shlex
import socket
import sys
from pathlib import Path

from jupyter_core.paths import jupyter_config_dir, jupyter_data_dir, jupyter_runtime_dir

from dltlab.course.workspace import Workspace
from dltlab.errors import Unavailable
from dltlab.files import is_writable

LOOPBACK = "127.0.0.1"
_SETTINGS = Path(__file__).parent / "jupyter"


def jupyterlab_command(
    workspace: Workspace,
    lab: str | None,
    port: int | None,
    browser: bool,
    host: str = LOOPBACK,
) -> list[str]:
    """Return the command that serves `workspace`, opened at `lab` (`NN_topic`) or its start page.

    Raises:
        Unavailable: `port` is in use, this machine has no address `host`, or Jupyter's folders
            cannot be written.
    """
    if folder := unwritable_jupyter_folder():
        raise Unavailable(
            f"JupyterLab must write to {folder}, and you may not: set HOME to a folder that you "
            "may write to, then run the command again."
        )
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.ip={host}"]
    command += [f"--ServerApp.root_dir={workspace.folder.resolve()}", "--log-level=WARN"]
    command += server_options()
    if lab:
        command += [f"--LabApp.default_url=/lab/tree/{lab}.ipynb"]
    _require_free(host, port)
    if port is not None:
        command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0"]
    if not browser:
        command += ["--no-browser"]
    if os.name == "posix" and os.geteuid() == 0:
        command += ["--allow-root"]  # in a container, root is the only user
    return command


def server_options() -> list[str]:
    """Return the options that every Jupyter server of ours has."""
    options = ["--KernelManager.transport_encryption=auto"]  # between server and kernels
    # Tornado warns of Jupyter's own limit for the answer to a ping. With a shorter one, which
    # Tornado asks for, Jupyter ends each connection instead of sending it a second ping.
    options += ["--ServerApp.logging_config={'loggers': {'tornado.general': {'level': 'ERROR'}}}"]
    if os.name == "posix":
        # Not a login shell, which may replace PATH.
        shell = shlex.quote(os.environ.get("SHELL", "sh"))
        options += [f"--ServerApp.terminado_settings=shell_command={shell}"]
    return options


def unwritable_jupyter_folder() -> Path | None:
    """Return a folder that Jupyter needs and this user may not write, or None."""
    folders = map(Path, (jupyter_config_dir(), jupyter_data_dir(), jupyter_runtime_dir()))
    return next((folder for folder in folders if not is_writable(folder)), None)


def jupyterlab_environment(workspace: Workspace) -> dict[str, str]:
    """Return this process's environment with the course and our settings for JupyterLab added.

    Terminals and notebooks find the commands of this Python environment, such as `dltlab`. With the
    kernelspec in these settings, what libraries write to the file descriptors stays in the
    terminal, and kernels import dltlab first, which hides TensorFlow's log messages.
    """

    def prepend(path: Path, variable: str) -> str:
        return os.pathsep.join(filter(None, [str(path), os.environ.get(variable)]))

    return {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **os.environ,
        **workspace.course.environment,
        "PATH": prepend(Path(sys.executable).parent, "PATH"),
        "JUPYTER_CONFIG_PATH": prepend(_SETTINGS, "JUPYTER_CONFIG_PATH"),
        "JUPYTER_PATH": prepend(_SETTINGS, "JUPYTER_PATH"),
    }


def _require_free(host: str, port: int | None) -> None:
    try:
        family, *_, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        socket.create_server(address, family=family).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        place = f"Port {port}" if host == LOOPBACK else f"{host}, port {port or 'any'},"
        option = "--port" if host == LOOPBACK else "--host or --port"
        raise Unavailable(
            f"{place} cannot be used ({reason}); choose another with {option}, or leave it out."
        ) from error
