"""The command line: one module per command group; each command calls a function of a room."""

import typer

from dltlab.cli import author, data, doctor, kernels, learn, models
from dltlab.errors import LabError

_STOPPED = 130  # the exit code of Typer after Ctrl-C

app = typer.Typer(
    help="dltlab: learn accelerated deep learning by doing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for group in (learn, doctor, author, models):
    app.add_typer(group.app)
app.add_typer(kernels.app, name="kernels")
app.add_typer(data.app, name="data")


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
