"""The store of imported images: versions, removal, and notes of runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltlab import data
from dltlab.data import store
from dltlab.errors import Damaged, NotFound, Unavailable


@pytest.fixture(autouse=True)
def pets(own_store: Path, tmp_path: Path) -> Path:
    """The folder of the data set `pets` with the versions 1 and 2."""
    random = np.random.default_rng(1)
    for number in range(20):
        path = tmp_path / "source" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    for size in (8, 9):
        data.import_images(tmp_path / "source", "pets", size=size)
    return own_store / "pets"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The folder of a run with a record."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "data.json").write_text("[]")
    return folder


def test_versions_are_read_by_tag() -> None:
    assert store.versions("pets") == [1, 2]
    assert store.read_imported("pets").version == 2
    assert store.read_imported("pets@1").size == 8
    assert [dataset.tag for dataset in store.imported_datasets()] == ["pets@1", "pets@2"]


@pytest.mark.parametrize("name", ["dogs", "../pets", "", "Pets"])
def test_other_names_have_no_versions(name: str) -> None:
    assert store.versions(name) == []
    with pytest.raises(NotFound, match="no imported data set"):
        store.read_imported(name)


def test_folders_that_are_not_versions_are_ignored(pets: Path) -> None:
    (pets / "notes").mkdir()
    (pets / "notes" / "manifest.json").write_text("{}")
    (pets / "3").mkdir()
    assert store.versions("pets") == [1, 2]


def test_a_version_number_is_never_used_twice(tmp_path: Path) -> None:
    store.remove("pets", 2)
    assert (store.versions("pets"), store.last_version("pets")) == ([1], 2)
    assert data.import_images(tmp_path / "source", "pets", size=10).dataset.version == 3
    for version in (1, 3):
        store.remove("pets", version)
    assert data.import_images(tmp_path / "source", "pets", size=8).dataset.version == 4


def test_what_a_killed_removal_has_left_is_removed_later(pets: Path) -> None:
    (pets / "1").rename(pets / ".1.removed")
    assert store.versions("pets") == [2]
    with store.locked("pets"):
        assert not (pets / ".1.removed").exists()


def test_a_store_that_cannot_be_written_is_named(
    pets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store, "lock_folder", fail)
    with pytest.raises(Unavailable, match=r"cannot be written \(Permission denied\)"):
        store.remove("pets", 1)
    assert store.versions("pets") == [1, 2]


def test_runs_are_noted_once_and_forgotten_with_their_folder(run_dir: Path) -> None:
    dataset = store.read_imported("pets")
    for _ in range(2):
        store.note_run(dataset, run_dir)
    assert store.runs_of("pets", 2) == [run_dir]
    assert store.runs_of("pets", 1) == []
    (run_dir / "data.json").unlink()
    assert store.runs_of("pets", 2) == []


def test_a_run_is_not_noted_where_the_store_cannot_be_written(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store, "lock_folder", fail)
    store.note_run(store.read_imported("pets"), run_dir)
    assert store.runs_of("pets", 2) == []


def test_a_damaged_record_of_runs_is_named(pets: Path, run_dir: Path) -> None:
    record = pets / "2" / "runs.json"
    record.write_text(json.dumps([str(run_dir)])[:-3])
    with pytest.raises(Damaged, match=r"runs\.json is damaged: remove it"):
        store.runs_of("pets", 2)
    store.note_run(store.read_imported("pets"), run_dir)  # does not stop a training
