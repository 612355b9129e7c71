"""The report as a file; tests/browser/test_report.py opens it in a browser."""

import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from dltlab.batch.report import Report
from dltlab.batch.run_folder import Status
from tests.batch.fabricated_runs import fabricate

SCRIPT = "<script>alert(1)</script>"
EMBEDDED = "data:image/webp;base64,"


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text of its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data

    def attributes(self, tag, name):
        return [values[name] for other, values in self.tags if other == tag and name in values]


@pytest.fixture
def written(tmp_path):
    """Return a function that writes the report and returns its page and its data."""

    def write():
        text = Report(tmp_path).write().read_text(encoding="utf-8")
        (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
        return Page(text), json.loads(data)

    return write


def save_image(folder, name, size=(900, 600)):
    folder.images.mkdir(exist_ok=True)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).save(folder.images / name)


def test_failures_come_first_with_their_reason(tmp_path, written):
    fabricate(tmp_path, {"lr": 0.1}, {"accuracy": 0.9})
    fabricate(tmp_path, {"lr": 0.2}, status=Status.FAILED, reason="Cell 3 raised <ValueError>.")

    page, data = written()

    assert page.attributes("tr", "data-status") == ["failed", "done"]
    assert any("Cell 3 raised <ValueError>." in cell for cell in page.cells)
    assert [cell.strip() for cell in page.cells[:6]] == [
        "Status", "Run", "lr", "accuracy", "Time", "Figures",
    ]  # fmt: skip
    assert data["parameters"] == ["lr"]
    assert data["runs"][1]["values"] == [0.9]


def test_text_of_runs_is_inert(tmp_path, written):
    parameters = {"a": SCRIPT, SCRIPT: '" onmouseover="alert(1)'}
    fabricate(tmp_path, parameters, {SCRIPT: SCRIPT, "m": 1}, name=SCRIPT)
    reason = f"{SCRIPT}\x1b[31m\ud800"
    fabricate(tmp_path, {"a": 1}, status=Status.FAILED, name=SCRIPT, reason=reason)
    folder = fabricate(tmp_path, {"a": 2}, name=SCRIPT)
    save_image(folder, f"{SCRIPT.replace('/', '')}.png")

    page, data = written()

    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert not any(name.startswith("on") for _, values in page.tags for name in values)
    assert page.cells.count(SCRIPT) >= 2
    assert SCRIPT in data["parameters"]
    policy = page.attributes("meta", "content")[0]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]+=*'", policy)


def test_links_are_relative_and_escaped(tmp_path, written):
    folder = fabricate(tmp_path, {"a": "javascript:alert(1)"}, name="javascript:alert(1)")
    folder.path.rename(tmp_path / "javascript:alert(1)")
    folder = type(folder)(tmp_path / "javascript:alert(1)")
    folder.notebook.write_text("{}")
    save_image(folder, "a é?#.png")

    page, _ = written()

    links = page.attributes("a", "href")
    assert links
    for link in links:
        assert re.fullmatch(r"[\w%./~()-]+", link), link
        assert (tmp_path / unquote(link)).exists()


def test_a_page_needs_no_network(tmp_path, written):
    fabricate(tmp_path, {"lr": 1}, {"loss": [0.5, 0.25]})

    page, data = written()

    assert not any(
        value.startswith(("http:", "https:", "//"))
        for _, values in page.tags for name, value in values.items() if name in ("src", "href")
    )  # fmt: skip
    assert data["runs"][0]["histories"] == [[[1, 2], [0.5, 0.25]]]


def test_figures_of_ended_runs_are_embedded_as_thumbnails(tmp_path, written):
    folder = fabricate(tmp_path)
    for number in range(5):
        save_image(folder, f"{number}.png")
    (folder.images / "5.svg").write_text("<svg xmlns='http://www.w3.org/4000/svg'/>")
    (folder.images / "6.png").write_bytes(b"not an image")

    page, _ = written()

    sources = page.attributes("img", "src")
    assert sources[0].startswith(EMBEDDED)
    assert sources[1:] == [f"{folder.path.name}/images/{name}" for name in ("5.svg", "6.png")]
    assert page.attributes("img", "alt")[0] == f"4.png of {folder.path.name}"
    assert "of 7" in page.cells[-1]


def test_a_report_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("dltlab.batch.report.EMBEDDED_BYTES", 60_000)
    for seed in range(20):
        steps = [1.0] * 4000
        folder = fabricate(tmp_path, {"seed": seed}, {f"metric {i}": steps for i in range(2)})
        save_image(folder, "a.png", (180, 120))

    text = Report(tmp_path).write().read_text()

    assert 0 < text.count(EMBEDDED) < 20
    assert len(text) < 400_000


def test_values_that_are_not_finite_are_shown_and_not_drawn(tmp_path, written):
    fabricate(tmp_path, {"lr": float("inf")}, {"loss": [0.5, float("nan")]})
    fabricate(tmp_path, {"lr": 1.0})

    page, data = written()

    assert "nan" in page.cells
    assert "inf" in page.cells
    run = next(run for run in data["runs"] if run["values"] != [None] or run["histories"][0])
    assert run["histories"] == [[[1, 2], [0.5, None]]]


def test_a_page_is_read_again_only_while_runs_are_not_finished(tmp_path, written):
    folder = fabricate(tmp_path, {"lr": 1}, status=Status.RUNNING)
    with folder.locked():
        page, _ = written()
        assert any("cell 3 of 5" in cell for cell in page.cells)
        assert "reload" in page.attributes("input", "id")
    fabricate(tmp_path, {"lr": 2})

    page, _ = written()

    assert "reload" not in page.attributes("input", "id")


def test_a_folder_without_runs_gives_an_empty_table(tmp_path, written):
    _, data = written()

    assert data["runs"] == []
