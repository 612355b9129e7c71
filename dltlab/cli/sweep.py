"""The command that runs a notebook with many values of its parameters."""

from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import CourseFolder, Jobs, Scheduler, Slurm, examples, print_notice

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
    course: CourseFolder = None,
) -> None:
    """Run a notebook with many values of its parameters: a grid, random ones, or a search.

    Finished runs are kept, so the same command goes on.
    """
    from dltlab.batch import run_sweep
    from dltlab.course import Course

    root = Course.find(course)
    result = run_sweep(
        file, out, root, jobs=jobs, scheduler=scheduler, slurm=slurm, notify=print_notice
    )
    typer.echo(str(result))
    raise typer.Exit(result.exit_code)
