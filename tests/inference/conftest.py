"""Networks, examples and an engine cache for the tests of engines."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

SIDE = 16


@pytest.fixture(scope="session", autouse=True)
def engine_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep the tests out of the user's engine cache."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLTLAB_ENGINE_DIR", str(folder))
        yield folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine cache of the test's own."""
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture(scope="session")
def model() -> keras.Model:
    """A network with what compilers fuse: normalization, ReLU, a shortcut, a concatenation."""
    keras.utils.set_random_seed(7)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False, name="conv_a")(inputs)
    x = stem = layers.ReLU(name="relu_a")(layers.BatchNormalization(name="norm_a")(x))
    left = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv_b")(x)
    right = layers.Conv2D(8, 1, activation="relu", name="conv_c")(x)
    x = layers.Concatenate(name="concat")([left, right])
    x = layers.Add(name="add")([layers.Conv2D(8, 1, name="conv_d")(x), stem])
    x = layers.Dropout(0.5, name="dropout")(layers.ReLU(name="relu_e")(x))
    x = layers.Flatten(name="flatten")(layers.MaxPooling2D(4, name="pool")(x))
    tiny = keras.Model(inputs, layers.Dense(4, name="logits")(x), name="tiny")
    tiny.get_layer("norm_a").set_weights(
        [np.linspace(0.5, 2, 8), np.linspace(-0.2, 0.2, 8), np.zeros(8), np.full(8, 0.7)]
    )
    tiny.get_layer("logits").bias.assign(-tiny.predict(random_images(), verbose=0).mean(axis=0))
    return tiny


def random_images() -> np.ndarray:
    return np.random.default_rng(3).random((600, SIDE, SIDE, 3), dtype=np.float32)


@pytest.fixture(scope="session")
def images(model: keras.Model) -> np.ndarray:
    """The 96 of 600 random images with the largest margin between logits, `(96, 16, 16, 3)`."""
    candidates = random_images()
    logits = np.sort(model.predict(candidates, verbose=0), axis=-1)
    return candidates[np.argsort(logits[:, -2] - logits[:, -1])[:96]]


@pytest.fixture(scope="session")
def calibration(images: np.ndarray) -> np.ndarray:
    return images[::3]


@pytest.fixture(scope="session")
def validation(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """64 images, and labels of four classes that the model gets right."""
    examples = np.concatenate([images[1::3], images[2::3]])
    labels = model.predict(examples, verbose=0).argmax(-1)
    assert len(set(labels)) == 4
    return examples, labels


@pytest.fixture(scope="session")
def outlier_model() -> keras.Model:
    """A network that int8 makes wrong.

    Its last layer reads a value a million times as large as those that matter. With one scale for
    all of them, int8 rounds the others to 0.
    """
    keras.utils.set_random_seed(7)
    inputs = keras.Input((16,))
    x = layers.Dense(64, activation="relu", name="wide")(inputs)
    large = keras.initializers.Constant(1e5)
    huge = layers.Dense(1, use_bias=False, name="huge", kernel_initializer=large)(inputs)
    x = layers.Concatenate(name="concat")([x, huge])
    outlier = keras.Model(inputs, layers.Dense(4, name="logits")(x), name="outlier")
    weights, bias = outlier.get_layer("logits").get_weights()
    weights[-1] = 0
    outlier.get_layer("logits").set_weights([weights, bias])
    return outlier


@pytest.fixture(scope="session")
def numbers() -> np.ndarray:
    """Examples for `outlier_model`."""
    return np.random.default_rng(5).random((128, 16), dtype=np.float32)
