"""Local response normalization follows its formula and is saved with its arguments."""

import keras
import numpy as np
import pytest

from dltlab.models.normalization import LocalResponseNormalization


@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_output_follows_the_formula_of_the_paper(beta: float) -> None:
    maps = np.random.default_rng(1).normal(0, 30, size=(2, 3, 4, 9)).astype("float32")
    expected = np.empty_like(maps)
    for channel in range(9):
        neighbors = maps[..., max(0, channel - 2) : channel + 3]
        expected[..., channel] = (
            maps[..., channel] / (2 + 1e-4 * (neighbors**2).sum(axis=-1)) ** beta
        )
    np.testing.assert_allclose(LocalResponseNormalization(beta=beta)(maps), expected, rtol=1e-5)


def test_config_has_all_arguments() -> None:
    layer = LocalResponseNormalization(7, 1.0, 2e-4, 0.5, name="norm")
    copy = LocalResponseNormalization.from_config(layer.get_config())
    assert (copy.size, copy.bias, copy.alpha, copy.beta) == (7, 1.0, 2e-4, 0.5)
    assert copy(keras.KerasTensor((1, 4, 4, 9))).shape == (1, 4, 4, 9)
