"""`profile_pipeline`: its stages, its rates, and the fraction of waiting."""

from collections.abc import Iterator
from itertools import count

import pytest
import tensorflow as tf

from dltlab import data
from dltlab.data import profile
from dltlab.errors import Invalid


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A clock that ticks once each time it is read."""
    ticks = count()
    monkeypatch.setattr(profile, "perf_counter", lambda: float(next(ticks)))
    return ticks


@pytest.fixture
def example() -> profile.Profile:
    return profile.Profile([("read", 1000.0), ("prefetch", 900.0)], 100.0, 90.0, 0.123)


def test_every_stage_is_named_in_order_also_further_ones() -> None:
    def brighter(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return images * 2, labels

    augment = data.augmentation(flip=True)
    dataset = data.load("digits", batch_size=64, augment=augment).map(brighter)
    result = data.profile_pipeline(dataset, lambda batch: batch, seconds=0.01)
    names = [name for name, _ in result.stages]
    assert names == ["order", "read", "augment", "prefetch", "brighter"]
    assert all(rate > 0 for _, rate in result.stages)


def test_a_slow_step_never_waits_and_a_slow_pipeline_always_does(clock: Iterator[int]) -> None:
    dataset = tf.data.Dataset.from_tensor_slices(tf.zeros((400, 10, 2, 2, 1)))

    def slow_step(batch: tf.Tensor) -> None:
        for _ in range(97):
            next(clock)

    slow = data.profile_pipeline(dataset, slow_step, seconds=1000)
    assert slow.waiting < 0.03
    assert slow.combined == pytest.approx(10 / 100, rel=0.2)
    fast = data.profile_pipeline(dataset, lambda batch: None, seconds=1000)
    assert fast.waiting > 0.3
    assert fast.combined > 20 * slow.combined


@pytest.mark.parametrize(
    ("shapes", "num_images"),
    [([(7, 8, 8, 3), (7,)], 7), ([(8, 8, 3), ()], 1), ([(5,)], 5), ([()], 1)],
)
def test_rates_count_the_images_of_a_batch(
    clock: Iterator[int], shapes: list, num_images: int
) -> None:
    dataset = tf.data.Dataset.from_tensors(tuple(map(tf.zeros, shapes))).repeat(100)
    result = data.profile_pipeline(dataset, lambda batch: None, seconds=50)
    assert result.step == pytest.approx(num_images, rel=0.1)  # the clock ticks once per step


def test_table_figure_and_summary_agree(example: profile.Profile) -> None:
    assert dict(example.table.to_numpy()) == {
        "read": 1000, "prefetch": 900, "step alone": 100, "pipeline and step": 90
    }  # fmt: skip
    assert example.summary == "The device waited 12.3% of the time."
    assert example.summary in repr(example)
    figure = example.figure()
    axes = figure.axes[0]
    assert (axes.get_xlabel(), len(axes.patches)) == ("images/s", 4)
    assert "waits 12.3% of the time" in axes.get_title()
    assert "read 1,000, prefetch 900" in example.alt


def test_two_stages_may_have_the_same_name() -> None:
    result = profile.Profile([("map", 1000.0), ("map", 900.0)], 100.0, 90.0, 0.1)
    labels = [label.get_text() for label in result.figure().axes[0].get_yticklabels()]
    assert labels == ["map", "map", "step alone", "pipeline and step"]


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(Invalid, match="empty: there is nothing to measure"):
        data.profile_pipeline(tf.data.Dataset.range(0), lambda batch: None)
