"""Commands for learners: open the course, list labs, show progress, start a lab over."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dltlab.cli.common import CourseFolder, complete_lab, examples, print_table

if TYPE_CHECKING:
    from dltlab.exercises import LabProgress

app = typer.Typer()

WorkspaceFolder = Annotated[
    Path | None,
    typer.Option(
        "--dir", help="Your folder; by default the working folder if it is one, else 'workspace'."
    ),
]

_BAR_WIDTH = 20


class Profile(StrEnum):
    """The profiles of a lab."""

    SMOKE = "smoke"
    WORKSHOP = "workshop"
    FULL = "full"


@app.command(
    epilog=examples("dltlab lab", "dltlab lab 02", "dltlab lab --dir my-labs --no-browser")
)
def lab(
    name: Annotated[
        str | None,
        typer.Argument(metavar="LAB", help="The lab to open.", autocompletion=complete_lab),
    ] = None,
    folder: WorkspaceFolder = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The server's port.")] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is every network.")
    ] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    cold: Annotated[bool, typer.Option("--cold", help="Do not use warm kernels.")] = False,
    course: CourseFolder = None,
) -> None:
    """Open the course in JupyterLab."""
    from dltlab.course import Course, Workspace, jupyterlab_command, jupyterlab_environment
    from dltlab.kernels import PROVISIONER, prestart
    from dltlab.paths import COLD_KERNELS, short_path

    workspace = Workspace.find(folder, Course.find(course))
    lab_name = workspace.course.resolve(name).stem if name else None
    for message in [*workspace.update(lab_name), *workspace.course.missing_modules()]:
        typer.echo(message)
    command = jupyterlab_command(workspace, lab_name, port, browser, host)
    typer.echo(
        f"Your notebooks are in {short_path(workspace.folder)}. Starting JupyterLab; Ctrl-C twice "
        "stops it."
    )
    environment = {
        "JUPYTER_DEFAULT_PROVISIONER_NAME": PROVISIONER,
        **jupyterlab_environment(workspace),
        **({COLD_KERNELS: "1"} if cold else {}),
    }
    prestart(environment)
    os.execve(command[0], command, environment)  # noqa: S606


@app.command(epilog=examples("dltlab reset 01", "dltlab reset first_network --dir my-labs"))
def reset(
    name: Annotated[
        str,
        typer.Argument(metavar="LAB", help="The lab to start over.", autocompletion=complete_lab),
    ],
    folder: WorkspaceFolder = None,
    course: CourseFolder = None,
) -> None:
    """Start a lab and its progress over; your old copy is kept."""
    from dltlab.course import Course, Workspace
    from dltlab.exercises import restart_lab
    from dltlab.paths import short_path

    workspace = Workspace.find(folder, Course.find(course))
    lab_name = workspace.course.resolve(name).stem
    backup = workspace.reset(lab_name)
    restart_lab(lab_name)
    typer.echo(
        f"{short_path(workspace.copy(lab_name))} is new, and nothing in it counts as passed. If it "
        "is open in JupyterLab, choose File > Reload Notebook from Disk."
    )
    if backup:
        typer.echo(f"Your old copy: {short_path(backup)}")


@app.command("list", epilog=examples("dltlab list"))
def list_labs(course: CourseFolder = None) -> None:
    """List the labs of the course."""
    from rich.table import Table

    from dltlab.course import Course

    table = Table("lab", "title", "minutes", "memory", "GPU", box=None, pad_edge=False)
    root = Course.find(course)
    labs, left_out = root.outlines()
    for lab in labs:
        front_matter = lab.front_matter
        minutes = sum(front_matter.minutes.model_dump().values())
        memory = f"{front_matter.memory_gb:g} GB"
        table.add_row(lab.name, front_matter.title, str(minutes), memory, front_matter.devices.gpu)
    print_table(table)
    for message in [*left_out, *root.missing_modules()]:
        typer.echo(message, err=True)


@app.command(epilog=examples("dltlab profile 01 full > full.yaml"))
def profile(
    name: Annotated[
        str, typer.Argument(metavar="LAB", help="The lab.", autocompletion=complete_lab)
    ],
    profile_name: Annotated[
        Profile, typer.Argument(metavar="PROFILE", help="smoke, workshop or full.")
    ],
    course: CourseFolder = None,
) -> None:
    """Print a lab's parameters in a profile as YAML, for papermill's option -f."""
    import yaml

    from dltlab.course import Course

    (lab,) = Course.find(course).read([name])
    values = lab.parameters | getattr(lab.front_matter.profiles, profile_name.value)
    typer.echo(yaml.safe_dump(values, sort_keys=False), nl=False)


@app.command(epilog=examples("dltlab progress", "dltlab progress --details"))
def progress(
    details: Annotated[bool, typer.Option("--details", help="Show each exercise.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    course: CourseFolder = None,
) -> None:
    """Show your progress in each lab."""
    import json

    from dltlab.course import Course
    from dltlab.exercises import course_progress, lab_to_continue

    root = Course.find(course)
    labs = course_progress(root)
    if as_json:
        typer.echo(json.dumps([lab.as_dict() for lab in labs], indent=1))
        return
    _print_bars(labs, details)
    if lab := lab_to_continue(labs):
        typer.echo(f"\nNext: {next(iter(lab.still_open))} in lab {lab.lab[:2]}")
    for message in root.outlines()[1]:
        typer.echo(message, err=True)


def _print_bars(labs: "list[LabProgress]", details: bool) -> None:
    """Print one bar for each lab; with `details`, also each exercise and its outcome."""
    from rich.table import Table

    table = Table("lab", "progress", "passed", box=None, pad_edge=False)
    for lab in labs:
        count = len(lab.outcomes)
        done = _BAR_WIDTH * lab.passed // max(count, 1)
        bar = "━" * done + "─" * (_BAR_WIDTH - done)  # told apart without colors, too
        table.add_row(f"{lab.lab[:2]} {lab.title}", bar, f"{lab.passed} of {count}")
        for name, outcome in lab.outcomes.items() if details else ():
            table.add_row(f"   {name}", outcome.value)
    print_table(table)
