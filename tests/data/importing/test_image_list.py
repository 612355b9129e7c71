"""A list as a source of images: its forms, its columns, and invalid lines."""

import csv
from pathlib import Path

import pandas as pd
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
    splits_of,
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


# What pandas and others write


def test_the_lists_that_pandas_writes_are_read(source: Path, files: Files) -> None:
    table = pd.DataFrame({"image": list(files), "breed": [name[:3] for name in files]})
    shuffled = table.sample(frac=1, random_state=0)
    repeated = pd.concat([table[:10], table[10:].reset_index(drop=True)])
    lists = {
        "index.csv": table.to_csv(),
        "plain.csv": table.to_csv(index=False),
        "headless.csv": table.to_csv(header=False),
        "shuffled.csv": shuffled.to_csv(header=False),
        "repeated.csv": repeated.to_csv(),
        "named.csv": table.to_csv(index_label="id"),
        "semicolons.csv": table.to_csv(sep=";"),
        "tabs.csv": table.to_csv(sep="\t", index=False),
        "tabs.tsv": table.to_csv(sep="\t"),
        "tabs.txt": table.to_csv(sep="\t", index=False),
        "commas.txt": table.to_csv(index=False),
        "swapped.csv": table[["breed", "image"]].to_csv(index=False),
        "swapped_index.csv": table[["breed", "image"]].to_csv(),
        "quoted.csv": table.to_csv(quoting=csv.QUOTE_ALL),
    }
    expected = {name: name[:3] for name in files}
    for name, text in lists.items():
        (source / name).write_text(text)
        assert labels_of(import_pets(source / name)) == expected, name


def test_the_lists_that_r_and_excel_write_are_read(source: Path, files: Files) -> None:
    rows = [(number, name, name[:3]) for number, name in enumerate(files, 1)]
    lists = {
        "table.txt": ('"file" "breed"', '"{}" "{}" "{}"'),  # write.table(x, "table.txt")
        "unquoted.txt": ("file breed", "{} {} {}"),
        "tabs.txt": ("file\tbreed", "{}\t{}\t{}"),
        "r.csv": ('"","file","breed"', '"{}","{}","{}"'),
        "csv2.csv": ('"";"file";"label";"score"', '"{}";"{}";"{}";0,5'),
        "separator.csv": ("sep=;\nid;file;breed", "{};{};{}"),
        "title.csv": ("Our pets\n\nid,file,breed", "{},{},{}"),
        "bars.csv": ("id|file|breed", "{}|{}|{}"),
        "spaces.csv": ("id, file, breed", '{}, "{}", "{}"'),
    }
    expected = {name: name[:3] for name in files}
    for name, (heading, line) in lists.items():
        (source / name).write_text("\n".join([heading, *(line.format(*row) for row in rows)]))
        assert labels_of(import_pets(source / name)) == expected, name


def test_lines_above_the_heading_are_left_out(source: Path, files: Files) -> None:
    lines = ["sep=;", "path;label", *(f"{name};{name[:3]}" for name in files)]
    (source / "list.csv").write_text("\n".join(lines))
    assert import_pets(source / "list.csv").left_out == [
        ("line 1", "does not name image and class"),
        ("line 2", "is the heading"),
    ]


@pytest.mark.parametrize("line", ["{0} {1}", "{1} {0}", "{2} {0} {1}", "{0}\t {1}"])
def test_lists_of_words_are_read(source: Path, files: Files, line: str) -> None:
    lines = [line.format(name, name[:3], number) for number, name in enumerate(files)]
    (source / "list.txt").write_text("\n".join(lines))
    assert labels_of(import_pets(source / "list.txt")) == {name: name[:3] for name in files}


def test_paths_may_have_backslashes(source: Path, files: Files) -> None:
    lines = ["label;file", *(f"{name[:3]};{name.replace('/', chr(92))}" for name in files)]
    (source / "list.csv").write_text("\n".join(lines))
    assert labels_of(import_pets(source / "list.csv")) == {name: name[:3] for name in files}


def test_of_several_columns_the_heading_names_the_class(source: Path, files: Files) -> None:
    table = pd.DataFrame({"width": 8, "file": list(files), "tone": list("ab") * 10})
    table["class_name"] = [name[:3] for name in files]
    table["label"] = [int(name[:3] == "dog") for name in files]
    (source / "list.csv").write_text(table.to_csv())
    result = import_pets(source / "list.csv")
    assert result.dataset.class_names == ["cat", "dog"]
    assert result.notes == ["Of the list, column 3 is read as the path and column 5 as the class."]


def test_an_index_of_the_class_and_a_translation_are_recognized(source: Path, files: Files) -> None:
    rows = [(int(name[0] == "d"), name, name[:3], "train", name[:3].upper()) for name in files]
    heading = ["class id", "filepaths", "labels", "data set", "scientific name"]
    table = pd.DataFrame(rows, columns=heading)
    (source / "list.csv").write_text(table.to_csv(index=False))
    assert labels_of(import_pets(source / "list.csv")) == {name: name[:3] for name in files}


def test_a_column_of_splits_defines_them(source: Path, files: Files) -> None:
    rows = [(name, name[:3], ("train", "dev", "test")[i % 3]) for i, name in enumerate(files)]
    table = pd.DataFrame(rows, columns=["file", "label", "subset"])
    (source / "list.csv").write_text(table.to_csv(index=False))
    result = import_pets(source / "list.csv")
    expected = {"train": "train", "dev": "validation", "test": "test"}
    assert splits_of(result) == {name: expected[split] for name, _, split in rows}
    assert result.notes[0].endswith("column 2 as the class, column 3 as the split.")


def test_lines_without_a_path_or_a_class_are_left_out(source: Path, files: Files) -> None:
    table = pd.DataFrame({"file": list(files), "label": [name[:3] for name in files]})
    table.loc[3, "file"] = table.loc[5, "label"] = None
    (source / "list.csv").write_text(table.to_csv(index=False))
    assert import_pets(source / "list.csv").left_out == [
        ("line 1", "is the heading"),
        ("line 5", "does not name image and class"),
        ("line 7", "does not name image and class"),
    ]


# Lists that cannot be read


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no line names a JPEG, PNG, TIFF, BMP or WebP file and its class. It is empty."),
        (
            "id,diagnosis\n000c1434,2\n001639a3,4\n0024cdab,1\n",
            "no line names a JPEG, PNG, TIFF, BMP or WebP file and its class. It begins with "
            "'id,diagnosis', '000c1434,2', '001639a3,4'.",
        ),
        (
            "cat/000.png\ncat/001.png\n",
            "no line names a JPEG, PNG, TIFF, BMP or WebP file and its class. It begins with "
            "'cat/000.png', 'cat/001.png'.",
        ),
        (
            "file,width,tone\ncat/000.png,8,a\ncat/001.png,8,b\ncat/002.png,9,b\n",
            "each of 'tone', 'width' might hold the class; name one of them 'label' in a first "
            "line, or remove the others. It begins with 'file,width,tone', 'cat/000.png,8,a', "
            "'cat/001.png,8,b'.",
        ),
        (
            "0,cat/000.png\n1,cat/001.png\n2,cat/002.png\n",
            None,
        ),
        ('cat/000.png,cat\n"cat/001.png,cat\ncat/002.png,dog\n', "where a quote is not closed"),
        ('"cat/001.png,cat\ncat/002.png,dog\n', "where a quote is not closed"),
        (f"{'x' * 1_000_000},cat\ncat/001.png,cat\n", "field larger than field limit"),
        ("photos/0.png,cat\nphotos/1.png,dog\n", "none of its 2 images exists in"),
        ("../0.png,cat\n../1.png,dog\n", "which leads outside the folder of the list"),
    ],
)
def test_a_list_that_cannot_be_read_says_why_and_shows_its_first_lines(
    source: Path, files: Files, text: str, reason: str | None
) -> None:
    (source / "list.csv").write_text(text)
    with pytest.raises(Invalid) as caught:
        import_pets(source / "list.csv")
    message = str(caught.value)
    assert len(message) < 600
    if reason is not None:
        assert message.startswith(f"{source / 'list.csv'} cannot be read as a list of images: ")
        assert reason in message


@pytest.mark.parametrize("place", [".", "elsewhere", "source/train_images"])
def test_a_list_whose_paths_are_relative_to_another_folder_names_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / place
    files = write_files(folder, image_files("data/cat", "data/dog"))
    write_files(source, {"list.csv": b"data/cat/000.png,cat\ndata/dog/000.png,dog\n"})
    monkeypatch.chdir(tmp_path / "elsewhere" if place == "elsewhere" else "/")
    with pytest.raises(Invalid) as caught:
        import_pets(source / "list.csv")
    assert f"folder of the list, and these to {files}: move the list there." in str(caught.value)


def test_messages_are_short_however_many_classes_and_long_names_there_are(
    source: Path, files: Files
) -> None:
    lines = [f"cat/{'x' * 200}{number}.png,breed {number}" for number in range(20_000)]
    (source / "list.csv").write_text("\n".join([*lines, "cat/000.png,cat"]))
    with pytest.raises(
        Invalid, match=r"Too few images: .* and 19,991 more, but at least"
    ) as caught:
        import_pets(source / "list.csv")
    assert len(str(caught.value)) < 1500
