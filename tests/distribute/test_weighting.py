"""How the parts of a batch are weighted: what a model's loss is, and what its layers keep."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from dltlab.distribute import weighting
from dltlab.errors import Invalid

SUM = keras.losses.MeanSquaredError(reduction="sum")


def network(loss: object, *hidden: keras.Layer, num_outputs: int = 1) -> keras.Model:
    inputs = keras.Input((3,), dtype="int32")
    values = inputs
    for layer in hidden or (layers.Dense(2),):
        values = layer(values)
    outputs = [layers.Dense(1)(values) for _ in range(num_outputs)]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (lambda: network("mse"), "mean"),
        (lambda: network(["mse", "mae"], num_outputs=2), "mean"),
        (lambda: network(SUM), "sum"),
        (lambda: network("mse", layers.Embedding(9, 2, mask_zero=True)), "masked"),
    ],
)
def test_the_kind_of_a_loss_is_found(model, kind: str) -> None:
    built = model()
    outputs = built(np.array([[1, 2, 0]]))

    assert weighting.kind_of_loss(built, outputs, "workers") == kind
    if kind == "masked":
        assert float(weighting.num_valid(outputs)) == 2


def test_several_losses_of_which_one_sums_are_refused() -> None:
    model = network(["mse", SUM], num_outputs=2)

    with pytest.raises(Invalid, match="cannot be trained on several replicas"):
        weighting.kind_of_loss(model, model(np.ones((1, 3))), "replicas")


def test_moving_statistics_are_averaged_in_training_only() -> None:
    model = network("mse", layers.Dense(2), layers.BatchNormalization(), layers.Dropout(0.1))
    statistics = weighting.moving_statistics(model)

    assert [variable.name for variable in statistics] == ["moving_mean", "moving_variance"]
    for training in (True, False):
        names = [state.name for state in weighting.states_of_step(model, training)]
        assert ("moving_mean" in names) is not training


def test_moments_of_the_parts_are_those_of_the_batch() -> None:
    batch = np.random.default_rng(1).normal(3, 2, (10, 4)).astype(np.float32)
    parts = [batch[:7], batch[7:], batch[:1]]  # the last one stands in for no rows

    sums_of_parts: list[list[tf.Tensor]] = []

    def note(sums: list[tf.Tensor]) -> list[tf.Tensor]:
        sums_of_parts.append(sums)
        return sums

    for part, is_real in zip(parts, (1.0, 1.0, 0.0), strict=True):
        weighting.global_moments(part, [0], is_real, note)
    totals = [tf.add_n(list(sums)) for sums in zip(*sums_of_parts, strict=True)]
    mean, variance = weighting.global_moments(parts[0], [0], 1.0, lambda _: totals)

    np.testing.assert_allclose(mean, batch.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, batch.var(0), rtol=1e-4)
