"""Commands for the runs of notebooks: list, compare, control, remove and promote them."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dltlab.cli.common import Json, examples, print_json
from dltlab.errors import Invalid

if TYPE_CHECKING:
    from dltlab.batch import ModelVersion
    from dltlab.display import Result

app = typer.Typer(help="Runs of notebooks: list, compare, control, promote.", no_args_is_help=True)

_LOG_LINES = 20
_MAX_LINES = 40  # of the files, the metrics, …
_MAIN_PACKAGES = ("dltlab", "tensorflow", "tensorflow-cpu", "keras", "numpy", "papermill")

Out = Annotated[Path, typer.Option("--out", help="The folder of the runs.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="RUN…", help="Ids, or their first characters; by default all runs."),
]
_OUT = Path("runs")
Store = Annotated[Path, typer.Option(help="The folder of the promoted models.")]
_STORE = Path("models")


@app.command("list", epilog=examples("dltlab runs list", "dltlab runs list --status failed --json"))
def list_runs(
    status: Annotated[
        list[str] | None, typer.Option(help="Only runs with this status; may be repeated.")
    ] = None,
    out: Out = _OUT,
    as_json: Json = False,
) -> None:
    """List the runs with their parameters and metrics, failures first."""
    from dltlab.batch import BatchResult, Status, read_records

    for name in status or ():
        if name not in list(Status):
            raise Invalid(f'"{name}" is not a status; they are: {", ".join(Status)}.')
    records = read_records(out)
    selected = [record for record in records if not status or record.state.status in status]
    _print_result(BatchResult(out, tuple(selected)), as_json)


@app.command(epilog=examples("dltlab runs show 4f1c2a"))
def show(
    run: Annotated[str, typer.Argument(help="An id, or its first characters.")],
    out: Out = _OUT,
    as_json: Json = False,
) -> None:
    """Show a run: parameters, state, metrics, versions, files, and the end of its log."""
    from dltlab.batch import read_records, run_details, select_records

    (record,) = select_records(read_records(out), [run])
    details = run_details(record, _LOG_LINES)
    if as_json:
        print_json(details)
    else:
        for line in _detail_lines(details):
            typer.echo(line)


@app.command(epilog=examples("dltlab runs compare", "dltlab runs compare 4f1c2a 0b77e1"))
def compare(names: Names = None, out: Out = _OUT, as_json: Json = False) -> None:
    """Compare runs that are done: mean ± standard deviation over seeds; * marks the best."""
    from dltlab.batch import compare, read_records, select_records

    records = read_records(out)
    _print_result(compare(select_records(records, names) if names else records), as_json)


@app.command(epilog=examples("dltlab runs pause"))
def pause(out: Out = _OUT, as_json: Json = False) -> None:
    """Start no other run; those that run go on."""
    from dltlab.batch import pause

    pause(_existing(out))
    _print_control(out, as_json, "Paused: no other run starts. Go on with: dltlab runs resume")


@app.command(epilog=examples("dltlab runs resume"))
def resume(out: Out = _OUT, as_json: Json = False) -> None:
    """Start runs again after a pause."""
    from dltlab.batch import resume

    resume(_existing(out))
    _print_control(out, as_json, "Resumed: runs are started again.")


@app.command(epilog=examples("dltlab runs stop", "dltlab runs stop 4f1c2a"))
def stop(names: Names = None, out: Out = _OUT, as_json: Json = False) -> None:
    """End runs, and cancel those that wait; what is finished is kept."""
    from dltlab.batch import read_records, select_records, stop

    records = read_records(out)
    selected = select_records(records, names) if names else records
    stop(out, [record.id for record in selected] if names else None)
    runs = f"{len(selected)} run{'s' if len(selected) != 1 else ''}" if names else "All runs"
    message = f"{runs} will end, or not start. The same command runs them again."
    _print_control(out, as_json, message)


@app.command(epilog=examples("dltlab runs remove 4f1c2a"))
def remove(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Ids, or their first characters.")
    ],
    out: Out = _OUT,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the folders of runs that are not running."""
    from dltlab.batch import read_records, remove, select_records

    records = select_records(read_records(out), names)
    ids = [record.id for record in records]
    if not yes and not typer.confirm(f"Remove {', '.join(ids)}?", err=as_json):
        raise Invalid("Nothing was removed. To remove without a question, add --yes.")
    remove(record.folder for record in records)
    if as_json:
        print_json({"removed": ids})
    else:
        typer.echo(f"Removed {', '.join(ids)}.")


@app.command(
    epilog=examples(
        "dltlab runs promote 4f1c2a", "dltlab runs promote 4f1c2a --name shapes --model small.keras"
    )
)
def promote(
    run: Annotated[str, typer.Argument(help="An id, or its first characters.")],
    name: Annotated[str, typer.Option(help="The model's name; by default the notebook's.")] = "",
    model: Annotated[
        str, typer.Option(help="A .keras file or an engine that the run has written.")
    ] = "",
    store: Store = _STORE,
    out: Out = _OUT,
    as_json: Json = False,
) -> None:
    """Copy a run's model into a store, and make it the version in use."""
    from dltlab.batch import ModelStore, read_records, select_records

    (record,) = select_records(read_records(out), [run])
    _print_version(ModelStore(store).promote(record.folder, name, model), as_json)


@app.command(epilog=examples("dltlab runs rollback shapes"))
def rollback(
    name: Annotated[str, typer.Argument(help="The name of the model.")],
    store: Store = _STORE,
    as_json: Json = False,
) -> None:
    """Return to the version that was in use before the last promotion."""
    from dltlab.batch import ModelStore

    _print_version(ModelStore(store).roll_back(name), as_json)


@app.command(epilog=examples("dltlab runs models"))
def models(store: Store = _STORE, as_json: Json = False) -> None:
    """List the versions of promoted models; * marks those in use."""
    from dltlab.batch import ModelStore

    _print_result(ModelStore(store).all(), as_json)


def _print_version(version: "ModelVersion", as_json: bool) -> None:
    from dltlab.display import plain

    if as_json:
        print_json(plain(version))
    else:
        typer.echo(f"Version {version.number} of {version.name} is in use: {version.path}")


def _existing(out: Path) -> Path:
    from dltlab.batch import read_records

    read_records(out)
    return out


def _print_control(out: Path, as_json: bool, message: str) -> None:
    from dltlab.batch import read_control

    if as_json:
        control = read_control(out)
        stop = control.stop if isinstance(control.stop, str) else sorted(control.stop)
        print_json({"paused": control.paused, "stop": stop})
    else:
        typer.echo(message)


def _print_result(result: "Result", as_json: bool) -> None:
    """Print a result as JSON, or as a table with the columns that fit into the terminal."""
    if as_json:
        print_json(result.as_dict())
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dltlab.batch import value_text

    texts = {str(name): list(map(value_text, column)) for name, column in result.table.items()}
    widths = {name: 2 + max(len(name), *map(len, texts[name])) for name in texts}
    console = Console(highlight=False)
    left_out = _left_out(widths, console.width) if console.is_terminal else []
    shown = [name for name in texts if name not in left_out]
    table = Table(box=None, pad_edge=False)
    for name in shown:
        table.add_column(Text(name), no_wrap=True)
    for row in zip(*(texts[name] for name in shown), strict=True):
        table.add_row(*map(Text, row))
    if not console.is_terminal:
        console.width = max(80, sum(widths.values()))
    if shown:
        console.print(table)
    if left_out:
        console.print(Text(f"Left out here, but in --json: {', '.join(left_out)}."))
    console.print(Text(result.summary), soft_wrap=True)


def _left_out(widths: Mapping[str, int], room: int) -> list[str]:
    """Return the columns that do not fit; the first two and the last one always stay."""
    others = list(widths)[2:-1]
    room -= sum(widths[name] for name in widths if name not in others)
    left_out = []
    for name in others:
        room -= widths[name]
        if room < 0:
            left_out.append(name)
    return left_out


def _detail_lines(details: Mapping[str, Any]) -> list[str]:
    """Return what `show` prints."""
    from dltlab.batch import value_text

    lines = []
    for heading, value in details.items():
        if isinstance(value, Mapping):
            lines += [f"{heading}:" if value else f"{heading}: none"]
            shown = list(value.items())[:_MAX_LINES]
            width = max((len(name) for name, _ in shown), default=0)
            lines += [f"  {value_text(name):<{width}}  {_brief(item)}" for name, item in shown]
            if len(value) > len(shown):
                lines.append(f"  and {len(value) - len(shown)} more")
        elif isinstance(value, list):
            lines += [f"{heading}:", *(f"  {line}" for line in value)]
        elif heading in ("started", "ended") and value:
            lines.append(f"{heading}: {datetime.fromtimestamp(value):%Y-%m-%d %H:%M:%S}")
        elif value not in (None, "", 0):
            lines.append(f"{heading}: {value_text(value)}")
    return lines


def _brief(value: object) -> str:
    """Return a value as text; of many packages, the main ones."""
    from dltlab.batch import value_text

    if not isinstance(value, Mapping) or "dltlab" not in value:
        return value_text(value)
    main = [f"{name} {value[name]}" for name in _MAIN_PACKAGES if name in value]
    return f"{', '.join(main)}, and {len(value) - len(main)} more in versions.json"
