"""Commands for trained models: classify images, compile an engine, serve it."""

from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import examples, print_table
from dltlab.cli.data import CourseFolder
from dltlab.inference import BACKENDS
from dltlab.paths import TOKEN

app = typer.Typer()

_SHOWN_ROWS = 20


@app.command(epilog=examples("dltlab classify runs/one my-images --out answers.csv"))
def classify(
    model: Annotated[Path, typer.Argument(help="A .keras file, or the folder of a training run.")],
    images: Annotated[list[Path], typer.Argument(help="Files, or folders of them.")],
    out: Annotated[
        Path | None, typer.Option(help="A CSV file to write all probabilities to.")
    ] = None,
    resize: Annotated[
        str, typer.Option(help="How an image becomes a square: crop, squash or fit.")
    ] = "crop",
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="An image may have several labels.")
    ] = False,
) -> None:
    """Classify images with a trained model."""
    from rich.markup import escape
    from rich.table import Table

    from dltlab.display import printable
    from dltlab.paths import short_path
    from dltlab.training import classify as classify_files

    results = classify_files(model, images, resize=resize, multi_label=multi_label, out=out)  # type: ignore[arg-type]
    table = Table(box=None, pad_edge=False)
    for name in ("file", "class", "probability"):
        table.add_column(name, overflow="fold")
    columns = ["file", "class", "probability", "problem"]
    for file, name, probability, problem in results[columns].head(_SHOWN_ROWS).to_numpy():
        cells = (file, problem, "") if problem else (file, name, f"{probability:.3f}")
        table.add_row(*(escape(printable(cell)) for cell in cells))
    print_table(table)
    if len(results) > _SHOWN_ROWS:
        typer.echo(f"… and {len(results) - _SHOWN_ROWS:,} more.")
    if out:
        typer.echo(f"Wrote {short_path(out)}.")


@app.command(epilog=examples("dltlab optimize network.keras --data shapes --precision int8"))
def optimize(
    model: Annotated[Path, typer.Argument(help="A .keras file.")],
    data_set: Annotated[
        str | None,
        typer.Option("--data", help="A data set, for calibration and for the accuracy check."),
    ] = None,
    backend: Annotated[str, typer.Option(help=f"auto, {', '.join(BACKENDS)}.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16, float16 or int8.")
    ] = "auto",
    batch_size: Annotated[int, typer.Option(help="Examples in a call.")] = 1,
    max_accuracy_drop: Annotated[
        float, typer.Option(help="The fraction of the accuracy that may be lost, in [0, 1].")
    ] = 0.01,
    out: Annotated[Path, typer.Option(help="The engine's folder.")] = Path("engine"),
    trust: Annotated[
        bool, typer.Option("--trust-code", help="Run Python code that is in the file.")
    ] = False,
    course: CourseFolder = None,
) -> None:
    """Compile a trained model into a fast engine that is still accurate."""
    from dltlab.inference import load_samples, report
    from dltlab.inference import optimize as compile_model
    from dltlab.models import load_model
    from dltlab.paths import short_path

    loaded = load_model(model, trusted=trust)
    samples = load_samples(data_set) if data_set else (None, None, ())
    calibration, validation, class_names = samples
    engine = compile_model(
        loaded,
        backend=backend,
        precision=precision,
        calibration=calibration,
        validation=validation,
        batch_size=batch_size,
        max_accuracy_drop=max_accuracy_drop,
        class_names=class_names,
    )
    for note in engine.notes:
        typer.echo(note)
    typer.echo(report(engine))
    typer.echo(f"Wrote {short_path(engine.save(out))}.")


@app.command(epilog=examples("dltlab serve engine --port 8000"))
def serve(
    folder: Annotated[Path, typer.Argument(metavar="ENGINE", help="The folder of an engine.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")] = 8000,
    batch_size: Annotated[int, typer.Option(help="Examples that share a call, at most.")] = 8,
    streams: Annotated[int, typer.Option(help="Calls at the same time.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Of all calls together; by default as many as cores.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(envvar=TOKEN, help="By default a new one; '' for none."),
    ] = None,
) -> None:
    """Answer HTTP requests with an engine, until Ctrl-C or SIGTERM.

    POST /predict takes JSON, an array in .npy format, or an image file. The printed curl command
    sends an example; the guide, under Compile and serve, describes requests and answers.
    """
    import secrets

    from dltlab import inference

    secret = secrets.token_urlsafe() if token is None else token
    with inference.listener(host, port, secret) as listener:
        engine = inference.Engine.load(folder, batch_size=batch_size)
        engine = engine.configured(streams=streams, threads=threads)
        address = inference.address_of(listener)
        typer.echo(f"{engine}\n{address}/predict, token: {secret or 'none'}")
        typer.echo(f"Try it: {inference.curl_command(engine, address, secret)}")
        inference.serve(engine, listener, secret)
