"""The command that diagnoses this machine."""

from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Start TensorFlow, too; seconds.")] = False,
) -> None:
    """Tell what is right and wrong with this machine, and what mends it."""
    import json

    from dltlab.doctor import Level, diagnose

    lines = diagnose(deep)
    if as_json:
        typer.echo(json.dumps([line.as_dict() for line in lines], indent=1))
    else:
        colors = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
        for line in lines:
            level = typer.style(f"{line.level:<8}", fg=colors[line.level])
            typer.echo(f"{level} {line.about:<13} {line.says}")
            if line.mend:
                typer.echo(f"{'':<22} → {line.mend}")
    raise typer.Exit(any(line.level is Level.PROBLEM for line in lines))
