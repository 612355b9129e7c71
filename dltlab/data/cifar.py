"""The binary format of CIFAR-10.

An archive holds files of records; each is a byte for the label, then 1,024 bytes of red, of green
and of blue, row by row (https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version").
"""

import io
import tarfile
import zlib

import numpy as np

from dltlab.errors import LabError

_FOLDER = "cifar-10-batches-bin"
_FILES = {
    "train": [f"{_FOLDER}/data_batch_{number}.bin" for number in range(1, 6)],
    "test": [f"{_FOLDER}/test_batch.bin"],
}
_RECORD = 1 + 3 * 32 * 32


def read_cifar(archive: bytes, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of a split.

    Args:
        archive: The bytes of a tar archive, compressed or not.
        split: "train" or "test".

    Returns:
        uint8 RGB images `(n, 32, 32, 3)` and int64 labels `(n,)`.

    Raises:
        LabError: It is no such archive.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            content = b"".join(tar.extractfile(name).read() for name in _FILES[split])  # type: ignore[union-attr]
    except (tarfile.TarError, KeyError, AttributeError, EOFError, zlib.error) as error:
        raise LabError(f"This is no archive of CIFAR-10's binary files: {error}.") from error
    if not content or len(content) % _RECORD:
        raise LabError(
            f"CIFAR-10's {split} files hold {len(content)} bytes, and an image takes {_RECORD}."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)
