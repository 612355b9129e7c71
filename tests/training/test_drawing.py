"""Images and names are prepared for figures."""

import numpy as np
import pytest

from dltlab.training.drawing import as_image, label, mosaic


def test_values_within_0_and_1_do_not_change() -> None:
    pixels = np.random.default_rng(1).uniform(size=(2, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(as_image(pixels), pixels)


def test_values_outside_0_and_1_are_scaled_into_it() -> None:
    pixels = np.array([[[-1.0], [0.0], [3.0]]], np.float32)
    assert as_image(pixels).tolist() == [[0, 0.25, 1]]


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_are_averaged(channels: int) -> None:
    pixels = np.linspace(0, 1, 4 * channels, dtype=np.float32).reshape(2, 2, channels)
    np.testing.assert_allclose(as_image(pixels), pixels.mean(axis=-1), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat", "cat"),
        ("a" * 18, "a" * 18),
        ("a" * 19, "a" * 17 + "…"),
        ("5 $", r"5 \$"),
        ("猫", "□"),
        ("two\nlines", "two\\nlines"),
    ],
)
def test_names_are_shortened_and_escaped(text: str, expected: str) -> None:
    assert label(text) == expected


def test_mosaic_has_blank_lines_between_tiles() -> None:
    tiles = np.arange(3, dtype=np.float32).repeat(32 * 32).reshape(3, 32, 32)
    grid = mosaic(tiles, 2)
    assert grid.shape == (65, 65)
    assert (grid[0, 0], grid[0, 64], grid[64, 0]) == (0, 1, 2)
    assert np.isnan(grid[32]).all()
    assert np.isnan(grid[:, 32]).all()
    assert np.isnan(grid[33:, 33:]).all()


def test_small_color_tiles_are_enlarged_and_separated_by_white() -> None:
    grid = mosaic(np.zeros((2, 8, 4, 3), np.float32), 2)
    assert grid.shape == (32, 33, 3)
    assert grid[:, 16].min() == 1
    assert grid[:, :16].max() == 0
