"""Execute one run in this process: `execute_run`."""

import os
import re
import secrets
import shutil
import socket
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import papermill
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.provisioning import KernelProvisionerFactory
from papermill.exceptions import PapermillException, PapermillExecutionError

from dltlab.batch.engine import ENGINE, Execution
from dltlab.batch.parameters import language_of
from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.batch.run_watch import RunEnded
from dltlab.batch.template import read_source, source_hash
from dltlab.batch.versions import write_versions
from dltlab.course import extra_of
from dltlab.errors import LabError, Unavailable
from dltlab.files import cannot_write
from dltlab.kernels import PROVISIONER
from dltlab.paths import COURSE, PROGRESS, RUN_DIR, RUN_MARK
from dltlab.process_guard import marked

_PROVISIONER_VARIABLE = "JUPYTER_DEFAULT_PROVISIONER_NAME"
_KEPT = ("run.json", "state.json", ".lock")  # when a run is executed again
_MAX_REASON = 500
_DEFAULT_KERNEL = "python3"  # of a notebook that names none, as old ones
_ADVICE = {
    "FileNotFoundError": "Its working directory is the run's folder `files`; --cwd changes it.",
    "MemoryError": "Give it more memory, or smaller batches.",
    "ResourceExhaustedError": "Give it more memory, or smaller batches.",
}


def execute_run(run: Run, folder: RunFolder) -> State:
    """Execute a run and return how it ended; its lock must be held (`RunFolder.locked`).

    What an earlier attempt has left is removed. The state is right whatever happens, also in the
    folder, and no process of the run survives.

    Args:
        run: What is run. If `gpus` is a tuple, the kernel sees these GPUs and no others.
        folder: The folder of the run.

    Raises:
        Unavailable: The folder cannot be written at all.
        KeyboardInterrupt: As Ctrl-C does; the run is cancelled.
    """
    attempt = _last_attempt(folder) + 1
    state = State(
        Status.RUNNING,
        attempt=attempt,
        started=time.time(),
        host=socket.gethostname(),
        pid=os.getpid(),
    )
    folder.create(run)
    _clear(folder)
    folder.write_state(state)
    execution = Execution(run, folder, state, kernel_environment(run, folder))
    try:
        _execute(run, execution)
        ending = _success(execution)
    except KeyboardInterrupt:
        ending = RunEnded(
            Status.CANCELLED, "Ctrl-C ended the run", "The same command runs it again."
        )
        _finish(execution, ending)
        raise
    except BaseException as error:
        ending = _failure(error, execution)
        if not isinstance(error, Exception):
            _finish(execution, ending)
            raise
    return _finish(execution, ending)


def kernel_environment(run: Run, folder: RunFolder) -> dict[str, str]:
    """Return the environment variables of a run's kernel.

    `dltlab.kernels.prestart` of it starts the zygote that the kernels of like runs need.
    """
    environment = {
        _PROVISIONER_VARIABLE: PROVISIONER,
        **os.environ,
        RUN_DIR: str(folder.path.absolute()),
        **marked(RUN_MARK, secrets.token_hex(8)),
        PROGRESS: str((folder.path / "progress.jsonl").absolute()),
        "OMP_NUM_THREADS": str(run.cores),
        "TF_NUM_INTRAOP_THREADS": str(run.cores),
        "TF_NUM_INTEROP_THREADS": str(run.cores),
    }
    if isinstance(run.gpus, tuple):
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, run.gpus)) or "-1"
    if COURSE not in environment and "://" not in run.notebook:
        for parent in Path(run.notebook).absolute().parents:
            if (parent / "solutions").is_dir() and (parent / "labs").is_dir():
                environment[COURSE] = str(parent)
                break
    return environment


def _execute(run: Run, execution: Execution) -> None:
    if _PROVISIONER_VARIABLE not in os.environ:
        KernelProvisionerFactory.instance().default_provisioner_name = PROVISIONER
    folder = execution.folder
    notebook = read_source(run.notebook)
    if run.source_hash and source_hash(notebook) != run.source_hash:
        raise RunEnded(
            Status.FAILED,
            "the notebook has changed after the batch was started",
            "The same command runs it as it is now.",
        )
    write_versions(run, notebook, folder.path / "versions.json")
    papermill.execute_notebook(
        notebook,
        None,
        dict(run.parameters),
        engine_name=ENGINE,
        kernel_name=notebook.metadata.get("kernelspec", {}).get("name") or _DEFAULT_KERNEL,
        language=language_of(notebook),
        progress_bar=False,
        execution=execution,
    )


def _success(execution: Execution) -> RunEnded:
    reason = ""
    if execution.exit_cell is not None:
        num_left = (execution.state.num_cells or 0) - execution.exit_cell
        reason = f"sys.exit(0) ended the notebook; {num_left} later cells did not run"
    elif not (execution.folder.path / "run.json").exists():
        reason = "the notebook has removed the run's folder; only what came later is kept"
    return RunEnded(Status.DONE, reason)


def _advice_on_module(text: str) -> str:
    """Return what installs the module that an error says is missing."""
    module = re.search(r"'(\w+)", text)
    extra = extra_of(module[1]) if module else None
    if extra:
        return f"Install it in the environment of the kernel: pip install 'dltlab[{extra}]'"
    return "Install the module in the environment of the kernel."


def _failure(error: BaseException, execution: Execution) -> RunEnded:
    """Return the end of a run for an error."""
    match error:
        case RunEnded():
            return error
        case PapermillExecutionError():
            text = f"{error.ename}: {error.evalue}".strip(": ").splitlines()[0]
            advice = _ADVICE.get(error.ename, "Correct it and run the same command again.")
            if error.ename == "ModuleNotFoundError":
                advice = _advice_on_module(text)
            is_memory = error.ename == "MemoryError"
            return RunEnded(Status.FAILED, text, advice, out_of_memory=is_memory)
        case NoSuchKernel():
            return RunEnded(
                Status.FAILED,
                f"the kernel '{error.name}' is not installed",
                "Install it, or choose another kernel in JupyterLab: jupyter kernelspec list",
            )
        case PapermillException() | LabError():
            return RunEnded(Status.FAILED, str(error))
    return RunEnded(Status.FAILED, f"{type(error).__name__}: {error}".strip(": "))


def _finish(execution: Execution, ending: RunEnded) -> State:
    """Write the last version of each file, and the final state."""
    folder = execution.folder
    state = replace(
        execution.state,
        status=ending.status,
        reason=_sentence(ending, execution),
        ended=time.time(),
        peak_memory_bytes=execution.watch.peak_memory_bytes,
        out_of_memory=ending.out_of_memory,
    )
    for write in (execution.log.close, partial(folder.create, execution.run), execution.write):
        try:
            write()
        except Unavailable as error:
            if state.status is Status.DONE:
                state = replace(state, status=Status.FAILED, reason=str(error))
    folder.write_state(state)
    return state


def _sentence(ending: RunEnded, execution: Execution) -> str:
    """Return what happened, in which cell, the last output, and what to try."""
    if not ending.reason:
        return ""
    reason = ending.reason.rstrip(".")[:_MAX_REASON]
    sentences = [f"{execution.place}: {reason}.", ending.advice]
    if execution.log.last_line and ending.status not in (Status.DONE, Status.PRUNED):
        sentences.insert(1, f"Its last output: {execution.log.last_line!r}.")
    return " ".join(filter(None, sentences))


def _last_attempt(folder: RunFolder) -> int:
    with suppress(LabError):
        return folder.state().attempt
    return 0


def _clear(folder: RunFolder) -> None:
    """Remove what an earlier attempt has left."""
    try:
        for path in folder.path.iterdir():
            if path.name in _KEPT:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise cannot_write(folder.path, error) from error
