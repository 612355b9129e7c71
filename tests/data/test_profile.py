"""`profile_pipeline`: its stages, its rates, and the share of waiting."""

from collections.abc import Iterator
from itertools import count

import pytest
import tensorflow as tf

from dltlab import data
from dltlab.data import profile
from dltlab.errors import LabError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[count]:
    """A clock that ticks once each time it is read."""
    ticks = count()
    monkeypatch.setattr(profile, "perf_counter", lambda: float(next(ticks)))
    return ticks


def passed(seconds: float, clock: count) -> None:
    for _ in range(int(seconds)):
        next(clock)


def test_every_stage_is_named_in_order_with_stages_of_ones_own() -> None:
    def brighter(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images * 2, labels

    augment = data.augmentation(flip=True)
    dataset = data.load("digits", batch_size=64, augment=augment).map(brighter)
    found = data.profile_pipeline(dataset, lambda batch: batch, seconds=0.01)
    names = [name for name, _ in found.stages]
    assert names == ["order", "read", "augment", "prefetch", "brighter"]
    assert all(rate > 0 for _, rate in found.stages)


def test_a_slow_step_never_waits_and_a_slow_pipeline_always_does(clock: count) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(tf.zeros((4, 10, 2, 2, 1)))

    def slow_step(batch: tf.Tensor) -> None:
        passed(97, clock)

    slow = data.profile_pipeline(dataset, slow_step, seconds=1000)
    assert slow.waiting < 0.03
    assert slow.together == pytest.approx(10 / 100, rel=0.2)
    idle = data.profile_pipeline(dataset, lambda batch: None, seconds=1000)
    assert idle.waiting > 0.3
    assert idle.together > 20 * slow.together


def test_images_are_counted_by_batch_or_one_by_one() -> None:
    assert profile._count((tf.zeros((7, 8, 8, 3)), tf.zeros(7))) == 7
    assert profile._count((tf.zeros((8, 8, 3)), tf.zeros(()))) == 1
    assert profile._count(tf.zeros(5)) == 5


def test_table_image_and_sentence_say_the_same() -> None:
    found = data.Profile([("read", 1000.0), ("prefetch", 900.0)], 100.0, 90.0, 0.123)
    assert found.table()["images/s"].to_dict() == {
        "read": 1000, "prefetch": 900, "the step alone": 100, "pipeline and step": 90
    }  # fmt: skip
    for text in (str(found), found._repr_html_()):
        assert "The device waited 12.3% of the time." in text
    figure, alt = found.figure()
    axes = figure.axes[0]
    assert (axes.get_xlabel(), len(axes.patches)) == ("images/s", 4)
    assert "waits 12.3% of the time" in axes.get_title()
    assert "read 1,000, prefetch 900" in alt


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(LabError, match="empty: there is nothing to measure"):
        data.profile_pipeline(tf.data.Dataset.range(0), lambda batch: None)
