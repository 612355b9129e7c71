"""Runs of a small TensorFlow notebook by `dltlab sweep`, and by papermill in three ways.

    python benchmarks/batch.py [--json] [--runs 48] [--trivial 1000] [--only PREFIX …]

The four sides execute the same notebook with the same parameters, one after the other in this
session: papermill in a shell loop, papermill two at a time with xargs, papermill with joblib in two
processes, and `dltlab sweep`, each from a cold start: no zygote is there. Then `dltlab sweep`
executes runs one at a time, for the overhead of a run over the time between the start of its first
cell and the end of its last one; and trivial runs, for the memory of the runner and the time that
it spends on a run. The projection to 10,000 runs on 100 nodes is computed from both.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil

from dltlab.batch import run_folders
from dltlab.devices import cpu_info
from dltlab.kernels import stop_zygotes

PARAMETERS = "seed = 0"
FIT = """
import time
start = time.monotonic()
import dltlab, keras, numpy as np
keras.utils.set_random_seed(seed)
x = np.random.default_rng(0).normal(size=(512, 16)).astype("float32")
y = (x[:, :1] * x[:, 1:2] > 0).astype("float32")
layers = [keras.layers.Dense(32, "relu"), keras.layers.Dense(1)]
model = keras.Sequential([keras.Input((16,)), *layers])
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
history = model.fit(x, y, batch_size=64, epochs=3, verbose=0)
"""
RECORD = """
dltlab.record("loss", history.history["loss"][-1])
dltlab.record("seconds", time.monotonic() - start)
"""
TRIVIAL = "import dltlab; dltlab.record('seed', seed)"
JOBLIB = """
import sys, papermill
from joblib import Parallel, delayed
def run(seed):
    papermill.execute_notebook("fit.ipynb", f"joblib/{seed}.ipynb", {"seed": seed},
                               kernel_name="python3", progress_bar=False)
Parallel(n_jobs=2)(delayed(run)(seed) for seed in range(int(sys.argv[1])))
"""
TARGETS = {"papermill, shell loop": 6.0, "papermill, xargs -P2": 3.0}
MAX_OVERHEAD = 0.7  # seconds
NODES, CLUSTER_RUNS = 100, 10_000


def write_notebook(path: Path, *cells: str) -> None:
    """Write a notebook with the parameter `seed`."""
    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nodes = [first, *map(nbformat.v4.new_code_cell, cells)]
    notebook = nbformat.v4.new_notebook(cells=nodes, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)


def seconds_of(command: str | list[str]) -> float:
    """Execute a command, which must succeed, and return how long it took."""
    words = ["bash", "-ec", command] if isinstance(command, str) else command
    start = time.monotonic()
    subprocess.run(words, check=True, capture_output=True)
    return time.monotonic() - start


def papermill_command(folder: str, seed: str) -> str:
    """Return the command with which papermill executes the notebook."""
    program = shlex.quote(str(Path(sys.executable).with_name("papermill")))
    output = f"{folder}/{seed}.ipynb"
    return f"{program} fit.ipynb {output} -p seed {seed} -k python3 --no-progress-bar"


def shell_loop(runs: int) -> float:
    """Execute the runs with papermill, one after the other."""
    command = papermill_command("loop", '"$seed"')
    return seconds_of(f"mkdir loop; for seed in $(seq 0 {runs - 1}); do {command}; done")


def two_at_a_time(runs: int) -> float:
    """Execute the runs with papermill, two at a time."""
    command = papermill_command("xargs", "{}")
    return seconds_of(f"mkdir xargs; seq 0 {runs - 1} | xargs -P2 -I{{}} {command}")


def joblib(runs: int) -> float:
    """Execute the runs with papermill in two processes of joblib."""
    Path("joblib").mkdir()
    return seconds_of([sys.executable, "-c", JOBLIB, str(runs)])


def dltlab(runs: int) -> float:
    """Execute the runs with `dltlab sweep`, two at a time."""
    stop_zygotes()
    return seconds_of(sweep("fit.ipynb", runs, "dltlab", 2))


def sweep(notebook: str, runs: int, out: str, jobs: int) -> list[str]:
    """Write a sweep file and return the command that executes it."""
    text = f'notebook = "{notebook}"\n[grid]\nseed = {list(range(runs))}\n'
    Path(f"{out}.toml").write_text(text)
    command = [str(Path(sys.executable).with_name("dltlab")), "sweep", f"{out}.toml"]
    return [*command, "--out", out, "--jobs", str(jobs)]


SIDES: dict[str, Callable[[int], float]] = {
    "papermill, shell loop": shell_loop,
    "papermill, xargs -P2": two_at_a_time,
    "papermill, joblib": joblib,
    "dltlab sweep": dltlab,
}


def overhead(runs: int) -> dict[str, float]:
    """Return the seconds of a run over those of its cells, one run at a time with a zygote."""
    seconds_of(sweep("fit.ipynb", 2, "warm-up", 1))
    seconds_of(sweep("fit.ipynb", runs, "one", 1))
    folders = run_folders(Path("one"))
    states = [folder.state() for folder in folders]
    compute = [float(folder.final_metrics()["seconds"]) for folder in folders]
    first = min(state.started or 0 for state in states)
    last = max(state.ended or 0 for state in states)
    return {
        "compute_seconds": statistics.mean(compute),
        "overhead_seconds": (last - first) / runs - statistics.mean(compute),
    }


def trivial(runs: int) -> dict[str, float]:
    """Execute runs that do nothing, and follow the memory of the runner."""
    start = time.monotonic()
    command, nothing = sweep("trivial.ipynb", runs, "trivial", 2), subprocess.DEVNULL
    process = subprocess.Popen(command, stdout=nothing, stderr=nothing)
    runner = psutil.Process(process.pid)
    samples: list[tuple[int, float]] = []  # runs that have begun, and megabytes
    processor_seconds = 0.0
    while process.poll() is None:
        begun = sum(1 for _ in Path("trivial").glob("*/notebook.ipynb"))
        try:
            samples.append((begun, runner.memory_full_info().uss / 1e6))
            processor_seconds = sum(runner.cpu_times()[:2])
        except psutil.Error:
            break
        time.sleep(1)
    assert process.wait() == 0
    early = [megabytes for begun, megabytes in samples if 0.1 <= begun / runs <= 0.2]
    late = [megabytes for begun, megabytes in samples if begun / runs >= 0.9]
    return {
        "runs": runs,
        "seconds": time.monotonic() - start,
        "megabytes_early": statistics.median(early),
        "megabytes_late": statistics.median(late),
        "runner_seconds_per_run": processor_seconds / runs,
    }


def project(measured: dict[str, float], runner: dict[str, float]) -> dict[str, float]:
    """Return how long runs would take on a cluster with nodes like this one, from overheads."""
    jobs = NODES * int(cpu_info().cores)
    each = measured["compute_seconds"] + measured["overhead_seconds"]
    workers = CLUSTER_RUNS * each / jobs
    dispatch = CLUSTER_RUNS * runner["runner_seconds_per_run"]
    return {"workers_seconds": workers, "runner_seconds": dispatch, "jobs": jobs}


def compare(runs: int, prefixes: list[str]) -> Iterator[tuple[str, float]]:
    """Measure each side that was chosen."""
    for name, side in SIDES.items():
        if any(name.startswith(prefix) for prefix in prefixes):
            yield name, side(runs)


def print_tables(results: dict[str, Any]) -> None:
    """Print what was measured."""
    sides = results["sides"]
    if sides:
        own = sides.get("dltlab sweep", float("nan"))
        print(f"| {results['runs']} runs | s | s per run | × dltlab sweep | target |")
        print("|---|---|---|---|---|")
        for name, seconds in sides.items():
            target = f"≥ {TARGETS[name]:g}" if name in TARGETS else ""
            row = f"{seconds:.1f} | {seconds / results['runs']:.2f} | {seconds / own:.2f}"
            print(f"| {name} | {row} | {target} |")
    if measured := results["overhead"]:
        print(
            f"\nOne run at a time: {measured['compute_seconds']:.2f} s in its cells, "
            f"{measured['overhead_seconds']:.2f} s over that (target ≤ {MAX_OVERHEAD})."
        )
    if runner := results["trivial"]:
        print(
            f"{runner['runs']} trivial runs: {runner['seconds']:.0f} s; the runner has "
            f"{runner['megabytes_early']:.0f} MB after the first tenth and "
            f"{runner['megabytes_late']:.0f} MB at the end, and computes for "
            f"{1000 * runner['runner_seconds_per_run']:.0f} ms per run."
        )
    if projection := results["projection"]:
        print(
            f"Projection, not measured: {CLUSTER_RUNS:,} of the runs above on {NODES} nodes like "
            f"this one ({projection['jobs']:g} jobs) keep the workers busy for "
            f"{projection['workers_seconds']:.0f} s and the runner for "
            f"{projection['runner_seconds']:.0f} s; the longer of the two is the time of the batch."
        )


def main() -> None:
    """Measure, and print tables or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runs", type=int, default=48)
    parser.add_argument("--trivial", type=int, default=1000, help="0: none")
    parser.add_argument("--only", nargs="+", default=[""], help="sides whose names begin with one")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    cpu = cpu_info()
    results: dict[str, Any] = {"hardware": cpu.name, "runs": options.runs}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        os.chdir(folder)
        write_notebook(Path("fit.ipynb"), FIT, RECORD)
        write_notebook(Path("trivial.ipynb"), TRIVIAL)
        try:
            results["sides"] = dict(compare(options.runs, options.only))
            results["overhead"] = overhead(min(options.runs, 24))
            results["trivial"] = trivial(options.trivial) if options.trivial else {}
            results["projection"] = (
                project(results["overhead"], results["trivial"]) if options.trivial else {}
            )
        finally:
            stop_zygotes()
            os.chdir("/")
    if options.json:
        print(json.dumps(results, indent=1))
    else:
        print(f"{results['hardware']}\n")
        print_tables(results)


if __name__ == "__main__":
    main()
