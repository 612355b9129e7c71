"""`MoleculeMovie`: what the 3-D view gets, and what it refuses."""

import sys

import numpy as np
import pytest

from dltlab.errors import Invalid, Unavailable
from dltlab.widgets import MoleculeMovie

WATER = np.array([8, 1, 1])
FRAMES = (
    np.array([[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]]) * np.array([1.0, 1.1])[:, None, None]
)


def test_the_view_gets_every_frame_around_the_center():
    movie = MoleculeMovie(WATER, FRAMES, "water")

    assert movie.widget.children[0].max_frame == 1
    np.testing.assert_allclose(movie.frames.mean(axis=(0, 1)), 0, atol=1e-6)
    distances = movie.frames[:, 1] - movie.frames[:, 0]
    np.testing.assert_allclose(distances, FRAMES[:, 1] - FRAMES[:, 0], atol=1e-6)


def test_without_a_front_end_it_says_what_it_shows(capsys):
    MoleculeMovie(WATER, FRAMES, "water").show()
    assert capsys.readouterr().out == "A 3-D movie of water: 3 atoms, 2 frames.\n"


@pytest.mark.parametrize(
    ("numbers", "positions", "message"),
    [
        (WATER, FRAMES[0], r"positions \(frames, 3, 3\), not \(3, 3\)"),
        (WATER, FRAMES[:0], r"not \(0, 3, 3\)"),
        ([9, 1, 1], FRAMES, "not the atomic number 9"),
        (WATER, FRAMES * np.nan, "The position of atom 0"),
    ],
)
def test_what_is_no_movie_of_a_molecule_is_refused(numbers, positions, message):
    with pytest.raises(Invalid, match=message):
        MoleculeMovie(numbers, positions)


def test_without_nglview_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nglview", None)
    with pytest.raises(Unavailable, match=r"pip install 'dltlab\[science\]'"):
        MoleculeMovie(WATER, FRAMES)
