"""Images in the arrays of an `.npz` file, as `numpy.savez` writes it."""

import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from dltlab.data.card import ImageCard, OneFile, SizedSplit, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.packed_images import PackedImages
from dltlab.data.verified_files import verified_path
from dltlab.errors import Damaged, Invalid


class NpzSplit(SizedSplit):
    """A split with the names of its two arrays."""

    images: str
    labels: str


@register("npz")
class NpzCard(ImageCard):
    """uint8 images `(n, height, width)` or with channels, and integer labels `(n,)`."""

    files: OneFile
    splits: Mapping[SplitName, NpzSplit]

    def read_split(self, split: SplitName) -> PackedImages:
        """Return the images of one split."""
        path, names = verified_path(self, self.files[0]), self.splits[split]
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                for name in (names.images, names.labels):
                    if name not in arrays:
                        raise Invalid(
                            f"{path} has no array '{name}'; it has: {', '.join(arrays) or 'none'}. "
                            f"Correct the name in the card of '{self.name}'."
                        )
                images, labels = arrays[names.images], arrays[names.labels]
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise Damaged(f"{path} is not an .npz file of plain arrays: {error}.") from error
        if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
            raise Invalid(
                f"{path} holds images of {images.dtype} and labels of {labels.dtype}; images are "
                "uint8 from 0 to 255, labels integers. Convert them and save the file again."
            )
        labels = labels.squeeze(1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
        return self.pack(split, images[..., np.newaxis] if images.ndim == 3 else images, labels)
