"""What cards compute: held-out images, consecutive parts, and the check of sizes."""

import numpy as np
import pytest

from dltlab.data import info
from dltlab.data.card import DatasetCard, HoldOut, describe_images
from dltlab.data.packed_images import PackedImages
from dltlab.errors import Invalid


def test_held_out_images_are_stratified_and_in_their_original_order() -> None:
    labels = np.repeat([0, 1], [40, 20])
    images = PackedImages.of(np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1), labels)
    rule = HoldOut(every=4, seed=1)
    train, test = (rule.part(images, split) for split in ("train", "test"))
    assert np.bincount(test.labels).tolist() == [10, 5]
    assert np.bincount(train.labels).tolist() == [30, 15]
    for part in (train, test):
        assert (np.diff(part.rows) > 0).all()
    assert sorted([*train.rows, *test.rows]) == list(range(60))
    assert not np.array_equal(HoldOut(every=4, seed=2).part(images, "test").rows, test.rows)


def test_consecutive_parts_have_the_sizes_and_order_of_the_card() -> None:
    card = info("mackey_glass")
    values = np.arange(card.total_size)
    parts = [card.consecutive_part(values, split) for split in card.split_names]
    assert [len(part) for part in parts] == [8000, 2000, 2000]
    assert np.array_equal(np.concatenate(parts), values)


@pytest.mark.parametrize(
    ("shape", "num_labels"), [((450, 8, 8, 3), 450), ((449, 8, 8, 1), 449), ((450, 8, 8, 1), 449)]
)
def test_images_of_another_size_than_the_card_are_refused(
    shape: tuple[int, ...], num_labels: int
) -> None:
    with pytest.raises(Invalid, match=r"its card says \(450, 8, 8, 1\) and \(450,\): correct the"):
        info("digits").pack("test", np.zeros(shape, np.uint8), np.zeros(num_labels, int))


@pytest.mark.parametrize(("name", "split"), [("digits", "all"), ("shapes", "test")])
def test_a_label_without_a_class_name_is_refused(name: str, split: str) -> None:
    card = info(name).model_copy(update={"class_names": ["zero", "one", "two"]})
    with pytest.raises(
        Invalid, match=rf"'{name}' has an image with the label \d; with its 3 .* labels are 0 to 2"
    ):
        card.read(split)


def test_a_file_that_the_card_lacks_is_named_with_those_it_has() -> None:
    card = info("cifar10")
    assert isinstance(card, DatasetCard)
    assert card.file("cifar-10-binary.tar.gz") is card.files[0]
    with pytest.raises(Invalid, match=r"'cifar10' has no file 'cifar.tar'; .*cifar-10-binary.tar"):
        card.file("cifar.tar")


def test_the_content_hash_changes_with_the_card() -> None:
    card = info("shapes")
    assert card.content_hash == info("shapes").content_hash
    assert card.model_copy(update={"seed": 1}).content_hash != card.content_hash


@pytest.mark.parametrize(("channels", "color"), [(1, "gray"), (3, "color")])
def test_images_are_described_by_number_size_and_classes(channels: int, color: str) -> None:
    expected = f"1,234 {color} images 8×9, 5 classes"
    assert describe_images(1234, (8, 9, channels), 5) == expected
