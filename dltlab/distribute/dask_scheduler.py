"""A Dask scheduler and its workers, as commands in processes of their own: `dask_scheduler`."""

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltlab import paths
from dltlab.errors import Invalid, Unavailable
from dltlab.process_guard import marked, start_guard

if TYPE_CHECKING:
    from distributed.security import Security

_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 5.0  # between the request to end and SIGKILL
_LOCAL = ("--host", "127.0.0.1", "--protocol", "tls", "--no-dashboard")
_PAGES = ("--dashboard-address", "127.0.0.1:0")  # by default, the port 8787 of all interfaces


@contextmanager
def dask_scheduler(
    num_workers: int, *, start_seconds: float = 60.0
) -> Iterator[tuple[str, "Security"]]:
    """Run `dask scheduler` and `dask worker` on this host for the time of a block.

    The scheduler listens on the loopback interface. All connections are encrypted with a
    certificate made for this block, which clients and workers need, too. All processes end with the
    block, and also if this process is killed. A worker that is killed is not started again.

    Args:
        num_workers: The number of worker processes, with one thread each.
        start_seconds: How long the scheduler may take to start.

    Yields:
        The address of the scheduler, as in tls://127.0.0.1:40001, and what
        `distributed.Client(address, security=…)` needs. The workers may still be starting:
        `client.wait_for_workers` waits for them.

    Raises:
        Invalid: `num_workers` is below 1.
        Unavailable: Dask is not installed, or the scheduler does not start.
    """
    if num_workers < 1:
        raise Invalid(f"num_workers must be at least 1, not {num_workers}.")
    try:
        from distributed.security import Security

        security: Any = Security.temporary()  # type: ignore[no-untyped-call]
    except ImportError as error:
        raise Unavailable("Dask is not installed. Run: pip install 'dltlab[batch]'") from error
    mark = secrets.token_hex(8)
    guard = start_guard(f"{paths.LAUNCH_MARK}={mark}")
    processes: list[subprocess.Popen[bytes]] = []
    # Only this user can read what mkdtemp makes, and so the key.
    with tempfile.TemporaryDirectory(prefix="dltlab-dask-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        certificate = _certificate_options(security, folder)
        try:
            file = folder / "scheduler.json"
            options = [*_LOCAL, *_PAGES, *certificate, "--scheduler-file", str(file)]
            scheduler = _start("scheduler", [*options, "--port", "0"], folder, mark)
            processes.append(scheduler)
            options += ["--no-nanny", "--nthreads", "1", "--memory-limit", "0"]
            options += ["--local-directory", name]
            for _ in range(num_workers):  # they wait for the file of the scheduler
                processes.append(_start("worker", options, folder, mark))
            address = _address(scheduler, file, start_seconds)
            yield address, security
        finally:
            _end(processes)
            guard.communicate()  # kills what is left


def _certificate_options(security: Any, folder: Path) -> list[str]:
    """Write the certificate and its key to files, and return the options that name them."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_text(security.tls_ca_file)
    key.write_text(security.tls_scheduler_key)
    return [
        *("--tls-ca-file", str(certificate)),
        *("--tls-cert", str(certificate)),
        *("--tls-key", str(key)),
    ]


def _start(
    command: str, options: Sequence[str], folder: Path, mark: str
) -> "subprocess.Popen[bytes]":
    """Start `dask COMMAND`, with its output in a file of the folder."""
    with (folder / f"{command}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "dask", command, *options],
            env={**os.environ, **marked(paths.LAUNCH_MARK, mark)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this process
        )


def _address(scheduler: "subprocess.Popen[bytes]", file: Path, seconds: float) -> str:
    """Wait until the scheduler has written its address to a file."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not there, or not complete
            return str(json.loads(file.read_text())["address"])
        if scheduler.poll() is not None:
            break
        time.sleep(_LOOK_SECONDS)
    lines = (file.parent / "scheduler.log").read_text(errors="replace").splitlines()
    last = lines[-1].strip() if lines else "it wrote nothing"
    raise Unavailable(f"`dask scheduler` did not start ({last}).")


def _end(processes: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End processes, the workers before the scheduler; kill those that do not."""
    for process in reversed(processes):
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
