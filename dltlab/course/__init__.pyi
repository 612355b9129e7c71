from .catalog import Course, enter_course
from .extras import extra_of
from .front_matter import SourceError
from .notebooks import (
    execute_notebook,
    learner_notebook,
    notebook_text,
    read_notebook,
    solution_notebook,
    without_outputs,
)
from .parameters import ACCEPTED_TYPES, check_parameters
from .server import (
    jupyterlab_command,
    jupyterlab_environment,
    server_options,
    unwritable_jupyter_folder,
)
from .source import Cell, Lab, parse_code, read_lab
from .workspace import Workspace

__all__ = [
    "ACCEPTED_TYPES",
    "Cell",
    "Course",
    "Lab",
    "SourceError",
    "Workspace",
    "check_parameters",
    "enter_course",
    "execute_notebook",
    "extra_of",
    "jupyterlab_command",
    "jupyterlab_environment",
    "learner_notebook",
    "notebook_text",
    "parse_code",
    "read_lab",
    "read_notebook",
    "server_options",
    "solution_notebook",
    "unwritable_jupyter_folder",
    "without_outputs",
]
