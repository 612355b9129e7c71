"""Show a batch while it runs, in a terminal or as lines, and keep its report up to date."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from dltlab.batch.control import read_control
from dltlab.batch.hparams import write_hparams
from dltlab.batch.records import FAILURES, duration_text, value_text
from dltlab.batch.report import Report
from dltlab.batch.run_folder import Run, RunFolder, State, Status, run_folders
from dltlab.display import printable
from dltlab.errors import LabError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_POLL_SECONDS = 0.5
_REPORT_SECONDS = 10.0
_SHARE = 0.05  # of the time, at most, is spent on looking, and as much on the report
_TAIL_BYTES = 4096
_MAX_PARAMETERS = 6  # of a run, in a line
_ROWS_BESIDE = 8  # of the terminal that runs do not fill
_GIB = 1 << 30


@dataclass(frozen=True)
class _Seen:
    folder: RunFolder
    run: Run
    state: State
    stamp: int
    is_old: bool  # it has ended before this batch


class BatchWatch:
    """Follows the runs in a folder by their files.

    Args:
        out: The folder of the runs.
        run_ids: The runs; by default those that wait or run now, and that come later.
    """

    def __init__(self, out: Path, run_ids: Iterable[str] = ()) -> None:
        self._out = out
        self._ids = frozenset(run_ids)
        self._seen: dict[str, _Seen] = {}
        self._is_first = True

    def poll(self) -> list[tuple[RunFolder, Run, State]]:
        """Return the starts and ends of runs since the last call, also both of a short run."""
        changed = []
        for folder in run_folders(self._out):
            name = folder.path.name
            if self._ids and name not in self._ids:
                continue
            known = self._seen.get(name)
            with suppress(OSError, LabError):  # it may be removed meanwhile
                state_file = folder.path / "state.json"
                stamp = state_file.stat().st_mtime_ns if state_file.exists() else 0
                if known and known.stamp == stamp and known.state.status is not Status.RUNNING:
                    continue
                state = folder.state()
                waits = state.status in (Status.QUEUED, Status.RUNNING)
                is_old = not waits if self._is_first else bool(known and known.is_old and not waits
                    and known.state.started == state.started)  # fmt: skip
                run = known.run if known else folder.run()
                self._seen[name] = _Seen(folder, run, state, stamp, is_old)
                is_news = (known is None or _event(known.state) != _event(state)) and not is_old
                if not is_news or state.status is Status.QUEUED:
                    continue
                starts = state.started and (known is None or known.state.started != state.started)
                if starts and state.status is not Status.RUNNING:
                    changed.append((folder, run, replace(state, status=Status.RUNNING)))
                changed.append((folder, run, state))
        self._is_first = False
        return changed

    @property
    def counts(self) -> Counter[Status]:
        """The number of runs of this batch by status."""
        return Counter(seen.state.status for seen in self._seen.values() if not seen.is_old)

    @property
    def num_kept(self) -> int:
        """The number of runs that were finished before."""
        return sum(seen.is_old and seen.state.status.is_final for seen in self._seen.values())

    @property
    def running(self) -> list[tuple[RunFolder, Run, State]]:
        """The runs that are executed now, the oldest first."""
        runs = [s for s in self._seen.values() if s.state.status is Status.RUNNING]
        runs.sort(key=lambda seen: seen.state.started or 0)
        return [(seen.folder, seen.run, seen.state) for seen in runs]

    @property
    def seconds_left(self) -> float | None:
        """The time that is left if the other runs take as long as those that are done."""
        states = [seen.state for seen in self._seen.values() if not seen.is_old]
        times = [state.seconds or 0.0 for state in states if state.status.is_final]
        running = [state.seconds or 0.0 for state in states if state.status is Status.RUNNING]
        if not times or not running:
            return None
        mean = sum(times) / len(times)
        num_queued = sum(state.status is Status.QUEUED for state in states)
        left = num_queued * mean + sum(max(0.0, mean - seconds) for seconds in running)
        return left / len(running)


def _event(state: State) -> tuple[object, ...]:
    return state.status, state.attempt, state.started


@contextmanager
def live_display(out: Path, run_ids: Iterable[str] = ()) -> Iterator[Callable[[str], None]]:
    """Show the runs in `out` while the block runs, and write the report meanwhile and at the end.

    A terminal shows the queue, the runs that are executed with their cell and last metric, the
    time left and the use of the devices. Elsewhere, there is one line when a run starts and one
    when it ends. All of it goes to the standard error: the output of a command is its result.

    Args:
        out: The folder of the runs.
        run_ids: The runs; by default those that wait or run now, and that come later.

    Yields:
        A function that prints a sentence, such as the address of a dashboard.
    """
    from rich.console import Console

    # Jupyter sets FORCE_COLOR in kernels, for which rich takes a pipe for a terminal.
    is_terminal = sys.stderr.isatty() or os.environ.get("TTY_COMPATIBLE") == "1"
    console = Console(stderr=True, highlight=False, force_terminal=is_terminal)
    display = _Display(out, run_ids, console)
    thread = Thread(target=display.follow, name="dltlab-batch", daemon=True)
    thread.start()
    try:
        yield display.print_line
    finally:
        display.stop.set()
        thread.join()
        display.finish()


class _Display:
    """What `live_display` shows, and its report."""

    def __init__(self, out: Path, run_ids: Iterable[str], console: "Console") -> None:
        self.stop = Event()
        self._out, self._console = out, console
        self._watch = BatchWatch(out, run_ids)
        self._report = Report(out)
        self._devices = _Devices()
        self._next_report = time.monotonic() + _REPORT_SECONDS
        self._watch.poll()

    def print_line(self, text: str) -> None:
        """Print a sentence, above what is live."""
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    def follow(self) -> None:
        """Show the runs until `stop`; runs in a thread of its own."""
        from rich.live import Live

        with ExitStack() as stack:
            live = None
            if self._console.is_terminal:
                live = Live(console=self._console, auto_refresh=False, transient=True)
                stack.enter_context(live)
                stack.enter_context(self._devices)
            while True:
                is_last = self.stop.is_set()
                start = time.thread_time()
                changed = self._watch.poll()
                for event in changed:
                    if live is None or event[2].status in FAILURES:
                        self.print_line(_line(*event))
                if live is not None:
                    live.update(self._panel(), refresh=True)
                if is_last:
                    return
                seconds = time.thread_time() - start
                self._refresh_files()
                self.stop.wait(max(_POLL_SECONDS, seconds / _SHARE))

    def finish(self) -> None:
        """Write the report and the event files of TensorBoard."""
        try:
            self._write_files()
        except LabError as error:
            self.print_line(str(error))

    def _write_files(self) -> None:
        if run_folders(self._out):
            self._report.write()
            write_hparams(self._report.records)

    def _refresh_files(self) -> None:
        if time.monotonic() >= self._next_report:
            start = time.thread_time()
            with suppress(LabError):  # they are written again at the end
                self._write_files()
            seconds = time.thread_time() - start
            self._next_report = time.monotonic() + max(_REPORT_SECONDS, seconds / _SHARE)

    def _panel(self) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        counts, running = self._watch.counts, self._watch.running
        ended = sum(counts.values()) - counts[Status.QUEUED] - counts[Status.RUNNING]
        table = Table(box=None, pad_edge=False, show_header=False)
        num_rows = max(1, self._console.height - _ROWS_BESIDE)
        for folder, run, state in running[:num_rows]:
            cell = f"cell {state.cell} of {state.num_cells}" if state.cell else ""
            texts = (duration_text(state.seconds), cell, last_metric(folder), _name(folder, run))
            table.add_row(*(Text(text, no_wrap=True, overflow="ellipsis") for text in texts))
        if len(running) > num_rows:
            table.add_row("", "", "", f"and {len(running) - num_rows} more")
        panel = Table.grid()
        if running:
            panel.add_row(table)
        panel.add_row(ProgressBar(max(1, sum(counts.values())), ended, width=60))
        panel.add_row(Text(self._status_line(counts)))
        panel.add_row(Text(self._devices.text()))
        return panel

    def _status_line(self, counts: Counter[Status]) -> str:
        parts = [f"{counts[status]} {status}" for status in Status if counts[status]]
        if self._watch.num_kept:
            parts.append(f"{self._watch.num_kept} finished before")
        left = self._watch.seconds_left
        if left is not None:
            parts.append(f"about {duration_text(left)} left")
        if read_control(self._out).paused:
            parts.append("paused; go on with: dltlab runs resume")
        return " · ".join(parts) or "no runs yet"


class _Devices:
    """The use of the cores, the memory and the GPUs of this host; a context manager."""

    def __enter__(self) -> "_Devices":
        import psutil

        from dltlab.devices import Sampler, list_gpus

        psutil.cpu_percent()  # the first value is of no time
        self._stack = ExitStack()
        self._gpus = list_gpus()
        self._sampler = self._stack.enter_context(Sampler(self._gpus)) if self._gpus else None
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def text(self) -> str:
        """Return the present use as a line."""
        import psutil

        from dltlab.devices import memory_info

        memory = memory_info()
        used = (memory.total - memory.available) / _GIB
        parts = [
            f"cores {psutil.cpu_percent():.0f}%",
            f"memory {used:.1f} of {memory.total / _GIB:.1f} GiB",
        ]
        row = self._sampler.sample() if self._sampler else {}
        for gpu in self._gpus:
            name = f"gpu{gpu.index}"
            if f"{name}_percent" in row:
                gib = row.get(f"{name}_memory_gib", 0.0)
                parts.append(f"GPU {gpu.index} {row[f'{name}_percent']:.0f}%, {gib:.1f} GiB")
        return " · ".join(parts)


def last_metric(folder: RunFolder) -> str:
    """Return the metric that a run has recorded last, as text; empty without one."""
    with suppress(OSError, ValueError, TypeError, KeyError, IndexError):
        with folder.metrics_file.open("rb") as file:
            file.seek(max(0, folder.metrics_file.stat().st_size - _TAIL_BYTES))
            values: dict[str, Any] = json.loads(file.read().rpartition(b"\n")[0].splitlines()[-1])
        step = "" if values["step"] is None else f" at step {values['step']}"
        return f"{printable(values['name'])} {value_text(values['value'])}{step}"
    return ""


def _name(folder: RunFolder, run: Run) -> str:
    values = [f"{n}={value_text(v)}" for n, v in list(run.parameters.items())[:_MAX_PARAMETERS]]
    return f"{folder.path.name} ({printable(', '.join(values))})" if values else folder.path.name


def _line(folder: RunFolder, run: Run, state: State) -> str:
    """Return what is printed when a run starts or ends."""
    if state.status is Status.RUNNING:
        again = f", attempt {state.attempt}" if state.attempt > 1 else ""
        return f"started {_name(folder, run)}{again}"
    seconds = f" after {duration_text(state.seconds)}" if state.started else ""
    reason = f": {state.reason}" if state.reason else ""
    metric = "" if reason else last_metric(folder)
    return f"{state.status} {folder.path.name}{seconds}{reason}{f': {metric}' if metric else ''}"
