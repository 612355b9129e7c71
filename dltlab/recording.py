"""Record the metrics of a notebook that runs in a batch: `record`."""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from dltlab.display import in_notebook
from dltlab.errors import Invalid
from dltlab.files import cannot_write
from dltlab.paths import run_dir

METRICS_FILE = "metrics.jsonl"  # in the folder of a run
PRUNE_FILE = "prune"  # there, too: the search has decided to end the run early

_SCRAP = "application/scrapbook.scrap.json+json"


class Pruned(Exception):
    """A search ends this run early: its intermediate values are worse than those of others."""


def record(name: str, value: Any, step: int | None = None) -> None:
    """Record a metric of this notebook.

    In a batch, the metric is in the run's `metrics.jsonl`, in the report and in `dltlab runs`. In
    any notebook, a value without a step is also stored in the output, where scrapbook and papermill
    find it.

    Args:
        name: The name of the metric.
        value: A number, a string or a bool; also a NumPy or TensorFlow scalar.
        step: The epoch or step, for a value that is recorded repeatedly.

    Raises:
        Invalid: The value is none of these.
        Pruned: A search ends this run early.
    """
    plain = _plain(name, value)
    folder = run_dir()
    if folder:
        _append(folder / METRICS_FILE, name, plain, step)
    if step is None:
        if in_notebook():
            _publish(name, plain)
    elif folder and (folder / PRUNE_FILE).exists():
        raise Pruned(f"The search ends this run at step {step}, where {name} is {plain}.")


def _plain(name: str, value: Any) -> float | int | str | bool | None:
    """Return a value as a plain one, of a NumPy or TensorFlow scalar its `.item()`."""
    if hasattr(value, "numpy"):
        value = value.numpy()
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if value is not None and not isinstance(value, float | int | str | bool):
        raise Invalid(
            f"Metric '{name}' must be a number, a string or a bool, which a "
            f"{type(value).__name__} is not."
        )
    return value


def _append(path: Path, name: str, value: Any, step: int | None) -> None:
    """Append a line in one call, so that those of several processes do not mix."""
    step = None if step is None else int(step)
    line = json.dumps({"name": str(name), "value": value, "step": step, "time": time.time()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise cannot_write(path, error) from error


def _publish(name: str, value: Any) -> None:
    """Store a value in the output of the cell, as scrapbook's `glue` does."""
    from IPython.display import display

    # The JSON of a notebook has no infinity and no NaN: `float` reads them from these strings.
    data = repr(value) if isinstance(value, float) and not math.isfinite(value) else value
    scrap = {"name": name, "data": data, "encoder": "json", "version": 1}
    metadata = {"scrapbook": {"name": name, "data": True, "display": False}}
    display({_SCRAP: scrap}, metadata=metadata, raw=True)
