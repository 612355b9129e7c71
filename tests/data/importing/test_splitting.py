"""The division into splits: by the folders, or by the fractions, the seed and the pixels."""

from pathlib import Path

import pytest

from tests.image_sources import image_files, import_pets, pixels_of, png, splits_of, write_files


def test_splits_of_the_source_are_kept(source: Path) -> None:
    folders = [f"{split}/{label}" for split in ("train", "valid", "test") for label in ("a", "b")]
    splits = splits_of(import_pets(write_files(source, image_files(*folders))))
    expected = {"train": "train", "valid": "validation", "test": "test"}
    assert all(split == expected[name.partition("/")[0]] for name, split in splits.items())


def test_a_missing_split_is_taken_from_the_training_images(source: Path) -> None:
    folders = [f"{split}/{label}" for split in ("train", "test") for label in ("cat", "dog")]
    result = import_pets(write_files(source, image_files(*folders)), validation=0.2, test=0.5)
    assert result.dataset.counts == {"train": [8, 8], "validation": [2, 2], "test": [10, 10]}


def test_every_class_is_divided_by_the_same_fractions(source: Path) -> None:
    files = image_files("cat", count=100) | image_files("dog", count=40)
    assert import_pets(write_files(source, files)).dataset.counts == {
        "train": [70, 28],
        "validation": [20, 8],
        "test": [10, 4],
    }


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [
        (0, 0, (20, 0, 0)),
        (1, 0, (0, 20, 0)),
        (0, 1, (0, 0, 20)),
        (0.01, 0.01, (18, 1, 1)),
        (0.99, 0.01, (1, 18, 1)),
        (0.5, 0.5, (1, 9, 10)),
    ],
)
def test_a_split_is_empty_only_for_0_and_has_all_images_only_for_1(
    source: Path, validation: float, test: float, expected: tuple[int, int, int]
) -> None:
    write_files(source, image_files("cat", "dog", count=20))
    counts = import_pets(source, validation=validation, test=test).dataset.counts
    assert [counts[split] for split in ("train", "validation", "test")] == [
        [count, count] for count in expected
    ]


def test_splits_depend_on_the_seed_and_not_on_the_names(source: Path, tmp_path: Path) -> None:
    files = image_files("cat", "dog", count=30)
    first = splits_of(import_pets(write_files(source, files), seed=1))
    assert splits_of(import_pets(source, seed=1)) == first
    assert splits_of(import_pets(source, seed=2)) != first
    renamed = {f"{name[:-4]}b.png": file for name, file in files.items()}
    again = splits_of(import_pets(write_files(tmp_path / "renamed", renamed)))
    assert {name.replace("b.png", ".png"): split for name, split in again.items()} == first


def test_a_new_image_moves_few_others_to_another_split(source: Path) -> None:
    files = image_files("cat", "dog", count=50)
    first = splits_of(import_pets(write_files(source, files)))
    write_files(source, {"cat/new.png": png(pixels_of("new"))})
    second = splits_of(import_pets(source))
    assert sum(second[name] != split for name, split in first.items()) <= 2
