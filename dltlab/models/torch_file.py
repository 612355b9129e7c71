"""Read the tensors in a file that `torch.save` wrote, without PyTorch and without running its code.

Such a file is a pickle, which can call any function when it is loaded. Here it can name nothing but
what tensors are made of.
"""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dltlab.errors import Damaged, NotFound

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the file: which elements of a storage it has; all counts are in elements."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: dict[str, np.ndarray]) -> np.ndarray:
        """Return the elements.

        Raises:
            ValueError: The storage does not have them.
        """
        data = storages[self.storage]
        spans = [(size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)]
        numbers = (self.offset, *self.strides, *(size - 1 for size in self.shape))
        if min(numbers) < 0 or self.offset + sum(spans) >= len(data):
            raise ValueError("a tensor exceeds its storage")
        strides = [stride * data.itemsize for stride in self.strides]
        view = np.lib.stride_tricks.as_strided(data[self.offset :], self.shape, strides)
        return np.ascontiguousarray(view).reshape(self.shape)


class _Unpickler(pickle.Unpickler):
    """Loads tensors, and refuses to import anything else."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.dtypes: dict[str, np.dtype[Any]] = {}  # of each storage

    def find_class(self, module: str, name: str) -> Any:
        """Return what a file of tensors may name."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        """Note a storage, whose elements come later in the file, and return its key."""
        kind, dtype, key, *_ = pid
        if kind != "storage" or dtype not in _DTYPES.values():
            raise pickle.UnpicklingError("it contains something else than tensors")
        self.dtypes[str(key)] = dtype
        return str(key)


def _rebuild(
    storage: str, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> _Tensor:
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def read_torch_file(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dictionary, by name.

    Args:
        path: A file of `torch.save` in the format before version 1.6, with tensors of float32 or
            int64.

    Raises:
        NotFound: There is no such file.
        Damaged: It is not such a file, not complete, or contains something else.
    """
    try:
        with path.open("rb") as file:
            return _read(file)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise Damaged(f"{path} is not a complete file of PyTorch tensors ({error}).") from error


def _read(file: BinaryIO) -> dict[str, np.ndarray]:
    if (_Unpickler(file).load(), _Unpickler(file).load()) != (_MAGIC, _PROTOCOL):
        raise ValueError("its format is another one")
    if not _Unpickler(file).load()["little_endian"]:
        raise ValueError("it was written by a big-endian machine")
    content = _Unpickler(file)
    tensors = content.load()
    storages = {}
    for key in _Unpickler(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        dtype = content.dtypes[key]
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
        if len(storages[key]) != count:
            raise EOFError("it ends too early")
    return {str(name): tensor.array(storages) for name, tensor in tensors.items()}
