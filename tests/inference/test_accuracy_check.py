"""The accuracy check: what an engine is compared on, and what counts as accurate."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.errors import Damaged, Invalid, Unavailable
from dltlab.inference.accuracy_check import AccuracyCheck, calibration_arrays
from dltlab.inference.building import input_specs
from dltlab.inference.manifest import Accuracy

EXAMPLES = np.random.default_rng(0).random((6, 3), dtype=np.float32)


@pytest.fixture(scope="module")
def linear() -> keras.Model:
    """The first output is the first input, the second the second."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)], name="linear")
    model.set_weights([np.eye(3, 2), np.zeros(2)])
    return model


def check_of(model: keras.Model, validation=None, calibration=None) -> AccuracyCheck:
    specs = input_specs(model)
    return AccuracyCheck.create(model, specs, validation, calibration_arrays(calibration, specs))


def test_with_labels_the_accuracy_is_compared(linear):
    labels = EXAMPLES[:, :2].argmax(-1)
    labels[0] = 1 - labels[0]
    check = check_of(linear, (EXAMPLES, labels))
    outputs = EXAMPLES[:, :2].copy()
    outputs[1:3] = outputs[1:3, ::-1]

    assert check.compare([outputs]) == Accuracy(
        metric="accuracy", reference=5 / 6, engine=3 / 6, num_examples=6, data="validation data"
    )


def test_without_labels_the_agreement_is_compared(linear):
    check = check_of(linear, EXAMPLES)
    outputs = EXAMPLES[:, :2].copy()
    outputs[0] = outputs[0, ::-1]

    accuracy = check.compare([outputs])

    assert (accuracy.metric, accuracy.reference) == ("agreement", 1.0)
    assert accuracy.engine == pytest.approx(5 / 6)


def test_a_single_output_is_compared_by_its_relative_error():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)], name="one")
    expected = model.predict(EXAMPLES, verbose=0)
    check = check_of(model, EXAMPLES)
    assert check.compare([expected * 1.005]).engine == pytest.approx(0.995, abs=1e-4)
    assert check.compare([expected * 100]).engine == 0


def test_of_several_outputs_the_worst_counts():
    inputs = keras.Input((3,))
    outputs = [layers.Dense(1, name="a")(inputs), layers.Dense(2, name="b")(inputs)]
    model = keras.Model(inputs, outputs, name="two")
    a, b = model.predict(EXAMPLES, verbose=0)
    assert check_of(model, EXAMPLES).compare([1.1 * a, b]).engine == pytest.approx(0.9, abs=1e-4)


def test_nan_counts_as_not_accurate_also_where_the_model_gets_everything_wrong(linear):
    labels = 1 - EXAMPLES[:, :2].argmax(-1)
    outputs = np.full((6, 2), np.nan, np.float32)
    accuracy = check_of(linear, (EXAMPLES, labels)).compare([outputs])
    assert (accuracy.reference, accuracy.engine, accuracy.finite) == (0.0, 0.0, False)
    assert not accuracy.is_within(1.0)


def test_without_validation_data_the_calibration_data_is_used(linear):
    check = check_of(linear, calibration=EXAMPLES)
    assert check.data == "calibration data"
    np.testing.assert_array_equal(check.inputs[0], EXAMPLES)


def test_without_any_data_random_numbers_are_used(linear):
    check = check_of(linear)
    assert check.data == "random numbers"
    assert check.inputs[0].shape == (32, 3)


def test_integer_inputs_need_validation_data():
    model = keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(5, 2)])
    with pytest.raises(Invalid, match="takes integers, and which ones are valid is not known"):
        check_of(model)


@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ((1, 2, 3), r"validation is a tuple of 3: pass \(examples, labels\)"),
        ("images", "validation has the shape "),
        ([EXAMPLES, EXAMPLES], "validation has 2 arrays"),
        ((EXAMPLES, [0, 1]), r"validation has 6 examples and labels of shape \(2,\)"),
        ((EXAMPLES[:2], [0.5, 1.0]), "pass an integer for each example"),
    ],
)
def test_validation_data_that_does_not_fit_is_refused(linear, validation, message):
    with pytest.raises(Invalid, match=message):
        check_of(linear, validation)


@pytest.mark.parametrize(
    "labels",
    [[[0, 1, 0], [1, 0, 0]], [[2, 0], [0, 1]], [[[0, 1]], [[1, 0]]], [0, 2], [-1, 0]],
    ids=["shape", "values", "axes", "large", "negative"],
)
def test_labels_that_do_not_fit_the_outputs_are_refused(linear, labels):
    check = check_of(linear, (EXAMPLES[:2], labels))
    with pytest.raises(Invalid, match=r"Labels of shape \(2.*\) from .* do not fit outputs of"):
        check.compare([EXAMPLES[:2, :2]])


CLASSES = EXAMPLES[:, :2].argmax(-1)


@pytest.mark.parametrize(
    "labels",
    [CLASSES, CLASSES[:, None], CLASSES.astype("float32"), np.eye(2)[CLASSES]],
    ids=["numbers", "column", "floats", "one-hot"],
)
def test_labels_of_classes_are_numbers_in_a_row_or_column_or_one_hot_vectors(linear, labels):
    labels = labels.copy()
    labels[0] = 1 - labels[0]
    accuracy = check_of(linear, (EXAMPLES, labels)).compare([EXAMPLES[:, [1, 0]]])
    assert (accuracy.reference, accuracy.engine) == (5 / 6, 1 / 6)


@pytest.mark.parametrize("activation", ["sigmoid", "linear"])
@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", ["bool", "float32"])
def test_a_single_output_is_judged_by_its_labels_at_half_or_for_logits_at_zero(
    activation, shape, dtype
):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, activation=activation)])
    model.set_weights([np.array([[8.0], [0.0], [0.0]]), np.array([-4.0])])
    labels = EXAMPLES[:, 0] > 0.5
    labels[:2] = ~labels[:2]
    accuracy = check_of(model, (EXAMPLES, labels.reshape(shape).astype(dtype))).compare(
        [model.predict(EXAMPLES[::-1], verbose=0)[::-1]]
    )
    assert accuracy.metric == "accuracy"
    assert (accuracy.reference, accuracy.engine) == (4 / 6, 4 / 6)


def test_several_labels_of_an_example_are_judged_one_by_one():
    model = keras.Sequential([keras.Input((3,)), layers.Activation("sigmoid")])
    examples = EXAMPLES - 0.5
    labels = examples > 0
    labels[0] = ~labels[0]
    accuracy = check_of(model, (examples, labels)).compare([model.predict(examples, verbose=0)])
    assert accuracy.reference == 15 / 18


class Noisy(layers.Layer):
    """Adds random numbers, also in inference mode."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


def test_a_model_that_is_random_is_refused_and_the_layer_is_named():
    stack = [keras.Input((3,)), layers.Dense(4), Noisy(name="noisy"), layers.Dense(2)]
    model = keras.Sequential(stack, name="sampler")
    with pytest.raises(Invalid, match="The layer noisy of sampler returns something else when"):
        _ = check_of(model, EXAMPLES).reference


def test_a_dict_of_inputs_is_taken_by_name_in_any_order():
    z, a = keras.Input((2,), name="z"), keras.Input((1,), name="a")
    model = keras.Model({"z": z, "a": a}, layers.Concatenate()([z, a]), name="named")
    check = check_of(model, {"z": EXAMPLES[:, :2], "a": EXAMPLES[:, 2:]})
    np.testing.assert_array_equal(check.expected[0], EXAMPLES)
    with pytest.raises(Invalid, match="validation has the keys z, and the network takes a, z"):
        check_of(model, {"z": EXAMPLES[:, :2]})


def test_the_range_of_pixels_and_of_outputs_is_known(linear):
    assert check_of(linear, EXAMPLES).facts() == {"logits": False, "pixel_max": 1.0}
    assert check_of(linear, 200 * EXAMPLES).facts() == {"logits": True, "pixel_max": 255.0}
    assert check_of(linear, EXAMPLES - 0.5).facts() == {"logits": True, "pixel_max": None}


@pytest.mark.parametrize(
    "outputs",
    [np.zeros((6, 5), np.float32), np.zeros((6, 2), np.float64)],
    ids=["shape", "dtype"],
)
def test_outputs_of_another_shape_or_dtype_are_refused(linear, outputs):
    check = check_of(linear, EXAMPLES)
    with pytest.raises(Unavailable, match=r"returns .* and linear .*: choose another backend"):
        check.compare([outputs])


def test_a_model_that_returns_nan_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)], name="broken")
    model.set_weights([np.full((3, 2), np.nan), np.zeros(2)])
    with pytest.raises(Damaged, match="broken returns NaN or infinity itself"):
        _ = check_of(model, EXAMPLES).expected


def test_outputs_that_are_booleans_are_compared():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inputs[:, 0] > 0.5, name="bools")
    check = check_of(model, EXAMPLES)
    assert check.compare(check.expected).engine == 1
    assert check.compare([~check.expected[0]]).engine == 0


class Failing(layers.Layer):
    """A layer that fails when it is called, though its output has a shape."""

    def call(self, x):
        return x if x[0, 0] > 0 else -x

    def compute_output_shape(self, shape):
        return shape


def test_a_model_that_fails_itself_is_refused_in_one_line_and_the_layer_is_named():
    model = keras.Sequential([keras.Input((3,)), Failing(name="branch")], name="failing")
    message = "The layer branch fails on the validation data in Keras itself .*not allowed"
    with pytest.raises(Invalid, match=message) as caught:
        _ = check_of(model, EXAMPLES).reference
    assert "\n" not in str(caught.value)


def test_everything_that_the_result_depends_on_is_listed(linear):
    assert len(check_of(linear, EXAMPLES).arrays()) == 1
    assert len(check_of(linear, (EXAMPLES, np.zeros(6, int))).arrays()) == 2
