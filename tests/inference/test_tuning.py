"""What `tune` chooses, shows and stores."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from dltlab.errors import Invalid, Unavailable
from dltlab.inference import Engine, tune, tuning
from dltlab.inference.backends.base import Settings
from dltlab.inference.benchmarking import Measurement
from dltlab.inference.manifest import EngineManifest


class FakeEngine(Engine):
    """Has settings, and nothing to run."""

    def __init__(self, settings: Settings, manifest: EngineManifest) -> None:
        self.settings, self.manifest, self.notes = settings, manifest, []

    def configured(self, **options: Any) -> "FakeEngine":
        return FakeEngine(replace(self.settings, **options), self.manifest)


@pytest.fixture
def engine() -> FakeEngine:
    """An engine on two cores."""
    manifest = EngineManifest(
        model="tiny", model_hash="1", backend="keras", versions={"keras": "3"},
        precision="float32", machine="A CPU", inputs=(), layers=(),
    )  # fmt: skip
    return FakeEngine(Settings(1, 1, 2), manifest)


@pytest.fixture
def measured(monkeypatch, empty_cache) -> list[tuple[int, int, int]]:
    """The settings that were measured.

    A call takes 1 ms and 1 ms for each example on two threads; two streams do 1.5 times as much as
    one.
    """
    settings_list = []

    def measure(engine: Engine, seconds: float) -> Measurement:
        settings = engine.settings
        settings_list.append((settings.batch_size, settings.streams, settings.threads))
        factor = 2 / settings.threads * (4 / 3 if settings.streams == 2 else 1)
        latency = 1e-3 * (1 + settings.batch_size) * factor
        rate = settings.streams * settings.batch_size / latency
        return Measurement(settings.batch_size, settings.streams, np.full(10, latency), rate)

    monkeypatch.setattr(tuning, "measure", measure)
    return settings_list


@pytest.mark.parametrize(("latency_ms", "best"), [(12.5, (8, 2, 2)), (2.1, (1, 1, 2))])
def test_the_settings_with_the_highest_throughput_within_the_bound_are_chosen(
    measured, engine, latency_ms, best
):
    result = tune(engine, latency_ms=latency_ms)
    assert (result.best.batch_size, result.best.streams, result.best.threads) == best
    assert result.engine.settings == Settings(*best)
    assert result.best.p99_ms <= latency_ms


def test_a_search_ends_where_calls_take_too_long_or_throughput_stops_growing(
    measured, engine, monkeypatch
):
    tune(engine, latency_ms=12.5)
    assert [settings[0] for settings in measured if settings[1:] == (1, 2)] == [1, 2, 4, 8, 16]

    def constant(engine: Engine, seconds: float) -> Measurement:
        batch_sizes.append(engine.settings.batch_size)
        return Measurement(engine.settings.batch_size, 1, np.full(10, 1e-3), 100.0)

    batch_sizes: list[int] = []
    monkeypatch.setattr(tuning, "measure", constant)
    tune(engine, latency_ms=500)
    assert set(batch_sizes) == {1, 2}


def test_every_setting_that_was_measured_is_a_row(measured, engine):
    result = tune(engine, latency_ms=12.5)
    columns = ["batch size", "streams", "threads"]
    assert list(result.table[columns].itertuples(index=False, name=None)) == measured
    assert result.summary == (
        "tiny on keras in float32: within 12.5 ms the best of 14 settings is batch size 8 in "
        "2 streams and 2 threads, with 1,333 images/s and a 99th percentile of 12 ms."
    )
    assert result.summary in repr(result)


def test_the_figure_shows_the_bound(measured, engine):
    result = tune(engine, latency_ms=12.5)
    figure = result.figure()
    assert isinstance(figure, Figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert np.array_equal(lines["bound"].get_xdata(), [12.5, 12.5])
    assert "2 streams, threads: 2" in lines
    assert "with the bound" in result.alt


def test_the_result_is_stored_and_not_measured_again(measured, engine, empty_cache: Path):
    first = tune(engine, latency_ms=12.5)
    count = len(measured)
    again = tune(engine, latency_ms=12.5)
    assert again.rows == first.rows
    assert again.engine.settings == first.engine.settings
    assert len(measured) == count
    (path,) = empty_cache.glob("tuned-*.json")
    path.write_text("{")
    assert tune(engine, latency_ms=12.5).rows == first.rows
    assert len(measured) == 2 * count


@pytest.mark.parametrize(
    "changed", [{"backend": "xla"}, {"precision": "int8"}, {"versions": {"keras": "1"}}]
)
def test_the_result_holds_for_no_other_engine(measured, engine, changed):
    tune(engine, latency_ms=12.5)
    count = len(measured)
    other = FakeEngine(engine.settings, engine.manifest.model_copy(update=changed))
    tune(other, latency_ms=12.5)
    assert len(measured) == 2 * count


def test_the_result_holds_for_no_other_machine_cores_or_time(measured, engine, monkeypatch):
    tune(engine, latency_ms=12.5)
    count = len(measured)
    tune(engine, latency_ms=12.5, seconds=2)
    assert len(measured) == 2 * count
    monkeypatch.setattr(tuning, "this_machine", lambda: "Another CPU")
    tune(engine, latency_ms=12.5)
    assert len(measured) == 3 * count
    tune(engine.configured(threads=1), latency_ms=12.5)
    assert len(measured) > 3 * count


def test_a_bound_that_is_too_low_is_refused_with_the_lowest_latency(measured, engine, empty_cache):
    with pytest.raises(Unavailable, match=r"within 1 ms: the 99th percentile is 2 ms at best"):
        tune(engine, latency_ms=1)
    assert not list(empty_cache.glob("tuned-*.json"))


def test_a_bound_that_is_not_positive_is_refused(engine):
    with pytest.raises(Invalid, match="latency_ms is 0; it must be more than 0"):
        tune(engine, latency_ms=0)
