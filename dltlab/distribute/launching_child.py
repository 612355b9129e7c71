"""The beginning of a worker: it is bound to its launcher and its cores, then runs the command.

The launcher runs this file as a script, with the options as JSON and the command as arguments. An
exception that the command does not catch, or its exit code, is reported to the launcher at once:
the end of a process may take long, and the launcher shows one traceback, not one for every worker.
"""

import ctypes
import faulthandler
import importlib.util
import json
import os
import signal
import sys
import traceback
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOST_PEER = 75  # EX_TEMPFAIL: the exit code of a worker that ends because another one is gone
MAX_REPORT_BYTES = 32_000  # a pipe holds 64 KiB, so writing does not block
END_OF_REPORT = b"\0"


def main() -> None:
    """Run the command as `python` would."""
    options = json.loads(sys.argv[1])
    command = sys.argv[2:]
    _bind(options["launcher"], options["cores"])
    _keep_to_itself(options["report"])
    try:
        if command[0].endswith(".ipynb"):
            _run_notebook(command, options["notebook"])
        else:
            _run_code(command)
    except SystemExit as error:
        code = (error.code if isinstance(error.code, int) else int(error.code is not None)) & 0xFF
        if not isinstance(error.code, int | None):
            sys.stderr.write(f"{error.code}\n")
        if code:
            _report(options["report"], code, "")
        raise SystemExit(code) from None
    except KeyboardInterrupt:
        _report(options["report"], 128 + signal.SIGINT, "")
        raise SystemExit(128 + signal.SIGINT) from None
    except BaseException as error:
        code = LOST_PEER if type(error).__name__ == "WorkerLost" else 1
        _report(options["report"], code, _describe(error))
        raise SystemExit(code) from None


def _bind(launcher: int, cores: list[int]) -> None:
    """Die with the launcher, run on `cores` alone, and show where a crash happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != launcher:  # it had ended before
            os._exit(1)
        with suppress(OSError):  # cores that were taken away since: run on any
            os.sched_setaffinity(0, cores)
    faulthandler.enable()


def _keep_to_itself(pipe: int) -> None:
    """Close the pipe in processes that this one starts, so that it ends with this one."""
    os.set_inheritable(pipe, False)
    open_pipes = [pipe]  # empty in a child: the number may be another file's when that one forks

    def close() -> None:
        while open_pipes:
            os.close(open_pipes.pop())

    os.register_at_fork(after_in_child=close)


def _run_code(command: list[str]) -> None:
    """Run a script or `-m module` as the main module."""
    main_module: Any = types.ModuleType("__main__")
    if command[0] == "-m":
        sys.path.insert(0, str(Path.cwd()))
        spec = module_spec(command[1])
        path, code = spec.origin, spec.loader.get_code(spec.name)
        main_module.__spec__, main_module.__package__ = spec, spec.parent
    else:
        path = command[0]
        sys.path.insert(0, str(Path(path).resolve().parent))
        code = compile(Path(path).read_bytes(), path, "exec")
    main_module.__file__ = path
    sys.argv = [path, *command[1 + (command[0] == "-m") :]]
    sys.modules["__main__"] = main_module
    exec(code, vars(main_module))  # noqa: S102 - it is the user's own script


def module_spec(name: str) -> Any:
    """Return the import system's description of the module that `python -m name` runs."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = importlib.util.find_spec(f"{name}.__main__")
    return spec


def _run_notebook(command: list[str], output: str) -> None:
    """Execute a notebook with papermill; the rest of the command is for papermill, too."""
    from papermill.__main__ import papermill

    arguments = [command[0], output, "--no-progress-bar", "--log-output", *command[1:]]
    papermill.main(arguments, standalone_mode=False)


def _describe(error: BaseException) -> str:
    """Return the traceback without the frames of this file, or papermill's own one."""
    from_papermill = type(error).__name__ == "PapermillExecutionError"
    frames = None if from_papermill else error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename == __file__:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _report(pipe: int, code: int, text: str) -> None:
    """Tell the launcher the exit code, and the end of a long traceback."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    with suppress(OSError):
        os.write(pipe, f"{code}\n".encode() + text.encode()[-MAX_REPORT_BYTES:] + END_OF_REPORT)


if __name__ == "__main__":
    main()
