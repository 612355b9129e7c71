"""What the tests of engines share: a small network, examples that it is sure of, and a cache."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

SIDE = 16


@pytest.fixture(scope="session")
def _engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="session", autouse=True)
def engines_folder(_engines: Path):
    """No test touches anybody's engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLTLAB_ENGINE_DIR", str(_engines))
        yield _engines


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which nothing is yet."""
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "engines"))
    return tmp_path / "engines"


@pytest.fixture(scope="session")
def model() -> keras.Model:
    """Convolutions with what compilers fuse: normalization, ReLU, a shortcut, a concatenation."""
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
    found = keras.Model(inputs, layers.Dense(4, name="logits")(x), name="tiny")
    found.get_layer("norm_a").set_weights(
        [np.linspace(0.5, 2, 8), np.linspace(-0.2, 0.2, 8), np.zeros(8), np.full(8, 0.7)]
    )
    found.get_layer("logits").bias.assign(-found.predict(_random(), verbose=0).mean(axis=0))
    return found


def _random() -> np.ndarray:
    return np.random.default_rng(3).random((600, SIDE, SIDE, 3), dtype=np.float32)


@pytest.fixture(scope="session")
def images(model: keras.Model) -> np.ndarray:
    """Those of many random ones of whose class the model is surest, float32 `(96, 16, 16, 3)`."""
    many = _random()
    logits = np.sort(model.predict(many, verbose=0), axis=-1)
    return many[np.argsort(logits[:, -2] - logits[:, -1])[:96]]


@pytest.fixture(scope="session")
def calibration(images: np.ndarray) -> np.ndarray:
    return images[::3]


@pytest.fixture(scope="session")
def validation(model: keras.Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images, and labels that the model knows all of."""
    some = np.concatenate([images[1::3], images[2::3]])
    labels = model.predict(some, verbose=0).argmax(-1)
    assert len(set(labels)) == 4
    return some, labels


@pytest.fixture(scope="session")
def outlier_model() -> keras.Model:
    """Its last layer sees a value a million times as large as those that matter.

    With one scale for all of them int8 rounds these to nothing.
    """
    keras.utils.set_random_seed(7)
    inputs = keras.Input((16,))
    x = layers.Dense(64, activation="relu", name="wide")(inputs)
    huge = layers.Dense(1, use_bias=False, name="huge", kernel_initializer=_constant(1e5))(inputs)
    x = layers.Concatenate(name="concat")([x, huge])
    found = keras.Model(inputs, layers.Dense(4, name="logits")(x), name="outlier")
    weights, bias = found.get_layer("logits").get_weights()
    weights[-1] = 0
    found.get_layer("logits").set_weights([weights, bias])
    return found


def _constant(value: float) -> keras.initializers.Initializer:
    return keras.initializers.Constant(value)


@pytest.fixture(scope="session")
def numbers() -> np.ndarray:
    """Examples for `outlier_model`."""
    return np.random.default_rng(5).random((128, 16), dtype=np.float32)
