"""The handwritten digits that come with scikit-learn."""

import numpy as np

from dltlab.data.card import HoldOut, ImageCard, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.packed_images import PackedImages


@register("sklearn_digits")
class SklearnDigitsCard(ImageCard):
    """The images of `sklearn.datasets.load_digits`, some of them held out."""

    hold_out: HoldOut

    def read_all(self) -> PackedImages:
        """Return all images in their original order."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = digits.images[..., np.newaxis].astype(np.uint8)
        return PackedImages.of(pixels, digits.target, max_value=16)

    def read_split(self, split: SplitName) -> PackedImages:
        """Return the images of "train" or "test"."""
        return self.hold_out.part(self.read_all(), split)
