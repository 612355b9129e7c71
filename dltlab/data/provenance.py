"""Which data this process has used, and a record of it beside a run's results."""

import json
from pathlib import Path

from dltlab.data.card import Card
from dltlab.data.store import Manifest, note_run
from dltlab.files import write_atomically

_used: dict[str, Card | Manifest] = {}


def used(about: Card | Manifest) -> None:
    """Remember that this process has loaded a data set."""
    _used[about.tag] = about


def record(run: str | Path) -> None:
    """Write `data.json` into the folder of a run: the data that this process has loaded so far.

    For each its name, version and content hash. The store remembers the run, so that the version of
    an imported data set which it used is not removed unasked.

    Raises:
        LabError: The file cannot be written.
    """
    folder = Path(run)
    rows = [
        {"name": each.name, "version": each.version, "content_hash": each.content_hash}
        for each in _used.values()
    ]
    write_atomically(folder / "data.json", json.dumps(rows, indent=1))
    for each in _used.values():
        if isinstance(each, Manifest):
            note_run(each, folder)
