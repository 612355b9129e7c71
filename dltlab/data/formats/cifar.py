"""The binary format of CIFAR-10.

A tar archive holds files of records; each is a byte for the label, then 1,024 bytes each of red,
green and blue, row by row (https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version").
"""

import io
import tarfile
import zlib

import numpy as np

from dltlab.data.card import ImageCard, OneFile, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.packed_images import PackedImages
from dltlab.data.verified_files import file_content
from dltlab.errors import Damaged

_FOLDER = "cifar-10-batches-bin"
_FILES = {
    "train": [f"{_FOLDER}/data_batch_{number}.bin" for number in range(1, 6)],
    "test": [f"{_FOLDER}/test_batch.bin"],
}
_RECORD_BYTES = 1 + 3 * 32 * 32


@register("cifar")
class CifarCard(ImageCard):
    """Images in the binary files of CIFAR-10, in one archive."""

    files: OneFile

    def read_split(self, split: SplitName) -> PackedImages:
        """Return the images of "train" or "test"."""
        return self.pack(split, *read_cifar(file_content(self, self.files[0]), split))


def read_cifar(archive: bytes, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Read the images and labels of a split.

    Args:
        archive: The bytes of a tar archive, compressed or not.
        split: "train" or "test".

    Returns:
        uint8 RGB images `(n, 32, 32, 3)` and int64 labels `(n,)`.

    Raises:
        Damaged: It is not a complete archive of these files.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            content = b"".join(tar.extractfile(name).read() for name in _FILES[split])  # type: ignore[union-attr]
    except (tarfile.TarError, KeyError, AttributeError, EOFError, zlib.error) as error:
        raise Damaged(f"This is not an archive of CIFAR-10's binary files: {error}.") from error
    if not content or len(content) % _RECORD_BYTES:
        raise Damaged(
            f"CIFAR-10's {split} files hold {len(content)} bytes, which is not a multiple of the "
            f"{_RECORD_BYTES} bytes of an image."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _RECORD_BYTES)
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)
