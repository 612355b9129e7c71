"""A list as a source of images: its three forms, its heading, and invalid lines."""

from pathlib import Path

import pytest

from dltlab.data.importing.image_list import ListSource
from dltlab.errors import Invalid
from tests.image_sources import (
    Files,
    image_files,
    import_pets,
    labels_of,
    pixels_of,
    png,
    write_files,
)

LINES = {
    ".txt": "{0} {1}\n",
    ".csv": '"{0}",{1}\n',
    ".tsv": "{0}\t{1}\n",
}


@pytest.fixture
def files(source: Path) -> Files:
    """The images of two classes, written to the source."""
    files = image_files("cat", "dog")
    write_files(source, files)
    return files


@pytest.mark.parametrize("suffix", LINES)
def test_a_list_names_images_and_classes(source: Path, suffix: str) -> None:
    files = image_files("first heap", "second, heap")
    expected = {name: ("odd", "even")[index % 2] for index, name in enumerate(files)}
    write_files(source, files)
    path = source / f"list{suffix}"
    path.write_text("".join(LINES[suffix].format(*item) for item in expected.items()))
    result = import_pets(path)
    assert labels_of(result) == expected
    assert result.dataset.class_names == ["even", "odd"]
    assert result.left_out == []


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_may_come_from_another_system(
    source: Path, files: Files, mark: str, line_end: str
) -> None:
    lines = [f"{name},{name[:3]}" for name in files]
    (source / "list.csv").write_bytes((mark + line_end.join([*lines, "", ""])).encode())
    assert len(labels_of(import_pets(source / "list.csv"))) == len(files)


def test_a_heading_is_left_out(source: Path, files: Files) -> None:
    lines = ["path,label", *(f"{name},{name[:3]}" for name in files)]
    (source / "list.csv").write_text("\n".join(lines))
    result = import_pets(source / "list.csv")
    assert result.dataset.class_names == ["cat", "dog"]
    assert result.left_out == [("line 1", "is the heading")]


def test_a_text_file_has_no_heading(source: Path) -> None:
    write_files(source, {"list.txt": b"path label\n"})
    (candidate,) = ListSource(source / "list.txt").listing().candidates
    assert (candidate.name, candidate.label) == ("path", "label")


def test_lines_that_name_no_image_inside_the_folder_are_left_out(
    source: Path, files: Files
) -> None:
    (source.parent / "else.png").write_bytes(png(pixels_of("else")))
    invalid = ["../else.png,cat", f"{source.parent}/else.png,cat", "cat/gone.png,cat"]
    invalid += ["only", ",dog", "a\0b.png,cat"]
    lines = [*(f"{name},{name[:3]}" for name in files), *invalid]
    (source / "list.csv").write_text("\n".join(lines))
    assert dict(import_pets(source / "list.csv").left_out) == {
        "../else.png": "leads outside the folder of the list",
        f"{source.parent}/else.png": "leads outside the folder of the list",
        "cat/gone.png": "does not exist",
        "line 24": "does not name image and class",
        "line 25": "does not name image and class",
        "line 26": "does not name image and class",
    }


def test_a_file_that_is_not_text_is_refused(source: Path) -> None:
    write_files(source, {"list.csv": b"\xff\xfea\0"})
    with pytest.raises(Invalid, match=r"list\.csv cannot be read as a list in UTF-8"):
        ListSource(source / "list.csv").listing()
