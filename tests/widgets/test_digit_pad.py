"""The pad: what is painted, what the network gets, and what is shown."""

from typing import Any

import numpy as np
import pytest

from dltlab.errors import LabError
from dltlab.widgets import DigitPad


class Network:
    """Says the digit that is the number of ink pixels, with 90%; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[np.ndarray] = []

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.asked.append(image)
        answer = np.full(10, 0.1 / 9)
        answer[int(image.sum()) % 10] = 0.9
        return answer


@pytest.fixture
def network() -> Network:
    return Network()


def one() -> np.ndarray:
    image = np.zeros((8, 8))
    image[1:7, 3] = 0.5
    return image


def press(pad: DigitPad, text: str) -> None:
    """Click the button called `text`."""
    (button,) = [b for b in descendants(pad._widget) if getattr(b, "description", "") == text]
    button.click()


def descendants(widget: Any) -> list[Any]:
    children = getattr(widget, "children", ())
    return [widget, *(below for child in children for below in descendants(child))]


def test_the_network_gets_one_float32_image_of_ink_and_paper(network: Network) -> None:
    DigitPad(network).paint(one())
    (image,) = network.asked
    assert (image.shape, image.dtype) == ((1, 8, 8, 1), np.float32)
    assert np.array_equal(image[0, ..., 0], one() > 0)


def test_what_was_painted_can_be_read(network: Network) -> None:
    pad = DigitPad(network)
    pad.paint(one()[..., np.newaxis])
    assert pad.image.dtype == np.float32
    assert np.array_equal(pad.image, one() > 0)
    assert pad.probabilities is not None
    assert pad.probabilities.argmax() == 6


def test_each_click_asks_anew(network: Network) -> None:
    pad = DigitPad(network)
    pad._pixels[8 + 2].value = True
    assert pad.image[1, 2] == 1
    pad._pixels[0].value = True
    assert [image.sum() for image in network.asked] == [1, 2]


def test_an_empty_pad_asks_nothing_and_says_what_to_do(network: Network) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    press(pad, "Clear")
    assert not pad.image.any()
    assert pad.probabilities is None
    assert "Paint a digit" in pad._bars.value
    assert len(network.asked) == 1


def test_the_best_bar_is_marked(network: Network) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    rows = pad._bars.value.split("<div style=")[1:]
    assert "reads this as 6" in pad._bars.value
    assert [number for number, row in enumerate(r for r in rows if "%" in r) if "◀" in row] == [6]
    assert "width: 90.0%" in pad._bars.value


def test_examples_are_painted_in_turn(network: Network) -> None:
    pad = DigitPad(network, examples=np.stack([one(), one().T]))
    for expected in (one(), one().T, one()):
        press(pad, "Example")
        assert np.array_equal(pad.image, expected > 0)


def test_each_pixel_says_where_it_is(network: Network) -> None:
    tooltips = [pixel.tooltip for pixel in DigitPad(network)._pixels]
    assert (tooltips[0], tooltips[10], tooltips[63]) == (
        "row 1, column 1",
        "row 2, column 3",
        "row 8, column 8",
    )


def test_another_size_is_painted_likewise(network: Network) -> None:
    pad = DigitPad(network, size=5)
    pad.paint(np.eye(5))
    assert network.asked[0].shape == (1, 5, 5, 1)


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (np.zeros((28, 28)), r"8 × 8 pixels.*shape \(28, 28\)"),
        (np.full((8, 8), 16), "values from 0 to 1"),
        (np.full((8, 8), np.nan), "values from 0 to 1"),
    ],
)
def test_a_image_that_does_not_fit_is_refused_and_changes_nothing(
    network: Network, image: np.ndarray, fault: str
) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    with pytest.raises(LabError, match=fault):
        pad.paint(image)
    assert np.array_equal(pad.image, one() > 0)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (np.zeros((1, 3)), "predict returned the shape (1, 3)"),
        (np.full(10, -2.0), "outside [0, 1]"),
        (np.full(10, np.nan), "outside [0, 1]"),
    ],
)
def test_an_answer_that_is_no_ten_probabilities_is_said(answer: np.ndarray, sentence: str) -> None:
    pad = DigitPad(lambda image: answer)
    pad.paint(one())
    assert sentence in pad._bars.value
    assert pad.probabilities is None


def test_a_predict_that_raises_leaves_the_pad_alive_and_its_words_escaped() -> None:
    def predict(image: np.ndarray) -> np.ndarray:
        if image.sum() > 1:
            raise ValueError("<b>no\nweights")
        return np.eye(10)[1]

    pad = DigitPad(predict)
    pad.paint(one())
    assert "predict raised ValueError: &lt;b&gt;no weights" in pad._bars.value
    assert "0.0%" not in pad._bars.value
    press(pad, "Clear")
    pad._pixels[0].value = True
    assert "reads this as 1" in pad._bars.value


def test_without_a_front_end_the_pad_is_printed(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    pad.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["·" * 16, "······██········"]
    assert lines[8:10] == ["The network reads this as 6.", "0    1.1%"]
