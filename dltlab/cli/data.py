"""Commands for data sets: those of the course, and a user's own images."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import examples, print_table
from dltlab.errors import LabError
from dltlab.paths import COURSE

app = typer.Typer(help="Data sets: the course's, and your own images.", no_args_is_help=True)


def _use_course(context: typer.Context, folder: Path | None) -> Path | None:
    """Find the data sets of the course in `folder` until the command ends."""
    if folder is not None:
        from dltlab.course import Course

        context.with_resource(_course_variable(Course.find(folder).root))
    return folder


@contextmanager
def _course_variable(root: Path) -> Iterator[None]:
    before = os.environ.get(COURSE)
    os.environ[COURSE] = str(root)
    try:
        yield
    finally:
        del os.environ[COURSE]
        if before is not None:
            os.environ[COURSE] = before


CourseFolder = Annotated[
    Path | None,
    typer.Option(
        "--course",
        help="The folder of a course with data sets of its own; by default DLTLAB_COURSE.",
        callback=_use_course,  # which is all that a command does with it
    ),
]
DataSet = Annotated[str, typer.Argument(metavar="NAME", help="The data set.")]


@app.command("list", epilog=examples("dltlab data list"))
def list_data(course: CourseFolder = None) -> None:
    """List every data set and where its bytes are."""
    from rich.table import Table

    from dltlab.data import list_datasets

    table = Table("name", "contents", "version", "location", box=None, pad_edge=False)
    for entry in list_datasets():
        table.add_row(entry.name, entry.contents, entry.version, entry.location)
    print_table(table)


@app.command("info", epilog=examples("dltlab data info shapes"))
def data_info(name: DataSet, course: CourseFolder = None) -> None:
    """Show what is known of a data set."""
    from dltlab.data import describe

    for heading, text in describe(name):
        typer.echo(f"{heading:<13} {text}")


@app.command(
    "import",
    epilog=examples(
        "dltlab data import my-images --name pets",
        "dltlab data import photos.zip --name pets --size 96",
    ),
)
def import_data(
    source: Annotated[Path, typer.Argument(help="A folder, a tar or zip archive, or a list.")],
    name: Annotated[str, typer.Option(help="The name of the new data set.")],
    validation: Annotated[
        float, typer.Option(help="Fraction held out for model selection, in [0, 1].")
    ] = 0.2,
    test: Annotated[
        float, typer.Option(help="Fraction held out for the final test, in [0, 1].")
    ] = 0.1,
    size: Annotated[int | None, typer.Option(help="Side of an image in pixels; 64.")] = None,
    resize: Annotated[str | None, typer.Option(help="crop (the default), squash or fit.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="What the folders are: classes, splits/classes, classes/splits or parts/classes "
            "(such as the folds of a cross-validation); by default what their names say."
        ),
    ] = None,
    min_per_class: Annotated[int, typer.Option(help="A class with fewer images is an error.")] = 5,
    max_per_class: Annotated[
        int | None, typer.Option(help="Import at most this number of images per class.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the division into splits.")] = 1,
    like: Annotated[
        str | None, typer.Option(help="A data set whose classes and image size to use.")
    ] = None,
    course: CourseFolder = None,
) -> None:
    """Import your own images: a folder for each class."""
    from dltlab.data import import_images

    result = import_images(
        source, name, validation=validation, test=test, size=size, resize=resize,  # type: ignore[arg-type]
        layout=layout,  # type: ignore[arg-type]
        min_per_class=min_per_class, max_per_class=max_per_class, seed=seed, like=like,
    )  # fmt: skip
    typer.echo(result)


@app.command(epilog=examples("dltlab data show shapes --out shapes.png"))
def show(
    name: DataSet,
    out: Annotated[Path | None, typer.Option(help="The PNG file; by default NAME.png.")] = None,
    course: CourseFolder = None,
) -> None:
    """Draw a contact sheet: images of each class, and how many there are."""
    import io

    from dltlab.data import contact_sheet
    from dltlab.errors import Invalid
    from dltlab.files import write_atomically
    from dltlab.paths import short_path

    path = out or Path(f"{name}.png")
    if not out and path.exists():
        raise Invalid(f"There is a file {path} already; name the one to write with --out.")
    sheet = contact_sheet(name)
    png = io.BytesIO()
    sheet.figure().savefig(png, format="png", dpi=100)
    write_atomically(path, png.getvalue())
    typer.echo(f"{sheet.alt}\nWrote {short_path(path)}.")


@app.command(epilog=examples("dltlab data fetch mnist"))
def fetch(name: DataSet, course: CourseFolder = None) -> None:
    """Download a data set's files, so that it can be used without a network."""
    from dltlab.data import fetch as fetch_files

    typer.echo(fetch_files(name))


@app.command(epilog=examples("dltlab data verify"))
def verify(
    name: Annotated[str | None, typer.Argument(help="The data set; by default all.")] = None,
    course: CourseFolder = None,
) -> None:
    """Verify the hash of every file in your store."""
    from dltlab.data import verify as find_problems

    problems = list(find_problems(name))
    for problem in problems:
        typer.echo(problem)
    if not problems:
        typer.echo("All files in your store are intact.")
    raise typer.Exit(1 if problems else 0)


@app.command(epilog=examples("dltlab data remove pets@1"))
def remove(
    name: DataSet,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    course: CourseFolder = None,
) -> None:
    """Remove a data set, or "pets@1" for one version, from your store."""
    from dltlab.data import remove as remove_dataset
    from dltlab.data import runs_using

    runs = [] if yes else runs_using(name)
    for sentence in runs:
        typer.echo(sentence)
    if runs and not typer.confirm(f"Remove {name} anyway?"):
        raise LabError(f"{name} was not removed. To remove it without a question, add --yes.")
    typer.echo(remove_dataset(name))
