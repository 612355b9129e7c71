"""`optimize` returns only accurate engines: it falls back, and notes what it did."""

import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Invalid, LabError, Unavailable
from dltlab.inference import Engine, optimize
from dltlab.inference.backends.base import Session
from dltlab.inference.backends.keras_eager import KerasEager
from dltlab.inference.backends.openvino_runtime import OpenVino
from dltlab.inference.export import Unsupported
from dltlab.inference.manifest import Accuracy
from dltlab.models import load_model


class FixedSession(Session):
    """A session whose outputs a test chooses."""

    def __init__(self, function):
        self.function = function

    def runner(self):
        return lambda inputs: [self.function(inputs[0])]


@pytest.fixture
def keras_outputs(monkeypatch, empty_cache):
    """Replace the outputs of the backend keras in some precisions."""

    def replace(**by_precision) -> None:
        open_ = KerasEager.open

        def wrong(self, folder, precision, settings):
            if precision in by_precision:
                return FixedSession(by_precision[precision])
            return open_(self, folder, precision, settings)

        monkeypatch.setattr(KerasEager, "open", wrong)

    return replace


def zeros(inputs: np.ndarray) -> np.ndarray:
    return np.zeros((len(inputs), 4), np.float32)


def test_the_notes_say_what_runs_and_how_accurate_it_is(model, calibration, validation):
    engine = optimize(
        model, backend="openvino", precision="int8", calibration=calibration, validation=validation
    )
    assert engine.accuracy == Accuracy(
        metric="accuracy", reference=1.0, engine=1.0, num_examples=64, data="validation data"
    )
    assert engine.notes == [
        "openvino in int8 has an accuracy of 1.0000, the float32 model 1.0000 (64 examples)."
    ]


def test_without_labels_the_engine_is_compared_with_the_model(model, validation):
    engine = optimize(model, backend="openvino", precision="float32", validation=validation[0])
    assert (engine.accuracy.metric, engine.accuracy.engine) == ("agreement", 1.0)


def test_without_data_the_note_says_that_random_numbers_were_used(model, empty_cache):
    engine = optimize(
        model, backend="keras", precision="bfloat16", batch_size=32, max_accuracy_drop=1
    )
    assert engine.accuracy.data == "random numbers"
    assert engine.notes[-1].endswith("(32 examples, random numbers).")


def test_where_int8_is_wrong_single_layers_stay_in_float32_and_are_named(outlier_model, numbers):
    engine = optimize(
        outlier_model,
        backend="openvino",
        precision="int8",
        calibration=numbers[:32],
        validation=numbers[32:],
        max_accuracy_drop=0.05,
    )
    assert engine.manifest.precision == "int8"
    assert engine.manifest.max_accuracy_drop == 0.05
    assert engine.accuracy.engine >= 0.95
    failed, mixed, names = engine.notes
    assert failed.startswith("int8 has an agreement of ")
    assert failed.endswith("less than 0.95 of it is kept, so the next choice is tried.")
    assert mixed.startswith("openvino in int8 has an agreement of ")
    assert names.startswith("These layers stay in float32: ")
    assert "logits" in names
    assert "concat" not in names
    dense = [operation for operation in engine.operations() if operation.kind == "FullyConnected"]
    assert {operation.precision for operation in dense} == {"int8", "float32"}


def test_where_int8_is_wrong_the_next_precision_is_tried_and_noted(outlier_model, numbers):
    engine = optimize(
        outlier_model,
        backend="onnxruntime",
        precision="int8",
        calibration=numbers[:32],
        validation=numbers[32:],
    )
    assert engine.manifest.precision == "float32"
    assert [note.partition(" ")[0] for note in engine.notes] == ["int8", "onnxruntime"]
    assert "so the next choice is tried" in engine.notes[0]


def test_a_larger_accuracy_drop_is_accepted_when_asked_for(outlier_model, numbers):
    engine = optimize(
        outlier_model,
        backend="onnxruntime",
        precision="int8",
        calibration=numbers[:32],
        validation=numbers[32:],
        max_accuracy_drop=1,
    )
    assert engine.manifest.precision == "int8"


def test_nan_falls_back_to_the_next_precision(keras_outputs, model, validation):
    keras_outputs(bfloat16=lambda inputs: np.full((len(inputs), 4), np.nan, np.float32))
    engine = optimize(
        model, backend="keras", precision="bfloat16", batch_size=32, validation=validation
    )
    assert engine.manifest.precision == "float32"
    assert engine.notes[0].startswith("bfloat16 returns NaN or infinity (64 examples)")


def test_outputs_of_another_shape_are_refused_and_nothing_is_cached(
    keras_outputs, empty_cache, model, validation
):
    keras_outputs(float32=lambda inputs: np.zeros((len(inputs), 5), np.float32))
    with pytest.raises(Unavailable, match=r"The engine returns .* and tiny .*another backend"):
        optimize(model, backend="keras", precision="float32", validation=validation)
    assert not list(empty_cache.glob("*/engine"))


def test_an_engine_that_is_wrong_in_every_precision_is_refused(keras_outputs, model, validation):
    keras_outputs(float32=zeros, bfloat16=zeros)
    with pytest.raises(Unavailable, match="not accurate in any precision: bfloat16 has"):
        optimize(model, backend="keras", precision="bfloat16", batch_size=32, validation=validation)


def test_auto_is_int8_only_with_calibration_data(model, calibration, validation):
    options = {"backend": "openvino", "validation": validation}
    assert optimize(model, calibration=calibration, **options).manifest.precision == "int8"
    without = optimize(model, **options)
    assert without.manifest.precision != "int8"
    assert without.notes[0] == "There is no calibration data, so int8 was not tried."


def test_auto_is_bfloat16_only_where_the_processor_multiplies_matrices_in_it(
    model, validation, monkeypatch
):
    class Cpu:
        cores, model, extensions = 2, "A CPU", ("AVX2",)

    options = {"backend": "keras", "validation": validation, "batch_size": 32}
    for extensions, precision in ((("AVX2",), "float32"), (("AMX-BF16",), "bfloat16")):
        monkeypatch.setattr(Cpu, "extensions", extensions)
        monkeypatch.setattr("dltlab.inference.optimization.cpu_info", Cpu)
        engine = optimize(model, max_accuracy_drop=0.1, **options)
        assert engine.manifest.precision == precision


def test_a_mixed_precision_model_is_compared_with_itself_in_float32(empty_cache):
    keras.utils.set_random_seed(1)
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential(
        [keras.Input((16,)), layers.Dense(32, dtype=policy), layers.Dense(1, dtype="float32")],
        name="mixed",
    )
    x = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    engine = optimize(model, backend="tf.function", precision="float32", validation=x)
    kernel_1, bias_1, kernel_2, bias_2 = model.get_weights()
    expected = (x @ kernel_1 + bias_1) @ kernel_2 + bias_2
    np.testing.assert_allclose(engine(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"backend": "openvino", "precision": "int8"},
            Invalid,
            "int8 needs calibration data: pass calibration=",
        ),
        ({"precision": "int4"}, Invalid, "precision is 'int4'; it must be auto or one of float32,"),
        ({"backend": "fast"}, Invalid, "backend is 'fast'; it must be auto or one of keras,"),
        (
            {"backend": "litert", "precision": "float16"},
            Unavailable,
            "litert has no float16 on this machine",
        ),
        ({"batch_size": 0}, Invalid, "batch_size is 0; it must be an integer of at least 1"),
        ({"max_accuracy_drop": 2}, Invalid, r"max_accuracy_drop is 2; it must be in \[0, 1\]"),
        ({"max_accuracy_drop": float("nan")}, Invalid, "max_accuracy_drop is nan"),
        (
            {"calibration": np.zeros((4, 8, 8, 3), np.float32)},
            Invalid,
            r"calibration has the shape \(4, 8",
        ),
        ({"validation": (1, 2, 3)}, Invalid, "validation is a tuple of 3"),
        (
            {"class_names": ["one", "two"]},
            Invalid,
            "class_names has 2 names, and tiny has 4 classes in 1 output: pass",
        ),
    ],
)
def test_invalid_arguments_are_refused(model, empty_cache, arguments, error, message):
    with pytest.raises(error, match=message):
        optimize(model, **{"backend": "keras", "precision": "float32", **arguments})
    assert not list(empty_cache.glob("*/engine"))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "tiny.keras"
    model.save(path)
    return path


def test_a_file_is_optimized_as_its_model_is(saved, model, validation):
    options = {"backend": "keras", "precision": "float32", "validation": validation}
    engine = optimize(saved, batch_size=32, **options)
    assert engine.folder == optimize(model, batch_size=32, **options).folder


def cut(path: Path, saved: Path) -> None:
    path.write_bytes(saved.read_bytes()[:-200])


def pickled(path: Path, saved: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


def pickled_weights(path: Path, saved: Path) -> None:
    with zipfile.ZipFile(saved) as original, zipfile.ZipFile(path, "w") as changed:
        for name in original.namelist():
            content = original.read(name)
            changed.writestr(name, pickle.dumps([1]) if name.endswith(".h5") else content)


def empty(path: Path, saved: Path) -> None:
    path.touch()


@pytest.mark.parametrize("damage", [cut, pickled, pickled_weights, empty])
def test_a_damaged_file_is_refused(saved, tmp_path, damage):
    path = tmp_path / "bad.keras"
    damage(path, saved)
    with pytest.raises(LabError, match=r"bad\.keras is damaged"):
        optimize(path, backend="keras", precision="float32")


def test_a_file_that_may_not_be_read_is_not_called_damaged(saved, monkeypatch):
    def refuse(*arguments, **options) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("keras.saving.load_model", refuse)
    with pytest.raises(LabError, match=r"tiny\.keras may not be read"):
        optimize(saved)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LabError, match=r"none\.keras is "):
        optimize(tmp_path / "none.keras")


@pytest.fixture
def with_code(tmp_path) -> Path:
    """A saved model with Python code in it."""
    inputs = keras.Input((4,))
    outputs = layers.Dense(2)(layers.Lambda(lambda x: 2 * x, name="double")(inputs))
    keras.Model(inputs, outputs, name="coded").save(tmp_path / "coded.keras")
    return tmp_path / "coded.keras"


def test_code_in_a_file_does_not_run_unless_it_is_trusted(with_code, empty_cache):
    with pytest.raises(LabError, match=r"coded\.keras contains Python code \(a Lambda layer\)"):
        optimize(with_code, backend="tf.function", precision="float32")
    model = load_model(with_code, trusted=True)
    assert optimize(model, backend="tf.function", precision="float32").accuracy.engine == 1


def test_mixed_precision_is_built_only_after_int8_has_failed(
    model, calibration, validation, monkeypatch, empty_cache
):
    monkeypatch.setattr(OpenVino, "build_mixed_precision", None)
    engine = optimize(
        model, backend="openvino", precision="int8", calibration=calibration, validation=validation
    )
    assert engine.manifest.max_accuracy_drop is None


def test_where_mixed_precision_cannot_be_built_the_next_precision_is_tried(
    outlier_model, numbers, monkeypatch, empty_cache
):
    def fail(*arguments) -> None:
        raise Unsupported("NNCF is broken.")

    monkeypatch.setattr(OpenVino, "build_mixed_precision", fail)
    engine = optimize(
        outlier_model,
        backend="openvino",
        precision="int8",
        calibration=numbers[:32],
        validation=numbers[32:],
        max_accuracy_drop=0.2,
    )
    assert engine.manifest.precision != "int8"
    assert engine.notes[1] == "NNCF is broken."


class BesselFunction(layers.Layer):
    """A layer whose operation exists in TensorFlow only."""

    def call(self, x):
        import tensorflow as tf

        return tf.math.bessel_i0(x)

    def compute_output_shape(self, shape):
        return shape


def test_auto_goes_on_to_the_next_backend_and_says_which_it_tried(empty_cache):
    stack = [keras.Input((4,)), BesselFunction(name="bessel"), layers.Dense(2)]
    model = keras.Sequential(stack, name="odd")
    engine = optimize(model, precision="float32")
    assert engine.manifest.backend == "tf.function"
    *tried, result = engine.notes
    for name, note in zip(["openvino", "onnxruntime", "litert"], tried, strict=True):
        assert note.startswith(f"The backend {name} cannot run odd: The layer bessel ")
    assert result.startswith("tf.function in float32 has an agreement of 1.0000")


@pytest.mark.parametrize("backend", ["auto", "keras"])
def test_a_layer_that_keeps_its_state_is_named(backend):
    stack = [keras.Input((5, 3), batch_size=1), layers.GRU(2, stateful=True, name="memory")]
    model = keras.Sequential(stack, name="reader")
    with pytest.raises(Invalid, match=r"The layer memory keeps its state .*stateful=True"):
        optimize(model, backend=backend)


def test_the_names_of_classes_are_saved_and_need_no_other_build(model, validation, tmp_path):
    options = {"backend": "keras", "precision": "float32", "validation": validation}
    names = ["a", "b", "c", "d"]
    first = optimize(model, **options)
    second = optimize(model, class_names=names, **options)
    assert (first.folder, first.manifest.class_names) == (second.folder, ())
    assert list(Engine.load(second.save(tmp_path / "named")).manifest.class_names) == names
    assert second.manifest.logits
