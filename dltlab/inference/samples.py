"""What to calibrate and to judge by, from a data set: `samples`."""

import numpy as np

from dltlab import data
from dltlab.data.read import splits_of
from dltlab.errors import LabError

_CALIBRATION = 300  # examples, as many as NNCF takes by default


def samples(name: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Examples of a data set for `optimize`: training examples to calibrate, others to judge by.

    Args:
        name: A data set of images.

    Returns:
        Images for `calibration`, float32 `(n, height, width, channels)` in [0, 1]; images and
        labels for `validation`, of its split "validation" where it has one, else "test".

    Raises:
        LabError: There is no such data set, or its files cannot be had.
    """
    about = data.info(name)
    if about.kind != "images":
        raise LabError(f"'{name}' holds no images: name a data set that does.")
    train = data.load(name, "train", shuffle=True, seed=0).take(_CALIBRATION)
    calibration = np.stack([image.numpy() for image, _ in train])
    judged = "validation" if "validation" in splits_of(about) else "test"
    return calibration, data.arrays(name, judged)
