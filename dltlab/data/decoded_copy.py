"""Decoded copies of a card's images on disk, which several processes can map into memory."""

import numpy as np

from dltlab.data import store
from dltlab.data.card import ImageCard
from dltlab.data.packed_images import PackedImages
from dltlab.files import atomic_folder
from dltlab.paths import data_dir


def decoded_copy(card: ImageCard, split: str) -> PackedImages:
    """Map the images of a split, or of "all", into memory.

    They are decoded once, into a file in the user's store.

    Raises:
        LabError: The files are not available or damaged, or the store cannot be written.
    """
    folder = data_dir() / card.name / f"decoded-{split}-{card.content_hash[:12]}"
    if not folder.is_dir():
        images = card.read(split)
        with store.locked(card.name):
            if not folder.is_dir():  # another process may have made it in the meantime
                with atomic_folder(folder) as new:
                    np.save(new / "images.npy", images.pixels())
                    np.save(new / "labels.npy", images.labels)
                    np.save(new / "max_value.npy", images.max_value)
    return PackedImages.of(
        np.load(folder / "images.npy", mmap_mode="c"),
        np.load(folder / "labels.npy"),
        int(np.load(folder / "max_value.npy")),
    )
