"""Take calibration and validation data from a data set: `load_samples`."""

import numpy as np

from dltlab import data
from dltlab.errors import Invalid

_CALIBRATION_EXAMPLES = 300  # as many as NNCF takes by default


def load_samples(name: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], list[str]]:
    """Return examples and class names of a data set for `optimize`.

    Args:
        name: The name of a data set of images.

    Returns:
        Training images for `calibration`, float32 `(n, height, width, channels)` in [0, 1]; images
        and labels for `validation`, of the split "validation" if there is one, else "test"; and
        the names of the classes.

    Raises:
        NotFound: There is no such data set.
        Invalid: It holds no images.
        Unavailable: Its files cannot be fetched.
    """
    card = data.info(name)
    if not isinstance(card, data.ImageDataset):
        raise Invalid(f"'{name}' holds no images: choose a data set of images.")
    train = data.load(name, "train", shuffle=True, seed=0).take(_CALIBRATION_EXAMPLES)
    calibration = np.stack([image.numpy() for image, _ in train])
    split = "validation" if "validation" in card.split_names else "test"
    return calibration, data.arrays(name, split), card.class_names
