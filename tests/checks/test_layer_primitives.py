"""What the checks of lab 06 compute themselves: Winograd's transforms and their error."""

import numpy as np
import pytest

from dltlab.checks.layer_primitives import cook_toom, winograd_error
from dltlab.errors import Invalid


@pytest.mark.parametrize("points", [[0, 1, -1], [0, 1, -1, 2, -2], [0.5, 3, -1, 2, 7, -0.25, 1]])
def test_the_transforms_of_any_points_compute_a_convolution(points: list[float]) -> None:
    output, kernel, tile = cook_toom(points)
    d, g = np.random.default_rng(1).normal(size=(2, len(points) + 1))
    g = g[:3]

    result = output @ ((kernel @ g) * (tile @ d))

    assert len(result) == len(points) - 1
    np.testing.assert_allclose(result, np.correlate(d, g, "valid"), rtol=1e-6)


def test_the_error_grows_with_the_tile_and_with_fewer_digits() -> None:
    small, large = winograd_error([0, 1, -1]), winograd_error([0, 1, -1, 2, -2])

    assert 1e-8 < small < large < 1e-5
    assert winograd_error([0, 1, -1], "bfloat16") > 1000 * small


@pytest.mark.parametrize("points", [[0, 1, 1], [1], [0, np.inf, 1], ["a", 1], [0, 1, np.nan]])
def test_points_that_give_no_transforms_are_refused(points: list[float]) -> None:
    with pytest.raises(Invalid, match=r"oints"):
        winograd_error(points)


def test_another_dtype_is_refused() -> None:
    with pytest.raises(Invalid, match="not 'float8'"):
        winograd_error([0, 1, -1], "float8")
