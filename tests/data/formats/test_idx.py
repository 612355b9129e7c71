"""IDX files, and cards of this format whose files are partly missing."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from dltlab.data import arrays
from dltlab.data.formats.idx import read_idx
from dltlab.errors import Damaged

MIRROR = Path(os.environ.get("DLTLAB_DATA_MIRROR", ""))
needs_mirror = pytest.mark.skipif(
    not (MIRROR / "t10k-images-idx3-ubyte.gz").is_file(),
    reason="DLTLAB_DATA_MIRROR is not a folder with MNIST's test files",
)


def idx(shape: tuple[int, ...], values: bytes, value_type: int = 8) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, value_type, len(shape), *shape) + values


def test_values_are_in_row_major_order() -> None:
    array = read_idx(idx((2, 3), bytes(range(6))), "f")
    assert array.dtype == np.uint8
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "two zero bytes"),
        (b"\x89PNG\r\n", "two zero bytes"),
        (idx((1,), bytes(8), value_type=0x0E), "type 0x0e"),
        (b"\0\0\x08\x00", "ends before its 0 dimensions"),
        (b"\0\0\x08\x03\0\0\0\1", "ends before its 3 dimensions"),
        (idx((2, 3), bytes(5)), "takes 6 bytes; it holds 5"),
        (idx((2, 3), bytes(7)), "takes 6 bytes; it holds 7"),
        (idx((2**32 - 1, 2**32 - 1), b""), "it holds 0"),
    ],
)
def test_a_damaged_file_is_named_with_its_fault(content: bytes, message: str) -> None:
    with pytest.raises(Damaged, match=message) as caught:
        read_idx(content, "images.gz")
    assert "images.gz" in str(caught.value)


@needs_mirror
def test_the_test_images_of_mnist_are_divided_where_the_mirror_has_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for path in MIRROR.glob("t10k-*"):
        (mirror / path.name).symlink_to(path)
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(mirror))
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    images, labels = arrays("mnist", "all")
    train, test = (arrays("mnist", split)[0] for split in ("train", "test"))
    assert (len(train), len(test)) == (8000, 2000)
    assert images.shape == (10000, 28, 28, 1)
    assert (images.min(), images.max()) == (0, 1)
    rows, train_rows, test_rows = (
        {image.tobytes() for image in part} for part in (images, train, test)
    )
    assert not train_rows & test_rows
    assert train_rows | test_rows == rows
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert capsys.readouterr().out.count("only the 10,000 test images") <= 1
