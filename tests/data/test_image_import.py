"""`import_images`: images, labels and names end to end, and what a result shows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab.data import import_images
from dltlab.errors import Invalid, LabError
from tests.image_sources import (
    SIZE,
    image_files,
    import_pets,
    imported_pixels,
    labels_of,
    pixels_of,
    png,
    rows_of,
    write_files,
)

pytestmark = pytest.mark.usefixtures("own_store")


def test_each_image_is_imported_with_the_label_of_its_folder(source: Path) -> None:
    files = image_files("cat", "dog", "emu")
    dataset = import_pets(write_files(source, files)).dataset
    assert dataset.class_names == ["cat", "dog", "emu"]
    labels = np.load(dataset.folder / "labels.npy")
    assert labels.dtype == np.int64
    assert len(rows_of(dataset)) == len(files)
    for row, label, image in zip(rows_of(dataset), labels, imported_pixels(dataset), strict=True):
        assert row["class"] == dataset.class_names[label] == row["name"].partition("/")[0]
        assert np.array_equal(image, pixels_of(row["name"]))


def test_unusable_files_are_left_out_with_a_reason(source: Path) -> None:
    unusable = {
        "cat/empty.png": b"",
        "cat/text.jpg": b"no image",
        "dog/truncated.png": png(pixels_of("truncated"))[:-60],
        "dog/tiny.png": png(np.zeros((3, 4, 3), np.uint8)),
    }
    result = import_pets(write_files(source, image_files("cat", "dog") | unusable))
    assert result.left_out == [
        ("cat/empty.png", "is empty"),
        ("cat/text.jpg", "is damaged or not an image"),
        ("dog/tiny.png", "is tiny: 4×3 pixels"),
        ("dog/truncated.png", "is damaged or not an image"),
    ]
    recorded = [tuple(row.values()) for row in rows_of(result.dataset, "left_out.csv")]
    assert recorded == result.left_out
    assert len(labels_of(result)) == 20


def test_wrong_and_upper_case_suffixes_are_allowed(source: Path) -> None:
    files = image_files("cat", "dog")
    files = {name.replace(".png", ".JPG"): content for name, content in files.items()}
    assert len(labels_of(import_pets(write_files(source, files)))) == 20


def test_like_uses_the_classes_of_another_data_set_in_their_order(
    source: Path, tmp_path: Path
) -> None:
    known = import_images(write_files(source, image_files("ant", "cat")), "known", size=SIZE)
    other = write_files(tmp_path / "other", image_files("cat"))
    dataset = import_pets(other, like="known", validation=0, test=1).dataset
    assert dataset.class_names == known.dataset.class_names == ["ant", "cat"]
    assert set(np.load(dataset.folder / "labels.npy")) == {1}
    assert dataset.counts["test"] == [0, 10]


def test_like_uses_size_and_resize_of_the_other_data_set(source: Path, tmp_path: Path) -> None:
    files = image_files("ant", "cat")
    import_images(write_files(source, files), "known", size=SIZE, resize="fit")
    other = write_files(tmp_path / "other", image_files("cat"))
    same = import_images(other, "pets", like="known").dataset
    assert (same.size, same.resize) == (SIZE, "fit")
    own = import_images(other, "pets", like="known", size=SIZE + 1, resize="squash").dataset
    assert (own.size, own.resize) == (SIZE + 1, "squash")


def test_like_may_be_a_card(source: Path) -> None:
    dataset = import_images(write_files(source, image_files("star")), "stars", like="shapes")
    assert (dataset.dataset.size, dataset.dataset.resize) == (32, "crop")
    assert dataset.dataset.class_names[5] == "star"


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ("tinyshakespeare", "The data set 'tinyshakespeare' holds text; name one of images"),
        ("nothing", "There is no data set 'nothing'"),
        ("pets@4", "There is no data set 'pets@4'"),
    ],
)
def test_like_must_be_a_data_set_of_images(source: Path, like: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        import_pets(write_files(source, image_files("cat", "dog")), like=like)


@pytest.mark.parametrize("options", [{"validation": 20}, {"size": 7}, {"max_per_class": 1}])
def test_invalid_settings_are_refused_before_anything_is_written(
    source: Path, own_store: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        import_pets(write_files(source, image_files("cat", "dog")), **options)
    assert not own_store.exists()


@pytest.mark.parametrize(
    "name", ["", "Pets", "my pets", "../pets", ".pets", "-pets", "pets@1", "p" * 65, "pets\n"]
)
def test_an_invalid_name_is_refused(source: Path, own_store: Path, name: str) -> None:
    with pytest.raises(Invalid, match="cannot be the name of a data set: use up to 64 of a-z"):
        import_images(write_files(source, image_files("cat", "dog")), name, size=SIZE)
    assert not own_store.exists()


def test_the_name_of_a_card_is_refused(source: Path) -> None:
    with pytest.raises(Invalid, match="'mnist' is a data set of the course: choose another name"):
        import_images(write_files(source, image_files("cat", "dog")), "mnist", size=SIZE)


def deep_gray(*folders: str, peak: int, count: int = 10) -> dict[str, bytes]:
    """Return images with 16 bits of gray and values of up to `peak`."""
    files = {}
    for name in image_files(*folders, count=count):
        values = (pixels_of(name)[..., 0].astype(int) * peak // 255).astype(np.uint16)
        values[0, 0] = peak
        files[name] = png(values)
    return files


@pytest.mark.parametrize("peak", [1_023, 4_095, 60_000, 65_535])
def test_sixteen_bits_of_gray_are_scaled_by_the_largest_value(source: Path, peak: int) -> None:
    dark = deep_gray("cat", peak=peak // 2)
    result = import_pets(write_files(source, dark | deep_gray("dog", peak=peak)))
    images = imported_pixels(result.dataset)
    assert len(images) == 20
    assert images.max() == 255
    assert images.max((1, 2, 3)).min() in (127, 128)
    assert result.dataset.white == peak
    assert result.notes == [
        f"In images with 16 bits of gray, {peak:,} is white, the largest in the data set."
    ]


def test_sixteen_bits_of_gray_are_scaled_as_in_the_other_data_set(
    source: Path, tmp_path: Path
) -> None:
    import_images(write_files(source, deep_gray("cat", "dog", peak=4_095)), "known", size=SIZE)
    darker = write_files(tmp_path / "darker", deep_gray("cat", peak=1_023))
    result = import_pets(darker, like="known")
    assert imported_pixels(result.dataset).max() == 64
    assert result.dataset.white == 4_095
    assert result.notes == ["In images with 16 bits of gray, 4,095 is white, as in known."]


def test_images_of_eight_bits_have_no_such_scale(source: Path) -> None:
    assert import_pets(write_files(source, image_files("cat", "dog"))).dataset.white is None


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (("Cat", "cat"), "'Cat' and 'cat'"),
        (("sea lion", "sealion", "dog"), "'sea lion' and 'sealion'"),
        (("caf\u00e9", "cafe\u0301"), "'cafe\\u0301' and 'caf\\xe9'"),
    ],
)
def test_class_names_that_look_the_same_are_pointed_out(
    source: Path, names: tuple[str, ...], shown: str
) -> None:
    (note,) = import_pets(write_files(source, image_files(*names))).notes
    assert note == (
        f"The classes {shown} differ only in case, spaces or Unicode form: if they are one class, "
        "give them one name and import again."
    )


def test_a_class_that_a_split_lacks_is_noted(source: Path) -> None:
    folders = ["train/cat", "train/dog", "test/cat", "test/bird"]
    assert import_pets(write_files(source, image_files(*folders))).notes == [
        "The train split has no images of 'bird'.",
        "The validation split has no images of 'bird'.",
        "The test split has no images of 'dog'.",
    ]


def test_imbalanced_classes_are_noted(source: Path) -> None:
    write_files(source, image_files("cat", count=40) | image_files("dog", count=10))
    (note,) = import_pets(source).notes
    assert note.startswith(
        "The classes are imbalanced: 'cat' has 40 images, 'dog' has 10. Accuracy mostly reflects"
    )
    assert import_pets(source, max_per_class=30).notes == []


def test_a_result_is_a_table_and_a_report(source: Path) -> None:
    broken = {f"cat/broken{number:02}.png": b"" for number in range(25)}
    result = import_pets(write_files(source, image_files("cat", "dog") | broken))
    assert result.table.to_dict("list") == {
        "class": ["cat", "dog"], "train": [7, 7], "validation": [2, 2], "test": [1, 1]
    }  # fmt: skip
    assert result.summary.startswith("pets@1 is new: 20 images of 2 classes")
    lines = repr(result).splitlines()
    assert lines[0].split() == ["class", "train", "validation", "test"]
    assert "25 files are left out:" in lines
    assert "  cat/broken19.png is empty" in lines
    assert "  cat/broken20.png is empty" not in lines
    assert f"  … the full list is {result.dataset.folder / 'left_out.csv'}" in lines
    assert lines[-2:] == [
        result.summary,
        'Use it: dltlab.data.load("pets"). See it: dltlab data show pets',
    ]
    assert result.as_dict()["dataset"]["counts"]["train"] == [7, 7]
