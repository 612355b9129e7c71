"""Commands for learners: open the course, list labs, show progress, start a lab over."""

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
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The server's port.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    cold: Annotated[bool, typer.Option("--cold", help="Do not use warm kernels.")] = False,
    course: CourseFolder = None,
) -> None:
    """Open the course in JupyterLab."""
    from dltlab.course import Course, Workspace, jupyterlab_command, jupyterlab_environment
    from dltlab.kernels import PROVISIONER, prestart
    from dltlab.paths import COLD_KERNELS, short_path

    workspace = Workspace(folder, Course.find(course))
    lab_name = workspace.course.resolve(name).stem if name else None
    for message in workspace.update(lab_name):
        typer.echo(message)
    command = jupyterlab_command(workspace, lab_name, port, browser)
    typer.echo(
        f"Your notebooks are in {short_path(folder)}. Starting JupyterLab; Ctrl-C twice stops it."
    )
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
    from dltlab.course import Course, Workspace

    workspace = Workspace(folder, Course.find(course))
    lab_name = workspace.course.resolve(name).stem
    backup = workspace.reset(lab_name)
    typer.echo(
        f"{workspace.copy(lab_name)} is fresh." + (f" Your old copy: {backup}" if backup else "")
    )


@app.command("list")
def list_labs(course: CourseFolder = None) -> None:
    """List the labs of the course."""
    from rich.table import Table

    from dltlab.course import Course

    table = Table("lab", "title", "minutes", "memory", "GPU", box=None, pad_edge=False)
    labs, left_out = Course.find(course).read_valid()
    for lab in labs:
        front_matter = lab.front_matter
        minutes = sum(front_matter.minutes.model_dump().values())
        memory = f"{front_matter.memory_gb:g} GB"
        table.add_row(lab.name, front_matter.title, str(minutes), memory, front_matter.devices.gpu)
    print_table(table)
    for message in left_out:
        typer.echo(message, err=True)


@app.command()
def progress(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    course: CourseFolder = None,
) -> None:
    """Show your progress in each lab."""
    import json

    from rich.table import Table

    from dltlab.course import Course
    from dltlab.exercises import course_progress

    root = Course.find(course)
    labs = course_progress(root)
    if as_json:
        typer.echo(json.dumps([lab.as_dict() for lab in labs], indent=1))
        return
    table = Table("lab", "title", "passed", "still open", box=None, pad_edge=False)
    for lab in labs:
        still_open = ", ".join(f"{name} ({outcome})" for name, outcome in lab.still_open.items())
        table.add_row(lab.lab, lab.title, f"{lab.passed} of {len(lab.outcomes)}", still_open)
    print_table(table)
    for message in root.read_valid()[1]:
        typer.echo(message, err=True)
