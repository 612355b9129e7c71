"""The data sets that a `tf.data.Dataset` was made from, and their record in a run's folder."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from dltlab.data import store
from dltlab.data.catalog import Dataset, info
from dltlab.data.imported import ImportedDataset
from dltlab.data.pipeline import inputs_of
from dltlab.errors import Damaged
from dltlab.files import write_atomically

if TYPE_CHECKING:
    import tensorflow as tf

RECORD = "data.json"

_origins: "WeakKeyDictionary[tf.data.Dataset, Dataset]" = WeakKeyDictionary()


def set_origin(pipeline: "tf.data.Dataset", dataset: Dataset) -> None:
    """Note that `pipeline` was made from `dataset`."""
    _origins[pipeline] = dataset


def provenance_of(pipeline: "tf.data.Dataset") -> list[Dataset]:
    """Return the data sets that a pipeline was made from.

    They are known of what `dltlab.data.load` returns, and of what is derived from it by `map`,
    `take`, `batch`, `zip`, `concatenate` and the like. They are not known of arrays, texts and
    series, nor of pipelines that are made inside `flat_map` or `interleave`.
    """
    return list({dataset.tag: dataset for dataset in _known_origins(pipeline)}.values())


def write_provenance(run_dir: str | Path, sources: "Iterable[tf.data.Dataset | str]") -> None:
    """Record in a run's folder which data it uses: the file `data.json`.

    It holds the name, version and content hash of each data set. The store notes the run, so that
    `dltlab data remove` asks before it removes the version of an imported data set.

    Args:
        run_dir: The folder of the run; it is created if it is missing.
        sources: Pipelines, whose data sets are recorded as far as `provenance_of` knows them, and
            names of data sets.

    Raises:
        NotFound: There is no data set of that name.
        Unavailable: The file cannot be written.
    """
    datasets: dict[str, Dataset] = {}
    for source in sources:
        for dataset in [info(source)] if isinstance(source, str) else provenance_of(source):
            datasets[dataset.tag] = dataset
    rows = [
        {"name": dataset.name, "version": dataset.version, "content_hash": dataset.content_hash}
        for dataset in datasets.values()
    ]
    write_atomically(Path(run_dir) / RECORD, json.dumps(rows, indent=1))
    for dataset in datasets.values():
        if isinstance(dataset, ImportedDataset):
            store.note_run(dataset, Path(run_dir))


def read_provenance(run_dir: str | Path) -> list[str]:
    """Return the data sets that a run used, as `info` takes them: "mnist", "pets@1".

    Returns:
        Their names; [] where the run has no record.

    Raises:
        Damaged: The record cannot be read.
    """
    path = Path(run_dir) / RECORD
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        # The version of an imported data set is a number, that of a card a text.
        return [
            row["name"] if isinstance(row["version"], str) else f"{row['name']}@{row['version']}"
            for row in rows
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} is damaged: remove it.") from error


def _known_origins(pipeline: "tf.data.Dataset") -> Iterator[Dataset]:
    if pipeline in _origins:
        yield _origins[pipeline]
        return
    for source in inputs_of(pipeline):
        yield from _known_origins(source)
