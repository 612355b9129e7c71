"""Run many notebooks: `run_batch`."""

from collections.abc import Iterable
from pathlib import Path

from dltlab.batch.control import forget_stops
from dltlab.batch.execution import execute_run
from dltlab.batch.records import read_records
from dltlab.batch.results import BatchResult
from dltlab.batch.run_folder import Run, RunFolder


def run_batch(runs: Iterable[Run], out: Path) -> BatchResult:
    """Execute the runs that have not finished yet.

    Args:
        runs: What to run.
        out: The folder of the runs' folders.

    Raises:
        Unavailable: The folder cannot be written.
    """
    by_id = {run.id: run for run in runs}
    forget_stops(out)
    for run_id, run in by_id.items():
        RunFolder(out / run_id).create(run)
    for run_id, run in by_id.items():
        folder = RunFolder(out / run_id)
        with folder.locked() as is_ours:
            if is_ours and not folder.state().status.is_final:
                execute_run(run, folder)
    records = [record for record in read_records(out) if record.id in by_id]
    return BatchResult(out, tuple(records))
