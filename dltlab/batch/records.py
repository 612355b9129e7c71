"""What the folders of runs say: the list, the comparison, the report and the display share it."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dltlab.batch.run_folder import Metric, Run, RunFolder, State, Status, run_folders
from dltlab.display import plain, printable
from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.paths import short_path

FAILURES = (Status.FAILED, Status.TIMEOUT, Status.KILLED)
ORDER = (*FAILURES, Status.CANCELLED, Status.RUNNING, Status.QUEUED, Status.DONE, Status.PRUNED)
_MAX_POINTS = 200  # of a metric's history
_MAX_TEXT = 200  # characters of a value in a table
_TAIL_BYTES = 65536
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
OBJECTIVE_FILE = "search/objective.json"  # in the folder of the runs, written by a search
_LOWER = re.compile(
    r"(?i)(^|_)(loss|error|err|mse|mae|rmse|nll|perplexity|seconds|time|latency|bytes|memory|joules)"
    r"(_|$)|(loss|error)$"
)


@dataclass(frozen=True)
class RunRecord:
    """What the folder of a run says at one moment.

    Attributes:
        folder: The folder.
        run: What is run.
        state: How it is going.
        values: The last value of each metric.
        histories: The steps and values of each metric of numbers that has steps; at most 200.
    """

    folder: RunFolder
    run: Run
    state: State
    values: dict[str, Any] = field(default_factory=dict)
    histories: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The name of the folder."""
        return self.folder.path.name

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        state = plain(self.state)
        return {
            "id": self.id,
            "name": self.run.name,
            "notebook": self.run.notebook,
            "folder": str(self.folder.path),
            "parameters": plain(self.run.parameters),
            "metrics": plain(self.values),
            "seconds": self.state.seconds,
            **state,
        }


class RecordReader:
    """Reads the folders in `out` repeatedly; those that have not changed are not read again.

    Args:
        out: The folder of the runs.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._known: dict[Path, tuple[tuple[int, ...], RunRecord]] = {}

    def read(self) -> list[RunRecord]:
        """Return a record for each run, failures first."""
        records = [self._record(folder) for folder in run_folders(self._out)]
        return sorted(records, key=lambda record: (ORDER.index(record.state.status), record.id))

    def _record(self, folder: RunFolder) -> RunRecord:
        files = (folder.path / "run.json", folder.path / "state.json", folder.metrics_file)
        stamp = tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
        known_stamp, record = self._known.get(folder.path, ((), None))
        # That a run was killed is seen from its lock only.
        if record is None or stamp != known_stamp or record.state.status is Status.RUNNING:
            record = _read_record(folder)
            self._known[folder.path] = stamp, record
        return record


def read_records(out: Path) -> list[RunRecord]:
    """Return a record for each run in `out`, failures first.

    Raises:
        NotFound: There are none.
    """
    records = RecordReader(out).read()
    if not records:
        folder = short_path(out)
        raise NotFound(
            f"There are no runs in {folder}. Start one with: dltlab run NOTEBOOK --out {folder}"
        )
    return records


def select_records(records: Sequence[RunRecord], names: Iterable[str]) -> list[RunRecord]:
    """Return the runs with these ids; the beginning of an id or of its key is enough.

    Raises:
        NotFound: There is no such run.
        Invalid: Several ids begin so.
    """
    selected = []
    for name in names:
        matches = [record for record in records if record.id == name] or [
            record
            for record in records
            if record.id.startswith(name) or record.id.rpartition("-")[2].startswith(name)
        ]
        if not matches:
            raise NotFound(f'There is no run "{name}". List them with: dltlab runs list')
        if len(matches) > 1:
            ids = ", ".join(record.id for record in matches[:3])
            more = ", …" if len(matches) > 3 else ""
            raise Invalid(
                f'{len(matches)} runs begin with "{name}": {ids}{more}. Name one of them.'
            )
        selected += matches
    return selected


def differing_parameters(records: Iterable[RunRecord]) -> list[str]:
    """Return the names of the parameters that differ between runs of the same notebook."""
    values: dict[tuple[str, str], set[str]] = {}
    counts: dict[str, int] = {}
    numbers: dict[tuple[str, str], int] = {}
    for record in records:
        name = record.run.name
        counts[name] = counts.get(name, 0) + 1
        for parameter, value in record.run.parameters.items():
            key = (name, parameter)
            values.setdefault(key, set()).add(json.dumps(plain(value), sort_keys=True))
            numbers[key] = numbers.get(key, 0) + 1
    differing = (
        parameter
        for (name, parameter), texts in values.items()
        if len(texts) > 1 or numbers[name, parameter] < counts[name]
    )
    return list(dict.fromkeys(differing))


def metric_names(records: Iterable[RunRecord]) -> list[str]:
    """Return the names of the metrics, those that most runs have first."""
    counts: dict[str, int] = {}
    for record in records:
        for name in record.values:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: -counts[name])


def is_number(value: object) -> bool:
    """Return whether a metric's value can be averaged and drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def lower_is_better(metrics: Iterable[str], out: Path) -> dict[str, bool]:
    """Return for each metric whether a lower value is better.

    A search in the folder of the runs says so of its objective; of other metrics, the name does:
    whether it is that of a loss, an error, a time or a size.

    Args:
        metrics: The names of the metrics.
        out: The folder of the runs.
    """
    lower = {name: _LOWER.search(name) is not None for name in metrics}
    with suppress(OSError, ValueError, KeyError, TypeError):
        objective = json.loads((out / OBJECTIVE_FILE).read_text(encoding="utf-8"))
        if objective["metric"] in lower:
            lower[objective["metric"]] = objective["direction"] == "minimize"
    return lower


def value_text(value: object) -> str:
    """Return a parameter or a metric as text for a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    return printable(text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1]}…")


def duration_text(seconds: float | None) -> str:
    """Return a time as a person would write it."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def log_tail(folder: RunFolder, num_lines: int) -> list[str]:
    """Return the last lines that the cells printed, without control codes."""
    if not folder.log.exists():
        return []
    with folder.log.open("rb") as file:
        file.seek(max(0, folder.log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in _ANSI.sub("", text).split("\n")]
    return [printable(line.expandtabs()) for line in lines if line.strip()][-num_lines:]


def _read_record(folder: RunFolder) -> RunRecord:
    try:
        run, state = folder.run(), folder.state()
    except Damaged as error:
        run = Run("", name=folder.path.name.rpartition("-")[0])
        return RunRecord(folder, run, State(Status.FAILED, str(error)))
    metrics = folder.metrics()
    values = {metric.name: metric.value for metric in metrics}
    return RunRecord(folder, run, state, values, _histories(metrics))


def _histories(metrics: Iterable[Metric]) -> dict[str, list[tuple[int, float]]]:
    histories: dict[str, dict[int, float]] = {}
    for metric in metrics:
        if metric.step is not None and isinstance(metric.value, int | float):
            histories.setdefault(metric.name, {})[metric.step] = float(metric.value)
    return {
        name: thinned(sorted(points.items()), _MAX_POINTS) for name, points in histories.items()
    }


def thinned(points: list[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """Return at most `most` of the points, evenly spaced, with the first and the last."""
    if len(points) <= most:
        return points
    return [points[math.floor(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def run_details(record: RunRecord, log_lines: int) -> dict[str, Any]:
    """Return all that is known of a run, with its files and the end of its log, ready for JSON."""
    files = {
        path.relative_to(record.folder.path).as_posix(): path.stat().st_size
        for path in sorted(record.folder.path.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    return record.as_dict() | {
        "versions": plain(record.folder.versions()),
        "files": files,
        "log": log_tail(record.folder, log_lines),
    }
