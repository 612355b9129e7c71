"""Options and helpers that several command groups share."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from dltlab.errors import LabError


def complete_lab(incomplete: str) -> list[str]:
    """Return the names of labs that a shell offers after `incomplete`."""
    from dltlab.course import Course

    with suppress(LabError):
        return [name for name in Course.find().lab_names() if name.startswith(incomplete)]
    return []


def examples(*commands: str) -> str:
    """Return the last part of a command's help, one example in each line."""
    return "\n\n".join(["Examples:" if len(commands) > 1 else "Example:", *commands])


Labs = Annotated[
    list[str] | None,
    typer.Argument(help="Labs by number or name; all by default.", autocompletion=complete_lab),
]
CourseFolder = Annotated[
    Path | None,
    typer.Option(
        "--course", help="The folder of a course; by default DLTLAB_COURSE, else dltlab's own."
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        min=1, help="Runs at a time; by default what cores, GPUs and memory allow. 1: no cluster."
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Run on this Dask cluster, as in tcp://host:8786."),
]
Slurm = Annotated[bool, typer.Option("--slurm", help="Submit --jobs jobs to Slurm.")]


def print_notice(sentence: str) -> None:
    """Print a sentence about the progress of a command, apart from its output."""
    typer.echo(sentence, err=True)


def print_table(table: object) -> None:
    """Print a Rich table as wide as the terminal."""
    from rich.console import Console

    Console().print(table)
