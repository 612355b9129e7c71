"""The command that checks this machine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dltlab.cli.common import examples

if TYPE_CHECKING:
    from dltlab.doctor import Finding

app = typer.Typer()


@app.command(epilog=examples("dltlab doctor", "dltlab doctor --deep"))
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Also start TensorFlow.")] = False,
) -> None:
    """Check this machine, and say how to fix what is wrong."""
    from dltlab.doctor import diagnose

    print_findings(diagnose(deep), as_json)


def print_findings(findings: "Sequence[Finding]", as_json: bool) -> None:
    """Print what checks have found, and exit with 1 if there is a problem."""
    import json

    from dltlab.doctor import Level

    if as_json:
        typer.echo(json.dumps([finding.as_dict() for finding in findings], indent=1))
    else:
        for finding in findings:
            _print(finding)
    if any(finding.level is Level.PROBLEM for finding in findings):
        raise typer.Exit(1)


def _print(finding: "Finding") -> None:
    colors = {"ok": "green", "warning": "yellow", "problem": "red"}
    level = typer.style(f"{finding.level:<8}", fg=colors[finding.level])
    typer.echo(f"{level} {finding.subject:<13} {finding.message}")
    if finding.fix:
        typer.echo(f"{'':<22} → {finding.fix}")
