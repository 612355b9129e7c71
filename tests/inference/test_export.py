"""Models in ONNX: exported once, large matrices kept out, and layers named in errors."""

import keras
import numpy as np
import onnx
import pytest
import tf2onnx
from keras import layers

from dltlab.errors import Unavailable
from dltlab.inference import optimize
from dltlab.inference.export import (
    exporting,
    layer_of,
    layers_of,
    reason_of,
    to_onnx,
    write_saved_model,
)

WORDS = np.random.default_rng(5).integers(0, 2000, (16, 6)).astype("int32")


@pytest.fixture(scope="module")
def large() -> keras.Model:
    """A network with three matrices of a million numbers or more; two can be kept out."""
    keras.utils.set_random_seed(11)
    words = keras.Input((6,), dtype="int32", name="words")
    x = layers.Embedding(2000, 512, name="embedding")(words)
    x = layers.LSTM(512, name="lstm")(x)
    return keras.Model(words, layers.Dense(2000, name="logits")(x), name="large")


@pytest.fixture(scope="module")
def exported(large) -> tuple[int, onnx.ModelProto]:
    """The number of bytes that the exporter handled, and the model in ONNX."""
    sizes, from_function = [], tf2onnx.convert.from_function

    def measured(*arguments, **options):
        result = from_function(*arguments, **options)
        sizes.append(result[0].ByteSize())
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf2onnx.convert, "from_function", measured)
        content = to_onnx(large)
    (size,) = sizes
    return size, onnx.load_from_string(content)


def test_matrices_that_are_only_multiplied_or_looked_up_are_kept_out(large, exported):
    size, model = exported
    kept_out = 4 * sum(
        large.get_layer(name).weights[0].numpy().size for name in ("embedding", "logits")
    )
    assert model.ByteSize() == pytest.approx(size + kept_out, rel=1e-3)


def test_the_exported_model_has_the_inputs_of_the_model(exported):
    _, model = exported
    assert [tensor.name for tensor in model.graph.input] == ["words"]
    onnx.checker.check_model(model, full_check=True)


def test_a_recurrent_layer_becomes_one_operation(exported):
    _, model = exported
    assert "LSTM" in {node.op_type for node in model.graph.node}


def test_a_convolution_in_groups_is_exported():
    """Keras compiles it with XLA, as a function inside the graph."""
    stack = [keras.Input((6, 6, 4)), layers.Conv2D(8, 3, groups=4), layers.Flatten()]
    model = keras.Sequential(stack, name="groups")
    x = np.random.default_rng(0).random((8, 6, 6, 4), dtype=np.float32)
    engine = optimize(model, backend="onnxruntime", precision="float32", validation=x)
    np.testing.assert_allclose(engine(x), model.predict(x, verbose=0), atol=1e-5)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_an_engine_of_a_large_model_computes_what_the_model_computes(
    large, empty_cache, backend, precision
):
    engine = optimize(
        large,
        backend=backend,
        precision=precision,
        calibration=WORDS,
        validation=WORDS,
        max_accuracy_drop=0.5,
    )
    assert engine.manifest.precision == precision
    expected = large.predict(WORDS, verbose=0)
    error = np.abs(engine(WORDS) - expected).max() / np.abs(expected).max()
    assert error < (0.1 if precision == "int8" else 1e-4)


def test_several_engines_of_a_model_need_one_export(empty_cache, model, validation, monkeypatch):
    changing = keras.models.clone_model(model)
    exports, from_function = [], tf2onnx.convert.from_function

    def record(*arguments, **options):
        exports.append(arguments)
        return from_function(*arguments, **options)

    monkeypatch.setattr(tf2onnx.convert, "from_function", record)
    options = {"precision": "float32", "validation": validation[0][:8]}
    optimize(changing, backend="openvino", **options)
    optimize(changing, backend="onnxruntime", **options)
    assert len(exports) == 1

    changing.get_layer("logits").bias.assign([9.0, 0.0, 0.0, 0.0])
    engine = optimize(changing, backend="onnxruntime", **options)
    assert (engine(validation[0]).argmax(-1) == 0).all()
    assert len(exports) == 2


class OnlyInTensorFlow(keras.layers.Layer):
    """A layer whose operation exists in TensorFlow only."""

    def call(self, x):
        import tensorflow as tf

        return tf.math.bessel_i0(x)

    def compute_output_shape(self, shape):
        return shape


@pytest.fixture
def odd_model() -> keras.Model:
    inputs = keras.Input((4,))
    x = OnlyInTensorFlow(name="strange")(inputs)
    return keras.Model(inputs, layers.Dense(2)(x), name="odd")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_layer_that_cannot_be_exported_is_named(odd_model, empty_cache, name):
    message = f"{name} cannot run odd: The layer strange uses BesselI0.* choose another backend"
    with pytest.raises(Unavailable, match=message):
        optimize(odd_model, backend=name, precision="float32")
    assert not list(empty_cache.glob("*/engine"))


def test_a_layer_that_cannot_be_exported_runs_in_a_tensorflow_graph(odd_model):
    engine = optimize(odd_model, backend="tf.function", precision="float32")
    assert engine.accuracy.engine == 1


class Untraceable(OnlyInTensorFlow):
    """A layer that raises an exception when it is traced."""

    def call(self, x):
        raise TypeError(f"it cannot read {type(x).__name__}")


def test_a_layer_that_cannot_be_traced_is_named(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Untraceable(name="untraceable")(inputs), name="odd")
    message = r"The layer untraceable cannot be .*TensorFlow graph \(it cannot read Symbolic"
    with pytest.raises(Unavailable, match=message):
        write_saved_model(model, tmp_path / "saved")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError(), r"odd cannot be compiled \(KeyError\)\."),
        (KeyError(0), r"odd cannot be compiled \(KeyError 0\)\."),
        (ValueError(""), r"odd cannot be compiled \(ValueError\)\."),
        (
            RuntimeError(
                'Could not translate MLIR.<unknown>:0: error: loc(callsite(fused["FFT:", '
                '"odd_1/strange_1/FFT@f"] at "g")): \'tf.FFT\' op is neither a custom op nor a '
                "flex op\n<unknown>:0: note: loc(fused[1]): called from"
            ),
            r"The layer strange cannot be compiled \('tf.FFT' op is neither .* nor a flex op\)\.",
        ),
        (
            RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: upsample.h:314 "
                "[ONNXRuntimeError] : 1 : FAIL : 'Cubic' mode has too many axes\nodd/strange/Resize"
            ),
            r"The layer strange cannot be compiled \(.*'Cubic' mode has too many axes\)\.",
        ),
        (
            ValueError(
                "Exception encountered when calling OnlyInTensorFlow.call().\n\n\x1b[1mIt has no "
                "axis 7.\x1b[0m\n\nArguments received by OnlyInTensorFlow.call():"
            ),
            r"The layer strange cannot be compiled \(It has no axis 7\.\)\.",
        ),
        (
            ValueError(
                "Detected unsupported operations in graph __inference_restored_body_1[_XlaMust=1,"
                "executor=2] on CPU: BesselI0 (No kernel){{node odd_1/strange_1/BesselI0}}"
            ),
            r"The layer strange .*operations in graph on CPU: BesselI0 \(No kernel\)",
        ),
    ],
    ids=["nothing", "a number", "an empty text", "LiteRT", "ONNX Runtime", "Keras", "XLA"],
)
def test_a_message_names_the_layer_and_the_reason(odd_model, error, message):
    with pytest.raises(Unavailable, match=message), exporting(odd_model, "compiled"):
        raise error


def test_a_node_that_a_runtime_refuses_is_traced_to_its_layer(empty_cache):
    """ONNX Runtime refuses to resize images in this way, and names only the type of the node."""
    resizing = layers.Resizing(4, 4, interpolation="bicubic", name="smaller")
    model = keras.Sequential([keras.Input((8, 8, 3)), resizing], name="images")
    with pytest.raises(
        Unavailable, match=r"onnxruntime cannot run images: The layer smaller .*ubic"
    ):
        optimize(model, backend="onnxruntime", precision="float32")
    assert not list(empty_cache.glob("*/engine"))


def test_a_full_disk_is_not_an_export_error(odd_model):
    with pytest.raises(OSError, match="full"), exporting(odd_model, "exported to ONNX"):
        raise OSError("The disk is full.")


@pytest.mark.parametrize(
    ("operation", "layer"),
    [
        ("net_1/conv_1/convolution", "conv"),
        ("net/conv_b_1/Relu:0", "conv_b"),
        ("net/conv_10/add", "conv_10"),
        ("Transpose__17", ""),
    ],
)
def test_an_operation_is_traced_to_its_layer(operation, layer):
    assert layer_of(operation, ("conv", "conv_b", "conv_10")) == layer


def test_layers_are_listed_once_in_the_order_of_their_operations(model):
    operations = ["tiny/conv_b/conv", "tiny/conv_a/conv", "tiny/conv_b/Relu", "Transpose__1"]
    assert layers_of(model, operations) == ["conv_b", "conv_a"]


def test_reason_is_not_the_place_in_the_code_of_openvino() -> None:
    message = (
        "Exception from src/inference/src/cpp/infer_request.cpp:104:\n"
        "Check 'inputs.size() > idx' failed at src/inference/src/cpp/infer_request.cpp:106:\n"
        "Input port for index 1 was not found! The model has only 1 inputs.\n\n"
    )
    expected = "Input port for index 1 was not found! The model has only 1 inputs."
    assert reason_of(RuntimeError(message)) == expected
