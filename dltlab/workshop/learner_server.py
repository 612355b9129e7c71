"""A learner's server: it copies the labs into the learner's folder, then serves it.

The Hub's spawner runs it, as `python -m dltlab.workshop.learner_server PROFILE [OPTION ...]`, with
the workshop's labs in `DLTLAB_LABS`.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from dltlab.course import Course, Workspace, jupyterlab_environment, server_options
from dltlab.errors import LabError

PROCESS_NAME = "learner-server"
FOLDER = "dltlab"  # in the learner's home
_SETTINGS = Path(__file__).with_name("jupyter")


def main() -> None:
    """Update the learner's copies of the labs, and run the server."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(PROCESS_NAME)
    profile, *options = sys.argv[1:]
    workspace = Workspace(Path.home() / FOLDER, Course.find(), profile)
    workspace.folder.mkdir(exist_ok=True)
    try:
        messages = workspace.update()
    except LabError as error:  # what the learner has can be opened all the same
        messages = [str(error)]
    for message in messages:
        print(message, file=sys.stderr)  # noqa: T201 - into the log
    os.environ.update(jupyterlab_environment(workspace))
    # Our kernelspec without the debugger: other accounts of this machine could reach its port.
    os.environ["JUPYTER_PATH"] = os.pathsep.join([str(_SETTINGS), os.environ["JUPYTER_PATH"]])
    os.chdir(workspace.folder)
    sys.argv[1:] = [f"--ServerApp.root_dir={workspace.folder}", *server_options(), *options]

    from jupyterhub.singleuser import main as serve  # it reads the environment when it is imported

    serve()


if __name__ == "__main__":
    main()
