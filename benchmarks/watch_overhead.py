"""What watching costs: `devices.watch` around a busy loop, in plain Python and in a kernel.

The overhead is the processor time of the watching thread over the time watched, so it does not
depend on what else the machine does.

    python benchmarks/watch_overhead.py [--json] [--seconds 10]
"""

import argparse
import json

LOOP = """
import json, time
import numpy as np
from dltlab import devices

matrix = np.random.default_rng(0).random((256, 256), np.float32)
with devices.watch() as watched:
    end = time.perf_counter() + {seconds}
    while time.perf_counter() < end:
        matrix @ matrix
print("RESULT", json.dumps(dict(overhead=watched.overhead, samples=len(watched.data))))
"""


def in_plain_python(code: str) -> dict[str, float]:
    """Run the loop in this kind of process: text, no front end."""
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return _result(done.stdout)


def in_a_kernel(code: str) -> dict[str, float]:
    """Run the loop as a notebook's cell, with the live panel."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    texts = [each.get("text", "") for each in notebook.cells[0].outputs]
    return _result("".join(texts))


def _result(text: str) -> dict[str, float]:
    line = next(line for line in text.splitlines() if line.startswith("RESULT "))
    found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return found


def main() -> None:
    """Measure, and print a table or JSON."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--json", action="store_true")
    options.add_argument("--seconds", type=float, default=10.0)
    chosen = options.parse_args()
    from dltlab.devices import inventory

    code = LOOP.replace("{seconds}", str(chosen.seconds))
    found = inventory(ask_tensorflow=False)
    results = {
        "hardware": [found.cpu.model, f"{found.cpu.cores:g} cores", *(g.name for g in found.gpus)],
        "text": in_plain_python(code),
        "live panel": in_a_kernel(code),
    }
    if chosen.json:
        print(json.dumps(results, indent=1))
        return
    print(", ".join(results["hardware"]))
    print(f"{'':<12}{'of one core':>12}{'samples':>9}")
    for name in ("text", "live panel"):
        print(f"{name:<12}{results[name]['overhead']:>12.2%}{results[name]['samples']:>9}")


if __name__ == "__main__":
    main()
