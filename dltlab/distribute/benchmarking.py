"""Measure collectives of real workers on this host: `benchmark_collectives`."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from dltlab import paths
from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.distribute.bandwidth import Bandwidth, bandwidth
from dltlab.distribute.transports import TRANSPORTS
from dltlab.distribute.transports.mpi import missing_mpi4py
from dltlab.errors import Invalid, Unavailable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_START = """
import json, sys
from pathlib import Path
from dltlab.distribute import launch
options = json.loads(sys.argv[1])
options["log_dir"] = Path(options["log_dir"])
sys.exit(launch(sys.argv[2:], **options))
"""
_MPIRUN = "mpirun"
# More workers than cores are allowed, and dltlab launch gives each its cores (Open MPI 4 and 5).
_MPI_VARIABLES = {
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PRTE_MCA_hwloc_default_binding_policy": "none",
}
_MPI_AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
_HEAD = """\
#       size         count      type   redop      time   algbw   busbw  #wrong
#        (B)    (elements)                        (us)  (GB/s)  (GB/s)"""


@dataclass(frozen=True)
class CollectiveTime:
    """The time of an all-reduce of float32.

    Attributes:
        transport: What summed, as in `join`.
        num_bytes: The size of the array of each worker.
        count: The number of its elements.
        seconds: The time, a median.
        num_wrong: How many elements of the sums were wrong, on all workers together.
        copy_seconds: The time in which a worker copies such an array in memory while the others do
            the same.
        bandwidth: The algorithm and bus bandwidth, in bytes per second.
    """

    transport: str
    num_bytes: int
    count: int
    seconds: float
    num_wrong: int
    copy_seconds: float
    bandwidth: Bandwidth


@dataclass(frozen=True, repr=False, eq=False)
class CollectivesBenchmark(Result):
    """What `benchmark_collectives` returns.

    Attributes:
        num_workers: The number of workers.
        times: One for each transport and size.
        left_out: Why a transport was not measured, by its name.
    """

    num_workers: int
    times: tuple[CollectiveTime, ...]
    left_out: dict[str, str]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "size (B)": "{:,}".format,
        "count": "{:,}".format,
        "time (us)": "{:,.1f}".format,
        "algbw (GB/s)": "{:.3f}".format,
        "busbw (GB/s)": "{:.3f}".format,
        "memory copy (us)": "{:,.1f}".format,
    }

    @property
    def num_wrong(self) -> int:
        """The number of wrong elements in all sums."""
        return sum(time.num_wrong for time in self.times)

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each transport and size, with the columns of nccl-tests."""
        import pandas as pd

        return pd.DataFrame(
            {
                "transport": time.transport,
                "size (B)": time.num_bytes,
                "count": time.count,
                "type": "float",
                "redop": "sum",
                "time (us)": 1e6 * time.seconds,
                "algbw (GB/s)": time.bandwidth.algbw / 1e9,
                "busbw (GB/s)": time.bandwidth.busbw / 1e9,
                "#wrong": time.num_wrong,
                "memory copy (us)": 1e6 * time.copy_seconds,
            }
            for time in self.times
        )

    @property
    def summary(self) -> str:
        """The fastest transport for the largest size, and what is wrong, in a sentence or two."""
        largest = max(time.num_bytes for time in self.times)
        best = min(
            (time for time in self.times if time.num_bytes == largest),
            key=lambda time: time.seconds,
        )
        correct = f"{self.num_wrong} elements are wrong" if self.num_wrong else "All sums are right"
        return (
            f"All-reduce of {self.num_workers} workers: {best.transport} is fastest with "
            f"{largest:,} bytes, {1e3 * best.seconds:.3g} ms, a bus bandwidth of "
            f"{best.bandwidth.busbw / 1e9:.3g} GB/s. {correct}."
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return f"Time and bus bandwidth over the size, for each transport. {self.summary}"

    def figure(self) -> "Figure":
        """Draw the time and the bus bandwidth by size, on logarithmic axes."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8.5, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        names = dict.fromkeys(time.transport for time in self.times)
        for color, name in zip(PALETTE, names, strict=False):
            times = [time for time in self.times if time.transport == name]
            sizes = [time.num_bytes for time in times]
            style = {"color": color, "marker": "o", "markersize": 3, "label": name}
            left.plot(sizes, [1e6 * time.seconds for time in times], **style)
            right.plot(sizes, [time.bandwidth.busbw / 1e9 for time in times], **style)
        copies = {time.num_bytes: time.copy_seconds for time in self.times}
        rates = [size / seconds / 1e9 for size, seconds in copies.items()]
        style = {"color": NEUTRAL, "linestyle": ":", "label": "memory copy"}
        left.plot(list(copies), [1e6 * seconds for seconds in copies.values()], **style)
        right.plot(list(copies), rates, **style)
        left.set(ylabel="time (µs)", title="Time")
        right.set(ylabel="bus bandwidth (GB/s)", title="Bus bandwidth")
        for axes in (left, right):
            axes.set(xscale="log", yscale="log", xlabel="size (bytes)")
            axes.grid(alpha=0.3)
        left.legend(fontsize=9)
        figure.suptitle(f"All-reduce of {self.num_workers} workers")
        return figure

    def report(self) -> str:
        """Return the times as nccl-tests prints them: a block for each transport, then a footer."""
        lines = []
        for name in dict.fromkeys(time.transport for time in self.times):
            lines += [f"# all_reduce, {self.num_workers} workers, {name}", *_HEAD.splitlines()]
            lines += [_line(time) for time in self.times if time.transport == name]
            bandwidths = [time.bandwidth.busbw for time in self.times if time.transport == name]
            wrong = sum(time.num_wrong for time in self.times if time.transport == name)
            lines += [
                f"# Out of bounds values : {wrong} {'FAILED' if wrong else 'OK'}",
                f"# Avg bus bandwidth    : {sum(bandwidths) / len(bandwidths) / 1e9:.6g}",
                "#",
            ]
        lines += [f"# {name} is left out: {reason}" for name, reason in self.left_out.items()]
        return "\n".join(lines)


def _line(time: CollectiveTime) -> str:
    return (
        f"{time.num_bytes:12d}{time.count:14d}{'float':>10}{'sum':>8}{1e6 * time.seconds:10.2f}"
        f"{time.bandwidth.algbw / 1e9:8.3f}{time.bandwidth.busbw / 1e9:8.3f}{time.num_wrong:8d}"
    )


def benchmark_collectives(
    num_workers: int = 2,
    transports: Sequence[str] | None = None,
    min_bytes: int = 1024,
    max_bytes: int = 16 << 20,
    step_factor: int = 4,
) -> CollectivesBenchmark:
    """Measure the all-reduce of real workers, which are started on this host.

    Each worker gets its own cores. The transports take turns. Every sum is checked. The time is
    that of a call in a sequence of calls, as in nccl-tests.

    Args:
        num_workers: The number of workers.
        transports: Those to measure, as in `join`. By default all that can be used here.
        min_bytes: The smallest size.
        max_bytes: The largest size.
        step_factor: How many times larger each size is than the one before.

    Raises:
        Invalid: There is no such transport, or a number is out of its range.
        Unavailable: A transport that was named cannot be used here, or the workers failed.
    """
    if num_workers < 2 or not 4 <= min_bytes <= max_bytes or step_factor < 2:
        raise Invalid(
            "An all-reduce needs at least 2 workers, sizes of at least 4 bytes from small to "
            "large, and a step factor of at least 2."
        )
    sizes = [min_bytes]
    while sizes[-1] * step_factor <= max_bytes:
        sizes.append(sizes[-1] * step_factor)
    unknown = sorted(set(transports or ()) - set(TRANSPORTS))
    if unknown:
        raise Invalid(f"There is no transport {unknown[0]!r}; they are {', '.join(TRANSPORTS)}.")
    names = transports or sorted(TRANSPORTS, key=lambda name: -TRANSPORTS[name].priority)
    left_out = {"mpi": reason} if "mpi" in names and (reason := _mpi_missing()) else {}
    options = {"transports": [name for name in names if name not in left_out], "sizes": sizes}
    if transports and left_out:
        raise Unavailable(f"The transport mpi cannot be measured: {left_out['mpi']}.")
    times, refused = _run_workers(num_workers, options)
    if transports and refused:
        raise Unavailable(*refused.values())
    return CollectivesBenchmark(num_workers, tuple(times), left_out | refused)


def _mpi_missing() -> str:
    if reason := missing_mpi4py():
        return reason
    return "" if shutil.which(_MPIRUN) else f"there is no {_MPIRUN}; install Open MPI"


def _run_workers(
    num_workers: int, options: dict[str, Any]
) -> tuple[list[CollectiveTime], dict[str, str]]:
    """Return the times that workers have measured, and the transports that they could not use."""
    with TemporaryDirectory() as folder:
        output = Path(folder, "times.json")
        argument = json.dumps(options | {"output": str(output)})
        _launch(num_workers, folder, argument, by_mpi="mpi" in options["transports"])
        result = json.loads(output.read_text())
    times = [
        CollectiveTime(
            num_bytes=4 * values["count"],
            bandwidth=bandwidth("all_reduce", 4 * values["count"], values["seconds"], num_workers),
            **values,
        )
        for values in result["times"]
    ]
    return sorted(times, key=lambda time: options["transports"].index(time.transport)), result[
        "left_out"
    ]


def _launch(num_workers: int, folder: str, argument: str, *, by_mpi: bool) -> None:
    """Run the program of the workers; under mpirun there is a launcher for each of them."""
    options = {"num_workers": 1 if by_mpi else num_workers, "log_dir": folder}
    command = [sys.executable, "-c", _START, json.dumps(options)]
    command += ["-m", "dltlab.distribute.benchmarking_worker", argument]
    variables = dict(os.environ)
    if by_mpi:
        command = [_MPIRUN, "-n", str(num_workers), *command]
        as_root = _MPI_AS_ROOT if os.geteuid() == 0 else {}
        variables |= {paths.JOB_TOKEN: secrets.token_hex(), **_MPI_VARIABLES, **as_root}
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise Unavailable(f"The workers failed: {''.join(last) or done.returncode}")
