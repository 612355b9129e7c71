"""Options and helpers that several command groups share."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Labs = Annotated[list[str] | None, typer.Argument(help="Labs by number or name; all by default.")]
CourseFolder = Annotated[
    Path | None,
    typer.Option("--course", help="A course of your own; by default DLTLAB_COURSE, else dltlab's."),
]


def print_table(table: object) -> None:
    """Print a Rich table as wide as the terminal."""
    from rich.console import Console

    Console().print(table)


@contextmanager
def without_greeting() -> Iterator[None]:
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
