"""What a user asks of the runners of a folder, in its control.json: pause, resume, stop runs."""

import json
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dltlab.batch.run_folder import RunFolder, State, Status, run_folders
from dltlab.errors import Invalid, Unavailable
from dltlab.files import cannot_write, write_atomically

ALL = "all"  # in the place of the runs to stop


@dataclass(frozen=True)
class Control:
    """What the runners of a folder must do.

    Attributes:
        paused: Start no other run.
        stop: The runs to end or not to start, by their ids, or `ALL`.
    """

    paused: bool = False
    stop: frozenset[str] | str = frozenset()

    def stops(self, run_id: str) -> bool:
        """Return whether a run must end or not be started."""
        return self.stop == ALL or run_id in self.stop


def read_control(out: Path) -> Control:
    """Return what the runners of the folder `out` must do; nothing if the file is not valid."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        values: dict[str, Any] = json.loads((out / "control.json").read_text(encoding="utf-8"))
        stop = values.get("stop", [])
        return Control(bool(values.get("paused")), ALL if stop == ALL else frozenset(stop))
    return Control()


def pause(out: Path) -> None:
    """Let the runners of `out` start no other run."""
    with _changing(out):
        _write(out, replace(read_control(out), paused=True))


def resume(out: Path) -> None:
    """Let the runners of `out` start runs again."""
    with _changing(out):
        _write(out, replace(read_control(out), paused=False))


def stop(out: Path, run_ids: Collection[str] | None = None) -> None:
    """End runs of `out`; those that have not started are cancelled at once.

    Args:
        out: The folder of the runs.
        run_ids: The runs, by default all.
    """
    with _changing(out):
        control = read_control(out)
        ids = ALL if run_ids is None or control.stop == ALL else {*control.stop, *run_ids}
        control = replace(control, stop=ids if isinstance(ids, str) else frozenset(ids))
        _write(out, control)
    for folder in run_folders(out):
        if not control.stops(folder.path.name):
            continue
        with folder.locked() as is_ours:
            if is_ours and folder.state().status is Status.QUEUED:
                reason = "It was stopped before it started. The same command runs it again."
                folder.write_state(State(Status.CANCELLED, reason))


def forget_stops(out: Path, run_ids: Collection[str] | None = None) -> None:
    """Let runs that were stopped be run again; a runner calls it when it starts.

    Args:
        out: The folder of the runs.
        run_ids: The runs, by default all.
    """
    with _changing(out):
        control = read_control(out)
        if run_ids is None:
            _write(out, replace(control, stop=frozenset()))
        elif not isinstance(control.stop, str):
            _write(out, replace(control, stop=control.stop.difference(run_ids)))


def remove(folders: Iterable[RunFolder]) -> None:
    """Remove the folders of runs.

    Raises:
        Invalid: A run is executed now; those before it are removed.
        Unavailable: A folder cannot be removed.
    """
    for folder in folders:
        name = folder.path.name
        with folder.locked() as is_ours:
            if not is_ours:
                raise Invalid(f"{name} is running. End it first with: dltlab runs stop {name}")
            try:
                shutil.rmtree(folder.path)
            except OSError as error:
                raise Unavailable(f"{folder.path} cannot be removed ({error}).") from error


def _write(out: Path, control: Control) -> None:
    stop = control.stop if isinstance(control.stop, str) else sorted(control.stop)
    text = json.dumps({"paused": control.paused, "stop": stop}, indent=1)
    write_atomically(out / "control.json", f"{text}\n")


@contextmanager
def _changing(out: Path) -> Iterator[None]:
    """Let no other process change the file meanwhile."""
    import filelock

    lock = filelock.FileLock(out / ".control.lock")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        yield
    finally:
        lock.release()
