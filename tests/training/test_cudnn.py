"""Whether cuDNN's kernel runs: each condition by itself, with a GPU and without one."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from dltlab.errors import LabError
from dltlab.training import CudnnCheck, check_cudnn

WELL = np.array([[True, True, False], [True, True, True]])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow says that it has a GPU."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a GPU"])


def broken(found: CudnnCheck) -> list[str]:
    return [each.name for each in found.broken]


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_a_layer_as_keras_makes_it_runs_on_a_gpu(kind: Any, gpu: None) -> None:
    found = check_cudnn(kind(4), WELL)
    assert found
    assert found.runs
    assert not found.broken
    assert not found.unknown
    assert "cuDNN's kernel will run." in repr(found)


def test_without_a_gpu_that_alone_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    found = check_cudnn(layers.LSTM(4), WELL)
    assert not found
    assert broken(found) == ["a GPU is there"]


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize(
    ("argument", "value", "condition", "says"),
    [
        ("activation", "relu", "activation is tanh", "it is relu"),
        ("activation", None, "activation is tanh", "it is linear"),
        ("activation", np.tanh, "activation is tanh", "another function of the name tanh"),
        ("recurrent_activation", "hard_sigmoid", "recurrent_activation is sigmoid", "hard_sigmoid"),
        ("recurrent_dropout", 0.25, "recurrent_dropout is 0", "it is 0.25"),
        ("unroll", True, "unroll is False", "it is True"),
        ("use_bias", False, "use_bias is True", "it is False"),
        ("use_cudnn", False, "use_cudnn is not False", "it is False"),
    ],
)
def test_each_condition_is_named_with_what_is_there_instead(
    kind: Any, argument: str, value: Any, condition: str, says: str, gpu: None
) -> None:
    found = check_cudnn(kind(4, **{argument: value}), WELL)
    assert broken(found) == [condition]
    assert f" NO  {condition}: " in repr(found)
    assert says in found.broken[0].found


def test_a_gru_that_resets_before_has_no_kernel(gpu: None) -> None:
    assert broken(check_cudnn(layers.GRU(4, reset_after=False), WELL)) == ["reset_after is True"]
    assert "reset_after" not in repr(check_cudnn(layers.LSTM(4), WELL))


@pytest.mark.parametrize("activation", [tf.tanh, keras.ops.tanh, keras.activations.tanh])
def test_every_tanh_that_keras_takes_for_tanh_is_one(activation: Any, gpu: None) -> None:
    assert check_cudnn(layers.LSTM(4, activation=activation), WELL)


def test_dropout_of_the_inputs_state_and_direction_do_not_matter(gpu: None) -> None:
    options = {"dropout": 0.5, "go_backwards": True, "stateful": True, "return_state": True}
    assert check_cudnn(layers.LSTM(4, **options), WELL)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_every_precision_of_the_kernel_counts(policy: str, gpu: None) -> None:
    assert check_cudnn(layers.LSTM(4, dtype=policy), WELL)


def test_a_precision_that_the_kernel_lacks_is_named(gpu: None) -> None:
    layer = layers.LSTM(4, dtype="complex64")
    (found,) = check_cudnn(layer, WELL).broken
    assert found.found == "in complex64"


def test_several_broken_conditions_are_all_named(gpu: None) -> None:
    layer = layers.GRU(4, activation="relu", unroll=True, reset_after=False)
    assert broken(check_cudnn(layer)) == [
        "activation is tanh", "unroll is False", "reset_after is True",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        ([[1, 1, 1], [0, 1, 1]], "in row 1 a step follows one left out"),
        ([[1, 0, 1]], "in row 0 a step follows one left out"),
        ([[1, 1, 1], [1, 1, 0], [0, 0, 0]], "row 2 leaves out every step"),
    ],
)
def test_a_mask_that_is_not_right_padded_names_its_row(mask: Any, says: str, gpu: None) -> None:
    (found,) = check_cudnn(layers.LSTM(4), mask).broken
    assert found.found == says


def test_without_a_mask_that_condition_is_unknown_and_said_to_be(gpu: None) -> None:
    found = check_cudnn(layers.LSTM(4))
    assert found.runs
    (unknown,) = found.unknown
    assert "right-padded" in unknown.name
    assert "will run, if what is unknown holds." in repr(found)


def test_a_layer_that_insists_hears_that_keras_will_raise(gpu: None) -> None:
    layer = layers.LSTM(4, use_cudnn=True, activation="relu")
    assert "Keras will raise" in repr(check_cudnn(layer, WELL))
    with pytest.raises(ValueError, match="use_cudnn=True"):
        layer(np.zeros((1, 2, 3), "float32"))


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_a_bidirectional_layer_is_looked_at_in_both_directions(kind: Any, gpu: None) -> None:
    assert check_cudnn(layers.Bidirectional(kind(4)), WELL)
    found = check_cudnn(layers.Bidirectional(kind(4, unroll=True)), WELL)
    assert broken(found) == ["unroll is False"]


def test_where_the_directions_differ_the_broken_one_is_named(gpu: None) -> None:
    backward = layers.LSTM(4, activation="relu", go_backwards=True)
    found = check_cudnn(layers.Bidirectional(layers.LSTM(4), backward_layer=backward), WELL)
    assert broken(found) == ["backward: activation is tanh"]


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (lambda: layers.SimpleRNN(4), "it is a SimpleRNN"),
        (lambda: layers.RNN(layers.LSTMCell(4)), "it is a RNN with the cell LSTMCell"),
        (lambda: layers.Bidirectional(layers.SimpleRNN(4)), "it is a SimpleRNN"),
    ],
)
def test_for_other_recurrent_layers_there_is_no_kernel(layer: Any, says: str, gpu: None) -> None:
    (found,) = check_cudnn(layer(), WELL).broken
    assert found.found == says


def test_on_another_backend_that_is_named(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    (found,) = check_cudnn(layers.LSTM(4), WELL).broken
    assert found.found == "it runs on jax"


@pytest.mark.parametrize("layer", [lambda: layers.Dense(4), lambda: keras.Sequential()])
def test_what_is_no_recurrent_layer_is_refused(layer: Any) -> None:
    with pytest.raises(LabError, match=r"model\.layers"):
        check_cudnn(layer())


@pytest.mark.parametrize(
    ("mask", "shape"), [([True, True, False], r"\(3,\)"), (np.zeros((0, 4)), r"\(0, 4\)")]
)
def test_a_mask_that_is_no_table_of_batch_and_steps_is_refused(mask: Any, shape: str) -> None:
    with pytest.raises(LabError, match=shape):
        check_cudnn(layers.LSTM(4), mask)


def test_the_answer_agrees_with_whether_keras_itself_turns_xla_off(gpu: None) -> None:
    """Keras marks a layer as unfit for XLA where cuDNN's kernel is to run."""
    for options in ({}, {"unroll": True}, {"use_bias": False}, {"activation": "relu"}):
        layer = layers.LSTM(4, **options)
        assert check_cudnn(layer, WELL).runs is not layer.supports_jit
