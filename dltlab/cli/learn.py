"""Commands for a learner: open the course, see progress, start a lab over."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import CourseFolder, print_table

app = typer.Typer()

WorkspaceFolder = Annotated[Path, typer.Option("--dir", help="The learner's folder.")]
_WORKSPACE = Path("workspace")


@app.command()
def lab(
    name: Annotated[str | None, typer.Argument(metavar="LAB", help="The lab to open.")] = None,
    folder: WorkspaceFolder = _WORKSPACE,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The port to use.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open one.")] = True,
    cold: Annotated[bool, typer.Option("--cold", help="No warm kernels.")] = False,
    course: CourseFolder = None,
) -> None:
    """Open the course in JupyterLab."""
    from dltlab.course.catalog import Course
    from dltlab.course.server import jupyterlab_command, jupyterlab_environment
    from dltlab.course.workspace import Workspace
    from dltlab.kernels import PROVISIONER, prestart
    from dltlab.paths import COLD_KERNELS, short_path

    workspace = Workspace(folder, Course.find(course))
    chosen = workspace.course.resolve(name).stem if name else None
    for message in workspace.update():
        typer.echo(message)
    command = jupyterlab_command(workspace, chosen, port, browser)
    where = short_path(folder)
    typer.echo(f"Your notebooks are in {where}. JupyterLab starts; Ctrl-C twice stops it.")
    environment = {
        "JUPYTER_DEFAULT_PROVISIONER_NAME": PROVISIONER,
        **jupyterlab_environment(workspace),
        **({COLD_KERNELS: "1"} if cold else {}),
    }
    prestart(environment)
    os.execve(command[0], command, environment)  # noqa: S606


@app.command()
def reset(
    name: Annotated[str, typer.Argument(metavar="LAB", help="The lab to start over.")],
    folder: WorkspaceFolder = _WORKSPACE,
    course: CourseFolder = None,
) -> None:
    """Start a lab over; your old copy is kept."""
    from dltlab.course.catalog import Course
    from dltlab.course.workspace import Workspace

    workspace = Workspace(folder, Course.find(course))
    lab = workspace.course.resolve(name).stem
    kept = workspace.reset(lab)
    typer.echo(f"{workspace.copy(lab)} is fresh." + (f" Your old copy: {kept}" if kept else ""))


@app.command("list")
def list_labs(course: CourseFolder = None) -> None:
    """List the labs of the course."""
    from rich.table import Table

    from dltlab.course.catalog import Course

    table = Table("lab", "title", "minutes", "memory", "GPU", box=None, pad_edge=False)
    for each in Course.find(course).read():
        about = each.front_matter
        minutes = about.minutes.read + about.minutes.exercise + about.minutes.compute
        table.add_row(
            each.name, about.title, str(minutes), f"{about.memory_gb:g} GB", about.devices.gpu
        )
    print_table(table)


@app.command()
def progress(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    course: CourseFolder = None,
) -> None:
    """Show how far you are in each lab."""
    import json

    from rich.table import Table

    from dltlab.course.catalog import Course
    from dltlab.exercises import course_progress

    labs = course_progress(Course.find(course))
    if as_json:
        typer.echo(json.dumps([each.as_dict() for each in labs], indent=1))
        return
    table = Table("lab", "title", "passed", "still open", box=None, pad_edge=False)
    for each in labs:
        still_open = ", ".join(f"{name} ({how})" for name, how in each.still_open.items())
        table.add_row(each.lab, each.title, f"{each.passed} of {len(each.outcomes)}", still_open)
    print_table(table)
