"""Commands for data sets: the course's, and a user's own images."""

from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import print_table
from dltlab.errors import LabError

app = typer.Typer(help="Data sets: the course's, and your own images.", no_args_is_help=True)

DataSet = Annotated[str, typer.Argument(metavar="NAME", help="The data set.")]


@app.command("list")
def list_data() -> None:
    """List every data set, and where its bytes are."""
    from rich.table import Table

    from dltlab.data.catalog import shelf

    table = Table("name", "holds", "version", "where", box=None, pad_edge=False)
    for line in shelf():
        table.add_row(line.name, line.holds, line.version, line.where)
    print_table(table)


@app.command("info")
def data_info(name: DataSet) -> None:
    """Tell what is known of a data set."""
    from dltlab.data.catalog import facts

    for about, says in facts(name):
        typer.echo(f"{about:<13} {says}")


@app.command("import")
def import_data(
    source: Annotated[Path, typer.Argument(help="A folder, a tar or zip archive, or a list.")],
    name: Annotated[str, typer.Option(help="What to call it.")],
    validation: Annotated[int, typer.Option(help="Percentage held out to choose by.")] = 20,
    test: Annotated[int, typer.Option(help="Percentage held out to judge by.")] = 10,
    size: Annotated[int | None, typer.Option(help="An image's side in pixels; 64.")] = None,
    resize: Annotated[str | None, typer.Option(help="crop (the default), squash or fit.")] = None,
    min_per_class: Annotated[int, typer.Option(help="Fewer are an error.")] = 5,
    max_per_class: Annotated[int | None, typer.Option(help="Of more, take so many.")] = None,
    seed: Annotated[int, typer.Option(help="Of the division.")] = 1,
    like: Annotated[
        str | None, typer.Option(help="A data set whose classes and size to take.")
    ] = None,
) -> None:
    """Import images of your own: a folder for each class."""
    from dltlab.data.importing import import_images

    done = import_images(
        source, name, validation=validation, test=test, size=size, resize=resize,  # type: ignore[arg-type]
        min_per_class=min_per_class, max_per_class=max_per_class, seed=seed, like=like,
    )  # fmt: skip
    typer.echo(done)


@app.command()
def show(
    name: DataSet,
    out: Annotated[Path | None, typer.Option(help="The PNG; by default NAME.png.")] = None,
) -> None:
    """Draw a contact sheet: images of each class, and how many there are."""
    import io

    from dltlab.data.contact_sheet import contact_sheet
    from dltlab.files import write_atomically
    from dltlab.paths import short_path

    figure, alt = contact_sheet(name)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    path = out or Path(f"{name}.png")
    write_atomically(path, png.getvalue())
    typer.echo(f"{alt}\nWrote {short_path(path)}.")


@app.command()
def fetch(name: DataSet) -> None:
    """Get a data set's files, so that it can be used without a network."""
    from dltlab.data.catalog import fetch_all

    typer.echo(fetch_all(name))


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="The data set; by default all.")] = None,
) -> None:
    """Check every byte in your store."""
    from dltlab.data.catalog import faults

    found = list(faults(name))
    for line in found:
        typer.echo(line)
    if not found:
        typer.echo("Every byte in your store is right.")
    raise typer.Exit(1 if found else 0)


@app.command()
def remove(
    name: DataSet,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Remove a data set, or "pets@1" for one version, from your store."""
    from dltlab.data import catalog

    users = [] if yes else catalog.in_the_way(name)
    for line in users:
        typer.echo(line)
    if users and not typer.confirm(f"Remove {name} all the same?"):
        raise LabError(f"{name} is kept. To remove it without a question, add --yes.")
    typer.echo(catalog.remove(name))
