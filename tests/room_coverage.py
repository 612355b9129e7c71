"""Print the branch coverage of each room, with the explanation of a low one.

Reads the file `.coverage` that `pytest --cov` writes. Only the test process itself is measured:
kernels, servers and notebooks run in processes of their own.
"""

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from coverage import Coverage

GOAL = 0.85  # share of lines and branches
EXPLANATIONS: dict[str, str] = {
    "distribute": "launchers and workers are processes of their own; tests/distribute runs them",
    "kernels": "zygotes and their forks are processes of their own; tests/kernels runs them",
}


def coverage_by_room() -> dict[str, float]:
    """Return the share of lines and branches that were executed, by room or plain module."""
    coverage = Coverage()
    coverage.load()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        coverage.json_report(outfile=str(path))
        files = json.loads(path.read_text())["files"]
    package = Path(__file__).resolve().parents[1] / "dltlab"
    covered: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for name, report in files.items():
        summary = report["summary"]
        room = Path(name).resolve().relative_to(package).parts[0].removesuffix(".py")
        covered[room] += summary["covered_lines"] + summary["covered_branches"]
        total[room] += summary["num_statements"] + summary["num_branches"]
    return {room: covered[room] / total[room] for room in sorted(total) if total[room]}


def main() -> None:
    """Print a table."""
    print("Branch coverage of each room:")
    for room, share in coverage_by_room().items():
        reason = ""
        if share < GOAL:
            reason = EXPLANATIONS.get(room, f"below {GOAL:.0%}: add tests or an explanation")
        print(f"  {room:12} {share:4.0%}  {reason}")


if __name__ == "__main__":
    main()
