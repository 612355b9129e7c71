"""A leaderboard in a CSV file, the best result first."""

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from dltlab.errors import Damaged
from dltlab.files import cannot_write, lock_folder, write_atomically


@dataclass(frozen=True)
class LeaderboardEntry:
    """A line of a leaderboard.

    Attributes:
        who: Name of the person.
        accuracy: Fraction of test images that are classified correctly, in [0, 1].
        parameters: Number of trainable parameters of the network.
        seconds: Duration of its training.
        when: Date and time, as in "2017-06-27 09:30".
    """

    who: str
    accuracy: float
    parameters: int
    seconds: float
    when: str

    @classmethod
    def now(cls, accuracy: float, parameters: int, seconds: float) -> "LeaderboardEntry":
        """Return an entry of the current user, with the current time."""
        who = os.environ.get("JUPYTERHUB_USER", "you")
        when = datetime.now().strftime("%Y-%m-%d %H:%M")
        return cls(who, round(accuracy, 4), parameters, round(seconds, 1), when)


def read_leaderboard(path: str | Path) -> list[LeaderboardEntry]:
    """Return the entries of a leaderboard file, the best first; none where there is no file.

    Raises:
        Damaged: The file cannot be read, or is not a leaderboard.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        entries = [
            LeaderboardEntry(
                row["who"],
                float(row["accuracy"]),
                int(row["parameters"]),
                float(row["seconds"]),
                row["when"],
            )
            for row in rows
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise Damaged(
            f"{path} is not a leaderboard ({type(error).__name__}: {error}). Move it away, and a "
            "new one is started."
        ) from error
    return _best_first(entries)


def add_to_leaderboard(
    path: str | Path, entries: Sequence[LeaderboardEntry]
) -> list[LeaderboardEntry]:
    """Add entries to a leaderboard file, and return all entries, the best first.

    Several processes may add at once: each waits for the one before.

    Raises:
        Damaged: The file is not a leaderboard; it is left unchanged.
        Unavailable: The file cannot be written; it is left unchanged.
    """
    if not entries:
        return read_leaderboard(path)
    path = Path(path)
    try:
        with lock_folder(path.parent):
            all_entries = _best_first([*read_leaderboard(path), *entries])
            text = io.StringIO()
            names = [field.name for field in fields(LeaderboardEntry)]
            writer = csv.DictWriter(text, names, lineterminator="\n")
            writer.writeheader()
            writer.writerows(map(asdict, all_entries))
            write_atomically(path, text.getvalue())
    except OSError as error:
        raise cannot_write(path, error) from error
    return all_entries


def show_leaderboard(entries: Sequence[LeaderboardEntry]) -> None:
    """Show entries as a table, numbered from 1."""
    import pandas as pd
    from IPython.display import display

    columns = [field.name for field in fields(LeaderboardEntry)]
    table = pd.DataFrame(map(asdict, entries), columns=columns)
    table.index = pd.RangeIndex(1, len(table) + 1)
    display(table)


def _best_first(entries: Sequence[LeaderboardEntry]) -> list[LeaderboardEntry]:
    return sorted(entries, key=lambda entry: -entry.accuracy)
