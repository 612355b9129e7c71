"""`CaptionPainter`: what is painted, and what it says about a caption."""

import re
from typing import Any

import ipywidgets
import numpy as np
import pytest

from dltlab.data import CAPTION_ATTRIBUTES, read_caption
from dltlab.errors import Invalid
from dltlab.widgets import CaptionPainter


class Network:
    """Paints gray images, and records what it was asked for."""

    def __init__(self) -> None:
        self.captions: list[list[str]] = []
        self.guidance = 0.0

    def __call__(self, captions: list[str], guidance: float) -> np.ndarray:
        self.captions.append(captions)
        self.guidance = guidance
        return np.full((len(captions), 4, 4, 3), 0.5)


@pytest.fixture
def network() -> Network:
    return Network()


def control(painter: CaptionPainter, description: str) -> Any:
    (widget,) = [
        child
        for child in painter.widget.children
        if getattr(child, "description", "") == description
    ]
    return widget


def status(painter: CaptionPainter) -> str:
    row = next(child for child in painter.widget.children if isinstance(child, ipywidgets.HBox))
    return re.sub(r"<[^>]+>", "", row.children[1].value)


def shown(painter: CaptionPainter) -> str:
    return str(painter.widget.children[-1].value)


def test_a_complete_caption_is_painted_as_it_is(network):
    painter = CaptionPainter(network, caption="a small red circle at the top", num_images=3)
    assert painter.paint().shape == (3, 4, 4, 3)
    assert network.captions == [["small red circle top"] * 3]
    assert "3 images" in status(painter)
    assert "random" not in status(painter)
    assert shown(painter).count('alt="small red circle top"') == 3


def test_what_is_missing_is_chosen_and_named(network):
    painter = CaptionPainter(network, caption="a red circle", num_images=20, seed=1)
    painter.paint()
    assert "chosen at random: size, place." in status(painter)
    attributes = [read_caption(caption) for caption in network.captions[-1]]
    assert {(given["color"], given["shape"]) for given in attributes} == {("red", "circle")}
    assert {given["size"] for given in attributes} == set(CAPTION_ATTRIBUTES["size"])


def test_a_new_caption_and_a_new_guidance_are_painted(network):
    painter = CaptionPainter(network, guidance=1.0, num_images=1)
    control(painter, "Caption").value = "a large blue cross in the center"
    assert network.captions[-1] == ["large blue cross center"]
    control(painter, "Guidance").value = 4.0
    assert network.guidance == 4.0
    assert len(network.captions) == 2


def test_unknown_words_are_named_instead(network):
    painter = CaptionPainter(network, num_images=2)
    painter.paint()
    control(painter, "Caption").value = "a purple <b>dog</b>"
    assert "'purple', 'b', 'dog'" in status(painter).replace("&#x27;", "'")
    assert "shape circle" in status(painter)
    assert not shown(painter)
    assert len(network.captions) == 1
    with pytest.raises(Invalid, match="purple"):
        painter.paint()


def test_without_a_front_end_the_captions_are_printed(network, capsys):
    CaptionPainter(network, caption="a small red circle at the top", num_images=1).show()
    assert "small red circle top" in capsys.readouterr().out


def test_no_images_are_refused(network):
    with pytest.raises(Invalid, match="num_images is 0"):
        CaptionPainter(network, num_images=0)
