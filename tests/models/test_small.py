"""The small networks, for several sizes and with parts left out."""

import keras
import numpy as np
import pytest

from dltlab import models
from dltlab.errors import Invalid

NETWORKS = ("small_inception", "small_resnet", "small_vgg")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("side", [8, 32, 64])
def test_outputs_are_logits_for_each_class(name: str, side: int) -> None:
    model = getattr(models, name)(7, (side, side, 1))
    images = np.random.default_rng(1).uniform(size=(2, side, side, 1))
    assert model.predict(images, verbose=0).shape == (2, 7)


@pytest.mark.parametrize("name", NETWORKS)
def test_larger_images_add_few_multiply_adds(name: str) -> None:
    small, large = (
        models.cost(getattr(models, name)(10, (side, side, 3))).macs for side in (32, 64)
    )
    assert large < 1.1 * small


def test_residual_network_has_the_size_in_its_docstring() -> None:
    assert models.small_resnet().count_params() == 304_634


def test_the_inception_network_has_two_stages_of_as_many_modules_as_asked_for() -> None:
    for modules in (1, 2, 3):
        model = models.small_inception(modules_per_stage=modules)
        outputs = [layer.output for layer in model.layers if "concatenate" in layer.name]
        assert [output.shape[1:] for output in outputs] == [
            *[(16, 16, 96)] * modules,
            *[(8, 8, 192)] * modules,
        ]


def test_parts_of_the_residual_network_can_be_left_out() -> None:
    def layer_classes(model: keras.Model) -> set[str]:
        return {type(layer).__name__ for layer in model.layers}

    assert {"Add", "BatchNormalization"} <= layer_classes(models.small_resnet())
    assert "Add" not in layer_classes(models.small_resnet(residual=False))
    plain = models.small_resnet(batch_norm=False)
    assert "BatchNormalization" not in layer_classes(plain)
    convolutions = [layer for layer in plain.layers if isinstance(layer, keras.layers.Conv2D)]
    assert all(layer.use_bias for layer in convolutions if layer.kernel_size == (3, 3))


@pytest.mark.parametrize("name", NETWORKS)
def test_training_fits_one_batch(name: str) -> None:
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(1)
    images, labels = random.uniform(size=(8, 8, 8, 3)), np.arange(8) % 4
    model = getattr(models, name)(4, (8, 8, 3), width=8)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # A few eager steps take less time than compiling one.
    model.compile(keras.optimizers.Adam(0.003), loss, run_eagerly=True)
    first, *_, last = model.fit(images, labels, epochs=6, verbose=0).history["loss"]
    assert last < first / 2


def test_logits_are_float32_in_mixed_precision() -> None:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.small_resnet()
        assert model.layers[1].compute_dtype == "bfloat16"
        assert model(np.zeros((1, 32, 32, 3))).dtype == "float32"
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "num_classes is 0; it must be 1 or more"),
        ((10, (32, 32)), r"input_shape is \(32, 32\); it must be \(height, width, channels\)"),
        ((10, (None, None, 3)), "it must be"),
        ((10, (4, 32, 3)), "Images of 4×32 pixels are too small for this network: it needs 8×8"),
    ],
)
@pytest.mark.parametrize("name", NETWORKS)
def test_argument_out_of_range_is_refused(name: str, arguments: tuple, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        getattr(models, name)(*arguments)
