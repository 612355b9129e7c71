"""Commands for authors: start, build, verify and lint labs."""

from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import CourseFolder, Labs, examples

app = typer.Typer()


@app.command(
    epilog=examples(
        "dltlab new my_topic",
        "dltlab new my_topic --course my-course",
        "dltlab new --from notebook.ipynb --course my-course",
    )
)
def new(
    topic: Annotated[
        str | None,
        typer.Argument(help="Lower-case words joined by '_'; with --from, the notebook's name."),
    ] = None,
    notebook: Annotated[
        Path | None,
        typer.Option("--from", help="A notebook or percent script whose cells the lab gets."),
    ] = None,
    course: CourseFolder = None,
) -> None:
    """Start a lab that already builds and passes lint, or make a lab of a notebook."""
    from dltlab.authoring import new_lab
    from dltlab.course import Course
    from dltlab.paths import short_path

    files = new_lab(topic, course, notebook)
    root = Course.find(course)
    typer.echo(f"Wrote {', '.join(map(short_path, files))}.")
    commands = " && ".join(map(root.command, ("lint", "verify", "build")))
    typer.echo(f"Edit the lab, then run: {commands}")


@app.command(epilog=examples("dltlab build", "dltlab build my_topic --course my-course"))
def build(
    names: Labs = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare; write nothing.")] = False,
    course: CourseFolder = None,
) -> None:
    """Build the notebooks from solutions/*.py; only changed code is executed again."""
    from dltlab import authoring
    from dltlab.course import Course
    from dltlab.paths import short_path

    root = Course.find(course)
    labs = root.read(names)
    if check:
        messages = authoring.differences(root, labs)
        for message in messages:
            typer.echo(message)
        raise typer.Exit(1 if messages else 0)
    executed = authoring.build(root, labs, report=typer.echo)
    for path, fault in root.without_source().items():
        typer.echo(f"{short_path(path)} {fault}")
    typer.echo(f"Built: {len(labs)}. Executed: {executed}.")


@app.command(epilog=examples("dltlab verify 01"))
def verify(names: Labs = None, course: CourseFolder = None) -> None:
    """Verify that the checks of labs tell correct answers from wrong ones."""
    from dltlab import authoring
    from dltlab.course import Course

    root = Course.find(course)
    labs = root.read(names)
    messages = authoring.verify_labs(root, labs)
    for line in messages or [authoring.summary(root, lab) for lab in labs]:
        typer.echo(line)
    raise typer.Exit(1 if messages else 0)


@app.command(epilog=examples("dltlab lint", "dltlab lint my_topic --course my-course"))
def lint(names: Labs = None, course: CourseFolder = None) -> None:
    """Check the sources of labs: headings, alt text, axis labels, paths, and more."""
    from dltlab import authoring
    from dltlab.course import Course

    root = Course.find(course)
    findings = authoring.lint(root, names)
    for finding in findings:
        typer.echo(str(finding))
    if not findings:
        count = len(names or root.lab_names())
        typer.echo(f"lint: {count} lab{'s' * (count != 1)}, no findings")
    raise typer.Exit(1 if findings else 0)
