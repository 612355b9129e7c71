"""A table of results in a file: who reached what, the best first."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from dltlab.errors import LabError
from dltlab.files import cannot_write, lock_folder, write_atomically


@dataclass(frozen=True)
class Entry:
    """A line of a leaderboard.

    Attributes:
        who: Whose result it is.
        accuracy: The share of test images that are classified rightly, in [0, 1].
        parameters: How many numbers the network has learned.
        seconds: How long it trained.
        when: Date and time, as in "2017-06-27 09:30".
    """

    who: str
    accuracy: float
    parameters: int
    seconds: float
    when: str

    @classmethod
    def now(cls, accuracy: float, parameters: int, seconds: float) -> "Entry":
        """A result of the person who is at work here, of this minute."""
        who = os.environ.get("JUPYTERHUB_USER", "you")
        when = datetime.now().strftime("%Y-%m-%d %H:%M")
        return cls(who, round(accuracy, 4), parameters, round(seconds, 1), when)


def read(path: str | Path) -> list[Entry]:
    """The entries of a leaderboard file, the best first; none where there is no file yet.

    Raises:
        LabError: The file cannot be read, or is no leaderboard.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        found = [
            Entry(
                line["who"],
                float(line["accuracy"]),
                int(line["parameters"]),
                float(line["seconds"]),
                line["when"],
            )
            for line in lines
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise LabError(
            f"{path} is no leaderboard ({type(error).__name__}: {error}). Move it away, and a new "
            "one is begun."
        ) from error
    return sorted(found, key=lambda each: -each.accuracy)


def enter(path: str | Path, entries: Sequence[Entry]) -> list[Entry]:
    """Add entries to a leaderboard file, and return all of it, the best first.

    Several may enter at once: each waits until the one before has written.

    Raises:
        LabError: The file is no leaderboard, or cannot be written; it is left as it is.
    """
    if not entries:
        return read(path)
    path = Path(path)
    try:
        with lock_folder(path.parent):
            every = sorted([*read(path), *entries], key=lambda each: -each.accuracy)
            text = io.StringIO()
            names = [field.name for field in fields(Entry)]
            writer = csv.DictWriter(text, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, every))
            write_atomically(path, text.getvalue())
    except OSError as error:
        raise cannot_write(path, error) from error
    return every


def show(entries: Sequence[Entry]) -> None:
    """Show entries as a table."""
    import pandas as pd
    from IPython.display import display

    table = pd.DataFrame(
        [asdict(each) for each in entries], columns=[field.name for field in fields(Entry)]
    )
    table.index = pd.RangeIndex(1, len(table) + 1)
    display(table)
