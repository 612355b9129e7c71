"""Start the workers of a job on this host, and take part in a job on several hosts: `launch`."""

import errno
import hashlib
import json
import os
import platform
import queue
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import monotonic
from typing import Any

from dltlab import __version__, paths
from dltlab.distribute import launching_child
from dltlab.distribute.cluster import cluster_place
from dltlab.distribute.launching_channel import Channel, WrongToken
from dltlab.distribute.launching_coordinator import BEAT_SECONDS, SILENCE_SECONDS, Coordinator
from dltlab.distribute.launching_output import Output
from dltlab.distribute.launching_plan import (
    Assignment,
    Member,
    environment,
    join_address,
    reserved_port,
    usable_cores,
    usable_gpus,
)
from dltlab.errors import Damaged, Invalid, LabError, NotFound, Unavailable
from dltlab.process_guard import marked, start_guard

_GRACE_SECONDS = 3.0  # between the request to end and SIGKILL, when another rank has failed
_USER_GRACE_SECONDS = 10.0  # the same, when the user or the cluster stops the job
_PUMP_SECONDS = 1.0  # to show the last output of a worker before its end is told
_DRAIN_SECONDS = 60.0  # to show the last output of all
_RETRY_SECONDS = 0.2
_MIN_TOKEN_CHARACTERS = 16
_MAX_REASON_CHARACTERS = 300
_NEVER = float("inf")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Event = tuple[str, Any, Any]


@dataclass(frozen=True)
class _Place:
    """Which part of the job this launcher is."""

    nodes: int
    node_rank: int
    host: str
    port: int
    token: str


def launch(
    command: Sequence[str],
    *,
    num_workers: int = 1,
    nodes: int | None = None,
    node_rank: int | None = None,
    rendezvous: str | None = None,
    max_restarts: int = 0,
    start_timeout: float = 300.0,
    log_dir: Path | None = None,
) -> int:
    """Run a program in several processes that train together, and wait for its end.

    Each worker gets its own share of the cores and GPUs of its host, its place in the job (see
    `worker`) and `TF_CONFIG`. When one fails, the others are ended. Must be called in the main
    thread; no process that a worker has started is left behind, however this one ends.

    Args:
        command: A script or a notebook, or `-m` and a module, and arguments.
        num_workers: The number of workers on this host.
        nodes: The number of hosts, each with a launcher. It is read from the variables of a
            cluster (see `cluster_place`) by default.
        node_rank: The number of this launcher, from 0.
        rendezvous: `host:port` of node 0, where the launchers meet. They need the same secret in
            the variable `DLTLAB_JOB_TOKEN`.
        max_restarts: How often to restart all workers after one has failed.
        start_timeout: Seconds to wait for the other launchers.
        log_dir: The folder of the workers' log files; by default a new one in `runs/launch`.

    Returns:
        0, or the exit code of the rank that failed first, 128 + N if signal N ended it.

    Raises:
        Invalid: An option or a variable of the cluster is wrong, or the launchers do not match.
        NotFound: The script or module does not exist.
        Unavailable: A launcher does not come in time, or an address cannot be used.
    """
    program = _program(command)
    place = _place(nodes, node_rank, rendezvous, shlex.join(command))
    with ExitStack() as stack:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        stack.enter_context(_signals(lambda number: events.put(("signal", number, None))))
        ports = [stack.enter_context(reserved_port()) for _ in range(num_workers + 1)]
        coordinator: threading.Thread | None = None
        if place.node_rank == 0:
            local, remote = socket.socketpair()
            job = Coordinator(
                nodes=place.nodes,
                token=place.token,
                local=remote,
                listener=_listen(place) if place.nodes > 1 else None,
                host=place.host,
                start_timeout=start_timeout,
                max_restarts=max_restarts,
            )
            coordinator = _start_thread(job.run)
            channel: Channel | None = Channel(local, place.token, server=False)
        else:
            channel = _connect(place, events, start_timeout)
        if channel is None:
            return 128 + int(events.get()[1])  # the signal that asked this process to end
        member = Member(
            node_rank=place.node_rank,
            nodes=place.nodes,
            host=socket.gethostname(),
            address=place.host,
            ports=[port.getsockname()[1] for port in ports],
            cores=usable_cores(),
            gpus=usable_gpus(),
            versions=_versions(),
            script=(program.name, hashlib.sha256(program.read_bytes()).hexdigest()),
        )
        launcher = _Launcher(command, place, channel, events, log_dir)
        try:
            return launcher.run(member)
        finally:
            channel.close()
            if coordinator is not None:
                coordinator.join()


def _program(command: Sequence[str]) -> Path:
    """Return the file that the command runs."""
    if not command or command == ["-m"]:
        raise Invalid(
            "Name a script, a notebook, or -m and a module, as in: -- train.py --epochs 3"
        )
    if command[0] == "-m":
        return _module_file(command[1])
    path = Path(command[0])
    if not path.is_file():
        raise NotFound(f"There is no file {path}: name a script, a notebook, or -m and a module.")
    return path


def _module_file(name: str) -> Path:
    """Return the file that `python -m name` runs, without importing anything."""
    folders: Any = [str(Path.cwd()), *sys.path]
    spec = None
    for part in name.split("."):
        spec = PathFinder.find_spec(part, folders) if folders else None
        folders = spec and spec.submodule_search_locations
    if spec and folders:
        spec = PathFinder.find_spec("__main__", folders)
    if spec is None or not spec.origin or not Path(spec.origin).is_file():
        raise NotFound(f"There is no module {name} that python -m could run.")
    return Path(spec.origin)


def _versions() -> dict[str, str]:
    tensorflow = "none"
    for package in ("tensorflow-cpu", "tensorflow"):
        with suppress(PackageNotFoundError):
            tensorflow = version(package)
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "TensorFlow": tensorflow, "dltlab": __version__}


def _place(
    nodes: int | None, node_rank: int | None, rendezvous: str | None, command: str
) -> _Place:
    """Return this launcher's place, from its options or from a cluster's variables."""
    by_hand = nodes is not None or node_rank is not None
    given = None if by_hand or os.environ.get(paths.RANK) else cluster_place()
    if given is not None:
        nodes, node_rank = given.world_size, given.rank
        rendezvous = rendezvous or given.rendezvous
    nodes, node_rank = nodes or 1, node_rank or 0
    if not 0 <= node_rank < nodes:
        raise Invalid(f"--node-rank must be from 0 to {nodes - 1}, not {node_rank}.")
    if nodes == 1:
        return _Place(1, 0, "127.0.0.1", 0, secrets.token_hex())
    host, _, port = (rendezvous or "").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise Invalid(
            f"{nodes} launchers need an address to meet: --rendezvous HOST:PORT with the host of "
            "node 0 and a free port there."
        )
    token = os.environ.get(paths.JOB_TOKEN, "")
    if not token and by_hand and node_rank == 0:
        token = secrets.token_hex(16)
        sys.stderr.write(
            "[launch] On each other node, with its own rank R:\n"
            f"{paths.JOB_TOKEN}={token} dltlab launch --nodes {nodes} --node-rank R "
            f"--rendezvous {rendezvous} -- {command}\n"
        )
    if len(token) < _MIN_TOKEN_CHARACTERS:
        raise Invalid(
            f"Set {paths.JOB_TOKEN} to the same secret of at least {_MIN_TOKEN_CHARACTERS} "
            f"characters on every node: export {paths.JOB_TOKEN}=$(openssl rand -hex 16)"
        )
    return _Place(nodes, node_rank, host.strip("[]"), int(port), token)


@contextmanager
def _signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` with the number of a signal that asks this process to end."""
    old = {
        number: signal.signal(number, lambda number, _: handle(number))
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _listen(place: _Place) -> socket.socket:
    """Return the listening socket of the rendezvous: at its own address, or else at all."""
    for host in (place.host, ""):
        try:
            return socket.create_server((host, place.port))
        except OSError as error:  # such as a name that only the cluster's routers know
            reason = error
            if not isinstance(error, socket.gaierror) and error.errno != errno.EADDRNOTAVAIL:
                break
    raise Unavailable(
        f"Node 0 cannot listen at {join_address(place.host, place.port)} "
        f"({os.strerror(reason.errno or 0)}): choose another port with --rendezvous."
    )


def _connect(place: _Place, events: "queue.SimpleQueue[Event]", timeout: float) -> Channel | None:
    """Return a channel to node 0, or None after a signal, which stays in `events`."""
    deadline = monotonic() + timeout
    address = join_address(place.host, place.port)
    while True:
        try:
            connection = socket.create_connection((place.host, place.port), SILENCE_SECONDS)
            return Channel(connection, place.token, server=False)
        except Damaged as error:
            raise Unavailable(
                f"What listens at {address} is not the launcher of node 0."
            ) from error
        except OSError as error:
            reason = error
        if monotonic() >= deadline:
            raise Unavailable(
                f"Node 0 was not at {address} within {timeout:g} s ({reason}): check that its "
                "launcher runs and that this host can reach it."
            )
        with suppress(queue.Empty):
            events.put(events.get(timeout=_RETRY_SECONDS))
            return None


def _start_thread(function: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


class _Launcher:
    """Starts and ends the workers on this host as the coordinator says."""

    def __init__(
        self,
        command: Sequence[str],
        place: _Place,
        channel: Channel,
        events: "queue.SimpleQueue[Event]",
        log_dir: Path | None,
    ) -> None:
        self._command, self._place, self._channel = list(command), place, channel
        self._events, self._log_dir = events, log_dir
        self._output: Output | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._workers: dict[int, subprocess.Popen[bytes]] = {}  # not reaped yet
        self._pumps: list[threading.Thread] = []
        self._reports: dict[int, str] = {}
        self._kill_at = _NEVER
        self._last_beat = monotonic()
        self._num_signals = 0

    def run(self, member: Member) -> int:
        """Take part in the job; return its exit code."""
        self._send({"hello": member})
        threading.Thread(target=self._read, daemon=True).start()
        try:
            while True:
                kind, *rest = self._next_event()
                if kind == "message":
                    code = self._obey(rest[0])
                    if code is not None:
                        return code
                elif kind == "report":
                    self._take_report(*rest)
                elif kind == "exit":
                    self._take_exit(rest[0])
                elif kind == "signal":
                    self._take_signal(rest[0])
                elif kind == "lost":
                    raise rest[0]
        finally:
            self._end_workers()
            if self._output is not None:
                self._output.close()

    def _next_event(self) -> Event:
        """Return what happens next; meanwhile keep in touch, and kill what must end now."""
        while True:
            now = monotonic()
            if now >= self._kill_at:
                self._kill_at = _NEVER
                for worker in self._workers.values():
                    _signal_group(worker, signal.SIGKILL)
            if now >= self._last_beat + BEAT_SECONDS:
                self._last_beat = now
                self._send({})
            with suppress(queue.Empty):
                return self._events.get(timeout=max(0.0, min(BEAT_SECONDS, self._kill_at - now)))

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # the reader notices the loss
            self._channel.send(message)

    def _read(self) -> None:
        """Turn what the coordinator sends into events."""
        address = join_address(self._place.host, self._place.port)
        error: LabError = Unavailable(
            f"Node 0 at {address} is lost: its launcher was killed or cannot be reached."
        )
        try:
            while (message := self._channel.receive()) is not None:
                self._events.put(("message", message, None))
        except WrongToken:
            error = Invalid(
                f"The launcher at {address} has another {paths.JOB_TOKEN}: it may belong to "
                "another job."
            )
        except (OSError, ValueError, Damaged):
            pass
        self._events.put(("lost", error, None))

    def _obey(self, message: dict[str, Any]) -> int | None:
        """Do what the coordinator says; return the exit code at the end of the job."""
        if "refused" in message:
            raise Unavailable(message["refused"])
        if "start" in message:
            self._start(message)
        elif "stop" in message:
            self._stop(message["stop"])
        elif "note" in message and self._place.node_rank == 0 and self._output:
            self._output.note(message["note"])
        elif "finish" in message:
            return int(message["finish"])
        return None

    def _start(self, message: dict[str, Any]) -> None:
        assignments: list[Assignment] = message["start"]
        if self._output is None:
            folder = self._log_dir or Path("runs", "launch", message["name"])
            self._output = Output(folder)
            if self._place.node_rank == 0 and self._output.folder:
                self._output.note(f"Logs: {paths.short_path(folder)}")
        self._reports.clear()
        self._kill_at = _NEVER
        mark = secrets.token_hex(8)
        self._guard = start_guard(f"{paths.LAUNCH_MARK}={mark}")
        for rank, assignment in enumerate(assignments):
            if assignment["node_rank"] == self._place.node_rank:
                variables = environment(assignments, rank, os.environ) | {
                    paths.RENDEZVOUS: message["rendezvous"],
                    paths.ATTEMPT: str(message["attempt"]),
                    paths.JOB_TOKEN: self._place.token,
                    **marked(paths.LAUNCH_MARK, mark),
                }
                self._start_worker(rank, assignment["cores"], variables)

    def _start_worker(self, rank: int, cores: list[int], variables: dict[str, str]) -> None:
        """Start a worker, and the threads that wait for its output, its report and its end."""
        assert self._output is not None
        self._output.log(rank, b"")  # a file for each rank, also for one that writes nothing
        report, report_end = os.pipe()
        options = {
            "launcher": os.getpid(),
            "cores": cores,
            "report": report_end,
            "notebook": str(self._executed_notebook(rank)),
        }
        program = [sys.executable, "-P", launching_child.__file__, json.dumps(options)]
        worker = subprocess.Popen(
            [*program, *self._command],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[report_end],
            start_new_session=True,
        )
        os.close(report_end)
        self._workers[rank] = worker
        pumps = [
            _start_thread(self._output.pump, rank, worker.stdout, 1),
            _start_thread(self._output.pump, rank, worker.stderr, 2),
        ]
        self._pumps += pumps
        reader = _start_thread(self._read_report, rank, report)
        _start_thread(self._wait_for, rank, worker, pumps, reader)

    def _executed_notebook(self, rank: int) -> Path:
        """Return where a worker writes the notebook that it executes."""
        notebook = Path(self._command[0])
        folder = self._output.folder if self._output else None
        if folder is None and notebook.suffix == ".ipynb":
            folder = Path(tempfile.mkdtemp(prefix="dltlab-launch-"))
        return (folder or Path()) / f"{notebook.stem}.rank{rank}.ipynb"

    def _wait_for(
        self,
        rank: int,
        worker: "subprocess.Popen[bytes]",
        pumps: list[threading.Thread],
        reader: threading.Thread,
    ) -> None:
        """Wait for the end of a worker and of its output; what it has left in its group ends."""
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
        _signal_group(worker, signal.SIGKILL)
        for pump in pumps:
            pump.join(_PUMP_SECONDS)  # longer only if a process outside the group holds the pipe
        reader.join()
        self._events.put(("exit", rank, None))

    def _read_report(self, rank: int, report: int) -> None:
        """Read the exit code and the traceback of a worker that is about to end."""
        content = b""
        with open(report, "rb", buffering=0) as pipe:
            while not content.endswith(launching_child.END_OF_REPORT):
                chunk = pipe.read(1 << 16)
                if not chunk:
                    return
                content += chunk
        code, _, text = content[:-1].decode(errors="replace").partition("\n")
        self._events.put(("report", rank, (int(code), text)))

    def _take_report(self, rank: int, report: tuple[int, str]) -> None:
        code, text = report
        self._reports[rank] = text
        if self._output:
            self._output.log(rank, text.encode())
        last_line = text.rstrip().rpartition("\n")[2][:_MAX_REASON_CHARACTERS].rstrip(".")
        how = f"failed with exit code {code}" + (f": {last_line}" if last_line else "")
        self._send({"exit": rank, "code": code, "how": how})

    def _take_exit(self, rank: int) -> None:
        """Reap a worker; the last one ends the attempt."""
        code = self._workers.pop(rank).wait()
        if code < 0:
            memory = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
            how = f"was killed by signal {-code} ({signal.Signals(-code).name}){memory}"
            self._send({"exit": rank, "code": 128 - code, "how": how})
        elif code and rank not in self._reports:
            self._send({"exit": rank, "code": code, "how": f"failed with exit code {code}"})
        if not self._workers:
            self._end_guard()
            self._send({"ended": True})

    def _take_signal(self, number: int) -> None:
        """Ask that the job ends; the second time, kill the workers at once."""
        self._num_signals += 1
        if self._num_signals > 1:
            self._kill_at = monotonic()
        self._send({"signal": number})

    def _stop(self, failure: dict[str, Any]) -> None:
        """Show the failure, and ask the workers to end."""
        if self._output and failure["reason"]:
            for line in self._reports.get(failure["rank"], "").splitlines():
                self._output.show(failure["rank"], line.encode())
            if self._place.node_rank in (0, failure["node"]):
                self._output.note(failure["reason"])
        grace = _USER_GRACE_SECONDS if failure["signal"] else _GRACE_SECONDS
        self._kill_at = min(self._kill_at, monotonic() + grace)
        for rank, worker in self._workers.items():
            if rank not in self._reports:  # otherwise it is ending, and cleans up
                _signal_group(worker, failure["signal"] or signal.SIGTERM)
                _signal_group(worker, signal.SIGCONT)

    def _end_workers(self) -> None:
        """Kill what still runs."""
        for worker in self._workers.values():
            _signal_group(worker, signal.SIGKILL)
        self._end_guard()
        for worker in self._workers.values():
            worker.wait()

    def _end_guard(self) -> None:
        """Let the guard kill what the workers have left, then show the last output."""
        if self._guard is not None:
            self._guard.communicate()
            self._guard = None
        for pump in self._pumps:
            pump.join(_DRAIN_SECONDS)
        self._pumps.clear()


def _signal_group(worker: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to a worker, which has not been reaped yet, and to its children."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(worker.pid, number)
