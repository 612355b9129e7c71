"""The command line: each command a few lines over the rooms below."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dltlab.errors import LabError

app = typer.Typer(
    help="dltlab: learn accelerated deep learning by doing.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
kernels = typer.Typer(help="See and stop warm kernels.", no_args_is_help=True)
app.add_typer(kernels, name="kernels")
data = typer.Typer(help="Data sets: the course's, and your own images.", no_args_is_help=True)
app.add_typer(data, name="data")

DataSet = Annotated[str, typer.Argument(metavar="NAME", help="The data set.")]
Labs = Annotated[list[str] | None, typer.Argument(help="Labs by number or name; all by default.")]
CourseFolder = Annotated[
    Path | None,
    typer.Option("--course", help="A course of your own; by default DLTLAB_COURSE, else dltlab's."),
]
WorkspaceFolder = Annotated[Path, typer.Option("--dir", help="The learner's folder.")]
_WORKSPACE = Path("workspace")
_STOPPED = 130  # the exit code that Typer gives Ctrl-C
_SHOWN_ROWS = 20
_BACKENDS = (
    "auto, keras, tf.function, xla, litert, onnxruntime, openvino, openvino-gpu or tensorrt."
)


def main() -> None:
    """Run the command line; what the user can mend is one sentence and exit code 2."""
    try:
        app()
    except LabError as error:
        typer.echo(f"dltlab: {error}", err=True)
        raise SystemExit(2) from None
    except SystemExit as end:
        if end.code == _STOPPED:
            typer.echo("dltlab: stopped; what was finished is kept.", err=True)
        raise


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
    from dltlab.course.front_matter import shown
    from dltlab.course.server import jupyterlab_command, jupyterlab_environment
    from dltlab.course.workspace import Workspace

    workspace = Workspace(folder, Course.find(course))
    chosen = workspace.course.resolve(name).stem if name else None
    for message in workspace.update():
        typer.echo(message)
    command = jupyterlab_command(workspace, chosen, port, browser)
    typer.echo(f"Your notebooks are in {shown(folder)}. JupyterLab starts; Ctrl-C twice stops it.")
    os.execve(command[0], command, jupyterlab_environment(workspace, cold))  # noqa: S606


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
    _print(table)


@app.command()
def progress(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    course: CourseFolder = None,
) -> None:
    """Show how far you are in each lab."""
    import json

    from rich.table import Table

    from dltlab.course.catalog import Course
    from dltlab.exercises.progress import progress as progress_of

    labs = progress_of(Course.find(course))
    if as_json:
        typer.echo(json.dumps([each.as_dict() for each in labs], indent=1))
        return
    table = Table("lab", "title", "passed", "still open", box=None, pad_edge=False)
    for each in labs:
        still_open = ", ".join(f"{name} ({how})" for name, how in each.still_open.items())
        table.add_row(each.lab, each.title, f"{each.passed} of {len(each.outcomes)}", still_open)
    _print(table)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Start TensorFlow, too; seconds.")] = False,
) -> None:
    """Tell what is right and wrong with this machine, and what mends it."""
    import json

    from dltlab.devices.doctor import Level, diagnose

    lines = diagnose(deep)
    if as_json:
        typer.echo(json.dumps([line.as_dict() for line in lines], indent=1))
    else:
        colors = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
        for line in lines:
            level = typer.style(f"{line.level:<8}", fg=colors[line.level])
            typer.echo(f"{level} {line.about:<13} {line.says}")
            if line.mend:
                typer.echo(f"{'':<22} → {line.mend}")
    raise typer.Exit(any(line.level is Level.PROBLEM for line in lines))


@app.command()
def new(
    topic: Annotated[str, typer.Argument(help="Lower-case words joined by '_'.")],
    course: CourseFolder = None,
) -> None:
    """Start a lab that already builds, lints and passes."""
    from dltlab.course.front_matter import shown
    from dltlab.authoring.new import new_lab

    source, checks = new_lab(topic, course)
    option = f" --course {course}" if course else ""
    typer.echo(f"Wrote {shown(source)} and {shown(checks)}.")
    typer.echo(f"Edit them, then run: dltlab build{option} && dltlab lint{option}")


@app.command()
def build(
    names: Labs = None,
    check: Annotated[bool, typer.Option("--check", help="Only compare; execute nothing.")] = False,
    course: CourseFolder = None,
) -> None:
    """Turn solutions/*.py into the notebooks; only changed code is executed again."""
    import os
    import sys
    from time import perf_counter

    from dltlab.authoring import build as builder
    from dltlab.course.catalog import Course
    from dltlab.authoring.verify import require_verified

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
    from dltlab.course.catalog import Course
    from dltlab.authoring.lint import lint as run_rules

    findings = run_rules(Course.find(course), names)
    for finding in findings:
        typer.echo(str(finding))
    raise typer.Exit(1 if findings else 0)


@app.command()
def classify(
    model: Annotated[Path, typer.Argument(help="A .keras file, or the folder of a run.")],
    images: Annotated[list[Path], typer.Argument(help="Files, or folders of them.")],
    out: Annotated[Path | None, typer.Option(help="A CSV file for every probability.")] = None,
    resize: Annotated[str, typer.Option(help="crop, squash or fit.")] = "crop",
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="Classes do not exclude each other.")
    ] = False,
) -> None:
    """Let a trained model say what is in images."""
    with _without_greeting():
        import tensorflow  # noqa: F401
    from rich.markup import escape
    from rich.table import Table

    from dltlab.course.front_matter import shown
    from dltlab.display import printable
    from dltlab.training.classification import classify as classify_files

    found = classify_files(model, images, resize=resize, multi_label=multi_label, out=out)  # type: ignore[arg-type]
    table = Table(box=None, pad_edge=False)
    for name in ("file", "class", "probability"):
        table.add_column(name, overflow="fold")
    columns = ["file", "class", "probability", "problem"]
    for file, kind, probability, problem in found[columns].head(_SHOWN_ROWS).to_numpy():
        says = (problem, "") if problem else (kind, f"{probability:.3f}")
        table.add_row(*(escape(printable(each)) for each in (file, *says)))
    _print(table)
    if len(found) > _SHOWN_ROWS:
        typer.echo(f"… and {len(found) - _SHOWN_ROWS:,} more.")
    if out:
        typer.echo(f"Wrote {shown(out)}.")


@app.command()
def optimize(
    model: Annotated[Path, typer.Argument(help="A .keras file.")],
    data_set: Annotated[
        str | None, typer.Option("--data", help="A data set to calibrate and to judge by.")
    ] = None,
    backend: Annotated[str, typer.Option(help=_BACKENDS)] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, float16 or int8.")
    ] = "auto",
    batch: Annotated[int, typer.Option(help="Examples in a call.")] = 1,
    tolerance: Annotated[float, typer.Option(help="Share of accuracy that may be lost.")] = 0.01,
    out: Annotated[Path, typer.Option(help="The engine's folder.")] = Path("engine"),
    trust: Annotated[
        bool, typer.Option("--trust-code", help="Run Python code that is in the file.")
    ] = False,
) -> None:
    """Compile a trained model into a fast engine that is still right."""
    with _without_greeting():
        import tensorflow  # noqa: F401
    from dltlab.course.front_matter import shown
    from dltlab.inference.optimization import optimize as compile_model
    from dltlab.inference.samples import samples
    from dltlab.models.loading import load_model

    loaded = load_model(model, trusted=trust)
    calibration, validation = samples(data_set) if data_set else (None, None)
    engine = compile_model(
        loaded, backend=backend, precision=precision, calibration=calibration,
        validation=validation, batch=batch, tolerance=tolerance,
    )  # fmt: skip
    for note in engine.notes:
        typer.echo(note)
    typer.echo(engine.report())
    typer.echo(f"Wrote {shown(engine.save(out))}.")


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(metavar="ENGINE", help="The folder of an engine.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    batch: Annotated[int, typer.Option(help="Examples that share a call, at most.")] = 8,
    streams: Annotated[int, typer.Option(help="Calls at once.")] = 1,
    token: Annotated[
        str | None,
        typer.Option(envvar="DLTLAB_TOKEN", help="By default a new one; '' for none."),
    ] = None,
) -> None:
    """Answer over HTTP with an engine, until Ctrl-C or SIGTERM."""
    import secrets

    from dltlab.inference import Engine, serving

    secret = secrets.token_urlsafe() if token is None else token
    with serving.listener(host, port, secret) as listener:
        with _without_greeting():  # the engine may need TensorFlow
            engine = Engine.load(folder, batch=batch).configured(streams=streams)
        typer.echo(f"{engine}\n{serving.address_of(listener)}/predict, token: {secret or 'none'}")
        serving.serve(engine, listener, secret)


@kernels.command()
def status() -> None:
    """Show the processes that have TensorFlow loaded for your next kernel."""
    from datetime import datetime

    from rich.table import Table

    from dltlab.kernels import pool

    table = Table("process", "state", "since", "kernels", "memory", box=None, pad_edge=False)
    for each in pool.zygotes():
        state = "retired" if each.retired else "ready" if each.ready else "warming up"
        since = f"{datetime.fromtimestamp(each.since):%H:%M:%S}" if each.ready else ""
        memory = f"{each.memory / 1e6:.0f} MB"
        table.add_row(str(each.pid), state, since, str(len(each.kernels)), memory)
    _print(table)


@kernels.command()
def stop() -> None:
    """End them; kernels that run go on."""
    from dltlab.kernels import pool

    states = pool.stop()
    last = sum(bool(each.kernels) for each in states)
    typer.echo(
        f"Stopped: {len(states) - last}." + (f" With their last kernel: {last}." if last else "")
    )


@data.command("list")
def list_data() -> None:
    """List every data set, and where its bytes are."""
    from rich.table import Table

    from dltlab.data.catalog import shelf

    table = Table("name", "holds", "version", "where", box=None, pad_edge=False)
    for line in shelf():
        table.add_row(line.name, line.holds, line.version, line.where)
    _print(table)


@data.command("info")
def data_info(name: DataSet) -> None:
    """Tell what is known of a data set."""
    from dltlab.data.catalog import facts

    for about, says in facts(name):
        typer.echo(f"{about:<13} {says}")


@data.command("import")
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


@data.command()
def show(
    name: DataSet,
    out: Annotated[Path | None, typer.Option(help="The PNG; by default NAME.png.")] = None,
) -> None:
    """Draw a contact sheet: images of each class, and how many there are."""
    import io

    from dltlab.course.front_matter import shown
    from dltlab.data.contact_sheet import contact_sheet
    from dltlab.files import write_atomically

    figure, alt = contact_sheet(name)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    path = out or Path(f"{name}.png")
    write_atomically(path, png.getvalue())
    typer.echo(f"{alt}\nWrote {shown(path)}.")


@data.command()
def fetch(name: DataSet) -> None:
    """Get a data set's files, so that it can be used without a network."""
    from dltlab.data.catalog import fetch_all

    typer.echo(fetch_all(name))


@data.command()
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


@data.command()
def remove(
    name: DataSet,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Remove a data set, or "pets@1" for one version, from your store."""
    from dltlab.data import catalog as shelf

    users = [] if yes else shelf.in_the_way(name)
    for line in users:
        typer.echo(line)
    if users and not typer.confirm(f"Remove {name} all the same?"):
        raise LabError(f"{name} is kept. To remove it without a question, add --yes.")
    typer.echo(shelf.remove(name))


def _print(table: object) -> None:
    from rich.console import Console

    Console().print(table)


@contextmanager
def _without_greeting() -> Iterator[None]:
    """TensorFlow, imported in here, does not greet on stderr, as it does at any log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
