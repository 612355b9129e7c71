"""Measured peaks of this machine, compared with NumPy, PyTorch and the data sheets.

The same product of square matrices, by dtype, in TensorFlow (`devices.measure_peaks`), in NumPy and
in PyTorch, which uses oneDNN on a CPU as TensorFlow does. The libraries take turns, each in a
process of its own, and the best turn of each counts, so that a busy machine slows all alike.
PyTorch is not a dependency of dltlab: name an interpreter that has it, or it is left out.

    python benchmarks/device_peaks.py [--json] [--rounds 3] [--torch-python PATH]
"""

import argparse
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Each prints {dtype: FLOP/s} as JSON; `sizes` are TensorFlow's, by dtype.
TENSORFLOW = """
import json
from dltlab.devices import measure_peaks
print(json.dumps(measure_peaks().as_dict()))
"""
TIMED = """
import json, sys, time
sizes = json.loads(sys.argv[1])
def best(call, seconds=1.0):
    call()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter(); call(); fastest = min(fastest, time.perf_counter() - start)
    return fastest
"""
NUMPY = (
    TIMED
    + """
import numpy as np
flops = {}
for name in {"float64", "float32"} & set(sizes):
    a = np.random.default_rng(0).random((sizes[name], sizes[name])).astype(name)
    flops[name] = 2 * sizes[name] ** 3 / best(lambda: a @ a)
print(json.dumps(dict(flops=flops)))
"""
)
TORCH = (
    TIMED
    + """
import torch
torch.set_num_threads(int(sys.argv[2]))
flops = {}
for name in {"float64", "float32", "bfloat16"} & set(sizes):
    a = torch.randn(sizes[name], sizes[name]).to(getattr(torch, name))
    with torch.no_grad():
        flops[name] = 2 * sizes[name] ** 3 / best(lambda: a @ a)
print(json.dumps(dict(flops=flops, version=torch.__version__)))
"""
)


def run(python: str, code: str, *arguments: str) -> dict[str, Any]:
    """Return the last line that `code` prints, as JSON; {} if a package is missing."""
    process = subprocess.run(
        [python, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if "ModuleNotFoundError" in process.stderr:
        return {}
    process.check_returncode()
    result: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return result


def measure(rounds: int, torch_python: str) -> dict[str, Any]:
    """Return the best of several rounds of each library, and the figures of the data sheets."""
    from dltlab.devices import cpu_spec, gpu_spec, inventory

    machine = inventory(ask_tensorflow=False)
    best: dict[str, dict[str, float]] = {"TensorFlow": {}, "NumPy": {}, "PyTorch": {}}
    memory, torch_version = 0.0, {}
    for _ in range(rounds):
        ours = run(sys.executable, TENSORFLOW)
        sizes = json.dumps(ours["size"])
        cores = str(max(1, int(machine.cpu.cores)))
        turns = {
            "TensorFlow": ours,
            "NumPy": run(sys.executable, NUMPY, sizes),
            "PyTorch": {} if machine.gpus else run(torch_python, TORCH, sizes, cores),
        }
        torch_version = {"torch": turns["PyTorch"].get("version")}
        memory = max(memory, ours["bytes_per_second"])
        for library, turn in turns.items():
            for name, flops in turn.get("flops", {}).items():
                best[library][name] = max(flops, best[library].get(name, 0))
    spec = gpu_spec(machine.gpus[0].name) if machine.gpus else None
    return {
        "device": ours["device"],
        "cpu": machine.cpu.model,
        "versions": {name: version(name) for name in ("tensorflow", "numpy")} | torch_version,
        "extensions": machine.cpu.extensions,
        "ghz": machine.cpu.ghz,
        "gflops": {
            library: {name: round(value / 1e9, 1) for name, value in flops.items()}
            for library, flops in best.items()
            if flops
        },
        "specification_gflops": _specified(spec or cpu_spec(machine.cpu), best),
        "memory_gbps": round(memory / 1e9, 1),
        "memory_specification_gbps": spec.memory_gbps if spec else None,
    }


def _specified(spec: Any, best: dict[str, dict[str, float]]) -> dict[str, float]:
    figures = {name: getattr(spec, name) for name in best["TensorFlow"]}
    return {name: round(1000 * value, 1) for name, value in figures.items() if value}


def table(results: dict[str, Any]) -> str:
    """Return a table; the last columns are TensorFlow's figure divided by the other ones."""
    libraries = [name for name in ("NumPy", "PyTorch") if name in results["gflops"]]
    heads = ["GFLOP/s", "TensorFlow", *libraries, "specified"]
    heads += [f"TF/{name}" for name in [*libraries, "specified"]]
    lines = [results["device"], "".join(f"{head:>14}" for head in heads)]
    for name, ours in results["gflops"]["TensorFlow"].items():
        others = [results["gflops"][library].get(name) for library in libraries]
        others.append(results["specification_gflops"].get(name))
        cells = [ours, *others]
        shares = [ours / other if other else None for other in others]
        row = "".join("             –" if cell is None else f"{cell:14,.0f}" for cell in cells)
        row += "".join("             –" if share is None else f"{share:14.2f}" for share in shares)
        lines.append(f"{name:>14}{row}")
    specified = results["memory_specification_gbps"]
    lines.append(
        f"{'memory':>14}{results['memory_gbps']:14,.1f} GB/s, specified {specified or '–'}"
    )
    return "\n".join(lines)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-python", type=Path, default=Path(sys.executable))
    options = parser.parse_args()
    results = measure(options.rounds, str(options.torch_python))
    print(json.dumps(results, indent=1) if options.json else table(results))


if __name__ == "__main__":
    main()
