"""CIFAR-10's binary archive, with a few generated images in it."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from dltlab.data import arrays
from dltlab.data.formats.cifar import read_cifar
from dltlab.errors import Damaged
from dltlab.files import sha256_of

RECORD_BYTES = 1 + 3 * 32 * 32
CARD = """
name = "tiny"
title = "Twelve images."
format = "cifar"
license = "CC0-1.0"
citation = "None."
version = "1"
shape = [32, 32, 3]
dtype = "float32"
class_names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
[splits.train]
size = 10
[splits.test]
size = 2
[[files]]
name = "tiny.tar.gz"
urls = ["http://127.0.0.1:9/tiny.tar.gz"]
size = {size}
sha256 = "{sha256}"
"""


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


def test_a_card_of_this_format_is_read(
    files: dict[str, bytes], images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.tar.gz"
    path.write_bytes(archive(files))
    (tmp_path / "datasets").mkdir()
    card = CARD.format(size=path.stat().st_size, sha256=sha256_of(path))
    (tmp_path / "datasets" / "tiny.toml").write_text(card)
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path))
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(tmp_path))
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    pixels, labels = arrays("tiny", "all")
    assert np.array_equal((pixels * 255).round(), images)
    assert labels.tolist() == [*range(10), 0, 1]
