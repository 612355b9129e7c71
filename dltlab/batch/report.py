"""The report of a folder of runs: one HTML file that needs no network and no server."""

import base64
import hashlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dltlab.batch.records import (
    RecordReader,
    RunRecord,
    differing_parameters,
    duration_text,
    is_number,
    lower_is_better,
    metric_names,
    thinned,
    value_text,
)
from dltlab.batch.results import REPORT
from dltlab.batch.run_folder import Status
from dltlab.display import printable
from dltlab.files import write_atomically

_PAGE = Path(__file__).with_name("report_page")
_SYMBOLS = {
    Status.FAILED: "✕",
    Status.TIMEOUT: "✕",
    Status.KILLED: "✕",
    Status.CANCELLED: "–",
    Status.RUNNING: "▶",
    Status.QUEUED: "…",
    Status.DONE: "✓",
    Status.PRUNED: "✂",
}
_THUMBNAIL = (180, 120)  # pixels, at most
_MAX_THUMBNAILS = 3  # of a run: the last ones
EMBEDDED_BYTES = 1_500_000  # of all thumbnails; for others the page loads the image itself
_HISTORY_POINTS = 40_000  # of each metric, over all runs
_MAX_COLUMNS = 40  # of the parameters, and of the metrics
_DIGITS = 5


@dataclass(frozen=True)
class _Column:
    """A column of the table: its name, the value of a run, and whether it is of numbers."""

    name: str
    value: Callable[[RunRecord], Any]
    is_number: bool
    text: Callable[[Any], str] = value_text

    def cell(self, record: RunRecord) -> dict[str, Any]:
        value = self.value(record)
        number = value if is_number(value) else None
        return {"text": self.text(value), "number": number, "is_number": self.is_number}


class Report:
    """Writes the report of the runs in a folder, whenever it is asked to.

    What was read and reduced for the last report is kept for the next one.

    Args:
        out: The folder of the runs.

    Attributes:
        records: The runs in the last report, failures first.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._reader = RecordReader(out)
        self.records: list[RunRecord] = []
        self._thumbnails: dict[Path, str] = {}
        self._embedded_bytes = 0

    def write(self) -> Path:
        """Write the report; return its path.

        Raises:
            Unavailable: The file cannot be written.
        """
        self.records = records = self._reader.read()
        parameters = differing_parameters(records)[:_MAX_COLUMNS]
        metrics = metric_names(records)[:_MAX_COLUMNS]
        columns = _columns(records, parameters, metrics)
        script = (_PAGE / "script.js").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        counts = Counter(record.state.status for record in records)
        page = _template().render(
            title=f"Runs in {printable(self._out.resolve().name)}",
            counts=", ".join(f"{count} {status}" for status, count in counts.items()),
            written=time.strftime("%Y-%m-%d %H:%M:%S"),
            is_running=bool(counts[Status.QUEUED] + counts[Status.RUNNING]),
            constants=_constants(records, parameters),
            columns=[
                {"name": "Status", "is_number": False},
                {"name": "Run", "is_number": False},
                *columns,
                {"name": "Figures", "is_number": False},
            ],
            rows=[self._row(record, columns) for record in records],
            data=_data(records, parameters, metrics, self._out),
            style=(_PAGE / "style.css").read_text(encoding="utf-8"),
            script=script,
            script_hash=f"sha256-{digest}",
        )
        write_atomically(self._out / REPORT, page.encode("utf-8", "backslashreplace"))
        return self._out / REPORT

    def _row(self, record: RunRecord, columns: Sequence[_Column]) -> dict[str, Any]:
        images = sorted(path for path in record.folder.images.glob("*") if path.is_file())
        return {
            "id": record.id,
            "status": str(record.state.status),
            "symbol": _SYMBOLS[record.state.status],
            "note": _note(record),
            "links": [
                {"href": self._link(path), "text": text}
                for path, text in (
                    (record.folder.notebook, "notebook"),
                    (record.folder.log, "log"),
                    (record.folder.files, "files"),
                )
                if path.exists()
            ],
            "cells": [column.cell(record) for column in columns],
            "images": [self._image(path, record) for path in images[-_MAX_THUMBNAILS:]],
            "more_images": f"of {len(images)}" if len(images) > _MAX_THUMBNAILS else "",
        }

    def _link(self, path: Path) -> str:
        """Return a relative address; `quote` leaves no colon, so it never names a scheme."""
        return quote(path.relative_to(self._out).as_posix(), errors="surrogateescape")

    def _image(self, path: Path, record: RunRecord) -> dict[str, str]:
        href = self._link(path)
        if path not in self._thumbnails and record.state.ended:
            thumbnail = _thumbnail(path) if self._embedded_bytes < EMBEDDED_BYTES else ""
            self._thumbnails[path] = thumbnail
            self._embedded_bytes += len(thumbnail)
        alt = f"{printable(path.name)} of {record.id}"
        return {"href": href, "source": self._thumbnails.get(path) or href, "alt": alt}


@cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, trim_blocks=True
    )
    return environment.get_template("page.html")


def _note(record: RunRecord) -> str:
    """Return what is to know of a run beside its numbers."""
    state = record.state
    if state.status is Status.RUNNING and state.cell:
        return f"cell {state.cell} of {state.num_cells}"
    return printable(state.reason)


def _constants(records: Sequence[RunRecord], differing: Sequence[str]) -> str:
    """Return the parameters that all runs have in common; empty if there are several notebooks."""
    if len({record.run.name for record in records}) != 1:
        return ""
    return ", ".join(
        f"{name} = {value_text(value)}"
        for name, value in records[0].run.parameters.items()
        if name not in differing
    )


def _columns(
    records: Sequence[RunRecord], parameters: Sequence[str], metrics: Sequence[str]
) -> list[_Column]:
    values = [(name, partial(_parameter, name)) for name in parameters]
    values += [(name, partial(_metric, name)) for name in metrics]
    columns = [_Column(n, value, any(is_number(value(r)) for r in records)) for n, value in values]
    return [*columns, _Column("Time", lambda r: r.state.seconds, True, duration_text)]


def _parameter(name: str, record: RunRecord) -> Any:
    return record.run.parameters.get(name)


def _metric(name: str, record: RunRecord) -> Any:
    return record.values.get(name)


def _data(
    records: Sequence[RunRecord], parameters: Sequence[str], metrics: Sequence[str], out: Path
) -> str:
    """Return what the plots show as JSON that is inert inside of an HTML page."""
    drawn = [name for name in metrics if any(is_number(r.values.get(name)) for r in records)]
    values = {
        "parameters": parameters,
        "metrics": drawn,
        "lower": list(lower_is_better(drawn, out).values()),
        "runs": [
            {
                "id": record.id,
                "name": record.run.name,
                "status": record.state.status,
                "ended": record.state.ended,
                "parameters": [_drawn(record.run.parameters.get(name)) for name in parameters],
                "values": [_rounded(record.values.get(name)) for name in drawn],
                "histories": _histories(record, drawn, len(records)),
            }
            for record in records
        ],
    }
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _histories(record: RunRecord, metrics: Sequence[str], num_runs: int) -> list[Any]:
    """Return the steps and the values of each metric; None for one without steps."""
    most = max(10, _HISTORY_POINTS // num_runs)
    columns: list[Any] = []
    for name in metrics:
        points = thinned(record.histories.get(name, []), most)
        steps, values = [step for step, _ in points], [_rounded(value) for _, value in points]
        columns.append([steps, values] if points else None)
    return columns


def _drawn(value: object) -> object:
    """Return a parameter for a plot: a number, None, or text."""
    number = _rounded(value)
    return number if value is None or number is not None else value_text(value)


def _rounded(value: object) -> object:
    """Return a number for a plot; None for text, and for values that are not finite."""
    if not is_number(value) or not math.isfinite(value):  # type: ignore[arg-type]
        return None
    return float(f"{value:.{_DIGITS}g}")


def _thumbnail(path: Path) -> str:
    """Return a small version of an image as a data URL; empty if Pillow cannot read it."""
    from PIL import Image

    content = io.BytesIO()
    try:
        with Image.open(path) as image:
            small = image.convert("RGBA" if "A" in image.getbands() else "RGB")
            small.thumbnail(_THUMBNAIL)
            small.save(content, format="webp", quality=60, method=2)
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"
