"""Large weights reach ONNX without going through the exporter, which copies all it is given."""

import keras
import numpy as np
import onnx
import pytest
import tf2onnx
from keras import layers

from dltlab.inference import optimize
from dltlab.inference.export import to_onnx

WORDS = np.random.default_rng(5).integers(0, 2000, (16, 6)).astype("int32")


@pytest.fixture(scope="module")
def large() -> keras.Model:
    """Three matrices of a million numbers and more, two of which are kept out."""
    keras.utils.set_random_seed(11)
    words = keras.Input((6,), dtype="int32", name="words")
    x = layers.Embedding(2000, 512, name="embedding")(words)
    x = layers.LSTM(512, name="lstm")(x)
    return keras.Model(words, layers.Dense(2000, name="logits")(x), name="large")


@pytest.fixture(scope="module")
def exported(large) -> tuple[int, onnx.ModelProto]:
    """How many bytes left the exporter, and the model in ONNX."""
    sizes, real = [], tf2onnx.convert.from_function

    def measured(*given, **options):
        found = real(*given, **options)
        sizes.append(found[0].ByteSize())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf2onnx.convert, "from_function", measured)
        content = to_onnx(large)
    (size,) = sizes
    return size, onnx.load_from_string(content)


def test_matrices_that_are_only_multiplied_or_looked_up_stay_outside(large, exported):
    size, model = exported
    outside = 4 * sum(
        large.get_layer(name).weights[0].numpy().size for name in ("embedding", "logits")
    )
    assert model.ByteSize() == pytest.approx(size + outside, rel=1e-3)


def test_the_model_takes_what_it_took(exported):
    _, model = exported
    assert [each.name for each in model.graph.input] == ["words"]
    onnx.checker.check_model(model, full_check=True)


def test_a_recurrent_layer_stays_one_operation(exported):
    _, model = exported
    assert "LSTM" in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_engine_of_a_large_model_gives_what_the_model_gives(large, fresh, backend, precision):
    engine = optimize(
        large,
        backend=backend,
        precision=precision,
        calibration=WORDS,
        validation=WORDS,
        tolerance=0.5,
    )
    assert engine.manifest.precision == precision
    exact = large.predict(WORDS, verbose=0)
    off = np.abs(engine(WORDS) - exact).max() / np.abs(exact).max()
    assert off < (0.1 if precision == "int8" else 1e-4)
