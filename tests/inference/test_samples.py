"""Calibration and validation data from a data set."""

import numpy as np
import pytest

from dltlab import data
from dltlab.errors import Invalid, LabError
from dltlab.inference import load_samples


def test_calibration_is_from_training_and_validation_from_other_examples():
    calibration, (images, labels), class_names = load_samples("digits")
    assert calibration.shape == (300, 8, 8, 1)
    assert calibration.dtype == np.float32
    assert (calibration.min() >= 0, calibration.max() <= 1) == (True, True)
    test_images, test_labels = data.arrays("digits", "test")
    np.testing.assert_array_equal(images, test_images)
    np.testing.assert_array_equal(labels, test_labels)
    assert class_names == data.info("digits").class_names


def test_a_data_set_without_images_is_refused():
    with pytest.raises(Invalid, match="'python_docs' holds no images"):
        load_samples("python_docs")


def test_an_unknown_data_set_is_refused():
    with pytest.raises(LabError, match="nothing_like_it"):
        load_samples("nothing_like_it")
