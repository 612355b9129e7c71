"""`check_cudnn`: each condition separately, with and without a GPU."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from dltlab.errors import Invalid
from dltlab.training import check_cudnn
from dltlab.training.cudnn import CudnnCheck

MASK = np.array([[True, True, False], [True, True, True]])


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow reports a GPU."""
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["a GPU"])


def broken(check: CudnnCheck) -> list[str]:
    return [condition.name for condition in check.broken]


@pytest.mark.parametrize("layer_class", [layers.LSTM, layers.GRU])
def test_layer_with_default_arguments_runs_on_a_gpu(layer_class: Any, gpu: None) -> None:
    check = check_cudnn(layer_class(4), MASK)
    assert check
    assert check.runs
    assert not check.broken
    assert not check.unknown
    assert "cuDNN's kernel will run." in check.summary


def test_missing_gpu_is_the_only_broken_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: [])
    check = check_cudnn(layers.LSTM(4), MASK)
    assert not check
    assert broken(check) == ["a GPU is available"]
    assert "Keras will compute step by step" in check.summary


@pytest.mark.parametrize("layer_class", [layers.LSTM, layers.GRU])
@pytest.mark.parametrize(
    ("argument", "value", "condition", "reason"),
    [
        ("activation", "relu", "activation is tanh", "it is relu"),
        ("activation", None, "activation is tanh", "it is linear"),
        ("activation", np.tanh, "activation is tanh", "another function named tanh"),
        ("recurrent_activation", "hard_sigmoid", "recurrent_activation is sigmoid", "hard_sigmoid"),
        ("recurrent_dropout", 0.25, "recurrent_dropout is 0", "it is 0.25"),
        ("unroll", True, "unroll is False", "it is True"),
        ("use_bias", False, "use_bias is True", "it is False"),
        ("use_cudnn", False, "use_cudnn is not False", "it is False"),
    ],
)
def test_broken_condition_has_a_name_and_a_reason(
    layer_class: Any, argument: str, value: Any, condition: str, reason: str, gpu: None
) -> None:
    check = check_cudnn(layer_class(4, **{argument: value}), MASK)
    assert broken(check) == [condition]
    assert reason in check.broken[0].reason
    assert str(check.broken[0]) == f" NO  {condition}: {check.broken[0].reason}"
    row = check.table[check.table["met"] == "NO"]
    assert row.to_numpy().tolist() == [[condition, "NO", check.broken[0].reason]]


def test_gru_that_resets_before_has_no_kernel(gpu: None) -> None:
    assert broken(check_cudnn(layers.GRU(4, reset_after=False), MASK)) == ["reset_after is True"]
    assert "reset_after" not in repr(check_cudnn(layers.LSTM(4), MASK))


@pytest.mark.parametrize("activation", [tf.tanh, keras.ops.tanh, keras.activations.tanh])
def test_every_tanh_that_keras_accepts_is_accepted(activation: Any, gpu: None) -> None:
    assert check_cudnn(layers.LSTM(4, activation=activation), MASK)


def test_dropout_state_and_direction_do_not_matter(gpu: None) -> None:
    options = {"dropout": 0.5, "go_backwards": True, "stateful": True, "return_state": True}
    assert check_cudnn(layers.LSTM(4, **options), MASK)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_every_dtype_of_the_kernel_is_accepted(policy: str, gpu: None) -> None:
    assert check_cudnn(layers.LSTM(4, dtype=policy), MASK)


def test_dtype_that_the_kernel_lacks_is_named(gpu: None) -> None:
    layer = layers.LSTM(4, dtype="complex64")
    (condition,) = check_cudnn(layer, MASK).broken
    assert condition.reason == "in complex64"


def test_all_broken_conditions_are_named(gpu: None) -> None:
    layer = layers.GRU(4, activation="relu", unroll=True, reset_after=False)
    assert broken(check_cudnn(layer)) == [
        "activation is tanh", "unroll is False", "reset_after is True",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ([[1, 1, 1], [0, 1, 1]], "in row 1 a step follows one that is left out"),
        ([[1, 0, 1]], "in row 0 a step follows one that is left out"),
        ([[1, 1, 1], [1, 1, 0], [0, 0, 0]], "row 2 leaves out every step"),
    ],
)
def test_row_of_a_mask_that_is_not_right_padded_is_named(mask: Any, reason: str, gpu: None) -> None:
    (condition,) = check_cudnn(layers.LSTM(4), mask).broken
    assert condition.reason == reason


def test_condition_on_the_mask_is_unknown_without_a_mask(gpu: None) -> None:
    check = check_cudnn(layers.LSTM(4))
    assert check.runs
    (unknown,) = check.unknown
    assert "right-padded" in unknown.name
    assert "will run, if the unknown conditions are met." in check.summary


def test_layer_that_requires_cudnn_will_raise(gpu: None) -> None:
    layer = layers.LSTM(4, use_cudnn=True, activation="relu")
    assert "Keras will raise" in check_cudnn(layer, MASK).summary
    with pytest.raises(ValueError, match="use_cudnn=True"):
        layer(np.zeros((1, 2, 3), "float32"))


@pytest.mark.parametrize("layer_class", [layers.LSTM, layers.GRU])
def test_both_directions_of_a_bidirectional_layer_are_checked(layer_class: Any, gpu: None) -> None:
    assert check_cudnn(layers.Bidirectional(layer_class(4)), MASK)
    check = check_cudnn(layers.Bidirectional(layer_class(4, unroll=True)), MASK)
    assert broken(check) == ["unroll is False"]


def test_broken_direction_is_named(gpu: None) -> None:
    backward = layers.LSTM(4, activation="relu", go_backwards=True)
    check = check_cudnn(layers.Bidirectional(layers.LSTM(4), backward_layer=backward), MASK)
    assert broken(check) == ["backward: activation is tanh"]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: layers.SimpleRNN(4), "it is a SimpleRNN"),
        (lambda: layers.RNN(layers.LSTMCell(4)), "it is a RNN with the cell LSTMCell"),
        (lambda: layers.Bidirectional(layers.SimpleRNN(4)), "it is a SimpleRNN"),
    ],
)
def test_other_recurrent_layers_have_no_kernel(build: Any, reason: str, gpu: None) -> None:
    (condition,) = check_cudnn(build(), MASK).broken
    assert condition.reason == reason


def test_other_backend_is_named(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    (condition,) = check_cudnn(layers.LSTM(4), MASK).broken
    assert condition.reason == "it runs on jax"


@pytest.mark.parametrize("build", [lambda: layers.Dense(4), lambda: keras.Sequential()])
def test_other_layers_are_refused(build: Any) -> None:
    with pytest.raises(Invalid, match=r"model\.layers"):
        check_cudnn(build())


@pytest.mark.parametrize(
    ("mask", "shape"), [([True, True, False], r"\(3,\)"), (np.zeros((0, 4)), r"\(0, 4\)")]
)
def test_mask_that_is_not_a_matrix_is_refused(mask: Any, shape: str) -> None:
    with pytest.raises(Invalid, match=shape):
        check_cudnn(layers.LSTM(4), mask)


def test_result_agrees_with_whether_keras_disables_xla(gpu: None) -> None:
    """Keras marks a layer as unfit for XLA if it will use cuDNN's kernel."""
    for options in ({}, {"unroll": True}, {"use_bias": False}, {"activation": "relu"}):
        layer = layers.LSTM(4, **options)
        assert check_cudnn(layer, MASK).runs is not layer.supports_jit
