"""`optimize` is right first: it falls back and says so, and refuses what makes no sense."""

import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import LabError
from dltlab.inference import optimize
from dltlab.inference.backends import keras_eager, openvino_runtime
from dltlab.inference.cache import Check


class Session:
    """A backend's session that answers as a test wants."""

    def __init__(self, answer):
        self.answer = answer

    def lane(self):
        return lambda inputs: [self.answer(inputs[0])]


@pytest.fixture
def answers(monkeypatch, fresh):
    """Let Keras' backend give something else in a precision."""

    def give(**by_precision) -> None:
        opened = keras_eager.open

        def wrong(folder, precision, settings):
            if precision in by_precision:
                return Session(by_precision[precision])
            return opened(folder, precision, settings)

        monkeypatch.setattr(keras_eager, "open", wrong)

    return give


def test_it_says_what_runs_and_how_right_it_is(model, calibration, validation):
    engine = optimize(
        model, backend="openvino", precision="int8", calibration=calibration, validation=validation
    )
    assert engine.check == Check(
        metric="accuracy", reference=1.0, engine=1.0, num_examples=64, data="validation data"
    )
    assert engine.notes == [
        "openvino in int8 has an accuracy of 1.0000, the float32 model 1.0000 (64 examples)."
    ]
    assert repr(engine).startswith("tiny on openvino in int8, batch 1, 1 stream, ")


def test_without_labels_the_engine_has_to_agree_with_the_model(model, validation):
    engine = optimize(model, backend="openvino", precision="float32", validation=validation[0])
    assert (engine.check.metric, engine.check.engine) == ("agreement", 1.0)


def test_a_single_output_is_compared_by_its_relative_error(answers):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)], name="one")
    x = np.random.default_rng(0).random((8, 3), dtype=np.float32)
    expected = model.predict(x, verbose=0)
    answers(bfloat16=lambda inputs: expected[: len(inputs)] * 1.005)
    engine = optimize(model, backend="keras", precision="bfloat16", validation=x, batch=8)
    assert engine.manifest.precision == "bfloat16"
    assert engine.check.engine == pytest.approx(0.995, abs=1e-4)


def test_without_data_random_numbers_are_compared_and_that_is_said(model, fresh):
    engine = optimize(model, backend="keras", precision="bfloat16", batch=32, tolerance=1)
    assert engine.check.data == "random numbers"
    assert engine.notes[-1].endswith("(32 examples, random numbers).")


def test_int8_that_is_wrong_takes_single_layers_back_to_float32_and_names_them(
    outlier_model, numbers
):
    engine = optimize(
        outlier_model, backend="openvino", precision="int8", calibration=numbers[:32],
        validation=numbers[32:], tolerance=0.05,
    )  # fmt: skip
    assert engine.manifest.precision == "int8"
    assert engine.check.engine >= 0.95
    failed, kept, names = engine.notes
    assert failed.startswith("int8 agrees with float32 on ")
    assert failed.endswith("less than 95.0% is kept, so the next choice is tried.")
    assert kept.startswith("openvino in int8 agrees with float32 on ")
    assert names.startswith("These layers stay in float32: ")
    assert "logits" in names
    assert "concat" not in names
    precisions = {each.precision for each in engine.operations() if each.kind == "FullyConnected"}
    assert precisions == {"int8", "float32"}


def test_int8_that_is_wrong_falls_back_to_the_next_precision_and_says_so(outlier_model, numbers):
    engine = optimize(
        outlier_model, backend="onnxruntime", precision="int8", calibration=numbers[:32],
        validation=numbers[32:],
    )  # fmt: skip
    assert engine.manifest.precision == "float32"
    assert [each.partition(" ")[0] for each in engine.notes] == ["int8", "onnxruntime"]
    assert "so the next choice is tried" in engine.notes[0]


def test_the_users_tolerance_decides(outlier_model, numbers):
    engine = optimize(
        outlier_model, backend="onnxruntime", precision="int8", calibration=numbers[:32],
        validation=numbers[32:], tolerance=1,
    )  # fmt: skip
    assert engine.manifest.precision == "int8"


def test_nan_falls_back_even_where_the_model_knows_nothing(answers, model, validation):
    wrong_labels = (validation[1] + 1) % 4
    answers(bfloat16=lambda inputs: np.full((len(inputs), 4), np.nan, np.float32))
    engine = optimize(
        model,
        backend="keras",
        precision="bfloat16",
        batch=32,
        validation=(validation[0], wrong_labels),
    )
    assert engine.manifest.precision == "float32"
    assert engine.notes[0].startswith("bfloat16 gives NaN or infinity (64 examples)")


@pytest.mark.parametrize(
    "answer",
    [
        lambda inputs: np.zeros((len(inputs), 5), np.float32),
        lambda inputs: np.zeros((len(inputs), 4), np.float64),
    ],
    ids=["shape", "dtype"],
)
def test_another_shape_or_dtype_than_the_models_fails(answers, fresh, model, validation, answer):
    answers(float32=answer)
    with pytest.raises(LabError, match=r"The engine gives .* and tiny .*choose another backend"):
        optimize(model, backend="keras", precision="float32", batch=32, validation=validation)
    assert not list(fresh.glob("*/engine"))


def test_an_engine_that_is_wrong_in_every_precision_is_refused(answers, model, validation):
    wrong = lambda inputs: np.zeros((len(inputs), 4), np.float32)  # noqa: E731
    answers(float32=wrong, bfloat16=wrong)
    with pytest.raises(LabError, match="tiny on keras is not right in any precision: bfloat16 has"):
        optimize(model, backend="keras", precision="bfloat16", batch=32, validation=validation)


def test_a_model_that_gives_nan_itself_is_refused(fresh):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)], name="broken")
    model.set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    with pytest.raises(LabError, match="broken gives NaN or infinity itself"):
        optimize(model, backend="keras", precision="float32")
    assert not list(fresh.glob("*/engine"))


def test_auto_is_int8_with_calibration_data_only_and_says_so(model, calibration, validation):
    both = {"backend": "openvino", "validation": validation}
    assert optimize(model, calibration=calibration, **both).manifest.precision == "int8"
    without = optimize(model, **both)
    assert without.manifest.precision != "int8"
    assert without.notes[0] == "No calibration data, so int8 was not tried."


def test_a_mixed_precision_model_is_compared_with_itself_in_float32(fresh):
    keras.utils.set_random_seed(1)
    policy = keras.DTypePolicy("mixed_bfloat16")
    model = keras.Sequential(
        [keras.Input((16,)), layers.Dense(32, dtype=policy), layers.Dense(1, dtype="float32")],
        name="mixed",
    )
    x = np.random.default_rng(0).random((16, 16), dtype=np.float32)
    engine = optimize(model, backend="tf.function", precision="float32", validation=x)
    exact = x @ model.weights[0].numpy() + model.weights[1].numpy()
    exact = exact @ model.weights[2].numpy() + model.weights[3].numpy()
    np.testing.assert_allclose(engine(x), exact, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"backend": "openvino", "precision": "int8"},
            "int8 needs calibration data: pass calibration=",
        ),
        ({"precision": "int4"}, "precision is 'int4'; it must be auto or one of float32,"),
        ({"backend": "fast"}, "backend is 'fast'; it must be auto or one of keras,"),
        ({"backend": "litert", "precision": "float16"}, "litert has no float16 on this machine"),
        ({"batch": 0}, "batch is 0; it must be a whole number from 1 on"),
        ({"batch": 1.5}, "batch is 1.5; it must be a whole number from 1 on"),
        ({"tolerance": 2}, r"tolerance is 2; it must be in \[0, 1\]"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"calibration": np.zeros((4, 8, 8, 3), np.float32)}, r"calibration has the shape \(4, 8"),
        ({"calibration": np.zeros((16, 16, 3), np.float32)}, "calibration has the shape"),
        ({"calibration": np.zeros((4, 16, 16, 3), np.uint8)}, r"calibration is uint8, .*\.astype"),
        ({"calibration": np.zeros((0, 16, 16, 3), np.float32)}, "calibration holds no example"),
        ({"calibration": [np.zeros((4, 16, 16, 3), np.float32)] * 2}, "calibration has 2 arrays"),
        ({"validation": (1, 2, 3)}, r"validation is a tuple of 3: give \(examples, labels\)"),
        ({"validation": "images"}, r"validation has the shape \(\)"),
        (
            {"validation": (np.zeros((4, 16, 16, 3), np.float32), [0, 1])},
            r"validation has 4 examples and labels of shape \(2,\)",
        ),
        (
            {"validation": (np.zeros((2, 16, 16, 3), np.float32), [0.5, 1.0])},
            "give a whole number for each example",
        ),
        (
            {"validation": (np.zeros((2, 16, 16, 3), np.float32), [[0, 1], [1, 0]])},
            r"Labels of shape \(2, 2\) do not fit",
        ),
    ],
)
def test_arguments_that_make_no_sense_are_refused(model, fresh, arguments, says):
    with pytest.raises(LabError, match=says):
        optimize(model, **{"backend": "keras", "precision": "float32", **arguments})
    assert not list(fresh.glob("*/engine"))


def test_whole_numbers_need_validation_data():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(5, 2)])
    with pytest.raises(LabError, match="takes whole numbers, and which ones make sense"):
        optimize(model, backend="keras", precision="float32")


class Own(keras.layers.Layer):
    """A layer whose operation only TensorFlow has."""

    def call(self, x):
        import tensorflow as tf

        return tf.math.bessel_i0(x)

    def compute_output_shape(self, shape):
        return shape


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_layer_that_cannot_be_exported_is_named(fresh, name):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(Own(name="strange")(inputs)), name="odd")
    with pytest.raises(LabError, match=r"The layer strange .*: replace "):
        optimize(model, backend=name, precision="float32")
    assert not list(fresh.glob("*/engine"))


def test_a_layer_that_cannot_be_exported_runs_in_tensorflows_graph():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(Own(name="strange")(inputs)), name="odd")
    assert optimize(model, backend="tf.function", precision="float32").check.engine == 1


def test_a_subclassed_model_is_told_how_to_be_wrapped():
    class Sub(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(LabError, match="does not know the shape of its input: wrap it"):
        optimize(Sub(name="sub"), backend="keras", precision="float32")


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "tiny.keras"
    model.save(path)
    return path


def test_a_file_is_optimized_as_its_model_is(saved, model, validation):
    engine = optimize(saved, backend="keras", precision="float32", batch=32, validation=validation)
    same = optimize(model, backend="keras", precision="float32", batch=32, validation=validation)
    assert engine.folder == same.folder


def cut(path: Path, saved: Path) -> None:
    path.write_bytes(saved.read_bytes()[:-200])


def pickled(path: Path, saved: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))


def a_pickle_for_weights(path: Path, saved: Path) -> None:
    with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(path, "w") as changed:
        for name in whole.namelist():
            content = whole.read(name)
            changed.writestr(name, pickle.dumps([1]) if name.endswith(".h5") else content)


def nothing(path: Path, saved: Path) -> None:
    path.touch()


@pytest.mark.parametrize("damage", [cut, pickled, a_pickle_for_weights, nothing])
def test_a_damaged_file_is_refused(saved, tmp_path, damage):
    path = tmp_path / "bad.keras"
    damage(path, saved)
    with pytest.raises(LabError, match=r"bad\.keras is damaged or no saved Keras model"):
        optimize(path, backend="keras", precision="float32")


def test_a_file_that_may_not_be_read_is_not_damaged(saved, monkeypatch):
    def refused(*arguments, **more) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("keras.saving.load_model", refused)
    with pytest.raises(LabError, match=r"tiny\.keras may not be read"):
        optimize(saved)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LabError, match=r"none\.keras is no saved model: name a \.keras file"):
        optimize(tmp_path / "none.keras")


@pytest.fixture
def with_code(tmp_path) -> Path:
    """A model with Python code in it."""
    inputs = keras.Input((4,))
    outputs = layers.Dense(2)(layers.Lambda(lambda x: 2 * x, name="double")(inputs))
    keras.Model(inputs, outputs, name="coded").save(tmp_path / "coded.keras")
    return tmp_path / "coded.keras"


def test_code_in_a_file_is_refused_unless_asked_for(with_code, fresh):
    from dltlab.models.loading import load_model

    with pytest.raises(LabError, match=r"coded\.keras holds Python code \(a Lambda layer\)"):
        optimize(with_code, backend="tf.function", precision="float32")
    model = load_model(with_code, trusted=True)
    assert optimize(model, backend="tf.function", precision="float32").check.engine == 1
    with pytest.raises(
        LabError, match="The layer double is a Lambda, Python code that the backend"
    ):
        optimize(model, backend="keras", precision="float32")


def test_a_model_that_differs_in_one_weight_has_an_engine_of_its_own(model, validation, fresh):
    about = {"backend": "keras", "precision": "float32", "validation": validation[0], "batch": 32}
    first = optimize(model, **about)
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    other.get_layer("logits").bias.assign([1, 0, 0, 0])
    second = optimize(other, **about)
    assert first.folder != second.folder
    assert not np.allclose(first(validation[0]), second(validation[0]))


def test_single_layers_are_taken_back_only_after_int8_has_failed(
    model, calibration, validation, monkeypatch, fresh
):
    monkeypatch.setattr(openvino_runtime, "build_mixed", None)
    engine = optimize(
        model, backend="openvino", precision="int8", calibration=calibration, validation=validation
    )
    assert engine.manifest.max_drop is None


def test_where_not_even_the_repair_works_the_next_precision_is_tried(
    outlier_model, numbers, monkeypatch, fresh
):
    def broken(*arguments) -> None:
        raise LabError("NNCF is broken.")

    monkeypatch.setattr(openvino_runtime, "build_mixed", broken)
    engine = optimize(
        outlier_model, backend="openvino", precision="int8", calibration=numbers[:32],
        validation=numbers[32:], tolerance=0.2,
    )  # fmt: skip
    assert engine.manifest.precision != "int8"
    assert engine.notes[1] == "NNCF is broken."
