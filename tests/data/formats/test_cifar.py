"""CIFAR-10's binary archive, with a few generated images in it."""

import io
import tarfile

import numpy as np
import pytest

from dltlab.data.formats.cifar import read_cifar
from dltlab.errors import Damaged

RECORD_BYTES = 1 + 3 * 32 * 32


def record(label: int, pixels: np.ndarray) -> bytes:
    """Return a label, then all of red, of green and of blue."""
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
def files(images: np.ndarray) -> dict[str, bytes]:
    """Two images in each of the five training files and in the test file."""
    records = [record(index % 10, image) for index, image in enumerate(images)]
    pairs = [b"".join(records[start : start + 2]) for start in range(0, 12, 2)]
    names = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
    return dict(zip(names, pairs, strict=True))


def test_images_and_labels_are_in_the_order_of_the_files(
    files: dict[str, bytes], images: np.ndarray
) -> None:
    train_images, labels = read_cifar(archive(files), "train")
    assert np.array_equal(train_images, images[:10])
    assert (train_images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert labels.tolist() == list(range(10))
    test_images, labels = read_cifar(archive(files), "test")
    assert np.array_equal(test_images, images[10:])
    assert labels.tolist() == [0, 1]


@pytest.mark.parametrize("num_bytes", [0, 20, 400])
def test_a_truncated_archive_is_damaged(files: dict[str, bytes], num_bytes: int) -> None:
    with pytest.raises(Damaged, match="not an archive of CIFAR-10"):
        read_cifar(archive(files)[:num_bytes], "train")


def test_a_missing_file_and_a_truncated_record_are_damage(files: dict[str, bytes]) -> None:
    incomplete = {name: content for name, content in files.items() if name != "data_batch_3.bin"}
    with pytest.raises(Damaged, match="data_batch_3"):
        read_cifar(archive(incomplete), "train")
    truncated = {**files, "test_batch.bin": files["test_batch.bin"][:-1]}
    with pytest.raises(Damaged, match=f"hold {2 * RECORD_BYTES - 1} bytes, which is not a multip"):
        read_cifar(archive(truncated), "test")
