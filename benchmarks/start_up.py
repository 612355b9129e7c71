"""What `import dltlab` and the commands cost before they do anything, beside other tools.

Each is a new process; the programs take turns, and the times are medians. `above Python` is the
time above a Python that starts and ends. `imports` names the large libraries that were imported.

    python benchmarks/start_up.py [--json] [--rounds 7]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
BASE = "Python alone"
HEAVY = ("numpy", "pandas", "matplotlib", "keras", "tensorflow")


def programs() -> dict[str, list[str]]:
    """Return what is measured: imports, commands that only read, the help of each, other tools."""
    import typer

    from dltlab.cli import app

    root: Any = typer.main.get_command(app)
    own = ["--version", "list", "progress", "data list", "doctor", "--help"]
    own += [f"{name} --help" for name in root.commands]
    others = ["papermill --help", "jupyter lab --version", "tensorboard --help"]
    lines = [f"dltlab {words}" for words in own] + others
    python = {BASE: "pass", "import dltlab": "import dltlab"}
    python["all rooms"] = (
        "from dltlab import data, devices, distribute, inference, models, training"
    )
    return {
        **{name: [sys.executable, "-c", code] for name, code in python.items()},
        **{line: [str(BIN / line.split()[0]), *line.split()[1:]] for line in lines},
    }


def seconds(command: list[str], folder: str) -> float:
    """Run a command in a folder and return the time until it ends."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=_environment(folder))
    return time.perf_counter() - start


def heavy_imports(command: list[str], folder: str) -> list[str]:
    """Return which of the heavy libraries a command imports."""
    python = [sys.executable, "-X", "importtime"]
    rest = command[1:] if command[0] == sys.executable else command
    done = subprocess.run(
        [*python, *rest], cwd=folder, capture_output=True, text=True, env=_environment(folder)
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    return [name for name in HEAVY if name in imported]


def _environment(folder: str) -> dict[str, str]:
    """Return an environment in which Python keeps compiled modules, and an empty progress."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"DLTLAB_PROGRESS": str(Path(folder) / "progress.jsonl")}


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    commands = programs()
    with tempfile.TemporaryDirectory() as folder:
        imports = {name: heavy_imports(command, folder) for name, command in commands.items()}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                times[name].append(seconds(command, folder))
    medians = {name: statistics.median(values) for name, values in times.items()}
    if options.json:
        print(json.dumps({"seconds": times, "imports": imports}))
        return
    from dltlab.devices import cpu_info

    cpu = cpu_info()
    print(
        f"| {cpu.model}, {cpu.cores_text} | seconds | above Python | imports |\n|---|---|---|---|"
    )
    for name, median in medians.items():
        above = median - medians[BASE]
        print(f"| `{name}` | {median:.2f} | {above:.2f} | {', '.join(imports[name]) or 'none'} |")


if __name__ == "__main__":
    main()
