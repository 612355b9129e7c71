"""Shards: files of a limited size that NumPy reads."""

from pathlib import Path

import numpy as np
import pytest

from dltlab.data.importing.shards import ShardWriter


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 20])
def test_images_are_in_order_in_files_of_a_limited_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_size: int
) -> None:
    images = np.arange(20 * 6, dtype=np.uint8).reshape(20, 1, 2, 3)
    monkeypatch.setattr(ShardWriter, "MAX_BYTES", 7 * 6 + 5)
    with ShardWriter(tmp_path, (1, 2, 3)) as writer:
        for start in range(0, 20, chunk_size):
            writer.append(images[start : start + chunk_size])
    shards = [np.load(path, mmap_mode="r") for path in sorted(tmp_path.iterdir())]
    assert [len(shard) for shard in shards] == [7, 7, 6]
    assert np.array_equal(np.concatenate(shards), images)


def test_an_image_larger_than_the_limit_has_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShardWriter, "MAX_BYTES", 5)
    with ShardWriter(tmp_path, (1, 2, 3)) as writer:
        writer.append(np.zeros((3, 1, 2, 3), np.uint8))
    assert len(list(tmp_path.iterdir())) == 3


def test_without_images_there_is_no_file(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, (1, 2, 3)) as writer:
        writer.append(np.zeros((0, 1, 2, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
