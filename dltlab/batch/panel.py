"""Start a sweep from a notebook, and watch its runs: `SweepPanel`."""

import html
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from dltlab.batch.control import stop
from dltlab.batch.records import RecordReader
from dltlab.batch.results import BatchResult
from dltlab.batch.run_folder import Status, run_folders
from dltlab.display import printable, show_widget
from dltlab.errors import NotFound
from dltlab.paths import short_path

_POLL_SECONDS = 0.5
_BAD_INPUT = 2  # the exit code of the command
_LOG = "sweep.log"
_START, _STOP = "Start", "Stop"
_STYLE = """<style>
.dltlab-sweep-runs { max-height: 24em; overflow: auto; }
.dltlab-sweep-runs table { margin: 0; }
</style>"""


class SweepPanel:
    """Buttons that start and stop a sweep, a progress bar, and a table of its runs.

    The sweep is the command `dltlab sweep` in a process of its own. It goes on when the kernel is
    restarted; the cell, run again, shows it again. Runs that are finished are kept: "Start" runs
    those that are missing.

    Args:
        sweep: The sweep's file.
        out: The folder of the runs.
        jobs: How many runs are executed at the same time; None: what the machine allows.

    Attributes:
        widget: The ipywidgets widget, for use in other layouts.

    Raises:
        NotFound: There is no such file.
    """

    def __init__(
        self, sweep: str | Path, *, out: str | Path = "runs", jobs: int | None = None
    ) -> None:
        import ipywidgets

        self._sweep, self._out, self._jobs = Path(sweep), Path(out), jobs
        if not self._sweep.is_file():
            raise NotFound(f"There is no file {sweep}: write the sweep there first.")
        self._reader = RecordReader(self._out)
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None
        self._store: Callable[[str], None] = lambda html: None
        self._button = ipywidgets.Button(tooltip="Start the sweep, or stop it")
        self._button.on_click(lambda button: self.stop() if self.is_running else self.start())
        self._progress = ipywidgets.IntProgress(layout=ipywidgets.Layout(width="20em"))
        self._status = ipywidgets.HTML()
        self._runs = ipywidgets.HTML()
        line = ipywidgets.HBox([self._button, self._progress, self._status])
        self.widget = ipywidgets.VBox([ipywidgets.HTML(_STYLE), line, self._runs])
        self._update()

    @property
    def result(self) -> BatchResult:
        """The runs as they are now."""
        return BatchResult(self._out, tuple(self._reader.read()))

    @property
    def is_running(self) -> bool:
        """Whether runs are being executed, by this panel or by another process."""
        return self._is_alive() or Status.RUNNING in self.result.counts

    def start(self) -> None:
        """Execute the runs that are missing; return at once."""
        if self.is_running:
            return
        command = [sys.executable, "-c", "from dltlab.cli import main; main()"]
        command += ["sweep", str(self._sweep.resolve()), "--out", str(self._out.resolve())]
        command += ["--jobs", str(self._jobs)] if self._jobs else []
        self._out.mkdir(parents=True, exist_ok=True)
        with (self._out / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._watch()

    def stop(self) -> None:
        """End the runs that are executed, and start no other."""
        self._status.value = _status("Stopping …")
        if run_folders(self._out):
            stop(self._out)
        elif self._process is not None:
            self._process.terminate()

    def wait(self) -> BatchResult:
        """Wait until no run is executed any more, and return the runs."""
        if self._watcher is not None:
            self._watcher.join()
        return self.result

    def show(self) -> None:
        """Show the panel; without a front end, print the runs."""
        self._store = show_widget(self.widget, str(self), self._runs.value)
        if self.is_running:
            self._watch()

    def __str__(self) -> str:
        return repr(self.result)

    def _is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _watch(self) -> None:
        """Follow the runs in a thread, so that the kernel can handle the click that stops them."""
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._follow, daemon=True)
            self._watcher.start()

    def _follow(self) -> None:
        pause = threading.Event()
        while self._update():
            pause.wait(_POLL_SECONDS)
        self._store(f"{_STYLE}{self._runs.value}")

    def _update(self) -> bool:
        """Show the runs as they are now; return whether some are still executed."""
        is_alive = self._is_alive()
        result = self.result
        running = is_alive or Status.RUNNING in result.counts
        finished = sum(record.state.ended is not None for record in result.records)
        self._button.description = _STOP if running else _START
        self._button.icon = "stop" if running else "play"
        self._progress.max, self._progress.value = max(len(result.records), 1), finished
        table = result._repr_html_() if result.records else ""
        self._runs.value = f'<div class="dltlab-sweep-runs" tabindex="0">{table}</div>'
        self._status.value = _status(self._sentence(finished, len(result.records), running))
        return running

    def _sentence(self, finished: int, total: int, running: bool) -> str:
        code = None if self._process is None else self._process.poll()
        if code == _BAD_INPUT:
            return self._last_line()
        if running:
            return f"{finished} of {total} runs ended." if total else "Starting …"
        if not total:
            return "Press Start."
        return f"{finished} of {total} runs ended. Log: {short_path(self._out / _LOG)}"

    def _last_line(self) -> str:
        lines = (self._out / _LOG).read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "The sweep has ended.")


def _status(sentence: str) -> str:
    text = "".join(map(printable, sentence))
    return f'<span aria-live="polite">{html.escape(text)}</span>'
