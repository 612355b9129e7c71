"""One version of an imported data set: its images, its splits, and damaged files."""

from pathlib import Path

import numpy as np
import pytest

from dltlab.data.imported import ImportedDataset
from dltlab.errors import Damaged
from tests.image_sources import image_files, import_pets, imported_pixels, pixels_of, write_files


@pytest.fixture
def dataset(own_store: Path, tmp_path: Path) -> ImportedDataset:
    """Ten images of each of two classes, without test images."""
    source = write_files(tmp_path / "source", image_files("cat", "dog"))
    return import_pets(source, test=0).dataset


def test_all_images_are_mapped_in_the_order_of_their_rows(dataset: ImportedDataset) -> None:
    images = dataset.read("all")
    assert all(isinstance(shard, np.memmap) for shard in images.shards)
    assert np.array_equal(images.pixels(), imported_pixels(dataset))
    assert np.array_equal(images.pixels()[0], pixels_of("cat/000.png"))
    assert np.bincount(images.labels).tolist() == [10, 10]


def test_a_split_holds_its_images(dataset: ImportedDataset) -> None:
    assert dataset.split_names == ["train", "validation"]
    for split in dataset.split_names:
        assert np.bincount(dataset.read(split).labels).tolist() == dataset.counts[split]


@pytest.mark.parametrize("file", ["images-00000.npy", "labels.npy", "splits.npy"])
@pytest.mark.parametrize("content", [None, b"", b"not an array"])
def test_a_damaged_file_is_reported_with_the_fix(
    dataset: ImportedDataset, file: str, content: bytes | None
) -> None:
    path = dataset.folder / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Damaged, match=r"'pets@1' is damaged .*dltlab data remove pets@1\) and imp"):
        dataset.read("train")
    (problem,) = dataset.problems()
    reason = "is missing" if content is None else "does not have the SHA-256 of its manifest"
    assert problem == f"{path} {reason}."
