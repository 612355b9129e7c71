"""Every backend gives what the model gives, in the precision that was asked for."""

import importlib.metadata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import LabError
from dltlab.inference import Engine, optimize
from dltlab.inference.backends import Settings, backend, tensorrt, versions
from dltlab.models import char_rnn

HERE = {  # float16 once only: Keras makes it as it makes bfloat16
    "keras": ("float32", "bfloat16", "float16"),
    "tf.function": ("float32", "bfloat16"),
    "xla": ("float32", "bfloat16"),
    "litert": ("float32", "int8"),
    "onnxruntime": ("float32", "int8"),
    "openvino": ("float32", "int8"),  # and what the processor has
}
CLOSE = {"float32": 1e-5, "float16": 0.02, "bfloat16": 0.05, "int8": 0.1}


def every(names=HERE):
    return [(name, precision) for name in names for precision in HERE[name]]


@pytest.fixture(scope="module")
def engine(model, calibration, validation):
    def built(name: str, precision: str, batch: int = 4) -> Engine:
        return optimize(
            model, backend=name, precision=precision, calibration=calibration,
            validation=validation, batch=batch, tolerance=0.05,
        )  # fmt: skip

    return built


@pytest.mark.parametrize(("name", "precision"), every())
def test_an_engine_gives_what_the_model_gives(engine, model, validation, name, precision):
    built = engine(name, precision)
    assert (built.manifest.backend, built.manifest.precision) == (name, precision)
    expected = model.predict(validation[0], verbose=0)
    found = built(validation[0])
    assert found.dtype == np.float32
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < CLOSE[precision]
    assert (error > 1e-5) == (precision != "float32")


@pytest.mark.parametrize("name", HERE)
def test_any_number_of_examples_gives_as_many_answers(engine, model, validation, name):
    built = engine(name, "float32")
    expected = model.predict(validation[0][:9], verbose=0)
    for count in (1, 4, 9):
        found = built(validation[0][:count])
        assert found.shape == (count, 4)
        np.testing.assert_allclose(found, expected[:count], atol=1e-5)


@pytest.mark.parametrize("name", HERE)
def test_images_that_may_not_be_written_are_read(engine, validation, name):
    built = engine(name, "float32")
    given = validation[0][:4].copy()
    expected = built(given)
    given.flags.writeable = False
    np.testing.assert_array_equal(built(given), expected)


@pytest.mark.parametrize("name", HERE)
def test_several_inputs_and_outputs_keep_their_order(name):
    z, a = keras.Input((3,), name="z"), keras.Input((2,), name="a")
    total = layers.Dense(2, name="b_total")(layers.Concatenate()([z, a]))
    model = keras.Model([z, a], [total, layers.Dense(3, name="a_first")(z)], name="two")
    inputs = [np.random.default_rng(0).random((5, n), dtype=np.float32) for n in (3, 2)]
    engine = optimize(model, backend=name, precision="float32", validation=inputs, batch=2)
    found = engine(*inputs)
    for one, other in zip(found, model.predict(inputs, verbose=0), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_litert_calibrates_each_input_with_its_own_examples():
    z, a = keras.Input((4,), name="z"), keras.Input((4,), name="a")
    total = layers.Dense(8)(layers.Concatenate()([layers.Dense(4)(z), layers.Dense(4)(a)]))
    model = keras.Model([z, a], total, name="scales")
    random = np.random.default_rng(0).random
    inputs = [random((32, 4), np.float32), 1000 * random((32, 4), np.float32)]
    engine = optimize(
        model, backend="litert", precision="int8", calibration=inputs, validation=inputs,
        tolerance=1,
    )  # fmt: skip
    expected = model.predict(inputs, verbose=0)
    error = np.linalg.norm(engine(*inputs) - expected) / np.linalg.norm(expected)
    assert error < CLOSE["int8"]


@pytest.mark.parametrize("name", ["keras", "tf.function"])
def test_whole_numbers_that_a_network_gives_stay_whole(name):
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.ops.argmax(layers.Dense(3)(inputs), axis=-1), name="best")
    x = np.random.default_rng(0).random((5, 6), dtype=np.float32)
    engine = optimize(model, backend=name, precision="float32", validation=x)
    expected = model.predict(x, verbose=0)
    assert engine(x).dtype == expected.dtype
    np.testing.assert_array_equal(engine(x), expected)


def test_texts_of_many_lengths_do_not_make_as_many_graphs():
    model = char_rnn(7, units=8, embedding=4)
    texts = np.zeros((1, 40), np.int32)
    engine = optimize(model, backend="tf.function", precision="float32", validation=texts)
    for length in range(1, 40):
        engine(texts[:, :length])
    assert engine._session._function.experimental_get_tracing_count() < 4


@pytest.mark.parametrize("name", HERE)
def test_lanes_run_at_the_same_time_without_mixing_their_answers(engine, validation, name):
    built = engine(name, "float32").configured(streams=2)
    first, second = built.lane(), built.lane()
    one = [each.copy() for each in first([validation[0][:4]])]
    kept = first([validation[0][:4]])
    second([validation[0][4:8]])
    np.testing.assert_array_equal(kept[0], one[0])


def test_calls_of_a_graph_take_turns(engine, validation):
    """Two at once fail in TensorFlow where large arrays are summed, as in AlexNet."""
    session = engine("tf.function", "float32").configured(streams=2)._session
    graph, inside, most = session._function, [], []

    def watched(tensor):
        inside.append(tensor)
        most.append(len(inside))
        found = graph(tensor)
        inside.clear()
        return found

    session._function = watched
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(session.lane(), [[validation[0][:4]]] * 50))
    assert most == [1] * 50


@pytest.mark.parametrize("name", ["keras", "tf.function", "onnxruntime", "openvino"])
def test_a_recurrent_network_takes_texts_of_any_length(name):
    model = char_rnn(7, units=8, embedding=4)
    texts = np.random.default_rng(0).integers(7, size=(3, 12), dtype=np.int32)
    engine = optimize(model, backend=name, precision="float32", validation=texts)
    for length in (12, 5):
        expected = model.predict(texts[:, :length], verbose=0)
        np.testing.assert_allclose(engine(texts[:, :length]), expected, atol=1e-5)


def runs_in(engine: Engine) -> Counter:
    """Operations by precision, of those that multiply."""
    kinds = ("Conv", "FullyConnected", "MatMul", "QLinearConv", "QLinearMatMul", "Gemm", "QGemm")
    some = [each for each in engine.operations() if each.kind.startswith(kinds)]
    return Counter(each.precision for each in some)


def test_openvino_asked_for_float32_runs_float32_even_where_bfloat16_is_its_default(engine):
    assert runs_in(engine("openvino", "float32")) == {"float32": 5}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_openvino_runs_what_the_processor_has_and_refuses_the_rest(engine, precision):
    if precision in backend("openvino").precisions():
        assert runs_in(engine("openvino", precision)) == {precision: 5}
    else:
        with pytest.raises(LabError, match=f"openvino has no {precision} on this machine"):
            engine("openvino", precision)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_int8_runs_in_int8(engine, name):
    assert runs_in(engine(name, "int8")) == {"int8": 5}


def test_onnxruntime_asked_for_float32_runs_float32(engine):
    assert runs_in(engine("onnxruntime", "float32")) == {"float32": 5}


def test_litert_keeps_int8_weights(engine):
    from ai_edge_litert.interpreter import Interpreter

    def types(precision: str) -> set:
        folder = engine("litert", precision).folder
        interpreter = Interpreter(str(folder / "model.tflite"))
        return {
            each["dtype"] for each in interpreter.get_tensor_details() if len(each["shape"]) == 4
        }

    assert np.int8 in types("int8")
    assert np.int8 not in types("float32")


def test_a_backend_that_is_not_known_is_named_with_those_that_are():
    with pytest.raises(LabError, match=r"backend is 'tpu'; it must be auto or one of keras, .*"):
        backend("tpu")


@pytest.mark.parametrize(
    ("name", "package"),
    [("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime"), ("openvino", "openvino")],
)
def test_a_missing_package_is_named_with_how_to_install_it(monkeypatch, name, package):
    version = importlib.metadata.version

    def without(wanted: str) -> str:
        if wanted == package:
            raise importlib.metadata.PackageNotFoundError(wanted)
        return version(wanted)

    monkeypatch.setattr(importlib.metadata, "version", without)
    with pytest.raises(LabError) as caught:
        backend(name)
    assert str(caught.value) == (
        f"The backend {name} cannot run here: {package} not installed. "
        "Run: pip install 'dltlab[inference]'"
    )


def test_onnxruntime_for_gpus_stands_in_for_that_for_processors(monkeypatch):
    version = importlib.metadata.version

    def for_gpus(wanted: str) -> str:
        if wanted == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(wanted)
        return "1.2" if wanted == "onnxruntime-gpu" else version(wanted)

    monkeypatch.setattr(importlib.metadata, "version", for_gpus)
    assert versions(backend("onnxruntime"))["onnxruntime-gpu"] == "1.2"


@pytest.mark.parametrize(
    ("name", "mend"),
    [("tensorrt", "pip install onnxruntime-gpu tensorrt"), ("openvino-gpu", "intel-opencl-icd")],
)
def test_a_backend_without_its_gpu_says_what_it_lacks(monkeypatch, name, mend):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("openvino.Core", lambda: SimpleNamespace(available_devices=["CPU"]))
    with pytest.raises(LabError, match=f"The backend {name} cannot run here: ") as caught:
        backend(name)
    assert mend in str(caught.value)


def test_auto_takes_the_next_backend_and_says_what_was_missing(model, monkeypatch, validation):
    from dltlab.inference.backends import openvino_runtime

    monkeypatch.setattr(openvino_runtime, "lacks", lambda: "its library is broken.")
    engine = optimize(model, precision="float32", validation=validation)
    assert engine.manifest.backend in ("tensorrt", "onnxruntime")
    assert "The backend openvino cannot run here: its library is broken." in engine.notes


def test_the_graph_for_tensorrt_has_the_types_asked_for(model, calibration, tmp_path):
    import onnx

    kinds = {}
    for precision in ("float32", "float16", "int8"):
        folder = tmp_path / precision
        folder.mkdir()
        tensorrt.build(model, precision, [[each[None]] for each in calibration[:4]], folder)
        graph = onnx.load(folder / "model.onnx").graph
        kinds[precision] = {onnx.TensorProto.DataType.Name(i.data_type) for i in graph.initializer}
    assert "FLOAT16" in kinds["float16"]
    assert "INT8" in kinds["int8"]
    assert not {"FLOAT16", "INT8"} & kinds["float32"]


def test_tensorrt_that_does_not_start_is_said(model, tmp_path):
    tensorrt.build(model, "float32", [], tmp_path)
    with (
        pytest.warns(UserWarning, match="is not in available provider names"),
        pytest.raises(LabError, match="TensorRT does not start on this machine"),
    ):
        tensorrt.open(tmp_path, "float32", Settings(1, 1, 1))
