"""Measure how a training on several workers scales on this machine: `measure_scaling`."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.display import NEUTRAL, PALETTE, Result
from dltlab.distribute import scaling_worker
from dltlab.distribute.fits import AlphaBetaFit, ScalingFit, fit_alpha_beta, fit_scaling
from dltlab.distribute.launching_plan import usable_cores, usable_gpus
from dltlab.distribute.scaling_worker import Measured, Options
from dltlab.errors import Invalid, LabError, Unavailable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Not in this process: `launch` needs the main thread, and shows what the workers write.
_LAUNCH = """
import sys
from pathlib import Path
from dltlab.distribute import launch
num_workers, log_dir, *command = sys.argv[1:]
sys.exit(launch(command, num_workers=int(num_workers), nodes=1, log_dir=Path(log_dir)))
"""


@dataclass(frozen=True, repr=False, eq=False)
class Scaling(Result):
    """What `measure_scaling` returns.

    Attributes:
        network: The network that was trained.
        batch_size: Images of a step: of each worker in weak scaling, of all in strong scaling.
        cores: The number of cores of a worker.
        weak: Efficiency and the law of Gustafson; times are those of a step.
        strong: Efficiency and the law of Amdahl.
        communication: The fit of sums over the most workers, alone, by their size.
        gradient_seconds: Seconds in which the gradients are summed while nothing else runs, by
            number of workers.
    """

    network: str
    batch_size: int
    cores: int
    weak: ScalingFit
    strong: ScalingFit
    communication: AlphaBetaFit
    gradient_seconds: Mapping[int, float]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "step (ms)": "{:.2f}".format,
        "images/s": "{:,.0f}".format,
        "efficiency": "{:.3f}".format,
        "law": "{:.3f}".format,
        "communication (ms)": "{:.2f}".format,
        "hidden": "{:.0%}".format,
    }

    def hidden_share(self, num_workers: int) -> float:
        """Return the share of the communication that is hidden behind computation.

        A step of weak scaling takes longer than that of one worker by what is not hidden; so
        whatever else slows the workers down counts as communication that is not hidden.
        """
        seconds = {point.num_workers: point.seconds for point in self.weak.points}
        exposed = seconds[num_workers] - seconds[1]
        return float(np.clip(1 - exposed / self.gradient_seconds[num_workers], 0, 1))

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each kind of scaling and number of workers."""
        import pandas as pd

        rows = []
        for fit in (self.weak, self.strong):
            for point in fit.points:
                count = point.num_workers
                images = self.batch_size * (count if fit is self.weak else 1)
                communicates = count in self.gradient_seconds
                rows.append(
                    (
                        *(fit.kind, count, 1e3 * point.seconds, images / point.seconds),
                        *(point.efficiency, float(fit.efficiency(count))),
                        1e3 * self.gradient_seconds[count] if communicates else np.nan,
                        self.hidden_share(count) if communicates and fit is self.weak else np.nan,
                    )
                )
        return pd.DataFrame(rows, columns=["scaling", "workers", *self._formats])

    @property
    def summary(self) -> str:
        """Efficiency, laws and communication in some sentences."""
        count = self.weak.points[-1].num_workers
        cores = "one core" if self.cores == 1 else f"{self.cores} cores"
        return (
            f"{self.network}, {self.batch_size} images, each worker on {cores}. "
            f"{self.weak.summary} {self.strong.summary} "
            f"The gradients take {1e3 * self.gradient_seconds[count]:.3g} ms, "
            f"{self.hidden_share(count):.0%} of it hidden behind computation. "
            f"{self.communication.summary}"
        )

    @property
    def alt(self) -> str:
        """The description of the figure."""
        return f"Images per second by number of workers, and seconds of a sum. {self.summary}"

    def figure(self) -> "Figure":
        """Draw the rates, beside the laws and ideal scaling, and the fit of communication."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        rates, sums = figure.subplots(1, 2)
        self._draw_rates(rates)
        fit = self.communication
        sums.plot(fit.num_bytes, 1e3 * fit.seconds, "o", color=PALETTE[1], label="measured")
        sizes = np.geomspace(fit.num_bytes.min(), fit.num_bytes.max(), 100)
        line = 1e3 * (fit.alpha + fit.beta * sizes)
        sums.plot(sizes, line, color=PALETTE[0], label="alpha + beta · bytes")
        sums.set(xscale="log", yscale="log", xlabel="size (bytes)", ylabel="time of a sum (ms)")
        sums.set_title("Communication alone")
        for axes in (rates, sums):
            axes.grid(alpha=0.3)
            axes.legend(fontsize=9)
        return figure

    def _draw_rates(self, axes: "Axes") -> None:
        curve = np.linspace(1, self.weak.points[-1].num_workers, 100)
        for fit, color in ((self.weak, PALETTE[0]), (self.strong, PALETTE[1])):
            counts = np.array([point.num_workers for point in fit.points])
            speedups = np.array([point.speedup for point in fit.points])
            one = self.batch_size / fit.points[0].seconds
            axes.plot(counts, one * speedups, "o", color=color, label=f"{fit.kind} scaling")
            axes.plot(curve, one * curve * fit.efficiency(curve), color=color, label=fit.law)
        axes.plot(curve, one * curve, ":", color=NEUTRAL, label="ideal")
        axes.set(xlabel="workers", ylabel="images per second", title=f"Training {self.network}")
        axes.set_xticks(counts)
        axes.set_ylim(0)


def measure_scaling(
    network: str = "small_resnet",
    *,
    batch_size: int = 64,
    max_workers: int = 2,
    num_steps: int = 20,
    repeats: int = 5,
) -> Scaling:
    """Measure weak and strong scaling of a training, with 1 to `max_workers` workers here.

    The cores of this machine (and its GPUs) are divided by `max_workers`; each worker, also a
    single one, runs on its part. They train as `prepare` lets them, on random images, and take
    their sums alone as well, to tell how much of the communication is hidden.

    Args:
        network: The name of a function of `dltlab.models`, or `module:function` for one that can
            be imported here; it returns a classifier for images, and is called without arguments.
        batch_size: Images of a step: of each worker in weak scaling, of all in strong scaling.
        max_workers: The largest number of workers.
        num_steps: Steps of each repeat; its time is their median.
        repeats: How often that many steps are timed.

    Raises:
        Invalid: A number is out of its range.
        Unavailable: There are fewer cores than workers.
        LabError: The workers failed, for example because there is no such network.
    """
    if max_workers < 2 or batch_size < max_workers or num_steps < 1 or repeats < 1:
        raise Invalid(
            "max_workers must be at least 2, batch_size at least max_workers, and num_steps and "
            "repeats at least 1."
        )
    num_cores, num_gpus = len(usable_cores()), len(usable_gpus())
    if num_cores < max_workers:
        raise Unavailable(
            f"{max_workers} workers need a core each, and this process has {num_cores}."
        )
    with tempfile.TemporaryDirectory(prefix="dltlab-scaling-") as folder:
        options = Options(
            network=network,
            batch_size=batch_size,
            num_steps=num_steps,
            repeats=repeats,
            cores=num_cores // max_workers,
            gpus=num_gpus // max_workers,
            result=str(Path(folder, "result.json")),
        )
        runs = {count: _run(count, options, folder) for count in range(1, max_workers + 1)}
    last = runs[max_workers]
    return Scaling(
        network,
        batch_size,
        options["cores"],
        _fit(runs, "weak"),
        _fit(runs, "strong"),
        fit_alpha_beta(last["sum_bytes"], last["sum_seconds"]),
        {count: run["gradient_seconds"] for count, run in runs.items() if count > 1},
    )


def _run(num_workers: int, options: Options, folder: str) -> Measured:
    """Start so many workers, and return what they have measured."""
    command = [sys.executable, "-c", _LAUNCH, str(num_workers), folder]
    worker = ["-m", scaling_worker.__name__, json.dumps(options)]
    done = subprocess.run([*command, *worker], capture_output=True, text=True)
    if done.returncode:
        raise LabError(f"The workers failed.\n{done.stderr.strip()}")
    measured: Measured = json.loads(Path(options["result"]).read_text())
    return measured


def _fit(runs: Mapping[int, Measured], kind: str) -> ScalingFit:
    pairs = [
        (count, seconds)
        for count, run in runs.items()
        for seconds in (run["weak"] if kind == "weak" else run["strong"])
    ]
    counts, seconds = zip(*pairs, strict=True)
    return fit_scaling(counts, seconds, kind)
