"""Run an answer in a fresh process with limits, and get back nothing but arrays.

The process knows the learner's function and what it uses of the notebook, but none of the
notebook's other objects. It has its own empty data store, engine cache and working folder.
"""

import io
import json
import os
import pwd
import resource
import secrets
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from dltlab.exercises.answers import AnswerRaised, NotYet, describe_error, require
from dltlab.paths import DATA_DIR, ENGINE_DIR, OFFLINE
from dltlab.process_guard import kill_marked, marked

Arrays = dict[str, np.ndarray]

_account: ContextVar[pwd.struct_passwd | None] = ContextVar("account", default=None)

MAX_MB = 50  # of what the function uses of the notebook

_MAX_RESULT_BYTES = 500_000_000
_UNREADABLE = (
    *(OSError, EOFError, LookupError, MemoryError, TypeError, ValueError),
    zipfile.BadZipFile,
)
_MARK = "DLTLAB_ISOLATED"  # a variable of the process, and of all that it starts
_CALL, _ARRAYS, _REJECTED = "call.pickle", "arrays.npz", "rejected.json"


@contextmanager
def run_as(account: pwd.struct_passwd) -> Iterator[None]:
    """Let the processes of `run_isolated` run as another account; needs root."""
    token = _account.set(account)
    try:
        yield
    finally:
        _account.reset(token)


def run_isolated(
    function: Callable[..., Mapping[str, Any]], *arguments: Any, seconds: float, memory_gb: float
) -> Arrays:
    """Return the arrays that `function(*arguments)` returns, called in a fresh process.

    Args:
        function: Returns a dict of arrays; may raise `NotYet` and `AnswerRaised`.
        arguments: Among them the learner's function.
        seconds: After which the process is killed, with all that it has started.
        memory_gb: The most memory that it may allocate; more raises `MemoryError` in it.

    Raises:
        NotYet: The answer was rejected, took too long or ended its process, or what it uses of
            the notebook cannot be sent to another process.
        AnswerRaised: The learner's function raised an exception.
    """
    call = _pickled(function, arguments)
    mark = secrets.token_hex(8)
    with TemporaryDirectory() as name, TemporaryFile() as output:
        folder = Path(name)
        (folder / _CALL).write_bytes(call)
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, name, str(int(memory_gb * 1e9))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_identity(folder, marked(_MARK, mark)),
        )
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise NotYet(f"It took longer than {seconds:,.0f} s, and was ended.") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            kill_marked(f"{_MARK}={mark}")  # what has left the process group
            process.wait()
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
        return _read(folder, process.returncode, lines[-1][:200] if lines else "")


def run_here(function: Callable[..., Mapping[str, Any]], *arguments: Any) -> Arrays:
    """Return the arrays that `function(*arguments)` returns, called in this process.

    As in a process of its own, the data store, the engine cache and the working folder are empty.
    """
    with TemporaryDirectory() as name, _own_folders(Path(name)):
        return {key: np.asarray(value) for key, value in function(*arguments).items()}


def main() -> None:
    """Read the call from the folder, make it within the limits, and write its arrays."""
    import cloudpickle

    folder, memory = Path(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        function, arguments = cloudpickle.loads((folder / _CALL).read_bytes())
        arrays = run_here(function, *arguments)
    except (NotYet, AnswerRaised, MemoryError) as error:
        kind = type(error).__name__
        (folder / _REJECTED).write_text(json.dumps({"kind": kind, "message": str(error)}))
    else:
        np.savez(folder / _ARRAYS, **arrays)  # type: ignore[arg-type]


@contextmanager
def _own_folders(folder: Path) -> Iterator[None]:
    """Work in a folder, with its own data store and engine cache, and without a network."""
    own = {DATA_DIR: str(folder / "data"), ENGINE_DIR: str(folder / "engines"), OFFLINE: "1"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        with chdir(folder):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _pickled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            """Import modules there, also those of a class of their own, as lazy ones are."""
            if isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value:
                return import_module, (value.__name__,)
            return super().reducer_override(value)

    content = io.BytesIO()
    try:
        Pickler(content).dump((function, arguments))
    except Exception as error:
        raise NotYet(
            f"Your function uses an object of the notebook that cannot be sent to another process "
            f"({describe_error(error).rstrip('.')}). Create it inside the function."
        ) from error
    call = content.getvalue()
    require(
        len(call) <= MAX_MB * 1e6,
        f"Your function uses {len(call) / 1e6:,.0f} MB of the notebook's objects, more than "
        f"{MAX_MB}. Create them inside the function.",
    )
    return call


def _identity(folder: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a process of the account that was set, and give it the folder."""
    account = _account.get()
    if account is None:
        return {"env": {**os.environ, **variables}}
    for path in (folder, folder / _CALL):
        os.chown(path, account.pw_uid, account.pw_gid)
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
    return {
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": [],
        "cwd": folder,
        "env": {**kept, **variables, "HOME": str(folder)},
    }


def _read(folder: Path, returncode: int, last_line: str) -> Arrays:
    """Return what the process has written; what it wrote is never unpickled."""
    try:
        if rejected := _content(folder / _REJECTED):
            _raise(json.loads(rejected))
        if not returncode and (content := _content(folder / _ARRAYS)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > _MAX_RESULT_BYTES:
                    raise ValueError("too large")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return dict(arrays)
    except _UNREADABLE as error:
        raise NotYet("What it returns is not made of numbers, or is too large.") from error
    last = f" Its last line: {last_line}" if last_line else ""
    raise NotYet(f"Its process ended with exit code {returncode} and no result.{last}")


def _raise(rejected: Mapping[str, str]) -> NoReturn:
    if rejected["kind"] == "AnswerRaised":
        raise AnswerRaised(rejected["message"])
    if rejected["kind"] == "MemoryError":
        raise NotYet("It needed more memory than it may have.")
    raise NotYet(rejected["message"])


def _content(path: Path) -> bytes:
    """Return the content of a file, empty without one.

    The process may have made it a link to a file that only the caller can read, or a pipe.

    Raises:
        OSError: It is no file, or a link.
        ValueError: It is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path.name} is no file")
        content = file.read(_MAX_RESULT_BYTES + 1)
    if len(content) > _MAX_RESULT_BYTES:
        raise ValueError(f"{path.name} is too large")
    return content


if __name__ == "__main__":
    main()
