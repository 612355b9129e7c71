"""Bodies in JSON and .npy: what is read, what is refused, and what is written."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dltlab.errors import Invalid
from dltlab.inference.manifest import EngineManifest, TensorSpec
from dltlab.inference.payloads import read_image_file, read_json, read_npy, to_json, to_npy

PAIR = TensorSpec(shape=(2,), dtype="float32", name="pair")
BYTE = TensorSpec(shape=(), dtype="uint8", name="byte")
LARGE = 2**70


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npy_with_header(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def manifest(*inputs: TensorSpec, **fields: Any) -> EngineManifest:
    return EngineManifest(
        model="tiny", model_hash="", backend="", versions={}, precision="float32", machine="",
        inputs=inputs or (PAIR,), layers=(), **fields,
    )  # fmt: skip


def photo(color: str, size: tuple[int, int] = (40, 20), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, color).save(stream, kind)
    return stream.getvalue()


def test_json_numbers_take_the_dtype_of_the_input():
    (array,) = read_json(b'{"inputs": [[1, 2.5], [true, 4]]}', [PAIR])
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [[1, 2.5], [1, 4]])


def test_json_has_a_list_of_arrays_for_several_inputs():
    pairs, numbers = read_json(b'{"inputs": [[[1, 2]], [7]]}', [PAIR, BYTE])
    np.testing.assert_array_equal(pairs, [[1, 2]])
    np.testing.assert_array_equal(numbers, [7])


def test_json_has_an_array_for_each_name_of_several_inputs():
    pairs, numbers = read_json(b'{"inputs": {"byte": [7], "pair": [[1, 2]]}}', [PAIR, BYTE])
    np.testing.assert_array_equal(pairs, [[1, 2]])
    np.testing.assert_array_equal(numbers, [7])
    with pytest.raises(Invalid, match="an array for each of pair, byte"):
        read_json(b'{"inputs": {"byte": [7]}}', [PAIR, BYTE])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b'{"inputs": [[1, 2]', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"inputs": ' + b"[" * 100_000, "not valid JSON"),
        (b"[1, 2]", 'no "inputs"'),
        (b"{}", 'no "inputs"'),
        (b'{"inputs": [[1, 2], [3]]}', "differ in length"),
        (b'{"inputs": [["1", "2"]]}', "not an array of numbers"),
        (b'{"inputs": [[null, {}]]}', "not an array of numbers"),
        (b'{"inputs": [[1, 1' + b"0" * 400 + b"]]}", "not an array of numbers"),
    ],
)  # fmt: skip
def test_json_without_an_array_of_numbers_is_refused(body, message):
    with pytest.raises(Invalid, match=message):
        read_json(body, [PAIR])


def test_json_with_another_number_of_inputs_is_refused():
    with pytest.raises(Invalid, match="must be a list of 2 arrays"):
        read_json(b'{"inputs": [[[1, 2]]]}', [PAIR, BYTE])


@pytest.mark.parametrize("value", [b"300", b"-1", b"1.5", b"1e30"])
def test_json_numbers_that_an_integer_dtype_does_not_have_are_refused(value):
    with pytest.raises(Invalid, match="numbers that are not valid as uint8"):
        read_json(b'{"inputs": [%s]}' % value, [BYTE])


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="float32").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype="int64").reshape(2, 3)),
        np.arange(6, dtype=">u2").reshape(1, 6)[:, ::2],
        np.ones((0, 3), bool),
        np.float64(3),
        np.array(["a", "bc"]),
    ],
    ids=["C order", "Fortran order", "big-endian", "empty", "scalar", "text"],
)
def test_npy_bodies_are_read_and_written_as_numpy_does(array):
    assert to_npy([np.asarray(array)]) == npy(np.ascontiguousarray(array).reshape(array.shape))
    for _ in range(2):  # the second time its header is known
        read = read_npy(npy(array))
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def test_an_npy_body_is_read_as_it_is():
    array = np.random.default_rng(1).random((3, 2), np.float32)
    np.testing.assert_array_equal(read_npy(npy(array)), array)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not a .npy array"),
        (npy(np.ones((1, 2)))[:-1], "not a .npy array"),
        (npy(np.ones((1, 2))) + b"!", "continues after its array"),
        (npy(np.array([{}, None])), "not a .npy array"),
        (npy_with_header(b"if 1:\n  1\n 1"), "not a .npy array"),
        (
            npy_with_header(b"{'descr': 'f4', 'fortran_order': False, 'shape': (%d,)}" % LARGE),
            "not a .npy array",
        ),
    ],
    ids=["empty", "truncated", "longer", "pickled", "code", "huge"],
)
def test_another_body_is_refused(body, message):
    with pytest.raises(Invalid, match=message):
        read_npy(body)


def test_an_array_that_claims_to_be_larger_than_its_body_is_refused():
    body = npy(np.ones((1, 2), np.float32)).replace(b"(1, 2), }       ", b"(10000000000,)}")
    with pytest.raises(Invalid):
        read_npy(body)


def test_one_output_is_an_array_and_several_are_a_list_in_json():
    output = np.array([[1.5, 2]])
    assert to_json([output], manifest()) == {"outputs": [[1.5, 2.0]]}
    assert to_json([output, output], manifest()) == {"outputs": [[[1.5, 2.0]]] * 2}


def test_the_outputs_of_a_dict_have_their_names_in_json():
    names = manifest(outputs=("a", "b"))
    outputs = [np.array([1.5]), np.array([2.0])]
    assert to_json(outputs, names) == {"outputs": {"a": [1.5], "b": [2.0]}}


@pytest.mark.parametrize(
    ("output", "logits", "probabilities"),
    [
        ([0.25, 0.75], False, [0.25, 0.75]),
        ([0.0, np.log(3)], True, [0.25, 0.75]),
        ([-2000.0, 2000.0], True, [0.0, 1.0]),
        ([0.75], False, [0.25, 0.75]),
        ([np.log(3)], True, [0.25, 0.75]),
        ([2000.0], True, [0.0, 1.0]),
    ],
    ids=["softmax", "logits", "large logits", "sigmoid", "one logit", "one large logit"],
)
def test_with_class_names_the_answer_has_the_class_and_its_probability(
    output, logits, probabilities
):
    answer = to_json([np.array([output])], manifest(class_names=("cat", "dog"), logits=logits))
    (prediction,) = answer["predictions"]
    assert answer["outputs"] == [output]
    assert prediction["class"] == "dog"
    assert prediction["probability"] == pytest.approx(probabilities[1])
    assert prediction["probabilities"] == pytest.approx(
        dict(zip(["cat", "dog"], probabilities, strict=True))
    )


@pytest.mark.parametrize(
    ("dtype", "pixel_max", "red"),
    [("float32", 1, 1.0), ("float32", 255, 255.0), ("uint8", 255, 255)],
)
def test_an_image_has_the_size_and_range_that_the_network_takes(dtype, pixel_max, red):
    spec = TensorSpec(shape=(16, 16, 3), dtype=dtype)
    array = read_image_file(photo("#ff0000"), manifest(spec, pixel_max=pixel_max))
    assert (array.shape, array.dtype) == ((1, 16, 16, 3), dtype)
    assert array[0, 5, 5].tolist() == [red, 0, 0]


def test_an_image_becomes_gray_for_a_network_with_one_channel():
    spec = TensorSpec(shape=(16, 16, 1), dtype="float32")
    array = read_image_file(photo("white", kind="JPEG"), manifest(spec, pixel_max=1))
    np.testing.assert_array_equal(array, np.ones((1, 16, 16, 1), np.float32))


@pytest.mark.parametrize(
    ("shape", "pixel_max", "message"),
    [
        (
            (16, 16, 3),
            1,
            "The image is damaged or not an image: send a JPEG, PNG, TIFF, BMP or WebP",
        ),
        ((16, 16, 3), None, "does not take square images of one size"),
        ((16, 8, 3), 1, "does not take square images of one size"),
        ((None, None, 3), 1, "does not take square images of one size"),
        ((2,), 1, "does not take square images of one size"),
    ],
)
def test_an_image_that_the_network_cannot_take_is_refused(shape, pixel_max, message):
    engine = manifest(TensorSpec(shape=shape, dtype="float32"), pixel_max=pixel_max)
    with pytest.raises(Invalid, match=message):
        read_image_file(b"no image", engine)


def test_infinity_has_no_json():
    with pytest.raises(Invalid, match="NaN or infinity, which JSON does not have"):
        to_json([np.array([np.inf])], manifest())


def test_npy_has_one_output():
    output = np.array([np.inf, 1])
    np.testing.assert_array_equal(np.load(io.BytesIO(to_npy([output]))), output)
    with pytest.raises(Invalid, match="has 2 outputs"):
        to_npy([output, output])
