"""How the runs of a batch are going, or how they ended: `BatchResult`."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dltlab.batch.records import (
    FAILURES,
    RunRecord,
    differing_parameters,
    duration_text,
    metric_names,
)
from dltlab.batch.run_folder import Status
from dltlab.display import Result
from dltlab.paths import short_path

if TYPE_CHECKING:
    import pandas as pd

REPORT = "report.html"


@dataclass(frozen=True, repr=False)
class BatchResult(Result):
    """How the runs of a batch are going, or how they ended.

    Attributes:
        out: The folder of the runs.
        records: The runs, failures first.
    """

    out: Path
    records: tuple[RunRecord, ...]

    _max_rows: ClassVar[int] = 1000

    @property
    def counts(self) -> dict[Status, int]:
        """The number of runs by status, failures first."""
        return dict(Counter(record.state.status for record in self.records))

    @property
    def exit_code(self) -> int:
        """0 if every run is done or pruned, else 1."""
        return 0 if all(record.state.status.is_final for record in self.records) else 1

    @property
    def report(self) -> Path | None:
        """The report; None if it was not written."""
        path = self.out / REPORT
        return path if path.exists() else None

    @property
    def summary(self) -> str:
        """How many runs there are by status, why the first one failed, and where the report is."""
        total = f"{len(self.records)} run{'s' if len(self.records) != 1 else ''}"
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items())
        sentences = [f"{total} in {short_path(self.out)}{': ' if counts else ''}{counts}."]
        failures = [record for record in self.records if record.state.status in FAILURES]
        if failures:
            first = failures[0]
            sentences.append(f"{first.id} {first.state.status}: {first.state.reason}")
        if self.report:
            sentences.append(f"Report: {short_path(self.report)}")
        return "\n".join(sentences)

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each run: status, id, parameters that differ, metrics, and time."""
        import pandas as pd

        parameters, metrics = differing_parameters(self.records), metric_names(self.records)
        rows = [
            {
                "status": str(record.state.status),
                "run": record.id,
                **{name: record.run.parameters.get(name) for name in parameters},
                **{name: record.values.get(name) for name in metrics if name not in parameters},
                "time": duration_text(record.state.seconds),
            }
            for record in self.records
        ]
        return pd.DataFrame(rows, dtype=object)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts, the exit code, the report and the runs, ready for JSON."""
        return {
            "out": str(self.out),
            "counts": {str(status): count for status, count in self.counts.items()},
            "exit_code": self.exit_code,
            "report": str(self.report) if self.report else None,
            "runs": [record.as_dict() for record in self.records],
        }
