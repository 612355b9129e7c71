"""The networks of an ensemble: independent of each other, and each a usual network."""

import keras
import numpy as np
import pytest

from dltlab import models
from dltlab.errors import Invalid


def test_each_member_has_logits() -> None:
    model = models.deep_ensemble(4, 3, 5, width=8)
    assert model(np.zeros((7, 3), "float32")).shape == (7, 4, 5)
    assert model.count_params() == 4 * (3 * 8 + 8 + 8 * 8 + 8 + 8 * 5 + 5)


def test_members_begin_differently() -> None:
    keras.utils.set_random_seed(1)
    logits = np.asarray(models.deep_ensemble(3, 2, 2)(np.ones((1, 2), "float32")))[0]
    assert not np.allclose(logits[0], logits[1])
    assert not np.allclose(logits[1], logits[2])


def test_the_weights_of_one_member_change_no_other_one() -> None:
    model = models.deep_ensemble(3, 2, 2)
    points = np.random.default_rng(1).normal(size=(5, 2)).astype("float32")
    before = np.asarray(model(points))
    for variable in model.trainable_variables:
        value = np.array(variable)
        value[1] += 1
        variable.assign(value)
    after = np.asarray(model(points))
    np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert not np.allclose(after[:, 1], before[:, 1])


def test_initial_weights_do_not_depend_on_the_number_of_members() -> None:
    keras.utils.set_random_seed(1)
    deviations = [
        np.std(np.asarray(models.deep_ensemble(members, 100, 2, width=200).trainable_variables[0]))
        for members in (2, 20)
    ]
    np.testing.assert_allclose(deviations, np.sqrt(2 / 100), rtol=0.1)


@pytest.mark.parametrize("name", ["members", "num_inputs", "num_classes", "width"])
def test_numbers_below_one_are_refused(name: str) -> None:
    sizes = {"members": 2, "num_inputs": 3, "num_classes": 2, "width": 4}
    with pytest.raises(Invalid, match=f"{name} must be at least 1, not 0"):
        models.deep_ensemble(**{**sizes, name: 0})
