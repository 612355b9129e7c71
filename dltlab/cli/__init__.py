"""The command line: one module per command group; each command calls a function of a room."""

from typing import Annotated

import typer

from dltlab import __version__
from dltlab.cli import (
    author,
    bench,
    data,
    doctor,
    kernels,
    launch,
    learn,
    models,
    run,
    runs,
    sweep,
    workshop,
)
from dltlab.cli.common import examples
from dltlab.errors import LabError

_STOPPED = 130  # the exit code of Typer after Ctrl-C

app = typer.Typer(
    help="dltlab: learn accelerated deep learning by doing.",
    epilog=examples("dltlab lab", "dltlab progress", "dltlab doctor", "dltlab lab --help"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for group in (learn, doctor, author, models, launch, run, sweep):
    app.add_typer(group.app)
app.add_typer(kernels.app, name="kernels")
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")
app.add_typer(runs.app, name="runs")
app.add_typer(workshop.app, name="workshop")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"dltlab {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options that come before a command."""


def main() -> None:
    """Run the command line; print a `LabError` as one sentence and exit with code 2."""
    try:
        app()
    except LabError as error:
        typer.echo(f"dltlab: {error}", err=True)
        raise SystemExit(2) from None
    except SystemExit as error:
        if error.code == _STOPPED:
            typer.echo("dltlab: stopped; what was finished is kept.", err=True)
        raise
