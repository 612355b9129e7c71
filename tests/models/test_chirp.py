"""The networks for gravitational waves have the published sizes."""

import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.models import chirp_cnn, deep_chirp_cnn


def test_the_smaller_network_has_the_published_number_of_parameters():
    assert chirp_cnn(8192, 2).count_params() == 508_466
    assert chirp_cnn(1024).count_params() == 49_649


def test_the_larger_network_has_the_published_layers():
    assert deep_chirp_cnn(8192, 2).count_params() == 5_777_666


def test_a_window_gives_the_outputs_without_an_activation():
    windows = 100 * np.random.default_rng(1).standard_normal((3, 1024)).astype("float32")
    outputs = np.asarray(chirp_cnn(1024, 4)(windows))
    assert outputs.shape == (3, 4)
    assert outputs.dtype == np.float32
    assert outputs.min() < 0
    assert np.abs(outputs).max() > 1


@pytest.mark.parametrize("build", [chirp_cnn, deep_chirp_cnn])
def test_windows_that_are_too_short_and_no_outputs_are_refused(build):
    with pytest.raises(Invalid, match="300 samples is too short"):
        build(300)
    with pytest.raises(Invalid, match="num_outputs is 0"):
        build(8192, 0)
