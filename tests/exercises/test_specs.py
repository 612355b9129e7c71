"""Specs: what converts, what agrees, and what is said about the rest."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.exercises import Array, Equal, Integer, Number, Text
from dltlab.exercises.answers import NotYet
from dltlab.exercises.specs import as_spec

VALUES = [[1.0, 2.0], [3.0, 4.5]]


def tensorflow():
    return pytest.importorskip("tensorflow")


@pytest.mark.parametrize(
    "value",
    [
        VALUES,
        tuple(map(tuple, VALUES)),
        np.array(VALUES),
        np.array(VALUES, "float32"),
        [np.array(row) for row in VALUES],
        [[np.float32(number) for number in row] for row in VALUES],
        np.asfortranarray(VALUES),
    ],
)
def test_whatever_converts_to_an_array_agrees(value):
    spec = Array("state")

    assert spec.agrees(spec.convert(value), np.array(VALUES))
    assert spec.fault(spec.convert(value), np.array(VALUES)) is None


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_tensors_and_variables_agree(dtype):
    import keras

    tf = tensorflow()
    spec = Array("state")
    for value in (
        tf.constant(VALUES, dtype),
        tf.Variable(VALUES, dtype=dtype),
        keras.Variable(VALUES, dtype=dtype),
        [tf.constant(row, dtype) for row in VALUES],
    ):
        assert spec.agrees(spec.convert(value), np.array(VALUES))


@pytest.mark.parametrize(
    "value", [2.5, np.float32(2.5), np.array(2.5), np.array(2.5, "float16"), Fraction(5, 2),
              Decimal("2.5")]
)  # fmt: skip
def test_whatever_converts_to_a_number_agrees(value):
    spec = Number("loss")

    assert spec.agrees(spec.convert(value), np.array(2.5))
    assert spec.fault(spec.convert(value), np.array(2.5)) is None
    assert spec.read(value) == 2.5


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0.5", "object of type `str`."),
        (b"0.5", "object of type `bytes`."),
        ({"loss": 0.5}, "object of type `dict`."),
        ({0.5}, "object of type `set`."),
        (None, "object of type `NoneType`."),
        (len, "object of type `builtin_function_or_method`."),
        (iter([1, 2]), "object of type `list_iterator`."),
        (object(), "object of type `object`."),
        ([1.0, None], "object of type `list` with None in it."),
        ([[1.0], [1.0, 2.0]], "object of type `list` with rows of different lengths."),
        (["a", "b"], "object of type `list` with elements of dtype <U1."),
    ],
)
@pytest.mark.parametrize(
    ("spec", "kind"), [(Array("loss"), "an array of numbers"), (Number("loss"), "a number")]
)
def test_what_does_not_convert_is_named_by_its_type(spec, kind, value, reason):
    with pytest.raises(NotYet) as rejected:
        spec.convert(value)

    assert str(rejected.value) == f"Your loss cannot be converted to {kind}: it is an {reason}"


def test_a_symbolic_tensor_does_not_convert():
    import keras

    with pytest.raises(NotYet, match="object of type `KerasTensor`"):
        Array().convert(keras.Input((3,)))


@pytest.mark.parametrize(
    ("spec", "value", "expected", "fault"),
    [
        (Array("state"), [1, 2], [[1, 2]], "Your state has the shape (2,); expected (1, 2)."),
        (Number("loss"), [1.0], 1.0, "Your loss is an array of shape (1,); return one number."),
        (Array("state"), [1, np.nan], [1, 2], "Your state contains nan, which is not a finite"),
        (Number("loss"), np.inf, 1.0, "Your loss is inf, which is not a finite number."),
        (Array("mask"), [0, 1], [False, True], "dtype int64; expected True and False."),
        (Array("x", dtype="int8"), [1], [1], "Your x has the dtype int64; expected int8."),
        (Array("x", dtype="integer"), [1.0], [1], "the dtype float64; expected integers."),
        (Array("x", dtype="floating"), [1], [1.0], "the dtype int64; expected floats."),
        (Array("x"), [1j], [1.0], "the dtype complex128; expected real numbers."),
        (Integer("batch"), 8.5, 8, "Your batch is 8.5; return a whole number."),
        (Integer("batch"), [8], 8, "Your batch is an array of shape (1,); return one number."),
    ],
)
def test_a_wrong_shape_dtype_or_kind_of_number_is_a_fault(spec, value, expected, fault):
    assert fault in spec.fault(spec.convert(value), np.asarray(expected))


def test_infinities_of_the_solution_are_no_fault():
    values = np.array([1.0, -np.inf])

    assert Array().fault(values, values) is None
    assert Array().agrees(values, values)


def test_floats_agree_within_the_rounding_of_float32():
    generator = np.random.default_rng(1)
    left, right = generator.normal(size=(2, 60, 60))
    exact = np.tanh(left @ right)
    rounded = np.tanh(left.astype("float32") @ right.astype("float32"))

    assert Array().agrees(rounded, exact)
    assert not Array().agrees(exact + 0.001, exact)


def test_the_tolerance_is_relative_to_the_largest_value():
    assert Array().agrees(np.array([1e6, 0.1]), np.array([1e6, 0.2]))
    assert not Array().agrees(np.array([1e-6]), np.array([2e-6]))
    assert not Array(atol=0, rtol=0).agrees(np.array([1.0 + 1e-9]), np.array([1.0]))
    assert Array(atol=1).agrees(np.array([0.5]), np.array([0.0]))


@pytest.mark.parametrize(
    ("value", "agrees"),
    [(10_000_000, True), (10_000_001, False), (1e7, True), (1e7 + 0.5, False),
     (np.float32(1e7), True), (1e7 + 2e-9, True)],
)  # fmt: skip
def test_integers_agree_only_if_they_are_equal(value, agrees):
    assert Number().agrees(Number().convert(value), np.array(10_000_000)) is agrees


@pytest.mark.parametrize(("value", "agrees"), [(8, True), (8.0, True), (0.8 * 10, True),
                                               (7.9999, False), (9, False)])  # fmt: skip
@pytest.mark.parametrize("expected", [8, 8.0])
def test_a_whole_number_is_compared_exactly(value, expected, agrees):
    spec = Integer("batch")

    assert spec.agrees(spec.convert(value), np.asarray(expected)) is agrees


def test_an_integer_above_two_to_the_24_agrees_with_its_float32():
    assert Number().agrees(np.array(16_777_217, "float32"), np.array(16_777_217))


def test_text_is_compared_exactly_and_nothing_else_is_text():
    spec = Text("label")

    assert spec.agrees(spec.convert("ab"), "ab")
    assert not spec.agrees(spec.convert("ab"), "Ab")
    with pytest.raises(NotYet, match="Your label is an object of type `int`; return a string"):
        spec.convert(3)


def test_equal_compares_any_value():
    assert Equal().agrees({"a": [1]}, {"a": [1]})
    assert not Equal().agrees({"a": [1]}, {"a": [2]})


@pytest.mark.parametrize(
    "value",
    [
        ([1.0, 2.0], 3.0),
        [np.array([1.0, 2.0]), np.array(3.0)],
        (part for part in ([1.0, 2.0], 3.0)),
        {0: [1.0, 2.0], 1: 3.0}.values(),
    ],
)
def test_whatever_unpacks_is_several_values(value):
    spec = as_spec((Array("state"), Number("loss")))

    assert spec.agrees(spec.convert(value), [np.array([1.0, 2.0]), np.array(3.0)])


def test_the_rows_of_an_array_are_several_values():
    spec = as_spec((Number("operations"), Number("bytes")))

    assert spec.agrees(spec.convert(np.array([3.0, 4.0])), [np.array(3), np.array(4)])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3.0, "You return an object of type `float`; return 2 values: state and loss."),
        ("ab", "You return an object of type `str`; return 2 values: state and loss."),
        ({1: 1, 2: 2}, "You return an object of type `dict`; return 2 values: state and loss."),
        (np.array(3.0), "You return an object of type `ndarray`; return 2 values: state and loss."),
        ([1.0], "You return 1 value; return 2 values: state and loss."),
        (np.zeros((3, 5)), "You return 3 values; return 2 values: state and loss. One array of "
         "shape (3, 5) counts as its 3 rows."),
        ([[1.0], "no"], "Your loss cannot be converted to a number: it is an object of type "
         "`str`."),
    ],
)  # fmt: skip
def test_a_value_that_does_not_unpack_is_told(value, message):
    with pytest.raises(NotYet) as rejected:
        as_spec((Array("state"), Number("loss"))).convert(value)

    assert str(rejected.value) == message


def test_a_part_may_be_left_open():
    spec = as_spec((Array("state"), Number("loss")))

    assert spec.agrees([np.array([1.0]), np.array(2.0)], spec.convert_open(([1.0], ...)))
    assert not spec.agrees([np.array([9.0]), np.array(2.0)], spec.convert_open(([1.0], ...)))
    assert spec.convert_open(...) is ...
    assert Array("state").convert_open(...) is ...


@pytest.mark.parametrize("value", [..., ([1.0], ...)])
def test_an_answer_may_leave_nothing_open(value):
    with pytest.raises(NotYet, match="type `ellipsis`"):
        as_spec((Array("state"), Number("loss"))).convert(value)


def test_a_fault_of_a_part_is_named():
    spec = as_spec((Array("state"), Number("loss")))
    expected = [np.array([1.0]), np.array(2.0)]

    assert spec.fault(spec.convert(([1.0], [2.0])), expected) == (
        "Your loss is an array of shape (1,); return one number."
    )
    assert spec.fault(expected, expected) is None


def test_a_list_holds_as_many_items_as_the_solutions():
    spec = as_spec([Array("gradient")])
    expected = [np.ones((3, 2)), np.ones(4)]

    assert spec.agrees(spec.convert((np.ones((3, 2)), [1.0] * 4)), expected)
    assert not spec.agrees(spec.convert([np.ones((3, 2))]), expected)
    assert spec.fault(spec.convert([np.ones((3, 2))]), expected) == (
        "You return 1 entry instead of 2, one gradient each."
    )
    assert spec.fault(spec.convert([np.ones(3), np.ones(4)]), expected) == (
        "Your gradient has the shape (3,); expected (3, 2)."
    )
    with pytest.raises(NotYet, match="type `float`; return a list with one gradient per entry"):
        spec.convert(3.0)


@pytest.mark.parametrize("returns", [3, "Array", Array, (), [], [Number(), Number()], (Array, 3)])
def test_what_is_not_a_spec_is_an_error(returns):
    with pytest.raises(Invalid, match="`returns=` is an Array"):
        as_spec(returns)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1.0]], "Your scores has the shape (1, 1); expected (2, 1)."),
        ([[1.0], [np.nan]], "Your scores contains nan"),
        ("x", "cannot be converted"),
    ],
)
def test_reading_a_value_in_a_check_rejects_what_is_wrong(value, message):
    with pytest.raises(NotYet) as rejected:
        Array("scores").read(value, shape=(2, 1))

    assert message in str(rejected.value)
    assert Array("scores").read([[1], [2]], shape=(2, 1)).tolist() == [[1], [2]]
