"""Run the labs on science, and compare what they measure with their bars.

    python benchmarks/science.py [--profile workshop] [--out FOLDER] [--json]

Each lab is executed with its answers, as `dltlab run --solutions` does, and records what its cells
measure. One run shows one training: results differ a little from seed to seed and machine to
machine. Times are of this machine, while it runs the lab; they have no bar.
"""

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from dltlab.batch import read_template, run_batch
from dltlab.course import Course

Profile = Literal["smoke", "workshop", "full"]

# By lab and metric: the smallest and the largest value that is good enough; None: no bar.
BARS: dict[str, dict[str, tuple[float, float] | None]] = {
    "13": {
        "detected at ratio 8": (0.90, 1),
        "detected at ratio 10": (0.98, 1),
        "loss against the bank at ratio 8": (-math.inf, 0.05),
        "loss against the bank at ratio 10": (-math.inf, 0.05),
        "ratio in H1": (18, math.inf),
        "ratio in L1": (12, math.inf),
        "L1 leads by (ms)": (6.1, 8.1),
        "mass error at ratio 10": (0, 0.15),
        "network, ms for a second": None,
        "filters, ms for a second": None,
    },
    "14": {
        "energy of held-out conformations, RMSE (kcal/mol)": (0, 1.5),
        "relative energy, five heavy atoms, RMSE (kcal/mol)": (0, 3),
        "largest drift in dynamics (kcal/mol per ps)": (0, 0.1),
        "forces against differences, relative error": (0, 1e-4),
        "one molecule, times as fast as DFT, median": (1e4, math.inf),
    },
    "15": {
        "flow, seen captions": (0.95, 1),
        "flow, unseen captions": (0.90, 1),
        "GAN, color": (0.95, 1),
        "GAN, place": (0.95, 1),
        "GAN, shape": None,
    },
    "16": {
        "agreement with the truth, steered": (0.95, 1),
        "random + Gaussian process, times as many runs, at least": (4, math.inf),
        "a table, times as many runs": (20, math.inf),
        "utilization, the least of the campaigns": (0.9, 1),
        "runs lost with a killed worker": (0, 0),
    },
}


def main() -> int:
    """Run the labs, print the table, and return 0 if all bars are met, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--profile", default="workshop", choices=("smoke", "workshop", "full"))
    parser.add_argument("--out", type=Path, help="keep the executed notebooks in this folder")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary)
        rows = [row for lab in BARS for row in measure(lab, arguments.profile, out)]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            verdict = {True: "met", False: "not met", None: ""}[row["met"]]
            value = "missing" if row["value"] is None else f"{row['value']:.4g}"
            print(f"lab {row['lab']}  {row['metric']:50} {value:>10}  {row['bar']:>16}  {verdict}")
    return 1 if any(row["met"] is False for row in rows) else 0


def measure(lab: str, profile: Profile, out: Path) -> list[dict[str, Any]]:
    """Run a lab, and return a row for each of its bars."""
    template = read_template(lab, Course.find(), solved=True)
    result = run_batch([template.run(profile=profile)], out / lab, jobs=1, notify=lambda text: None)
    (record,) = result.records
    rows: list[dict[str, Any]] = []
    for metric, limits in BARS[lab].items():
        value = record.values.get(metric)
        row = {"lab": lab, "metric": metric, "value": value, "bar": "", "met": None}
        if limits:
            low, high = limits
            row["bar"] = f"{low:g} to {high:g}"
            row["met"] = isinstance(value, int | float) and low <= value <= high
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(main())
