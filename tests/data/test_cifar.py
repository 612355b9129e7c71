"""CIFAR-10's binary archive, with a few made images in it."""

import io
import tarfile

import numpy as np
import pytest

from dltlab.data.cifar import read_cifar
from dltlab.errors import LabError

RECORD = 1 + 3 * 32 * 32


def record(label: int, pixels: np.ndarray) -> bytes:
    """A label, then all of red, of green and of blue."""
    return bytes([label]) + pixels.transpose(2, 0, 1).tobytes()


def archive(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def images() -> np.ndarray:
    return np.random.RandomState(1).randint(0, 256, (12, 32, 32, 3)).astype(np.uint8)


@pytest.fixture
def whole(images: np.ndarray) -> dict[str, bytes]:
    """Two images in each of the five training files and in the test file."""
    records = [record(number % 10, each) for number, each in enumerate(images)]
    pairs = [b"".join(records[first : first + 2]) for first in range(0, 12, 2)]
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    return dict(zip(names, pairs, strict=True))


def test_images_and_labels_come_in_the_order_of_the_files(
    whole: dict[str, bytes], images: np.ndarray
) -> None:
    train_images, labels = read_cifar(archive(whole), "train")
    assert np.array_equal(train_images, images[:10])
    assert (train_images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert labels.tolist() == list(range(10))
    test_images, labels = read_cifar(archive(whole), "test")
    assert np.array_equal(test_images, images[10:])
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("cut", [0, 20, 400])
def test_what_is_no_whole_archive_is_refused(whole: dict[str, bytes], cut: int) -> None:
    with pytest.raises(LabError, match="no archive of CIFAR-10"):
        read_cifar(archive(whole)[:cut], "train")


def test_a_missing_file_and_a_cut_record_are_refused(whole: dict[str, bytes]) -> None:
    missing = {name: content for name, content in whole.items() if name != "data_batch_3.bin"}
    with pytest.raises(LabError, match="data_batch_3"):
        read_cifar(archive(missing), "train")
    short = {**whole, "test_batch.bin": whole["test_batch.bin"][:-1]}
    with pytest.raises(LabError, match=f"hold {2 * RECORD - 1} bytes, and an image takes {RECORD}"):
        read_cifar(archive(short), "test")
