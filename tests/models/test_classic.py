"""The classic networks have the published sizes."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from dltlab import models


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("alexnet", 60_965_224, 0.724e9),
        ("googlenet", 6_998_552, 1.58e9),
        ("vgg16", 138_357_544, 15.5e9),
        ("resnet50", 25_636_712, 3.86e9),
    ],
)
def test_parameters_equal_the_published_ones_and_multiply_adds_within_2_percent(
    name: str, params: int, macs: float
) -> None:
    counted = models.cost(getattr(models, name)())
    assert counted.params == params
    assert counted.macs == pytest.approx(macs, rel=0.02)
    assert counted.uncounted == ()
    keras.backend.clear_session()


def test_googlenet_with_heads_has_three_outputs_and_the_published_parameters() -> None:
    model = models.googlenet(auxiliary_heads=True)
    assert model.count_params() == 13_378_280
    assert [tuple(output.shape) for output in model.outputs] == [(None, 1000)] * 3


@pytest.mark.parametrize("name", ["alexnet", "googlenet", "vgg16", "resnet50"])
def test_network_outputs_logits_trains_and_can_be_saved(name: str, tmp_path: Path) -> None:
    shape = (67, 67, 3) if name == "alexnet" else (64, 64, 3)
    model = getattr(models, name)(3, shape)
    images = np.random.default_rng(1).uniform(size=(2, *shape)).astype("float32")
    logits = model.predict(images, verbose=0)
    assert logits.shape == (2, 3)
    assert not np.allclose(logits.sum(axis=1), 1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)  # one eager step is faster than compiling it
    before = model.get_weights()[0].copy()
    model.train_on_batch(images, np.array([0, 1]))
    assert not np.array_equal(before, model.get_weights()[0])
    model.save(tmp_path / "model.keras")
    loaded = models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-4, atol=1e-4
    )


def test_two_groups_of_alexnet_equal_a_grouped_convolution() -> None:
    model = models.alexnet(3, (67, 67, 3))
    split = next(layer for layer in model.operations if layer.name.startswith("split"))
    halves = [model.get_layer(f"conv2_{part}") for part in "ab"]
    maps = np.random.default_rng(1).normal(size=(1, 5, 5, 96)).astype("float32")
    ours = np.concatenate(
        [half(part) for half, part in zip(halves, keras.ops.split(maps, 2, -1), strict=True)], -1
    )
    kernel = np.concatenate([half.get_weights()[0] for half in halves], axis=-1)
    grouped = np.maximum(keras.ops.conv(maps, kernel, padding="same"), 0)
    assert len(split.output) == 2
    np.testing.assert_allclose(ours, grouped, atol=1e-4)


def test_importing_models_imports_neither_keras_nor_tensorflow() -> None:
    code = (
        "import sys, dltlab.models; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
