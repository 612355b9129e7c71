"""Commands for instructors: start a workshop, run it, and stop it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import Json, examples, print_json

app = typer.Typer(help="Workshops: an instructor and a class.", no_args_is_help=True)

Roster = Annotated[
    Path, typer.Argument(metavar="ROSTER", help="The roster, or the folder of the workshop.")
]
_HERE = Path(".")
_CARDS = "The cards are in {}. Print it, then delete it."


class Target(StrEnum):
    """Where a workshop runs."""

    MACHINE = "machine"
    KUBERNETES = "kubernetes"


@app.command(
    epilog=examples(
        "dltlab workshop init my-class", "dltlab workshop init my-class --target kubernetes"
    )
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    target: Annotated[
        Target,
        typer.Option(
            help="kubernetes: values for Zero to JupyterHub, once the roster is filled in."
        ),
    ] = Target.MACHINE,
) -> None:
    """Write the settings of a new workshop, with comments, and a roster to fill in."""
    from dltlab.paths import short_path
    from dltlab.workshop import WorkshopFolder, new_workshop, require_extra, write_values

    workshop = WorkshopFolder(folder)
    is_new = target is Target.MACHINE or not workshop.roster_file.exists()
    if is_new:
        workshop = new_workshop(folder)
    roster = short_path(workshop.roster_file)
    if target is Target.KUBERNETES and not is_new:
        require_extra()
        values, cards = write_values(workshop)
        typer.echo(f"{short_path(values)} says how to use it; keep it secret.")
        if cards:
            typer.echo(_CARDS.format(short_path(cards)))
        return
    command = f"dltlab workshop serve {roster}"
    if target is Target.KUBERNETES:
        command = f"dltlab workshop init {short_path(folder)} --target kubernetes"
    settings = short_path(workshop.settings_file)
    typer.echo(f"Fill in {roster}, look at {settings}, then run: {command}")


@app.command(epilog=examples("sudo dltlab workshop serve my-class/roster.csv"))
def serve(
    roster: Roster = _HERE,
    shared_account: Annotated[
        bool,
        typer.Option(
            "--let-learners-share-one-account",
            help="Without root: learners can then read and change each other's files.",
        ),
    ] = False,
) -> None:
    """Run the workshop until Ctrl-C or `dltlab workshop stop`; everyone's work is kept."""
    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import serve as serve_workshop

    serve_workshop(WorkshopFolder.find(roster), typer.echo, shared_account)


@app.command(
    epilog=examples(
        "sudo dltlab workshop check my-class",
        "dltlab workshop check my-class --quick --learners 30",
    )
)
def check(
    roster: Roster = _HERE,
    learners: Annotated[
        int | None, typer.Option(min=1, help="How many; by default those of the roster.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip running the labs, and the rehearsal.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check the machine, run every lab, and rehearse with simulated learners."""
    from dltlab.cli.doctor import print_findings
    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import check_labs, check_workshop, hold_rehearsal

    folder = WorkshopFolder.find(roster)
    findings = check_workshop(folder, learners)
    if not quick:
        findings += check_labs(folder, lambda sentence: typer.echo(sentence, err=True))
    print_findings(findings, as_json)
    if not quick:
        rehearsal = hold_rehearsal(folder, learners)
        typer.echo(repr(rehearsal), err=as_json)
        raise typer.Exit(bool(rehearsal.failures))


@app.command(epilog=examples("dltlab workshop status my-class", "dltlab workshop status --json"))
def status(roster: Roster = _HERE, as_json: Json = False) -> None:
    """Show whether the workshop runs, its processes, and how many servers are ready."""
    import asyncio

    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import read_status

    state = asyncio.run(read_status(WorkshopFolder.find(roster)))
    if as_json:
        print_json(state)
        return
    if not state["running"]:
        typer.echo("The workshop is not running.")
        return
    typer.echo(f"The workshop is at {state.get('url', 'an address not known yet')}.")
    for name, process in state.get("processes", {}).items():
        state_of = f"process {process['pid']}" if process["pid"] else "starting again"
        typer.echo(f"  {name}: {state_of}, restarted {process['restarts']} times")
    if servers := state.get("servers"):
        typer.echo(f"  {servers['ready']} of {servers['users']} servers are ready")


@app.command(epilog=examples("dltlab workshop stop my-class"))
def stop(roster: Roster = _HERE) -> None:
    """Stop the workshop; everyone's work, codes and results are kept."""
    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import stop as stop_workshop

    was_running = stop_workshop(WorkshopFolder.find(roster))
    typer.echo("The workshop is stopped." if was_running else "The workshop was not running.")


@app.command(
    epilog=examples(
        "dltlab workshop cards my-class",
        "dltlab workshop cards my-class --new learner07",
        "dltlab workshop cards my-class --link learner07",
    )
)
def cards(
    roster: Roster = _HERE,
    new: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACCOUNT",
            help="Make a new code for this account, or for 'all'; the old code no longer works.",
        ),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Print a link for one sign-in, valid for a day."),
    ] = None,
) -> None:
    """Make the cards of a roster before the workshop, or new ones for people who lost theirs."""
    from dltlab.paths import short_path
    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import make_cards, make_link

    folder = WorkshopFolder.find(roster)
    if link:
        typer.echo(make_link(folder, link))
    elif path := make_cards(folder, new or []):
        typer.echo(_CARDS.format(short_path(path)))
    else:
        typer.echo("Everybody has a code already; make new ones with --new.")


@app.command(epilog=examples("sudo dltlab workshop assess my-class learner07"))
def assess(
    roster: Roster,
    accounts: Annotated[
        list[str], typer.Argument(metavar="ACCOUNT...", help="The learners to assess.")
    ],
) -> None:
    """Evaluate handed-in assessments (lab 18), and write certificates for those who passed."""
    from dltlab.paths import short_path
    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import assess as assess_account

    folder = WorkshopFolder.find(roster)
    for account in accounts:
        assessed = assess_account(folder, account)
        for verdict in assessed.verdicts:
            typer.echo(f"{account}: {verdict}")
        if assessed.certificate:
            typer.echo(f"{account} passed: {short_path(assessed.certificate)}")
        else:
            typer.echo(f"{account} has not passed.")


@app.command(epilog=examples("sudo dltlab workshop export my-class --out results"))
def export(
    roster: Roster = _HERE,
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="The folder to write; an older export in it is replaced."),
    ] = Path("export"),
) -> None:
    """Write a zip for each learner, and all results as CSV and as a gradebook of nbgrader."""
    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import export_workshop

    typer.echo(export_workshop(WorkshopFolder.find(roster), out))


@app.command(epilog=examples("dltlab workshop verify certificate.pdf --key KEY"))
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The certificate, a PDF.")],
    key: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="A public key that you trust.")
    ] = None,
) -> None:
    """Verify the signature of a certificate; exit with 1 if another key than yours signed it."""
    from dltlab.workshop import verify_certificate

    certified = verify_certificate(file, tuple(key or ()))
    typer.echo(certified)
    raise typer.Exit(certified.is_trusted is False)


@app.command(epilog=examples("sudo dltlab workshop erase my-class learner07"))
def erase(
    roster: Roster,
    accounts: Annotated[
        list[str] | None, typer.Argument(metavar="[ACCOUNT]...", help="The learners to erase.")
    ] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Erase all of the workshop.")] = False,
) -> None:
    """Erase learners: accounts with their homes, codes, results and what was handed in."""
    from dltlab.errors import Invalid
    from dltlab.workshop import WorkshopFolder, require_extra

    require_extra()
    from dltlab.workshop import erase as erase_accounts

    if bool(accounts) == everybody:
        raise Invalid("Name the accounts to erase, or say --all.")
    erased = erase_accounts(WorkshopFolder.find(roster), accounts or [])
    typer.echo(f"Erased: {', '.join(erased) or 'nobody'}. The roster, cards and exports stay.")
