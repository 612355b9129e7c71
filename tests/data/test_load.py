"""`load`: what an element is, which order it comes in, and who gets which share."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dltlab import data
from dltlab.data import pipeline, read, store
from dltlab.errors import LabError

Batches = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def spots(own_store: Path, tmp_path: Path) -> Iterator[str]:
    """Twenty images of 8×8 pixels in two classes, each of another gray, in shards of three."""
    from PIL import Image

    for number in range(20):
        path = tmp_path / "spots" / ("dark" if number < 10 else "light") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 10 * number).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.Shards, "ROWS_BYTES", 3 * 8 * 8 * 3)
        data.import_images(tmp_path / "spots", "spots", size=8)
    return "spots"


def taken(dataset: tf.data.Dataset) -> Batches:
    return [(images.numpy(), labels.numpy()) for images, labels in dataset]


def same(these: Batches, those: Batches) -> bool:
    return len(these) == len(those) and all(
        np.array_equal(one, other)
        for pair in zip(these, those, strict=True)
        for one, other in zip(*pair, strict=True)
    )


def test_an_image_is_float32_from_0_to_1_and_its_label_int64() -> None:
    dataset = data.load("digits", "test")
    images, labels = dataset.element_spec
    assert (images.shape, images.dtype) == ((8, 8, 1), tf.float32)
    assert (labels.shape, labels.dtype) == ((), tf.int64)
    assert len(dataset) == 450


def test_without_shuffling_the_elements_are_those_of_arrays() -> None:
    images, labels = data.arrays("digits", "test")
    batches = taken(data.load("digits", "test", batch_size=100))
    assert [len(each) for _, each in batches] == [100, 100, 100, 100, 50]
    assert np.array_equal(np.concatenate([each for each, _ in batches]), images)
    assert np.array_equal(np.concatenate([each for _, each in batches]), labels)


def test_without_batches_the_elements_are_the_same() -> None:
    images, labels = data.arrays("digits", "test")
    elements = taken(data.load("digits", "test"))
    assert np.array_equal(np.stack([each for each, _ in elements]), images)
    assert [int(each) for _, each in elements] == labels.tolist()


def test_training_images_come_in_a_new_order_each_epoch_and_all_of_them() -> None:
    dataset = data.load("digits", batch_size=64, seed=3)
    first, second = taken(dataset), taken(dataset)
    assert not same(first, second)
    for epoch in (first, second):
        seen = sorted(image.tobytes() for images, _ in epoch for image in images)
        assert seen == sorted(image.tobytes() for image in data.arrays("digits", "train")[0])


def test_equal_seeds_give_equal_epochs_and_other_seeds_others() -> None:
    one, other = (data.load("digits", batch_size=64, seed=3) for _ in range(2))
    assert same(taken(one), taken(other))
    assert same(taken(one), taken(other))
    assert not same(taken(one), taken(data.load("digits", batch_size=64, seed=4)))


def test_without_a_seed_that_of_tensorflow_decides() -> None:
    def epoch() -> Batches:
        tf.keras.utils.set_random_seed(5)
        return taken(data.load("digits", batch_size=256))

    assert same(epoch(), epoch())


@pytest.mark.parametrize(("batch_size", "workers"), [(8, 4), (25, 3), (450, 2)])
def test_the_batches_of_all_workers_together_are_those_of_one(
    batch_size: int, workers: int
) -> None:
    def load(size: int, shard: tuple[int, int]) -> tf.data.Dataset:
        return data.load("digits", "test", batch_size=size, shuffle=True, seed=7, shard=shard)

    whole = taken(load(batch_size * workers, (0, 1)))
    parts = [taken(load(batch_size, (worker, workers))) for worker in range(workers)]
    assert len({sum(len(labels) for _, labels in part) for part in parts}) == 1
    together = [
        (np.concatenate([images for images, _ in step]), np.concatenate([y for _, y in step]))
        for step in zip(*parts, strict=True)
    ]
    full = 450 // (batch_size * workers)
    assert same(together[:full], whole[:full])
    seen = [image.tobytes() for images, _ in together for image in images]
    assert len(seen) == 450 // workers * workers
    everything = {image.tobytes() for image in data.arrays("digits", "test")[0]}
    assert len(set(seen)) >= len(everything) - workers


def test_workers_without_a_common_seed_are_refused() -> None:
    with pytest.raises(LabError, match="pass the same seed to each"):
        data.load("digits", batch_size=8, shard=(0, 2))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"batch_size": 0}, "batch_size is 0; it must be 1 or more"),
        ({"shard": (2, 2), "seed": 1}, r"shard is \(2, 2\); it must be \(number, count\)"),
        ({"shard": (0, 9999), "seed": 1}, "only 450 elements to share"),
        ({"cache": "disc"}, "cache is 'disc'; it must be one of auto, memory, disk"),
        ({"split": "validation"}, "no split 'validation'. Its splits are: train, test, all"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(arguments: dict, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        data.load(**{"name": "digits", "split": "test", **arguments})


@pytest.mark.parametrize("augment", [None, data.augmentation(crop=2, flip=True, mixup=0.2)])
@pytest.mark.parametrize("consumed", [3, 7, 14, 20])
def test_an_iteration_goes_on_from_a_checkpoint_in_the_middle_of_an_epoch(
    tmp_path: Path, augment: data.Augmentation | None, consumed: int
) -> None:
    def begin() -> Iterator:
        dataset = data.load("digits", batch_size=100, seed=2, augment=augment)
        return iter(dataset.repeat())

    began = begin()
    for _ in range(consumed):  # an epoch has 14 batches
        next(began)
    path = tf.train.Checkpoint(iterator=began).save(tmp_path / "middle")
    rest = [next(began) for _ in range(30)]
    resumed = begin()
    tf.train.Checkpoint(iterator=resumed).restore(path)
    again = [next(resumed) for _ in range(30)]
    assert same(
        [(x.numpy(), y.numpy()) for x, y in rest], [(x.numpy(), y.numpy()) for x, y in again]
    )


def test_images_in_several_shards_are_read_from_the_right_one(spots: str) -> None:
    assert len(read.images(spots, "all").shards) == 7
    images, labels = data.arrays(spots)
    batches = taken(data.load(spots, "all", batch_size=6, shuffle=True, seed=1))
    grays = np.concatenate([each[:, 0, 0, 0] for each, _ in batches])
    found = np.concatenate([each for _, each in batches])
    assert sorted(grays) == sorted(images[:, 0, 0, 0])
    assert np.array_equal(found, (grays * 255 > 95).astype(int))
    assert sorted(labels) == [0] * 10 + [1] * 10


@pytest.mark.parametrize("cache", ["auto", "memory", "disk"])
def test_wherever_images_wait_they_are_the_same(spots: str, cache: str) -> None:
    plain = taken(data.load(spots, "train", batch_size=5, seed=1))
    assert same(taken(data.load(spots, "train", batch_size=5, seed=1, cache=cache)), plain)


def test_a_decoded_copy_on_disk_is_made_once_and_shared(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = taken(data.load("digits", "test", batch_size=90, cache="disk"))
    monkeypatch.setattr(read, "images", None)
    assert same(taken(data.load("digits", "test", batch_size=90, cache="disk")), first)
    assert [path.name for path in own_store.glob("digits/*/images.npy")] == ["images.npy"]
    assert read.mapped("digits", "test").white == 16


@pytest.mark.parametrize("offset", range(3))
def test_arrays_that_tensorflow_cannot_take_as_they_are_are_copied(offset: int) -> None:
    memory = np.arange(64 * 5, dtype=np.uint8)
    array = memory[offset : offset + 64].reshape(4, 16)
    assert np.array_equal(pipeline._tensor(array).numpy(), array)


def test_text_is_one_string_for_each_document() -> None:
    documents = taken_text(data.load("python_docs", "validation"))
    assert "\n\n".join(documents) == data.text("python_docs", "validation")
    assert len(documents) > 2


def taken_text(dataset: tf.data.Dataset) -> list[str]:
    assert dataset.element_spec.dtype == tf.string
    return [each.numpy().decode() for each in dataset]


def test_the_training_part_of_text_comes_first_and_has_nine_tenths() -> None:
    parts = [data.text("python_docs", split) for split in ("train", "validation")]
    whole = data.text("python_docs")
    assert "\n\n".join(parts) == whole
    assert 0.85 < len(parts[0]) / len(whole) < 0.95


def test_a_series_is_a_float32_for_each_step() -> None:
    values = data.series("mackey_glass", "test")
    dataset = data.load("mackey_glass", "test", batch_size=500)
    assert dataset.element_spec.dtype == tf.float32
    assert np.array_equal(np.concatenate([each.numpy() for each in dataset]), values)
    splits = [data.series("mackey_glass", split) for split in ("train", "validation", "test")]
    assert np.array_equal(np.concatenate(splits), data.series("mackey_glass"))


@pytest.mark.parametrize(
    ("function", "name", "sentence"),
    [
        (data.text, "digits", "holds images, no text"),
        (data.series, "python_docs", "holds text, no series"),
        (data.arrays, "mackey_glass", "holds series, no images"),
    ],
)
def test_what_holds_something_else_is_refused(function, name: str, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        function(name)


def test_text_cannot_be_augmented() -> None:
    with pytest.raises(LabError, match="augment changes images"):
        data.load("python_docs", augment=data.augmentation(flip=True))


def test_shapes_are_those_of_the_card_and_differ_between_the_splits() -> None:
    card = data.info("shapes")
    test, labels = data.arrays("shapes", "test")
    assert len(test) == len(labels) == card.splits["test"].size
    assert np.bincount(labels).tolist() == [200] * 10
    train = {image.tobytes() for image in data.arrays("shapes", "train")[0]}
    assert not train & {image.tobytes() for image in test}


def test_the_package_is_imported_without_tensorflow() -> None:
    code = "import sys, dltlab.data; assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
