"""The contact sheet: what it shows, and class names that a figure cannot show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltlab import data
from dltlab.errors import Invalid


def write_classes(folder: Path, class_names: list[str], count: int = 5) -> Path:
    random = np.random.default_rng(1)
    for name in class_names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_figure_table_and_description_agree() -> None:
    sheet = data.contact_sheet("digits")
    figure = sheet.figure()
    images, bars = figure.axes
    assert [label.get_text() for label in images.get_yticklabels()] == list("0123456789")
    assert len(bars.patches) == 20
    assert figure.get_suptitle() == "digits: 1,797 images of 10 classes"
    assert sheet.table[["train", "test"]].sum().tolist() == [1347, 450]
    assert sheet.table["class"].tolist() == list("0123456789")
    assert "0 178; 1 182;" in sheet.alt
    assert sheet.as_dict().keys() == {"name", "class_names", "counts"}


def test_the_first_column_is_the_mean_of_a_class() -> None:
    sheet = data.contact_sheet("digits")
    images, labels = data.arrays("digits", "train")
    assert np.allclose(sheet.rows[3][:8, :8], images[labels == 3][..., 0].mean(axis=0), atol=1e-6)


def test_class_names_are_short_and_harmless_in_the_figure(own_store: Path, tmp_path: Path) -> None:
    names = ["a$x$", "dog \x1b[31m", "猫", "very " * 5]
    data.import_images(write_classes(tmp_path / "pets", names), "pets", size=8)
    sheet = data.contact_sheet("pets")
    labels = [label.get_text() for label in sheet.figure().axes[0].get_yticklabels()]
    assert labels == [r"a\$x\$", r"dog \x1b[31m", "very very very ve…", "□"]
    assert "\x1b" not in sheet.alt + repr(sheet)


def test_at_most_twenty_classes_are_drawn(own_store: Path, tmp_path: Path) -> None:
    names = [f"class {number:02}" for number in range(23)]
    data.import_images(write_classes(tmp_path / "many", names), "many", size=8)
    sheet = data.contact_sheet("many")
    assert len(sheet.figure().axes[0].get_yticklabels()) == len(sheet.rows) == 20
    assert sheet.alt.endswith("class 19 5. 3 more classes are not shown.")


def test_a_class_without_images_in_a_split_is_blank(own_store: Path, tmp_path: Path) -> None:
    data.import_images(write_classes(tmp_path / "known", ["ant", "cat"]), "known", size=8)
    cats = write_classes(tmp_path / "cats", ["cat"])
    data.import_images(cats, "pets", like="known", validation=0, test=1)
    ant, cat = data.contact_sheet("pets").rows
    assert (ant == 1).all()
    assert (cat < 1).any()


def test_only_images_can_be_shown() -> None:
    with pytest.raises(Invalid, match="holds text, not images"):
        data.contact_sheet("python_docs")
