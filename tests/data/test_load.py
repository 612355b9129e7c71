"""`load`, `arrays`, `text` and `series`: their elements, order and shares."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dltlab import data
from dltlab.data.augment import Augmentation
from dltlab.data.formats.shapes import shapes
from dltlab.data.importing.shards import ShardWriter
from dltlab.errors import Invalid, LabError, NotFound

Batches = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def spots(own_store: Path, tmp_path: Path) -> str:
    """Twenty gray images of 8×8 pixels in two classes, each of another gray, in shards of three."""
    for number in range(20):
        label = "dark" if number < 10 else "light"
        path = tmp_path / "spots" / label / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ShardWriter, "MAX_BYTES", 3 * 8 * 8 * 3)
        data.import_images(tmp_path / "spots", "spots", size=8)
    return "spots"


def as_arrays(dataset: tf.data.Dataset) -> Batches:
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def are_equal(batches: Batches, others: Batches) -> bool:
    return len(batches) == len(others) and all(
        np.array_equal(array, other)
        for pair in zip(batches, others, strict=True)
        for array, other in zip(*pair, strict=True)
    )


# Images


def test_an_image_is_float32_in_0_to_1_and_its_label_int64() -> None:
    dataset = data.load("digits", "test")
    images, labels = dataset.element_spec
    assert (images.shape, images.dtype) == ((8, 8, 1), tf.float32)
    assert (labels.shape, labels.dtype) == ((), tf.int64)
    assert len(dataset) == 450


def test_without_shuffling_the_elements_are_those_of_arrays() -> None:
    images, labels = data.arrays("digits", "test")
    batches = as_arrays(data.load("digits", "test", batch_size=100))
    assert [len(batch_labels) for _, batch_labels in batches] == [100, 100, 100, 100, 50]
    assert np.array_equal(np.concatenate([batch for batch, _ in batches]), images)
    assert np.array_equal(np.concatenate([batch for _, batch in batches]), labels)


def test_without_batches_the_elements_are_the_same() -> None:
    images, labels = data.arrays("digits", "test")
    elements = as_arrays(data.load("digits", "test"))
    assert np.array_equal(np.stack([image for image, _ in elements]), images)
    assert [int(label) for _, label in elements] == labels.tolist()


def test_the_splits_of_shapes_have_their_sizes_and_no_image_in_common() -> None:
    seen: set[bytes] = set()
    for split, size in {"train": 10_000, "validation": 2_000, "test": 2_000}.items():
        images, labels = data.arrays("shapes", split)
        assert len(images) == len(labels) == size
        assert np.bincount(labels).tolist() == [size // 10] * 10
        parts = {image.tobytes() for image in images}
        assert not parts & seen
        seen |= parts


def test_the_test_images_of_shapes_are_those_of_the_first_version() -> None:
    images, labels = shapes(2_000, seed=2018)
    test_images, test_labels = data.arrays("shapes", "test")
    assert np.array_equal(np.rint(test_images * 255).astype(np.uint8), images)
    assert np.array_equal(test_labels, labels)


def test_images_in_several_shards_keep_their_labels(spots: str) -> None:
    assert len(data.info(spots).read("all").shards) == 7
    images, labels = data.arrays(spots)
    batches = as_arrays(data.load(spots, "all", batch_size=6, shuffle=True, seed=1))
    grays = np.concatenate([batch[:, 0, 0, 0] for batch, _ in batches])
    batch_labels = np.concatenate([batch for _, batch in batches])
    assert sorted(grays) == sorted(images[:, 0, 0, 0])
    assert np.array_equal(batch_labels, (grays * 255 > 95).astype(int))
    assert sorted(labels) == [0] * 10 + [1] * 10


@pytest.mark.parametrize("cache", ["auto", "memory", "disk"])
@pytest.mark.parametrize("name", ["spots", "digits"])
def test_the_cache_does_not_change_the_images(spots: str, name: str, cache: Any) -> None:
    expected = as_arrays(data.load(name, "train", batch_size=50, seed=1))
    cached = as_arrays(data.load(name, "train", batch_size=50, seed=1, cache=cache))
    assert are_equal(cached, expected)


# Order


def test_training_images_are_in_a_new_order_each_epoch_and_all_of_them() -> None:
    dataset = data.load("digits", batch_size=64, seed=3)
    first, second = as_arrays(dataset), as_arrays(dataset)
    assert not are_equal(first, second)
    expected = sorted(image.tobytes() for image in data.arrays("digits", "train")[0])
    for epoch in (first, second):
        assert sorted(image.tobytes() for images, _ in epoch for image in images) == expected


def test_equal_seeds_give_equal_epochs_and_other_seeds_others() -> None:
    first, second = (data.load("digits", batch_size=64, seed=3) for _ in range(2))
    assert are_equal(as_arrays(first), as_arrays(second))
    assert are_equal(as_arrays(first), as_arrays(second))
    assert not are_equal(as_arrays(first), as_arrays(data.load("digits", batch_size=64, seed=4)))


def test_without_a_seed_the_global_seed_is_used() -> None:
    def epoch() -> Batches:
        tf.keras.utils.set_random_seed(5)
        return as_arrays(data.load("digits", batch_size=256))

    assert are_equal(epoch(), epoch())


@pytest.mark.parametrize("augment", [None, data.augmentation(crop=2, flip=True, mixup=0.2)])
@pytest.mark.parametrize("num_consumed", [3, 7, 14, 20])
def test_an_iteration_continues_from_a_checkpoint(
    tmp_path: Path, augment: Augmentation | None, num_consumed: int
) -> None:
    def start() -> Iterator:
        dataset = data.load("digits", batch_size=100, seed=2, augment=augment)
        return iter(dataset.repeat())

    original = start()
    for _ in range(num_consumed):  # an epoch has 14 batches
        next(original)
    path = tf.train.Checkpoint(iterator=original).save(tmp_path / "middle")
    expected = [next(original) for _ in range(30)]
    restored = start()
    tf.train.Checkpoint(iterator=restored).restore(path)
    continued = [next(restored) for _ in range(30)]
    assert are_equal(
        [(x.numpy(), y.numpy()) for x, y in continued],
        [(x.numpy(), y.numpy()) for x, y in expected],
    )


# Shares of several workers


@pytest.mark.parametrize(("batch_size", "num_workers"), [(8, 4), (25, 3), (450, 2)])
def test_the_batches_of_all_workers_together_are_those_of_one(
    batch_size: int, num_workers: int
) -> None:
    def load(size: int, shard: tuple[int, int]) -> Batches:
        return as_arrays(
            data.load("digits", "test", batch_size=size, shuffle=True, seed=7, shard=shard)
        )

    single = load(batch_size * num_workers, (0, 1))
    shares = [load(batch_size, (worker, num_workers)) for worker in range(num_workers)]
    assert len({sum(len(labels) for _, labels in share) for share in shares}) == 1
    together = [
        (
            np.concatenate([images for images, _ in step]),
            np.concatenate([labels for _, labels in step]),
        )
        for step in zip(*shares, strict=True)
    ]
    num_full = 450 // (batch_size * num_workers)
    assert are_equal(together[:num_full], single[:num_full])
    rows = [image.tobytes() for images, _ in together for image in images]
    assert len(rows) == 450 // num_workers * num_workers
    all_rows = {image.tobytes() for image in data.arrays("digits", "test")[0]}
    assert len(set(rows)) >= len(all_rows) - num_workers


def test_workers_need_a_common_seed() -> None:
    with pytest.raises(Invalid, match="pass the same seed to each"):
        data.load("digits", batch_size=8, shard=(0, 2))


# Text and series


def test_text_is_one_string_for_each_document() -> None:
    dataset = data.load("python_docs", "validation")
    assert dataset.element_spec.dtype == tf.string
    documents = [document.numpy().decode() for document in dataset]
    assert "\n\n".join(documents) == data.text("python_docs", "validation")
    assert len(documents) > 2


def test_the_first_nine_tenths_of_the_documents_are_for_training() -> None:
    train, validation = (data.text("python_docs", split) for split in ("train", "validation"))
    text = data.text("python_docs")
    assert f"{train}\n\n{validation}" == text
    assert 0.85 < len(train) / len(text) < 0.95


def test_a_series_is_a_float32_for_each_step() -> None:
    values = data.series("mackey_glass", "test")
    dataset = data.load("mackey_glass", "test", batch_size=500)
    assert dataset.element_spec.dtype == tf.float32
    assert np.array_equal(np.concatenate([batch.numpy() for batch in dataset]), values)
    splits = [data.series("mackey_glass", split) for split in ("train", "validation", "test")]
    assert np.array_equal(np.concatenate(splits), data.series("mackey_glass"))


# What is refused


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"shard": (2, 2), "seed": 1}, r"shard is \(2, 2\); it must be \(number, count\)"),
        ({"shard": (0, 9999), "seed": 1}, "only 450 elements to share"),
        ({"cache": "disc"}, "cache is 'disc'; it must be one of auto, memory, disk"),
        ({"split": "validation"}, "no split 'validation'. Its splits are: train, test, all"),
        ({"name": "minst"}, r"no data set 'minst'.*digits,.* mnist"),
    ],
)
def test_an_invalid_argument_is_named_with_the_allowed_values(
    arguments: dict, message: str
) -> None:
    with pytest.raises(LabError, match=message) as caught:
        data.load(**{"name": "digits", "split": "test", **arguments})
    assert isinstance(caught.value, NotFound if arguments.keys() & {"name", "split"} else Invalid)


@pytest.mark.parametrize(
    ("function", "name", "message"),
    [
        (data.text, "digits", "holds images, not text"),
        (data.series, "python_docs", "holds text, not series"),
        (data.arrays, "mackey_glass", "holds series, not images"),
    ],
)
def test_a_data_set_of_another_kind_is_refused(function: Callable, name: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        function(name)


def test_text_cannot_be_augmented() -> None:
    with pytest.raises(Invalid, match="augment changes images, but 'python_docs' holds text"):
        data.load("python_docs", augment=data.augmentation(flip=True))


def test_the_room_is_imported_without_tensorflow() -> None:
    code = "import sys, dltlab.data; assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
