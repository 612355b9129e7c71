"""Write many images as `.npy` files of a limited size."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np


class ShardWriter:
    """Writes images to the files `images-00000.npy`, `images-00001.npy`, …; a context manager.

    Args:
        folder: Where to write them.
        shape: The shape of an image.
    """

    MAX_BYTES = 1 << 30  # per file

    def __init__(self, folder: Path, shape: tuple[int, ...]) -> None:
        self._folder, self._shape = folder, shape
        self._max_rows = max(1, self.MAX_BYTES // int(np.prod(shape)))
        self._num_files = 0
        self._num_rows = 0  # in the current file
        self._file: Any = None

    def append(self, images: np.ndarray) -> None:
        """Append uint8 images `(n, *shape)`."""
        while len(images):
            if self._file is None or self._num_rows == self._max_rows:
                self._open_next()
            fitting = images[: self._max_rows - self._num_rows]
            self._file.write(np.ascontiguousarray(fitting).data)
            self._num_rows += len(fitting)
            images = images[len(fitting) :]

    def __enter__(self) -> Self:
        for path in self._folder.glob("images-*.npy"):  # of an earlier writer
            path.unlink()
        return self

    def __exit__(self, error_type: type[BaseException] | None, *details: object) -> None:
        if error_type is None:
            self._complete()
        elif self._file is not None:
            with suppress(OSError):  # such as a full disk, which led to the error
                self._file.close()

    def _complete(self) -> None:
        """Write the number of images into the current file and close it."""
        if self._file is None:
            return
        with self._file:
            self._file.seek(0)
            self._write_header(self._num_rows)  # NumPy reserves room for a larger number
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file = None

    def _open_next(self) -> None:
        self._complete()
        self._file = (self._folder / f"images-{self._num_files:05}.npy").open("wb")
        self._num_files += 1
        self._num_rows = 0
        self._write_header(0)

    def _write_header(self, num_rows: int) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (num_rows, *self._shape)}
        np.lib.format.write_array_header_1_0(self._file, header)
