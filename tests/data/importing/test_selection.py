"""Which images are imported: enough of each class, and of equal images only one."""

import io
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from dltlab.data import import_images, store
from dltlab.errors import Invalid
from tests.image_sources import (
    SIZE,
    image_files,
    import_pets,
    labels_of,
    pixels_of,
    png,
    rows_of,
    splits_of,
    write_files,
)

# Equal images


def test_of_equal_images_in_a_class_one_is_imported(source: Path) -> None:
    files = image_files("cat", "dog")
    result = import_pets(write_files(source, files | {"cat/again.png": files["cat/003.png"]}))
    assert result.left_out == [("cat/again.png", "is the same image as cat/003.png")]


def test_equal_pixels_in_another_file_format_are_the_same_image(source: Path) -> None:
    files = image_files("cat", "dog")
    file = io.BytesIO()
    Image.fromarray(pixels_of("cat/003.png")).save(file, "BMP")
    result = import_pets(write_files(source, files | {"cat/again.bmp": file.getvalue()}))
    assert result.left_out == [("cat/again.bmp", "is the same image as cat/003.png")]


def test_equal_images_in_two_classes_are_reported_as_a_wrong_label(source: Path) -> None:
    files = image_files("cat", "dog")
    result = import_pets(write_files(source, files | {"dog/cat.png": files["cat/003.png"]}))
    reason = "is the same image as cat/003.png, which is in another class: one of the two labels"
    assert result.left_out == [("dog/cat.png", f"{reason} is wrong")]


def test_of_equal_images_in_train_and_test_the_one_in_test_is_imported(source: Path) -> None:
    files = image_files("train/cat", "train/dog", "test/cat", "test/dog")
    files["train/cat/000.png"] = files["test/cat/009.png"]
    result = import_pets(write_files(source, files))
    reason = "is the same image as test/cat/009.png, which is in the test split"
    assert result.left_out == [("train/cat/000.png", reason)]
    assert splits_of(result)["test/cat/009.png"] == "test"
    assert result.notes == [
        "1 image was in two splits and kept in one of them: otherwise the test would measure "
        "memory, not generalization."
    ]


def test_no_image_is_in_two_splits(source: Path) -> None:
    files = image_files("train/cat", "train/dog", "validation/cat", "validation/dog")
    files |= image_files("test/cat", "test/dog")
    same = png(pixels_of("same"))
    files |= {f"{split}/dog/x.png": same for split in ("train", "validation", "test")}
    result = import_pets(write_files(source, files))
    digests = [row["digest"] for row in rows_of(result.dataset)]
    assert len(set(digests)) == len(digests) == 61
    assert splits_of(result)["test/dog/x.png"] == "test"


# The size of the classes


def test_small_classes_are_refused_unless_min_per_class_allows_them(source: Path) -> None:
    write_files(source, image_files("cat", "dog", count=2))
    with pytest.raises(Invalid, match=r"'cat' has 2, 'dog' has 2, but at least 5 are needed\. Ad"):
        import_pets(source)
    assert import_pets(source, min_per_class=2).dataset.counts["train"] == [1, 1]


def test_files_left_out_do_not_count(source: Path) -> None:
    files = image_files("cat", "dog", count=6)
    files["cat/000.png"] = files["cat/001.png"] = b""
    with pytest.raises(Invalid) as caught:
        import_pets(write_files(source, files))
    assert str(caught.value) == (
        "Too few images: 'cat' has 4, but at least 5 are needed. Add images, remove the folder, or "
        "lower min_per_class (--min-per-class). Left out: cat/000.png is empty (and 1 more)."
    )
    assert store.versions("pets") == []


def test_at_most_max_per_class_are_imported_and_the_seed_chooses(source: Path) -> None:
    write_files(source, image_files("cat", count=30) | image_files("dog", count=8))
    first = import_pets(source, max_per_class=10)
    assert Counter(labels_of(first).values()) == {"cat": 10, "dog": 8}
    assert labels_of(import_pets(source, max_per_class=10)) == labels_of(first)
    assert labels_of(import_pets(source, max_per_class=10, seed=2)) != labels_of(first)


def test_a_single_class_is_refused_with_the_fix(source: Path) -> None:
    with pytest.raises(Invalid) as caught:
        import_pets(write_files(source, image_files("cat")))
    assert str(caught.value) == (
        f"{source} has only one class, 'cat', but at least two are needed. Name the folder that "
        "holds the folders of the classes."
    )


def test_a_class_that_the_other_data_set_lacks_is_refused(source: Path, tmp_path: Path) -> None:
    import_images(write_files(source, image_files("ant", "cat")), "known", size=SIZE)
    other = write_files(tmp_path / "other", image_files("cat", "emu\x1b[31m"))
    with pytest.raises(Invalid) as caught:
        import_pets(other, like="known")
    assert str(caught.value) == "No such class: emu\\x1b[31m. The classes are: ant, cat."


def test_a_class_that_looks_like_one_of_the_other_data_set_is_pointed_out(
    source: Path, tmp_path: Path
) -> None:
    import_images(write_files(source, image_files("ant", "cat")), "known", size=SIZE)
    other = write_files(tmp_path / "other", image_files("Cat"))
    with pytest.raises(Invalid) as caught:
        import_pets(other, like="known")
    assert str(caught.value) == (
        "No such class: Cat. The classes are: ant, cat. 'Cat' and 'cat' differ only in case, "
        "spaces or Unicode form: rename the folder or label."
    )
