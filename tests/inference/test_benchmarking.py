"""What `benchmark` counts, and what `tune` chooses."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dltlab.errors import LabError
from dltlab.inference import Benchmark, Engine, benchmarking, optimize, tune, tuning
from dltlab.inference.benchmarking import Measurement, measure

SHORT = 1e-3  # seconds


@pytest.fixture(scope="module")
def engine(model, validation) -> Engine:
    return optimize(model, backend="openvino", precision="float32", validation=validation)


@pytest.fixture(scope="module")
def benchmark(engine) -> Benchmark:
    return engine.benchmark(batches=(1, 4), streams=(1, 2), seconds=SHORT)


def test_every_batch_and_number_of_streams_is_a_row(benchmark):
    table = benchmark.table()
    assert list(zip(table["batch"], table["streams"], strict=True)) == [
        (1, 1), (4, 1), (1, 2), (4, 2),
    ]  # fmt: skip
    assert (table["p50 ms"] <= table["p90 ms"]).all()
    assert (table["p90 ms"] <= table["p99 ms"]).all()
    assert (table["calls"] >= 10).all()


def test_images_per_second_count_what_was_done_in_the_time_that_passed(monkeypatch, engine):
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()

    def lane(inputs):
        clock.now += 0.25

    monkeypatch.setattr(benchmarking, "time", clock)
    four = engine.configured(batch=4)
    monkeypatch.setattr(four, "lane", lambda: lane)
    found = measure(four, 5.0)
    assert len(found.latencies) == 20
    assert found.percentile(99) == 0.25
    assert found.images_per_second == 4 / 0.25


def test_the_first_calls_do_not_count(monkeypatch, engine):
    calls = []
    monkeypatch.setattr(engine, "lane", lambda: calls.append)
    found = measure(engine, 1e-9)
    assert len(calls) == 3 + len(found.latencies)


def test_mlperfs_ways_of_counting_are_named(benchmark):
    assert (benchmark.single_stream.batch, benchmark.single_stream.streams) == (1, 1)
    assert benchmark.offline.images_per_second == benchmark.table()["images/s"].max()
    assert "single stream (MLPerf) p90 " in repr(benchmark)
    assert "offline (MLPerf) " in repr(benchmark)
    assert "<table" in benchmark._repr_html_()
    figure, alt = benchmark.figure()
    assert isinstance(figure, Figure)
    assert alt.startswith("Images per second over latency. ")


def test_energy_is_a_column_where_a_device_tells_its_power(monkeypatch, engine):
    monkeypatch.setattr(benchmarking.Sampler, "row", lambda self: {"cpu_watts": 50.0})
    found = measure(engine, SHORT)
    assert found.images_per_joule == pytest.approx(found.images_per_second / 50)
    assert "images/J" in Benchmark("e", (found,)).table()
    monkeypatch.setattr(benchmarking.Sampler, "row", lambda self: {"cpu_percent": 50.0})
    silent = measure(engine, SHORT)
    assert silent.images_per_joule is None
    assert "images/J" not in Benchmark("e", (silent,)).table()


def test_an_error_in_a_stream_is_raised(monkeypatch, engine):
    def broken(inputs):
        raise ValueError("broken")

    two = engine.configured(streams=2)
    monkeypatch.setattr(benchmarking, "_WARM_UP", 0)
    monkeypatch.setattr(two, "lane", lambda: broken)
    with pytest.raises(ValueError, match="broken"):
        measure(two, SHORT)


def test_numbers_that_make_no_sense_are_refused(engine):
    with pytest.raises(LabError, match="seconds is 0; it must be more than 0"):
        engine.benchmark(seconds=0)
    with pytest.raises(LabError, match="batch is 0"):
        engine.benchmark(batches=(0,))
    with pytest.raises(LabError, match="streams is -1"):
        engine.benchmark(streams=(-1,))
    with pytest.raises(LabError, match="latency_ms is 0; it must be more than 0"):
        tune(engine, latency_ms=0)


@pytest.fixture
def machine(monkeypatch, fresh, engine) -> list[tuple[int, int, int]]:
    """A machine of 2 cores whose calls take 1 ms and 1 ms an example; two streams do 1.5 as much.

    Returns:
        The settings that were measured.
    """
    measured = []

    def measure(engine: Engine, seconds: float) -> Measurement:
        here = engine.settings
        measured.append((here.batch, here.streams, here.threads))
        took = 1e-3 * (1 + here.batch) * 2 / here.threads * (4 / 3 if here.streams == 2 else 1)
        return Measurement(
            here.batch, here.streams, np.full(10, took), here.streams * here.batch / took
        )

    monkeypatch.setattr(tuning, "measure", measure)
    return measured


@pytest.fixture
def two_cores(engine) -> Engine:
    return engine.configured(threads=2)


def test_the_settings_that_do_most_within_the_latency_are_found(machine, two_cores):
    best = tune(two_cores, latency_ms=12.5).settings
    assert (best.batch, best.streams, best.threads) == (8, 2, 2)
    best = tune(two_cores, latency_ms=2.1).settings
    assert (best.batch, best.streams, best.threads) == (1, 1, 2)


def test_what_was_found_is_remembered_for_this_machine(machine, two_cores, monkeypatch, fresh):
    first = tune(two_cores, latency_ms=12.5)
    count = len(machine)
    again = tune(two_cores, latency_ms=12.5)
    assert again.settings == first.settings
    assert len(machine) == count
    (remembered,) = fresh.glob("tuned-*.json")
    remembered.write_text("{")
    assert tune(two_cores, latency_ms=12.5).settings == first.settings
    assert len(machine) == 2 * count
    monkeypatch.setattr(tuning.cache, "machine", lambda: "Another CPU")
    tune(two_cores, latency_ms=12.5)
    assert len(machine) == 3 * count


@pytest.mark.parametrize(
    "about", [{"backend": "xla"}, {"precision": "int8"}, {"versions": {"openvino": "1.0"}}]
)
def test_what_was_found_counts_for_no_other_engine_or_time(machine, two_cores, monkeypatch, about):
    monkeypatch.setattr(tuning, "_configured", lambda engine, choice: two_cores)
    tune(two_cores, latency_ms=12.5)
    count = len(machine)
    tune(two_cores, latency_ms=12.5)
    assert len(machine) == count
    tune(two_cores, latency_ms=12.5, seconds=2)
    assert len(machine) == 2 * count
    changed = two_cores.manifest.model_copy(update=about)
    monkeypatch.setattr(two_cores, "manifest", changed)
    tune(two_cores, latency_ms=12.5)
    assert len(machine) == 3 * count


def test_a_latency_that_cannot_be_kept_is_told_with_the_best_there_is(machine, two_cores, fresh):
    with pytest.raises(LabError, match=r"keep within 1 ms: the 99th percentile is 2 ms at best"):
        tune(two_cores, latency_ms=1)
    assert not list(fresh.glob("tuned-*.json"))
