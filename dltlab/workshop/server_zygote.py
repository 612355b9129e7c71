"""One process imports JupyterLab for the whole workshop; the servers of learners are its forks.

It runs as `python -m dltlab.workshop.server_zygote SOCKET`, as root. The Hub's spawner asks for
servers with `kernels.fork_as`, and what it sends are the arguments of `learner_server`.
"""

import gc
import importlib
import os
import sys
from pathlib import Path

from jupyter_core.paths import jupyter_config_path
from jupyter_server.extension.config import ExtensionConfigManager

from dltlab.course import Course, Workspace, jupyterlab_environment
from dltlab.kernels import become_forks
from dltlab.workshop import learner_server

_IMPORTS = ("jupyterhub.singleuser", "jupyterlab.labapp")


def main() -> None:
    """Import what servers import, then fork them; in a fork, run its server."""
    Path.home().mkdir(mode=0o700, exist_ok=True)
    gc.disable()
    for name in _IMPORTS:
        importlib.import_module(name)
    workspace = Workspace(Path.home() / learner_server.FOLDER, Course.find())
    os.environ.update(jupyterlab_environment(workspace))  # a fork replaces it
    extensions = ExtensionConfigManager(read_config_path=jupyter_config_path())
    for name, is_enabled in extensions.get_jpserver_extensions().items():
        if is_enabled:
            importlib.import_module(name)
    sys.argv[1:] = become_forks(Path(sys.argv[1]))
    gc.enable()
    learner_server.main()


if __name__ == "__main__":
    main()
