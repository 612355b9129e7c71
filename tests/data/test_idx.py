"""The reader of IDX files refuses what is not one."""

import struct

import numpy as np
import pytest

from dltlab.data.idx import read_idx
from dltlab.errors import LabError


def idx(shape: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + values


def test_values_come_in_row_major_order() -> None:
    array = read_idx(idx((2, 3), bytes(range(6))), "f")
    assert array.dtype == np.uint8
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "two zero bytes"),
        (b"\x89PNG\r\n", "two zero bytes"),
        (idx((1,), bytes(8), kind=0x0E), "type 0x0e"),
        (b"\0\0\x08\x00", "ends before its 0 dimensions"),
        (b"\0\0\x08\x03\0\0\0\1", "ends before its 3 dimensions"),
        (idx((2, 3), bytes(5)), "takes 6 bytes; it holds 5"),
        (idx((2, 3), bytes(7)), "takes 6 bytes; it holds 7"),
        (idx((2**32 - 1, 2**32 - 1), b""), "it holds 0"),
    ],
)
def test_a_damaged_file_is_named_with_its_fault(content: bytes, fault: str) -> None:
    with pytest.raises(LabError, match=fault) as caught:
        read_idx(content, "images.gz")
    assert "images.gz" in str(caught.value)
