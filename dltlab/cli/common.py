"""Options and helpers that several command groups share."""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dltlab.errors import LabError

if TYPE_CHECKING:
    from dltlab.batch import BatchResult


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


Junit = Annotated[
    Path | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML, for CI.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(values: Mapping[str, Any]) -> None:
    """Print values that `dltlab.display.plain` has made ready for JSON."""
    typer.echo(json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False))


def run_and_report(
    execute: Callable[[Callable[[str], None]], "BatchResult"],
    out: Path,
    *,
    run_ids: Collection[str] = (),
    junit: Path | None,
    as_json: bool,
) -> None:
    """Show a batch while it runs, print how it ended, and exit with its code.

    Args:
        execute: Runs the batch; its argument prints a sentence for the user.
        out: The folder of the runs.
        run_ids: The runs, where they are known before.
        junit: The file for JUnit XML.
        as_json: Print JSON.
    """
    from dltlab.batch import junit_xml, live_display
    from dltlab.files import write_atomically

    with live_display(out, run_ids) as notify:
        result = execute(notify)
    if junit:
        write_atomically(junit, junit_xml(result.records))
    if as_json:
        print_json(result.as_dict())
    else:
        typer.echo(result.summary)
    raise typer.Exit(result.exit_code)


def print_table(table: object) -> None:
    """Print a Rich table as wide as the terminal."""
    from rich.console import Console

    Console().print(table)
