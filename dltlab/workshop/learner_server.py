"""A learner's server: it copies the labs into the learner's folder, then serves it.

The Hub's spawner runs it, as `python -m dltlab.workshop.learner_server LABS [OPTION ...]`; LABS is
a list of names with commas.
"""

import os
import sys
from pathlib import Path

from dltlab.course import Course, Workspace, jupyterlab_environment, server_options
from dltlab.errors import LabError

FOLDER = "dltlab"  # in the learner's home


def main() -> None:
    """Update the learner's copies of the labs, and run the server."""
    labs, options = sys.argv[1].split(","), sys.argv[2:]
    workspace = Workspace(Path.home() / FOLDER, Course.find())
    workspace.folder.mkdir(exist_ok=True)
    try:
        messages = workspace.update(labs=labs)
    except LabError as error:  # what the learner has can be opened all the same
        messages = [str(error)]
    for message in messages:
        print(message, file=sys.stderr)  # noqa: T201 - into the log
    os.environ.update(jupyterlab_environment(workspace))
    os.chdir(workspace.folder)
    sys.argv[1:] = [f"--ServerApp.root_dir={workspace.folder}", *server_options(), *options]

    from jupyterhub.singleuser import main as serve  # it reads the environment when it is imported

    serve()


if __name__ == "__main__":
    main()
