import base64
import os

import nbformat
import pytest

from dltlab.batch.run_output import MAX_LOG, RunLog, Shortened, write_images
from dltlab.errors import Unavailable

SVG = "<svg xmlns='http://www.w3.org/2000/svg'/>"


@pytest.mark.parametrize("pieces", [["x"], ["xyz", "", "ab"], []])
def test_a_short_text_is_kept(pieces):
    text = Shortened(100)

    assert "".join(map(text.take, pieces)) + text.end() == "".join(pieces)


def test_of_a_long_text_the_beginning_and_the_end_are_kept():
    text = Shortened(10)
    kept = "".join(text.take(f"{number:05}\n") for number in range(100_000))
    end = text.end()

    assert kept == "00000\n0000"
    assert end.startswith("\n[589,990 characters are left out here]\n")
    assert end.endswith("99998\n99999\n")


def test_a_text_a_little_longer_than_the_limit_is_kept():
    text = Shortened(10)

    assert text.take("0123456789abc") + text.end() == "0123456789abc"


@pytest.fixture
def log(tmp_path):
    return RunLog(tmp_path / "run" / "log.txt")


def test_the_log_has_no_control_codes(log, tmp_path):
    log.write("\x1b[31mred\x1b[0m\n")

    assert (tmp_path / "run" / "log.txt").read_text() == "red\n"


@pytest.mark.parametrize(
    ("pieces", "last"),
    [
        (["one\ntwo\n"], "two"),
        (["one\n", "\n", "  \n"], "one"),
        (["epoch 1\r", "epoch 2\r", "epoch 3"], "epoch 3"),
        (["loss ", "0.5"], "loss 0.5"),
        (["x" * 1000], "x" * 200),
        ([], ""),
    ],
)
def test_the_last_line_is_known(log, pieces, last):
    for piece in pieces:
        log.write(piece)

    assert log.last_line == last


def test_a_traceback_is_not_what_is_printed_last(log, tmp_path):
    log.write("epoch 1\n")
    log.write("ValueError: no\n", is_error=True)

    assert log.last_line == "epoch 1"
    assert "ValueError" in (tmp_path / "run" / "log.txt").read_text()


def test_a_log_is_bounded(log, tmp_path):
    for _ in range(3):
        log.write("x" * MAX_LOG)
    log.write("the end")
    log.close()

    text = (tmp_path / "run" / "log.txt").read_text()
    assert len(text) < MAX_LOG + 20_000
    assert text.endswith("the end")


def test_what_utf_8_does_not_have_is_escaped(log, tmp_path):
    log.write("\ud800 ü\n")

    assert (tmp_path / "run" / "log.txt").read_text(encoding="utf-8") == "\\ud800 ü\n"


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "run").touch()

    with pytest.raises(Unavailable, match=r"log\.txt cannot be written"):
        RunLog(tmp_path / "run" / "log.txt").write("x")


def outputs(*data):
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [nbformat.v4.new_output("display_data", data=one) for one in data]
    return cell


def test_images_are_written_in_their_formats(tmp_path):
    png, jpeg = (base64.b64encode(content).decode() for content in (b"PNG", b"JPEG"))
    cell = outputs(
        {"image/png": png, "text/plain": "figure"},
        {"text/plain": "no image"},
        {"image/jpeg": jpeg},
        {"image/svg+xml": [SVG]},
        {"image/png": "not base64"},
    )

    write_images(cell, 7, tmp_path / "images")

    files = {path.name: path.read_bytes() for path in (tmp_path / "images").iterdir()}
    assert files == {
        "cell-07-1.png": b"PNG",
        "cell-07-2.jpg": b"JPEG",
        "cell-07-3.svg": SVG.encode(),
    }


def test_images_in_html_are_written_where_there_is_no_other(tmp_path):
    webp, svg = (base64.b64encode(data).decode() for data in (b"WEBP", SVG.encode()))
    html = (
        f'<p><img alt="a > b" width="3" src="data:image/webp;base64,{webp}"></p>'
        f"<img src='data:image/svg+xml;base64,{svg}'/><img src=https://host/x.png>"
        f"data:image/png;base64,{webp}"
    )
    png = base64.b64encode(b"PNG").decode()

    write_images(outputs({"text/html": html}), 1, tmp_path)
    write_images(outputs({"text/html": html, "image/png": png}), 2, tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "cell-01-1.webp": b"WEBP",
        "cell-01-2.svg": SVG.encode(),
        "cell-02-1.png": b"PNG",
    }


def test_without_images_there_is_no_folder(tmp_path):
    write_images(outputs({"text/plain": "1"}), 1, tmp_path / "images")

    assert os.listdir(tmp_path) == []


def test_images_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "images").touch()

    with pytest.raises(Unavailable, match=r"cell-01-1\.svg cannot be written"):
        write_images(outputs({"image/svg+xml": SVG}), 1, tmp_path / "images")
