"""The files of a version: manifest, labels, lists and statistics; when a version is new."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab.data import store
from tests.image_sources import (
    SIZE,
    image_files,
    import_pets,
    imported_pixels,
    pixels_of,
    png,
    rows_of,
    write_files,
)

# Statistics and files


def test_mean_and_deviation_are_those_of_the_training_images(source: Path) -> None:
    dataset = import_pets(write_files(source, image_files("a", "b", count=30)), size=13).dataset
    is_train = np.load(dataset.folder / "splits.npy") == 0
    train = imported_pixels(dataset)[is_train] / 255
    assert dataset.mean == pytest.approx(train.mean((0, 1, 2)), rel=1e-6)
    assert dataset.std == pytest.approx(train.std((0, 1, 2)), rel=1e-5)


def test_the_deviation_of_a_constant_color_is_zero(source: Path) -> None:
    files = {}
    for number in range(20):
        pixels = np.full((9, 9, 3), (number, 201, 77), np.uint8)
        files[f"{('cat', 'dog')[number % 2]}/{number}.png"] = png(pixels)
    dataset = import_pets(write_files(source, files), size=60).dataset
    assert dataset.std[1:] == pytest.approx([0, 0], abs=1e-3)
    assert store.read_imported("pets") == dataset


def test_without_training_images_the_statistics_are_those_of_all_images(source: Path) -> None:
    files = image_files("cat", "dog")
    dataset = import_pets(write_files(source, files), validation=0, test=1).dataset
    assert dataset.mean == pytest.approx((imported_pixels(dataset) / 255).mean((0, 1, 2)), rel=1e-6)


def test_the_manifest_describes_the_version(source: Path) -> None:
    write_files(source, image_files("cat", "dog"))
    dataset = import_pets(source, resize="fit", seed=3).dataset
    assert store.read_imported("pets") == store.read_imported("pets@1") == dataset
    assert (dataset.tag, dataset.source, dataset.seed) == ("pets@1", "source", 3)
    assert (dataset.size, dataset.resize, dataset.shape) == (SIZE, "fit", [SIZE, SIZE, 3])
    assert dataset.title == "20 images of 2 classes, 8×8 pixels, imported from source."
    assert dataset.split_names == ["train", "validation", "test"]
    files = {path.name for path in dataset.folder.iterdir()} - {"manifest.json"}
    assert set(dataset.files) == files
    assert dataset.problems() == []
    assert store.imported_datasets() == [dataset]


def test_lists_labels_and_counts_agree(source: Path) -> None:
    dataset = import_pets(write_files(source, image_files("cat", "dog", "emu"))).dataset
    codes = np.load(dataset.folder / "splits.npy")
    assert codes.dtype == np.int8
    splits = ["train", "validation", "test"]
    assert [row["split"] for row in rows_of(dataset)] == [splits[code] for code in codes]
    counts = Counter((row["split"], row["class"]) for row in rows_of(dataset))
    assert dataset.counts == {
        split: [counts[split, class_name] for class_name in dataset.class_names] for split in splits
    }


# Versions


def test_the_same_images_again_are_the_same_version(source: Path, own_store: Path) -> None:
    first = import_pets(write_files(source, image_files("cat", "dog")))
    before = {path: path.stat().st_mtime_ns for path in own_store.rglob("*.npy")}
    again = import_pets(source)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.dataset == first.dataset
    assert {path: path.stat().st_mtime_ns for path in own_store.rglob("*.npy")} == before
    assert store.versions("pets") == [1]


def test_changed_images_are_a_new_version_beside_the_old_one(source: Path) -> None:
    first = import_pets(write_files(source, image_files("cat", "dog"))).dataset
    write_files(source, {"cat/new.png": png(pixels_of("new"))})
    second = import_pets(source).dataset
    assert store.versions("pets") == [1, 2]
    assert store.read_imported("pets") == second
    assert store.read_imported("pets@1") == first
    assert first.problems() == second.problems() == []


@pytest.mark.parametrize("change", [{"size": 9}, {"resize": "fit"}, {"seed": 2}, {"test": 0.4}])
def test_other_settings_are_another_version(source: Path, change: dict[str, Any]) -> None:
    write_files(source, image_files("cat", "dog", count=20))
    import_pets(source)
    assert import_pets(source, **change).is_new
    assert not import_pets(source).is_new
    assert store.versions("pets") == [1, 2]


def test_older_images_again_are_the_older_version(source: Path) -> None:
    first = import_pets(write_files(source, image_files("cat", "dog"))).dataset
    write_files(source, {"cat/new.png": png(pixels_of("new"))})
    import_pets(source)
    (source / "cat" / "new.png").unlink()
    assert import_pets(source).dataset == first
