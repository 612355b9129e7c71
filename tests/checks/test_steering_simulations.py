"""What the checks of lab 16 compute themselves: the maps of its challenge."""

import numpy as np
import pytest

from dltlab.checks import steering_simulations as lab
from dltlab.exercises.answers import NotYet


def at_random(points: np.ndarray, classes: np.ndarray, candidates: np.ndarray, count: int) -> range:
    return range(count)


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_each_map_has_enough_of_all_classes(seed: int) -> None:
    points = np.random.default_rng(9).random((2000, 3))
    shares = np.bincount(lab.secret_map(points, seed), minlength=3) / 2000
    assert shares.shape == (3,)
    assert shares.min() > 0.1


def test_the_judge_knows_the_points_it_has_learned() -> None:
    points = np.random.default_rng(3).random((60, 3))
    classes = lab.secret_map(points, 1)
    assert lab.judged_agreement(points, classes, points, classes) > 0.95


def test_a_campaign_can_be_repeated() -> None:
    assert lab.campaign(at_random, 1) == lab.campaign(at_random, 1)


def test_random_runs_do_not_reach_the_bar() -> None:
    assert np.mean([lab.campaign(at_random, seed) for seed in (1, 2, 3, 4, 5)]) < lab.BAR


def test_a_campaign_hands_out_each_candidate_once() -> None:
    seen: list[np.ndarray] = []

    def remember(
        points: np.ndarray, classes: np.ndarray, candidates: np.ndarray, count: int
    ) -> range:
        seen.append(points)
        assert not set(map(tuple, points)) & set(map(tuple, candidates))
        return range(count)

    lab.campaign(remember, 2)
    assert [len(points) for points in seen] == [24, 44, 64, 84, 104]


def test_wrong_places_are_named() -> None:
    with pytest.raises(NotYet, match="twice"):
        lab.campaign(lambda *arguments: [3] * arguments[3], 1)
