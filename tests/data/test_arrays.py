"""The arrays of the data sets: shapes, types, ranges and splits."""

import os
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dltlab.data import arrays, info
from dltlab.errors import LabError

MIRROR = os.environ.get("DLTLAB_DATA_MIRROR")
needs_mirror = pytest.mark.skipif(
    not (MIRROR and Path(MIRROR, "t10k-images-idx3-ubyte.gz").is_file()),
    reason="DLTLAB_DATA_MIRROR names no folder with MNIST's test files",
)


def rows(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_digits_are_scikit_learns_in_their_original_order() -> None:
    images, labels = arrays("digits")
    original = load_digits()
    assert images.shape == (1797, 8, 8, 1)
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert np.array_equal(images[..., 0] * 16, original.images)
    assert np.array_equal(labels, original.target)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_card_says_what_arrays_returns(split: str) -> None:
    card = info("digits")
    images, labels = arrays("digits", split)
    assert len(images) == len(labels) == card.splits[split].size
    assert (list(images.shape[1:]), str(images.dtype)) == (card.shape, card.dtype)
    assert (images.min(), images.max()) == (0, 1)
    assert sorted(set(labels)) == list(range(len(card.classes)))


def test_train_and_test_are_disjoint_and_together_all() -> None:
    everything, train, test = (arrays("digits", split)[0] for split in ("all", "train", "test"))
    assert len(train) + len(test) == len(everything)
    assert rows(train) | rows(test) == rows(everything)
    assert not rows(train) & rows(test)


def test_the_held_out_quarter_never_changes_and_has_its_share_of_each_digit() -> None:
    everything, test = rows(arrays("digits")[0]), arrays("digits", "test")
    counts = np.bincount(test[1])
    assert counts.tolist() == [45, 45, 45, 45, 46, 45, 45, 45, 44, 45]
    assert test[1][:12].tolist() == [2, 5, 9, 2, 0, 1, 5, 6, 9, 5, 0, 9]
    assert rows(test[0]) < everything


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"no data set 'minst'.*digits,.* mnist"):
        arrays("minst")


def test_an_unknown_split_is_answered_with_the_known_ones() -> None:
    with pytest.raises(LabError, match=r"no split 'validation'.*train, test, all"):
        arrays("digits", "validation")


@needs_mirror
def test_mnists_test_images_are_divided_where_the_mirror_has_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for path in Path(MIRROR or "").glob("t10k-*"):
        (mirror / path.name).symlink_to(path)
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(mirror))
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    everything, train, test = (arrays("mnist", split) for split in ("all", "train", "test"))
    assert (len(train[0]), len(test[0])) == (8000, 2000)
    assert everything[0].shape == (10000, 28, 28, 1)
    assert (everything[0].min(), everything[0].max()) == (0, 1)
    assert not rows(train[0]) & rows(test[0])
    assert rows(train[0]) | rows(test[0]) == rows(everything[0])
    assert everything[1][:5].tolist() == [7, 2, 1, 0, 4]
    assert capsys.readouterr().out.count("only the 10,000 test images") <= 1
