"""Commands for an author: start, build, check and lint labs."""

import os
from typing import Annotated

import typer

from dltlab.cli.common import CourseFolder, Labs

app = typer.Typer()


@app.command()
def new(
    topic: Annotated[str, typer.Argument(help="Lower-case words joined by '_'.")],
    course: CourseFolder = None,
) -> None:
    """Start a lab that already builds, lints and passes."""
    from dltlab.authoring.new import new_lab
    from dltlab.paths import short_path

    source, checks = new_lab(topic, course)
    option = f" --course {course}" if course else ""
    typer.echo(f"Wrote {short_path(source)} and {short_path(checks)}.")
    typer.echo(f"Edit them, then run: dltlab build{option} && dltlab lint{option}")


@app.command()
def build(
    names: Labs = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare; execute nothing.")] = False,
    course: CourseFolder = None,
) -> None:
    """Turn solutions/*.py into the notebooks; only changed code is executed again."""
    import sys
    from time import perf_counter

    from dltlab.authoring import build as builder
    from dltlab.authoring.verify import require_verified
    from dltlab.course.catalog import Course

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # checks import TensorFlow
    chosen = Course.find(course)
    labs = chosen.read(names)
    if check:
        found = builder.differences(chosen, labs) + builder.orphans(chosen)
        for line in found:
            typer.echo(line)
        raise typer.Exit(1 if found else 0)
    stale = builder.stale(chosen, labs)
    sys.path[:0] = [] if chosen.is_own else [str(chosen.root)]
    for each in labs:
        if each in stale:
            typer.echo(f"{each.name}: checking its answers and running it …")
            start = perf_counter()
            if each.exercise_module:
                require_verified(each.exercise_module)
            path = builder.execute_solutions(chosen, each)
            typer.echo(f"{path.name}: done in {perf_counter() - start:.0f} s")
        builder.write_without_executing(chosen, each)
    typer.echo(f"Built: {len(labs)}. Executed anew: {len(stale)}.")


@app.command()
def lint(names: Labs = None, course: CourseFolder = None) -> None:
    """Check the sources against the rules of the house."""
    from dltlab.authoring.lint import lint as run_rules
    from dltlab.course.catalog import Course

    findings = run_rules(Course.find(course), names)
    for finding in findings:
        typer.echo(str(finding))
    raise typer.Exit(1 if findings else 0)
