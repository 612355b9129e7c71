"""Files of PyTorch tensors; those of the tests are written with stand-ins for PyTorch's names."""

import os
import pickle
import struct
import sys
from collections import OrderedDict
from types import ModuleType

import numpy as np
import pytest

from dltlab.errors import Damaged, NotFound
from dltlab.models.torch_file import read_torch_file

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"little_endian": True}


class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(self, key, shape, strides, offset=0, kind="FloatStorage"):
        self.storage = Storage(key, kind)
        self.rest: tuple[object, ...] = (offset, shape, strides, False, OrderedDict())

    def __reduce__(self):
        rebuild = vars(sys.modules["torch._utils"])["_rebuild_tensor_v2"]
        return rebuild, (self.storage, *self.rest)


class Storage:
    def __init__(self, key, kind):
        self.key, self.kind = key, kind


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if isinstance(value, Storage):
            kind = vars(sys.modules["torch"])[value.kind]
            return "storage", kind, value.key, "cpu", 0, None
        return None


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file with tensors and the elements of their storages."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        vars(torch)[name] = type(name, (), {"__module__": "torch"})

    def rebuild():
        pass

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    vars(utils)["_rebuild_tensor_v2"] = rebuild
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    def write(tensors, storages, magic=MAGIC, system=SYSTEM):
        path = tmp_path / "weights.pth"
        with path.open("wb") as file:
            for value in (magic, PROTOCOL, system):
                pickle.dump(value, file, 2)
            Pickler(file, 2).dump(tensors)
            pickle.dump(list(storages), file, 2)
            for elements in storages.values():
                file.write(struct.pack("<q", len(elements)) + elements.tobytes())
        return path

    return write


def test_tensors_are_read_with_their_shapes_strides_and_offsets(write):
    numbers = np.arange(12, dtype="<f4")
    tensors = {
        "matrix": Tensor("0", (3, 4), (4, 1)),
        "transposed": Tensor("0", (4, 3), (1, 4)),
        "column": Tensor("0", (3,), (4,), offset=2),
        "count": Tensor("1", (), (), kind="LongStorage"),
    }
    read = read_torch_file(write(tensors, {"0": numbers, "1": np.array([7], "<i8")}))

    assert list(read) == list(tensors)
    np.testing.assert_array_equal(read["matrix"], numbers.reshape(3, 4))
    np.testing.assert_array_equal(read["transposed"], numbers.reshape(3, 4).T)
    np.testing.assert_array_equal(read["column"], [2, 6, 10])
    assert (read["count"].shape, int(read["count"])) == ((), 7)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor("0", (13,), (1,)),
        Tensor("0", (12,), (1,), offset=1),
        Tensor("0", (2,), (1,), offset=-1),
        Tensor("0", (3,), (-1,), offset=2),
        Tensor("0", (2,), (100,)),
        Tensor("0", (2, 2), (1,)),
        Tensor("0", (0,), (1,)),
        Tensor("2", (1,), (1,)),
        Tensor("0", (1,), (1,), kind="HalfStorage"),
    ],
)
def test_a_tensor_that_its_storage_does_not_have_is_refused(write, tensor):
    with pytest.raises(Damaged, match="not a complete file of PyTorch tensors"):
        read_torch_file(write({"x": tensor}, {"0": np.zeros(12, "<f4")}))


class Call:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("place", ["tensors", "magic", "system"])
def test_no_code_of_the_file_runs(write, tmp_path, place):
    harm = Call(os.mkdir, str(tmp_path / "harm"))
    content = {"tensors": {"x": Tensor("0", (1,), (1,))}} | {place: harm}

    with pytest.raises(Damaged, match=r"it names posix\.mkdir"):
        read_torch_file(write(storages={"0": np.zeros(1, "<f4")}, **content))
    assert not (tmp_path / "harm").exists()


def test_another_format_or_byte_order_and_a_truncated_file_are_refused(write, tmp_path):
    arguments = ({"x": Tensor("0", (4,), (1,))}, {"0": np.zeros(4, "<f4")})
    for options in ({"magic": 1}, {"system": {"little_endian": False}}):
        with pytest.raises(Damaged):
            read_torch_file(write(*arguments, **options))
    path = write(*arguments)
    content = path.read_bytes()
    for size in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(Damaged):
            read_torch_file(path)
    with pytest.raises(NotFound):
        read_torch_file(tmp_path / "none.pth")
