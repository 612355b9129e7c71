"""`Cost.training` agrees with counts by hand, XLA's program, TensorFlow's memory, and papers."""

import json
import os
import subprocess
import sys
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras import layers, ops

from dltlab import models
from dltlab.errors import Invalid
from tests.deadlines import HANG_SECONDS
from tests.xla_programs import xla_macs

# Prints what a step with 128 images allocates, and what is counted.
MEMORY = """
import json
import keras, tensorflow as tf
from dltlab import devices, models

model = models.small_resnet(width=32)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, jit_compile=False)
images, labels = tf.zeros((128, 32, 32, 3)), tf.zeros(128, tf.int64)
step = models.cost(model).training(128)
allocated = devices.peak_memory(lambda: model.train_on_batch(images, labels))
print(json.dumps([allocated, step.memory_bytes - step.weight_bytes - step.optimizer_bytes]))
"""


def perceptron() -> keras.Model:
    return keras.Sequential([keras.Input((10,)), layers.Dense(20), layers.Dense(5)])


def test_dense_layers_are_as_counted_by_hand() -> None:
    step = models.cost(perceptron()).training(8, slots=2)
    params = 220 + 105
    assert step.forward_flops == 2 * 8 * (200 + 100)
    assert step.backward_flops == 2 * 8 * (200 + 2 * 100)  # no gradient of the network's input
    assert step.optimizer_flops == 12 * params
    assert step.flops == 2 * 8 * 700 + 12 * params
    first, second = 4 * (8 * (10 + 20) + 220), 4 * (8 * (20 + 5) + 105)
    assert [row.bytes for row in step.layers] == [first, second]
    assert step.optimizer_bytes_moved == 4 * 7 * params
    assert step.bytes_moved == 2 * first + 3 * second + 4 * 7 * params


def test_convolution_is_as_counted_by_hand() -> None:
    inputs = keras.Input((9, 9, 3))
    x = layers.Conv2D(4, 3, strides=2)(inputs)
    model = keras.Model(inputs, layers.Conv2D(5, 1, use_bias=False)(layers.ReLU()(x)))
    step = models.cost(model).training(2, slots=0)
    conv, one_by_one = 16 * 27 * 4, 16 * 4 * 5
    assert step.forward_flops == 2 * 2 * (conv + one_by_one)
    assert step.backward_flops == 2 * 2 * (conv + 2 * one_by_one)
    assert step.optimizer_flops == 2 * (27 * 4 + 4 + 20)
    assert [row.backward_passes for row in step.layers] == [1, 1, 2]


def test_memory_is_weights_gradients_slots_and_activations() -> None:
    counted, params = models.cost(perceptron()), 220 + 105
    for slots in (0, 1, 2):
        step = counted.training(8, slots)
        assert (step.weight_bytes, step.gradient_bytes) == (4 * params, 4 * params)
        assert step.optimizer_bytes == slots * 4 * params
        assert step.activation_bytes == 8 * 4 * (10 + 20 + 5)
        assert step.memory_bytes == (2 + slots) * 4 * params + 8 * 4 * (35 + 20)


def attentive() -> keras.Model:
    inputs = keras.Input((6, 8))
    x = layers.Dense(8)(inputs)
    x = layers.MultiHeadAttention(2, 4)(x, x) + x
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def convolutional() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(inputs))
    x = layers.Conv2D(4, 5, padding="same")(layers.ReLU()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.AveragePooling2D(2)(x))))


def partly_frozen() -> keras.Model:
    model = convolutional()
    model.layers[1].trainable = False
    return model


@pytest.mark.parametrize("build", [perceptron, attentive, convolutional, partly_frozen])
def test_flops_equal_those_of_the_program_that_xla_compiles(build: Any) -> None:
    model = build()
    step = models.cost(model).training(4)

    def gradients(x: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = ops.sum(ops.square(model(x, training=True)))
        return tape.gradient(loss, model.trainable_weights)

    macs = xla_macs(gradients, model.inputs, batch_size=4)
    assert step.forward_flops + step.backward_flops == 2 * macs


def test_flops_for_each_byte_agree_with_the_slides_of_2017() -> None:
    """~27,000 for AlexNet, of bytes of pixels; ~150,000 for VGG, of float32 numbers."""
    for build, bytes_each, published in ((models.alexnet, 1, 27e3), (models.vgg16, 4, 150e3)):
        step = models.cost(build()).training()
        flops = step.forward_flops + step.backward_flops
        values = {"alexnet": 227**2 * 3, "vgg16": 224**2 * 3}[step.name]
        assert flops / values / bytes_each == pytest.approx(published, rel=0.03)


def test_memory_is_about_what_tensorflow_uses() -> None:
    """Outputs that no gradient needs are freed; some operations need memory of their own."""
    process = subprocess.run(
        [sys.executable, "-c", MEMORY],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert process.returncode == 0, process.stderr
    measured, counted = json.loads(process.stdout.splitlines()[-1])
    assert 0.5 < measured / counted < 2


def test_frozen_network_has_only_a_forward_pass() -> None:
    model = convolutional()
    model.trainable = False
    step = models.cost(model).training()
    assert step.backward_flops == step.optimizer_flops == step.gradient_bytes == 0


def test_uncounted_layer_is_named() -> None:
    inputs = keras.Input((4,))
    x = layers.Lambda(lambda x: x, name="mystery")(layers.Dense(3)(inputs))
    step = models.cost(keras.Model(inputs, x)).training()
    assert step.uncounted == ("mystery",)
    assert step.forward_flops == 2 * 12
    assert "at least" in step.summary
    assert step.summary.endswith("Not counted: mystery.")


def test_table_has_a_row_for_each_part_and_the_total() -> None:
    step = models.cost(perceptron()).training(8)
    table = step.table.set_index("part")
    assert list(table.index) == ["forward", "backward", "optimizer", "step"]
    assert table["GFLOP"][:3].sum() == pytest.approx(table["GFLOP"]["step"])
    assert table["MB moved"]["step"] == pytest.approx(step.bytes_moved / 1e6)
    assert "FLOP/byte" in repr(step)
    assert step.as_dict()["batch_size"] == 8


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"slots": 3}])
def test_argument_out_of_range_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(Invalid, match="1 example or more, and an optimizer 0 to 2 slots"):
        models.cost(perceptron()).training(**arguments)
