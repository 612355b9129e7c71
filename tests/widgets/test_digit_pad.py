"""`DigitPad`: painting, what the network receives, and what is shown."""

from typing import Any

import ipywidgets
import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.widgets import DigitPad, digit_pad


class Network:
    """Predicts the number of ink pixels with 90%, and records its inputs."""

    def __init__(self) -> None:
        self.inputs: list[np.ndarray] = []

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.inputs.append(image)
        probabilities = np.full(10, 0.1 / 9)
        probabilities[int(image.sum()) % 10] = 0.9
        return probabilities


@pytest.fixture
def network() -> Network:
    return Network()


def one() -> np.ndarray:
    image = np.zeros((8, 8))
    image[1:7, 3] = 0.5
    return image


def widgets(pad: DigitPad, widget_class: Any) -> list[Any]:
    """All widgets of a class, in the order in which they are shown."""

    def descendants(widget: Any) -> list[Any]:
        children = getattr(widget, "children", ())
        return [widget, *(inner for child in children for inner in descendants(child))]

    return [widget for widget in descendants(pad.widget) if isinstance(widget, widget_class)]


def pixels(pad: DigitPad) -> list[Any]:
    return widgets(pad, ipywidgets.ToggleButton)


def bars(pad: DigitPad) -> str:
    return str(widgets(pad, ipywidgets.HTML)[-1].value)


def click(pad: DigitPad, text: str) -> None:
    (button,) = [button for button in widgets(pad, ipywidgets.Button) if button.description == text]
    button.click()


def test_network_receives_one_float32_image_of_ink_and_paper(network: Network) -> None:
    DigitPad(network).paint(one())
    (image,) = network.inputs
    assert (image.shape, image.dtype) == ((1, 8, 8, 1), np.float32)
    assert np.array_equal(image[0, ..., 0], one() > 0)


def test_painted_image_and_its_probabilities_can_be_read(network: Network) -> None:
    pad = DigitPad(network)
    pad.paint(one()[..., np.newaxis])
    assert pad.image.dtype == np.float32
    assert np.array_equal(pad.image, one() > 0)
    assert pad.probabilities is not None
    assert pad.probabilities.argmax() == 6


def test_each_click_classifies_again(network: Network) -> None:
    pad = DigitPad(network)
    pixels(pad)[8 + 2].value = True
    assert pad.image[1, 2] == 1
    pixels(pad)[0].value = True
    assert [image.sum() for image in network.inputs] == [1, 2]


def test_empty_pad_is_not_classified(network: Network) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    click(pad, "Clear")
    assert not pad.image.any()
    assert pad.probabilities is None
    assert "Paint a digit" in bars(pad)
    assert len(network.inputs) == 1


def test_largest_probability_is_marked(network: Network) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    rows = [row for row in bars(pad).split("<div style=")[1:] if "%" in row]
    assert "reads this as 6" in bars(pad)
    assert [digit for digit, row in enumerate(rows) if "◀" in row] == [6]
    assert "width: 90.0%" in bars(pad)


def test_examples_are_painted_in_turn(network: Network) -> None:
    pad = DigitPad(network, examples=np.stack([one(), one().T]))
    for expected in (one(), one().T, one()):
        click(pad, "Example")
        assert np.array_equal(pad.image, expected > 0)


def test_each_pixel_has_its_place_as_tooltip(network: Network) -> None:
    tooltips = [pixel.tooltip for pixel in pixels(DigitPad(network))]
    assert (tooltips[0], tooltips[10], tooltips[63]) == (
        "row 1, column 1",
        "row 2, column 3",
        "row 8, column 8",
    )


def test_size_can_be_chosen(network: Network) -> None:
    pad = DigitPad(network, size=5)
    pad.paint(np.eye(5))
    assert network.inputs[0].shape == (1, 5, 5, 1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((28, 28)), r"8 × 8 pixels.*shape \(28, 28\)"),
        (np.full((8, 8), 16), "values from 0 to 1"),
        (np.full((8, 8), np.nan), "values from 0 to 1"),
    ],
)
def test_wrong_image_is_refused_and_changes_nothing(
    network: Network, image: np.ndarray, message: str
) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    with pytest.raises(Invalid, match=message):
        pad.paint(image)
    assert np.array_equal(pad.image, one() > 0)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.zeros((1, 3)), "predict returned the shape (1, 3)"),
        (np.full(10, -2.0), "outside [0, 1]"),
        (np.full(10, np.nan), "outside [0, 1]"),
    ],
)
def test_output_that_is_not_ten_probabilities_is_reported(output: np.ndarray, message: str) -> None:
    pad = DigitPad(lambda image: output)
    pad.paint(one())
    assert message in bars(pad)
    assert pad.probabilities is None


def test_error_in_predict_is_shown_escaped_and_the_pad_works_on() -> None:
    def predict(image: np.ndarray) -> np.ndarray:
        if image.sum() > 1:
            raise ValueError("<b>no\nweights")
        return np.eye(10)[1]

    pad = DigitPad(predict)
    pad.paint(one())
    assert "predict raised ValueError: &lt;b&gt;no weights" in bars(pad)
    assert "0.0%" not in bars(pad)
    click(pad, "Clear")
    pixels(pad)[0].value = True
    assert "reads this as 1" in bars(pad)


def test_notebook_keeps_the_painted_image(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []

    def show_widget(widget: Any, text: str, first: str) -> Any:
        stored.append(first)
        return stored.append

    monkeypatch.setattr(digit_pad, "show_widget", show_widget)
    pad = DigitPad(network)
    pad.show()
    pixels(pad)[0].value = True

    empty, painted = stored
    assert "██" not in empty
    assert "██" in painted
    assert "The network reads this as 1." in painted


def test_pad_is_printed_without_a_front_end(
    network: Network, capsys: pytest.CaptureFixture[str]
) -> None:
    pad = DigitPad(network)
    pad.paint(one())
    pad.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["·" * 16, "······██········"]
    assert lines[8:10] == ["The network reads this as 6.", "0    1.1%"]
