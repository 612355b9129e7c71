"""An execution of runs without notebooks: their parameters say what happens."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from dltlab.batch.control import read_control
from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.paths import COLD_KERNELS
from tests.deadlines import wait_until


def run_of(number: int, **options: Any) -> Run:
    """Return a run; see `fake` for its parameters."""
    fields = ("cores", "gpus", "memory_bytes", "name")
    own: dict[str, Any] = {name: options.pop(name) for name in fields if name in options}
    return Run("train.ipynb", {"number": number, **options}, **{"name": "train", **own})


class FakeExecution:
    """Executes runs; `started` holds the numbers of those that have started, in order.

    Attributes:
        go: Runs with the parameter `waits` end when it is set.
        visible: What CUDA_VISIBLE_DEVICES was in the last run.
        most: The most runs at the same time.
    """

    def __init__(self) -> None:
        self.started: list[int] = []
        self.visible: str | None = None
        self.most = 0
        self.go = Event()
        self.on_start: Callable[[Run], object] = lambda run: None
        self._present = 0

    def __call__(self, run: Run, folder: RunFolder) -> State:
        number = run.parameters["number"]
        state = State(Status.RUNNING, attempt=folder.state().attempt + 1, started=time.time())
        folder.write_state(state)
        self._present += 1
        self.most = max(self.most, self._present)
        self.started.append(number)
        self.visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        try:
            self.on_start(run)
            state = replace(state, **self._ending(run, folder, state), ended=time.time())
        except KeyboardInterrupt:
            folder.write_state(replace(state, status=Status.CANCELLED, ended=time.time()))
            raise
        finally:
            self._present -= 1
        folder.write_state(state)
        return state

    def _ending(self, run: Run, folder: RunFolder, state: State) -> dict:
        parameters = run.parameters
        stopped = lambda: read_control(folder.path.parent).stops(run.id)  # noqa: E731
        if parameters.get("waits"):
            wait_until(lambda: self.go.is_set() or stopped())
            if stopped():
                return {"status": Status.CANCELLED}
        if parameters.get("needs_memory") and state.attempt == 1:
            self.go.wait(10)
            return {"status": Status.KILLED, "out_of_memory": True}
        status = Status(parameters.get("status", "done"))
        return {"status": status, "peak_memory_bytes": parameters.get("peak", 1000)}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeExecution:
    """The execution of runs in this process and its threads, replaced."""
    execution = FakeExecution()
    monkeypatch.setenv(COLD_KERNELS, "1")  # no zygote is needed
    monkeypatch.setattr("dltlab.batch.scheduling.execute_run", execution)
    return execution


def states(out: Path) -> dict[int, State]:
    """Return the state of each run in a folder by its number."""
    folders = [RunFolder(path.parent) for path in out.glob("*/run.json")]
    return {folder.run().parameters["number"]: folder.state() for folder in folders}
