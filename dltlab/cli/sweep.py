"""The command that runs a notebook with many values of its parameters."""

from pathlib import Path
from typing import Annotated, Any

import typer

from dltlab.cli.common import (
    CourseFolder,
    Jobs,
    Json,
    Junit,
    Scheduler,
    Slurm,
    examples,
    run_and_report,
)

app = typer.Typer()


@app.command(
    epilog=examples(
        "dltlab sweep SWEEP.toml",
        "dltlab sweep SWEEP.toml --jobs 4 --out runs/rates",
        "dltlab sweep SWEEP.toml --slurm --jobs 20",
    )
)
def sweep(
    file: Annotated[
        Path, typer.Argument(metavar="SWEEP.toml", help="The notebook and its parameters.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the runs.")] = Path("runs"),
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    slurm: Slurm = False,
    junit: Junit = None,
    as_json: Json = False,
    course: CourseFolder = None,
) -> None:
    """Run a notebook with many values of its parameters: a grid, random ones, or a search.

    Finished runs are kept, so the same command goes on.
    """
    from dltlab.batch import run_sweep
    from dltlab.course import Course

    root = Course.find(course)
    options: dict[str, Any] = {"jobs": jobs, "scheduler": scheduler, "slurm": slurm}
    run_and_report(
        lambda notify: run_sweep(file, out, root, notify=notify, **options),
        out,
        junit=junit,
        as_json=as_json,
    )
