"""The overhead of `devices.watch` around a busy loop, in plain Python and in a kernel.

The overhead is the processor time of the watching thread divided by the time watched, so it does
not depend on other work on the machine.

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
print("RESULT", json.dumps(dict(overhead=watched.overhead, samples=len(watched.table))))
"""


def in_plain_python(code: str) -> dict[str, float]:
    """Run the loop in a process without a front end, where the result is text."""
    import subprocess
    import sys

    command = [sys.executable, "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    return _result(process.stdout)


def in_a_kernel(code: str) -> dict[str, float]:
    """Run the loop as a cell of a notebook, with the live panel."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    texts = [output.get("text", "") for output in notebook.cells[0].outputs]
    return _result("".join(texts))


def _result(text: str) -> dict[str, float]:
    line = next(line for line in text.splitlines() if line.startswith("RESULT "))
    result: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return result


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    from dltlab.devices import cpu_info, list_gpus

    code = LOOP.replace("{seconds}", str(options.seconds))
    cpu = cpu_info()
    results = {
        "hardware": [cpu.model, cpu.cores_text, *(gpu.name for gpu in list_gpus())],
        "text": in_plain_python(code),
        "live panel": in_a_kernel(code),
    }
    if options.json:
        print(json.dumps(results, indent=1))
        return
    print(", ".join(results["hardware"]))
    print(f"{'':<12}{'of one core':>12}{'samples':>9}")
    for name in ("text", "live panel"):
        print(f"{name:<12}{results[name]['overhead']:>12.2%}{results[name]['samples']:>9}")


if __name__ == "__main__":
    main()
