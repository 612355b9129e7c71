"""Folders of runs as a runner leaves them, without a runner."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dltlab.batch.run_folder import Run, RunFolder, State, Status

STARTED = 1_767_225_600.0  # seconds since 1970


def fabricate(
    out: Path,
    parameters: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    *,
    name: str = "train",
    status: Status = Status.DONE,
    reason: str = "",
    seconds: float = 12.5,
    started: float = STARTED,
    log: str = "",
) -> RunFolder:
    """Write the folder of a run; a metric with a list of values has one for each step."""
    run = Run(f"{name}.ipynb", dict(parameters or {}), name)
    folder = RunFolder(out / run.id)
    folder.create(run)
    has_started = status is not Status.QUEUED
    has_ended = has_started and status is not Status.RUNNING
    folder.write_state(
        State(
            status,
            reason,
            attempt=int(has_started),
            cell=3 if has_started else None,
            num_cells=5 if has_started else None,
            started=started if has_started else None,
            ended=started + seconds if has_ended else None,
        )
    )
    lines = [
        json.dumps({"name": metric, "value": value, "step": step, "time": started + 1})
        for metric, values in (metrics or {}).items()
        for step, value in (
            enumerate(values, 1) if isinstance(values, Sequence) and not isinstance(values, str)
            else [(None, values)]
        )
    ]  # fmt: skip
    folder.metrics_file.write_text("".join(f"{line}\n" for line in lines))
    folder.log.write_text(log)
    return folder
