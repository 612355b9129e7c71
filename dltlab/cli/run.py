"""The command that runs labs and notebooks as a batch."""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from dltlab.cli.common import (
    CourseFolder,
    Jobs,
    Json,
    Junit,
    Scheduler,
    Slurm,
    complete_lab,
    examples,
    run_and_report,
)
from dltlab.cli.learn import Profile

app = typer.Typer()


class _RunCommand(TyperCommand):
    """A command whose option -p takes two words, as papermill's, and can be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the words, because Typer has no repeated options with several words."""
        joined, words = [], iter(args)
        for word in words:
            joined.append(word)
            if word in ("-p", "--parameter"):
                joined.append("=".join(islice(words, 2)))
        return super().parse_args(ctx, joined)


@app.command(
    cls=_RunCommand,
    epilog=examples(
        "dltlab run --all --profile smoke",
        "dltlab run 01 02 --jobs 2",
        "dltlab run train.ipynb -p epochs 3 -p rate 0.1 --timeout 3600",
    ),
)
def run(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="LAB|NOTEBOOK...",
            help="Labs by number or name; paths or addresses of notebooks.",
            autocompletion=complete_lab,
        ),
    ] = None,
    every_lab: Annotated[bool, typer.Option("--all", help="Run every lab of the course.")] = False,
    profile: Annotated[Profile | None, typer.Option(help="The parameters of labs.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME VALUE", help="A parameter; repeatable."),
    ] = None,
    solutions: Annotated[
        bool, typer.Option("--solutions", help="Run the labs with the answers.")
    ] = False,
    out: Annotated[Path, typer.Option(help="The folder of the runs.")] = Path("runs"),
    timeout: Annotated[
        float | None, typer.Option(min=0, help="The most seconds that a run may take.")
    ] = None,
    cwd: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="The working directory; by default a folder per run."
        ),
    ] = None,
    jobs: Jobs = None,
    scheduler: Scheduler = None,
    slurm: Slurm = False,
    junit: Junit = None,
    as_json: Json = False,
    course: CourseFolder = None,
) -> None:
    """Run labs and notebooks; finished runs are kept, so the same command goes on.

    Each run has a folder in --out with its notebook, log, metrics and figures.
    """
    from dltlab.batch import parse_value, read_template, run_batch
    from dltlab.course import Course
    from dltlab.errors import Invalid

    if every_lab == bool(names):
        raise Invalid("Name labs or notebooks to run, or give --all for every lab.")
    root = Course.find(course)
    values = {}
    for text in parameters or ():
        name, separator, value = text.partition("=")
        if not separator:
            raise Invalid(f"-p takes a name and a value; the value of {name} is missing.")
        values[name] = parse_value(value)
    templates = [read_template(name, root, solved=solutions) for name in names or root.lab_names()]
    runs = [
        template.run(
            values,
            profile.value if profile else None,
            timeout=timeout,
            cwd=str(cwd.absolute()) if cwd else None,
        )
        for template in templates
    ]
    options: dict[str, Any] = {"jobs": jobs, "scheduler": scheduler}
    options["slurm"] = {} if slurm else None
    run_and_report(
        lambda notify: run_batch(runs, out, notify=notify, **options),
        out,
        run_ids=[run.id for run in runs],
        junit=junit,
        as_json=as_json,
    )
