"""The engine with which papermill executes a run: its cells in one kernel, which is watched."""

import asyncio
import json
import logging
import signal
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from queue import Empty
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines

from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.batch.run_output import MAX_CELL_DATA, MAX_CELL_TEXT, RunLog, Shortened, write_images
from dltlab.batch.run_watch import RunEnded, RunWatch
from dltlab.files import cannot_write, write_atomically
from dltlab.paths import RUN_MARK
from dltlab.process_guard import start_guard

ENGINE = "dltlab-batch"  # its name in papermill
_TICK_SECONDS = 0.5  # between two looks at the clock, the memory and the control file
_MAX_SAVING = 0.1  # of the time, for writing the notebook
_STARTUP_SECONDS = 600  # only a kernel that hangs takes longer
_ANSWER_SECONDS = 1.0  # for a kernel that has started to answer
_PUBLISH_SECONDS = 0.2  # from its answer until what it publishes has arrived, unless that is lost
_EXIT_POLL_SECONDS = 0.01  # between two looks whether a kernel has ended
_LOST_OUTPUT_SECONDS = 30  # after a cell's end, for its last output to arrive
_OUTSIDE_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)

_logger = logging.getLogger("dltlab.batch")  # an error of a cell is no error of this process
_logger.addHandler(logging.NullHandler())
_logger.propagate = False


class Execution(NotebookExecutionManager):  # type: ignore[misc]
    """The state of a run while it is executed, and its files.

    Args:
        run: What is run.
        folder: Where its files are.
        state: The state at the start.
        environment: The environment variables of the kernel.

    Attributes:
        state: The present state.
        exit_cell: The number of the cell that has ended the notebook with `sys.exit(0)`.
    """

    def __init__(
        self, run: Run, folder: RunFolder, state: State, environment: dict[str, str]
    ) -> None:
        super().__init__(nbformat.v4.new_notebook(), progress_bar=False, autosave_cell_every=0)
        self.run, self.folder, self.state = run, folder, state
        self.environment = environment
        self.log = RunLog(folder.log)
        self.watch = RunWatch(run, folder)
        self.exit_cell: int | None = None
        self._written_state = state
        self._is_saved = True
        self._save_again = 0.0

    @property
    def place(self) -> str:
        """The cell in which the run is, as the beginning of a sentence."""
        if self.state.cell is None:
            return "Before the first cell"
        return f"Cell {self.state.cell} of {self.state.num_cells}"

    def begin(self, notebook: NotebookNode) -> None:
        """Take the notebook, with the parameters in it."""
        self.nb = notebook
        notebook.metadata.papermill.input_path = self.run.notebook
        notebook.metadata.papermill.output_path = str(self.folder.notebook)
        num_cells = sum(map(_is_executed, notebook.cells))
        self.state = replace(self.state, num_cells=num_cells)
        self.notebook_start()
        self.flush()

    def save(self, **_: Any) -> None:
        """Have the notebook written soon."""
        self._is_saved = False

    def flush(self) -> None:
        """Write the notebook and the state where they have changed, and not too often.

        Raises:
            Unavailable: A file cannot be written.
        """
        if time.monotonic() >= self._save_again:
            begin = time.monotonic()
            self.write()
            self._save_again = begin + (time.monotonic() - begin) / _MAX_SAVING
        if self.state != self._written_state:
            self.folder.write_state(self.state)
            self._written_state = self.state

    def write(self) -> None:
        """Write the notebook if it has changed.

        Raises:
            Unavailable: It cannot be written.
        """
        if not self._is_saved:
            write_atomically(self.folder.notebook, nbformat.writes(self.nb).rstrip("\n") + "\n")
            self._is_saved = True

    def cell_start(self, cell: NotebookNode, cell_index: int | None = None, **_: Any) -> None:
        """Note that a cell is executed now."""
        super().cell_start(cell, cell_index)
        if _is_executed(cell):
            self.state = replace(self.state, cell=(self.state.cell or 0) + 1)

    def cell_complete(self, cell: NotebookNode, cell_index: int | None = None, **_: Any) -> None:
        """Note that a cell has ended, and write its images."""
        super().cell_complete(cell, cell_index)
        if _is_executed(cell):
            write_images(cell, self.state.cell or 0, self.folder.images)

    def notebook_complete(self, **_: Any) -> None:
        """Note the end. Cells that have not been executed stay "pending"."""
        self.end_time = self.now()
        metadata = self.nb.metadata.papermill
        metadata.end_time = self.end_time.isoformat()
        metadata.duration = (self.end_time - self.start_time).total_seconds()
        self.save()


class RunEngine(Engine):  # type: ignore[misc]
    """Executes the cells of a run; papermill adds the parameters and looks for errors."""

    @classmethod
    def execute_notebook(
        cls, nb: NotebookNode, kernel_name: str, *, execution: Execution, **_: Any
    ) -> NotebookNode:
        """Execute the cells of `nb`.

        Raises:
            RunEnded: The run has ended early.
            NoSuchKernel: The kernel is not installed.
            Unavailable: A file cannot be written.
        """
        execution.begin(nb)
        try:
            _run(_execute(execution, kernel_name))
        finally:
            execution.notebook_complete()
        return nb


papermill_engines.register(ENGINE, RunEngine)


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coroutine)
        return
    loop = asyncio.new_event_loop()
    task = loop.create_task(coroutine)
    with closing(loop), ThreadPoolExecutor(1) as thread:
        end = thread.submit(loop.run_until_complete, task)
        try:
            end.result()
        except KeyboardInterrupt:
            loop.call_soon_threadsafe(task.cancel)
            raise


async def _execute(execution: Execution, kernel_name: str) -> None:
    """Execute the cells and watch them; whatever happens, no process of the run survives."""
    guard = start_guard(f"{RUN_MARK}={execution.environment[RUN_MARK]}")
    client = _Client(
        execution,
        kernel_name=kernel_name,
        log=_logger,
        startup_timeout=_STARTUP_SECONDS,
        iopub_timeout=_LOST_OUTPUT_SECONDS,
        raise_on_iopub_timeout=False,
        coalesce_streams=True,
        resources={"metadata": {"path": execution.run.cwd or str(execution.folder.files)}},
    )
    cells = asyncio.create_task(client.run_cells())
    watch = asyncio.create_task(_watch(execution, client))
    try:
        await asyncio.wait([cells, watch], return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            watch.result()  # raises
        await cells
    finally:
        for task in (cells, watch):
            task.cancel()
        await asyncio.gather(cells, watch, return_exceptions=True)
        await asyncio.to_thread(guard.communicate)  # it kills what is left


async def _watch(execution: Execution, client: "_Client") -> None:
    """Raise `RunEnded` when the run must end; meanwhile write its files."""
    while True:
        execution.watch.check(client.kernel_pid)
        peak = execution.watch.peak_memory_bytes
        execution.state = replace(execution.state, peak_memory_bytes=peak)
        execution.flush()
        await asyncio.sleep(_TICK_SECONDS)


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """Executes cells in a kernel, and bounds what they output."""

    def __init__(self, execution: Execution, **options: Any) -> None:
        super().__init__(execution, **options)
        self._execution = execution
        self._provisioner: Any = None
        self._text = Shortened(MAX_CELL_TEXT)
        self._data_left = MAX_CELL_DATA

    @property
    def kernel_pid(self) -> int | None:
        """The process of the kernel; None before its start."""
        return getattr(self._provisioner, "pid", None)

    async def run_cells(self) -> None:
        """Execute the cells in a new kernel, until one raises.

        Raises:
            RunEnded: The kernel has ended, or the notebook is pruned.
            NoSuchKernel: The kernel is not installed.
        """
        manager = self.create_kernel_manager()
        is_complete = False
        try:
            await self._start()
            for index, cell in enumerate(self.nb.cells):
                if not await self._run_cell(cell, index):
                    break
            self.set_widgets_metadata()
            is_complete = True
        except DeadKernelError as error:
            raise self._end_of_kernel() from error
        finally:
            if self.kc:
                self.kc.stop_channels()
            if manager.has_kernel and is_complete:
                await ensure_async(manager.request_shutdown())
                await ensure_async(manager.finish_shutdown(pollinterval=_EXIT_POLL_SECONDS))
            elif manager.has_kernel:
                await ensure_async(manager.shutdown_kernel(now=True))
            await ensure_async(manager.cleanup_resources())
            log = self._execution.folder.kernel_log
            if log.exists() and not log.stat().st_size:
                log.unlink()

    async def _start(self) -> None:
        """Start the kernel and wait until it answers."""
        folder = self._execution.folder
        if self.km.ipykernel:
            self.extra_arguments = [f"--IPKernelApp.exec_lines={self._first_lines()!r}"]
        try:
            folder.files.mkdir(parents=True, exist_ok=True)
            log = folder.kernel_log.open("wb")
        except OSError as error:
            raise cannot_write(folder.path, error) from error
        try:
            with log:
                await self.async_start_new_kernel(
                    env=self._execution.environment,
                    stdout=log,
                    stderr=log,
                    transport_encryption="auto",
                )
            self._provisioner = self.km.provisioner
            self.nb.metadata.language_info = (await self._connect())["language_info"]
        except (RuntimeError, OSError) as error:
            last_line = folder.kernel_log.read_text(errors="replace").strip().split("\n")[-1]
            raise RunEnded(
                Status.FAILED,
                f"the kernel '{self.kernel_name}' does not start: {last_line or error}",
                f"See {folder.kernel_log.name}.",
            ) from error

    async def _connect(self) -> dict[str, Any]:
        """Wait until the kernel answers and what it publishes arrives, and return its answer.

        jupyter_client's `wait_for_ready` does this, too, and then waits 0.2 s for more messages.

        Raises:
            RuntimeError: It has ended, or does not answer in time.
        """
        self.kc = self.km.client()
        self.kc.start_channels()
        self.kc.allow_stdin = False
        deadline = time.monotonic() + _STARTUP_SECONDS
        while time.monotonic() < deadline:
            request = self.kc.kernel_info()
            with suppress(Empty):  # what it publishes before it knows this client is lost
                reply = await self._message_for(request, self.kc.shell_channel, _ANSWER_SECONDS)
                while (
                    await self._message_for(request, self.kc.iopub_channel, _PUBLISH_SECONDS)
                ).get("execution_state") != "idle":
                    pass
                return reply
            if not await ensure_async(self.km.is_alive()):
                raise RuntimeError("it has ended before it answered")
        raise RuntimeError(f"it has not answered within {_STARTUP_SECONDS} seconds")

    async def _message_for(self, request: str, channel: Any, seconds: float) -> dict[str, Any]:
        """Return the content of the next message on a channel that a request has caused.

        Raises:
            Empty: None has come in time.
        """
        while True:
            message = await ensure_async(channel.get_msg(timeout=seconds))
            if message["parent_header"].get("msg_id") == request:
                return dict(message["content"])

    def _first_lines(self) -> list[str]:
        """Return what a Python kernel executes before the notebook."""
        run, log = self._execution.run, str(self._execution.folder.kernel_log.absolute())
        lines = [f"__import__('faulthandler').enable(open({log!r}, 'a'))"]  # where it crashes
        if "://" not in run.notebook:
            # Modules beside the notebook can be imported, as in Jupyter.
            folder = run.notebook.rpartition("/")[0]
            lines.append(f"__import__('sys').path.insert(0, {folder!r})")
        return lines

    async def _run_cell(self, cell: NotebookNode, index: int) -> bool:
        """Execute a cell; return whether to go on with the next one."""
        execution = self._execution
        execution.cell_start(cell, index)
        self._text, self._data_left = Shortened(MAX_CELL_TEXT), MAX_CELL_DATA
        try:
            await self.async_execute_cell(cell, index)
        except CellExecutionError as error:
            if error.ename == "SystemExit" and error.evalue in ("", "0"):  # as papermill
                execution.exit_cell = execution.state.cell
                return False
            execution.cell_exception(cell, index)
            if error.ename == "Pruned":
                raise RunEnded(Status.PRUNED, error.evalue) from error
            return False
        except BaseException:
            execution.cell_exception(cell, index)
            raise
        finally:
            self._append_rest(cell)
            execution.cell_complete(cell, index)
        return True

    def _append_rest(self, cell: NotebookNode) -> None:
        """Append the end of a long text to what the cell has printed."""
        if rest := self._text.end():
            streams = [output for output in cell.outputs if output.output_type == "stream"]
            if not streams:
                streams = [nbformat.v4.new_output("stream", name="stdout")]
                cell.outputs += streams
            streams[-1].text += rest

    def output(
        self,
        outs: list[NotebookNode],
        msg: dict[str, Any],
        display_id: str | None,
        cell_index: int,
    ) -> NotebookNode | None:
        """Take an output of a cell: the log gets its text, and the notebook not too much of it."""
        content = msg["content"]
        if msg["msg_type"] == "stream":
            self._execution.log.write(content["text"])
            content["text"] = self._text.take(content["text"])
            if not content["text"]:
                return None
        elif msg["msg_type"] == "error":
            traceback = "\n".join(content["traceback"])
            self._execution.log.write(f"{traceback}\n", is_error=True)
        else:
            size = sum(
                len(value if isinstance(value, str) else json.dumps(value))
                for value in content["data"].values()
            )
            if size > self._data_left:
                note = f"[an output of {size:,} characters is left out here]\n"
                self._execution.log.write(note)
                content["data"], content["metadata"] = {"text/plain": note}, {}
            self._data_left -= min(size, self._data_left)
        return super().output(outs, msg, display_id, cell_index)

    def clear_output(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        """Clear the output of a cell: it may output as much as a new one."""
        super().clear_output(outs, msg, cell_index)
        self._text, self._data_left = Shortened(MAX_CELL_TEXT), MAX_CELL_DATA

    def _exit_code(self) -> int | None:
        """Return the exit code of the kernel, minus the signal that ended it; None if unknown."""
        process = getattr(self._provisioner, "process", None)
        return process.poll() if process else None

    def _end_of_kernel(self) -> RunEnded:
        """Return why the kernel has ended."""
        code = self._exit_code()
        if code is None or code >= 0:
            ending = "has ended" if code is None else f"ended with exit code {code}"
            return RunEnded(
                Status.FAILED,
                f"the kernel {ending}",
                "Remove what ends the process, such as exit() or os._exit().",
            )
        number = signal.Signals(-code)
        if number == signal.SIGKILL and self._execution.watch.machine_ran_out_of_memory():
            return RunEnded(
                Status.KILLED,
                "the machine ran out of memory, and Linux killed the kernel",
                "Run fewer at a time (--jobs), or give it smaller batches.",
                out_of_memory=True,
            )
        if number in _OUTSIDE_SIGNALS:
            return RunEnded(
                Status.KILLED,
                f"the kernel was killed with {number.name}",
                "The same command runs it again.",
            )
        return RunEnded(
            Status.FAILED,
            f"the kernel crashed with {number.name}",
            "See in kernel.log where it was.",
        )


def _is_executed(cell: NotebookNode) -> bool:
    """Return whether a kernel gets the cell."""
    return bool(
        cell.cell_type == "code"
        and cell.source.strip()
        and "skip-execution" not in cell.metadata.get("tags", ())
    )
