"""Run a sweep: `run_sweep`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dltlab.batch.batch import run_batch
from dltlab.batch.parameters import check_values
from dltlab.batch.results import BatchResult
from dltlab.batch.run_folder import Run
from dltlab.batch.search import Search
from dltlab.batch.sweep_file import SweepFile, parameter_sets, read_sweep, varied
from dltlab.batch.template import Template, read_template
from dltlab.course import Course
from dltlab.errors import Invalid

_BYTES_PER_GB = 1e9


def run_sweep(
    path: Path,
    out: Path,
    course: Course,
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    slurm: bool = False,
    notify: Callable[[str], object] = print,
) -> BatchResult:
    """Execute the runs of a sweep file; see `dltlab.batch.sweep_file` for what it holds.

    Args:
        path: The sweep file.
        out: The folder of the runs.
        course: The course of a lab.
        jobs: As of `run_batch`.
        scheduler: As of `run_batch`.
        slurm: Submit jobs to Slurm, with the options in the table `[slurm]`.
        notify: Called with sentences for the user.

    Raises:
        Invalid: The file is not valid, or does not fit the notebook; nothing has started.
        NotFound: The file, the notebook or the lab does not exist.
        Unavailable: A package is missing, or the scheduler cannot be reached.
    """
    file = read_sweep(path)
    sweep = file.content
    template = _template(file, course)

    def make_run(parameters: dict[str, Any]) -> Run:
        return template.run(
            parameters,
            sweep.profile,
            timeout=sweep.timeout,
            cores=sweep.cores,
            gpus=tuple(sweep.gpus) if isinstance(sweep.gpus, list) else sweep.gpus,
            memory_bytes=int(sweep.memory_gb * _BYTES_PER_GB) if sweep.memory_gb else None,
        )

    search = None
    if sweep.search:
        search = Search(file, out, lambda values: make_run({**sweep.parameters, **values}))
        runs = [search.example]
    else:
        runs = [make_run(values) for values in parameter_sets(file, template.parameters or ())]
    return run_batch(
        runs,
        out,
        jobs=jobs,
        scheduler=scheduler,
        slurm=sweep.slurm if slurm else None,
        source=search,
        notify=notify,
    )


def _template(file: SweepFile, course: Course) -> Template:
    """Return the notebook of a sweep, whose parameters the values in the file fit.

    Raises:
        Invalid: The notebook has no such parameter, or of another type.
    """
    sweep = file.content
    if sweep.lab:
        template = read_template(sweep.lab, course)
    else:
        assert sweep.notebook
        is_address = "://" in sweep.notebook
        template = read_template(
            sweep.notebook if is_address else str(file.path.parent / sweep.notebook), course
        )
    if template.parameters is not None:
        optional = {n: replace(p, is_required=False) for n, p in template.parameters.items()}
        for key, name, values in varied(sweep):
            for value in values:
                try:
                    check_values(optional, {name: value}, template.name)
                except Invalid as error:
                    raise Invalid(f"{file.place(*key)}: {error}") from None
    return template
