import base64
import enum
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import IPython.display
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from PIL import Image

from dltlab import display
from dltlab.display import Result, plain, printable, show, show_html, show_widget

ALT = "A straight line."


@dataclass(frozen=True, repr=False)
class Speeds(Result):
    """Images per second by batch size."""

    by_batch: dict[int, float]

    _formats: ClassVar = {"images/s": "{:.1f}".format}

    @property
    def summary(self) -> str:
        return "Larger batches are <faster>."

    @property
    def table(self) -> pd.DataFrame:
        return pd.DataFrame(self.by_batch.items(), columns=["batch", "images/s"])


@dataclass(frozen=True, repr=False)
class DrawnSpeeds(Speeds):
    """The same with a figure."""

    def figure(self):
        return line_figure()


class Color(enum.Enum):
    RED = "red"


def line_figure():
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.plot([0, 1])
    return figure


def image_in(bundle):
    """Return the image of an output as a browser reads it."""
    (webp,) = re.findall('src="data:image/webp;base64,([^"]*)"', bundle["text/html"])
    return Image.open(io.BytesIO(base64.b64decode(webp)))


@pytest.fixture
def outputs(monkeypatch):
    """The bundles, metadata and options that a notebook would get."""
    published = []
    monkeypatch.setattr(display, "in_notebook", lambda: True)
    monkeypatch.setattr(
        IPython.display, "display", lambda bundle, **options: published.append((bundle, options))
    )
    return published


@pytest.fixture
def speeds():
    return Speeds({1: 10.0, 8: 40.25})


def test_a_result_is_printed_as_summary_and_table(speeds, capsys):
    lines = [
        "Larger batches are <faster>.",
        " batch images/s",
        "     1     10.0",
        "     8     40.2",
    ]
    assert repr(speeds).splitlines() == lines

    speeds.show()
    assert capsys.readouterr().out.splitlines() == lines


def test_a_result_without_figure_is_shown_in_a_notebook_as_escaped_html_table(speeds, outputs):
    speeds.show()

    ((bundle, _),) = outputs
    assert bundle["text/plain"] == repr(speeds)
    assert "<p>Larger batches are &lt;faster&gt;.</p>" in bundle["text/html"]
    assert "<td>40.2</td>" in bundle["text/html"]


def test_a_result_with_a_figure_is_shown_with_its_summary_as_alt_text(outputs):
    DrawnSpeeds({1: 10.0}).show()

    ((bundle, _),) = outputs
    assert bundle["text/plain"] == "Larger batches are <faster>."
    assert 'alt="Larger batches are &lt;faster&gt;."' in bundle["text/html"]


def test_missing_values_and_long_tables_are_abbreviated():
    text = repr(Speeds({batch: float("nan") for batch in range(100)}))

    assert "–" in text
    assert "NaN" not in text
    assert len(text.splitlines()) < 50


def test_a_result_converts_to_plain_values_for_json(speeds):
    assert speeds.as_dict() == {"by_batch": {"1": 10.0, "8": 40.25}}
    assert json.loads(json.dumps(speeds.as_dict())) == speeds.as_dict()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array([1.0, np.nan]), [1.0, None]),
        (float("inf"), None),
        (np.bool_(True), True),
        ((1, "a", None), [1, "a", None]),
        ({3}, [3]),
        ({Color.RED: (1,)}, {"red": [1]}),
        (Path("a/b"), "a/b"),
        (Speeds({1: 2.0}), {"by_batch": {"1": 2.0}}),
    ],
)
def test_plain_converts_values_to_lists_dicts_numbers_and_text(value, expected):
    assert plain(value) == expected
    assert type(plain(value)) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("déjà – 漢", "déjà – 漢"),
        ("a\nb\x1b[2J", r"a\nb\x1b[2J"),
        ("\u202e", r"\u202e"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable_escapes_what_a_terminal_would_interpret(text, expected):
    assert printable(text) == expected


def test_a_figure_in_a_terminal_is_its_description(capsys):
    show(line_figure(), ALT)
    show(line_figure(), ALT, display_id="a", update=True)

    assert capsys.readouterr().out == f"{ALT}\n"
    assert plt.get_fignums() == []


def test_a_figure_in_a_notebook_has_alt_text_few_colors_and_is_closed(outputs):
    show(line_figure(), ALT)

    ((bundle, options),) = outputs
    image = image_in(bundle)
    assert image.format == "WEBP"
    assert image.getcolors(256)
    assert bundle["text/plain"] == ALT
    assert f'<img alt="{ALT}"' in bundle["text/html"]
    assert options == {"raw": True}
    assert plt.get_fignums() == []


def test_a_figure_in_a_saved_notebook_has_its_alt_text_in_the_html_export(outputs):
    show(line_figure(), 'A "line" & more.')
    ((bundle, _),) = outputs
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", bundle)])

    html, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))

    (image,) = BeautifulSoup(html, "html.parser").find_all("img")
    assert image["alt"] == 'A "line" & more.'
    assert str(image["src"]).startswith("data:image/webp;base64,")


def test_a_figure_is_sharp_when_the_page_is_enlarged_to_150_percent(outputs):
    show(line_figure(), ALT)

    ((bundle, _),) = outputs
    (width,) = re.findall(r'<img [^>]*width="(\d+)"', bundle["text/html"])
    assert 350 < int(width) < 450
    assert image_in(bundle).width == pytest.approx(1.5 * int(width), abs=1)


def test_a_large_image_is_not_enlarged(outputs):
    figure, axis = plt.subplots(figsize=(4, 4))
    axis.imshow(np.random.default_rng(1).integers(0, 256, (300, 300, 3), "uint8"))

    show(figure, ALT)

    ((bundle, _),) = outputs
    (width,) = re.findall(r'<img [^>]*width="(\d+)"', bundle["text/html"])
    assert image_in(bundle).width == int(width)


def test_a_figure_with_many_colors_keeps_them(outputs):
    figure, axis = plt.subplots(figsize=(2, 2))
    axis.imshow(np.random.default_rng(1).integers(0, 256, (64, 64, 3), "uint8"))

    show(figure, ALT)

    ((bundle, _),) = outputs
    assert not image_in(bundle).getcolors(256)


def test_an_output_with_a_name_is_updated_in_the_same_size(outputs):
    show(line_figure(), ALT, display_id="curve")
    show(line_figure(), ALT, display_id="curve", update=True)
    show_html("<b>1</b>", "1", display_id="number")

    sizes = [image_in(bundle).size for bundle, _ in outputs[:2]]
    assert sizes == [(400, 300), (400, 300)]
    options = [(options["display_id"], options["update"]) for _, options in outputs]
    assert options == [("curve", False), ("curve", True), ("number", False)]
    assert outputs[2][0] == {"text/html": "<b>1</b>", "text/plain": "1"}


def test_a_widget_is_shown_in_a_notebook_and_as_text_in_a_terminal(capsys, monkeypatch, outputs):
    import ipywidgets

    slider = ipywidgets.IntSlider(value=3)
    show_widget(slider, "a slider at 3")

    bundle, _ = outputs[0]
    assert bundle["text/plain"] == "a slider at 3"
    assert "application/vnd.jupyter.widget-view+json" in bundle

    monkeypatch.setattr(display, "in_notebook", lambda: False)
    show_widget(slider, "a slider at 3")
    assert capsys.readouterr().out == "a slider at 3\n"


def test_what_is_shown_in_the_place_of_a_stopped_widget_can_be_replaced(outputs):
    import ipywidgets

    store = show_widget(ipywidgets.IntSlider(), "a slider", "<p>at 0</p>")
    store("<p>at 5</p>")

    _, (first, shown), (second, updated) = outputs
    assert first["text/plain"] == "Run this cell again to bring it back to life."
    assert "<p>at 0</p><p><em>Run this cell again" in first["text/html"]
    assert "<p>at 5</p><p><em>Run this cell again" in second["text/html"]
    assert shown["display_id"] == updated["display_id"]
    assert (shown["update"], updated["update"]) == (False, True)


def test_a_test_does_not_run_in_a_notebook():
    assert not display.in_notebook()
