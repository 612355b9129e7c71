"""What `benchmark` measures and shows."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from dltlab.devices import PowerMeter
from dltlab.errors import Invalid
from dltlab.inference import Engine, benchmark, benchmarking, optimize
from dltlab.inference.benchmarking import Benchmark, Measurement, measure, plot_tradeoff

SHORT = 1e-3  # seconds


@pytest.fixture(scope="module")
def engine(model, validation) -> Engine:
    return optimize(model, backend="openvino", precision="float32", validation=validation)


@pytest.fixture(scope="module")
def result(engine) -> Benchmark:
    return benchmark(engine, batch_sizes=(1, 4), streams=(1, 2), seconds=SHORT)


def test_each_batch_size_and_number_of_streams_is_a_row(result):
    table = result.table
    assert list(zip(table["batch size"], table["streams"], strict=True)) == [
        (1, 1), (4, 1), (1, 2), (4, 2),
    ]  # fmt: skip
    assert (table["p50 (ms)"] <= table["p90 (ms)"]).all()
    assert (table["p90 (ms)"] <= table["p99 (ms)"]).all()
    assert (table["calls"] >= 10).all()


def test_by_default_three_batch_sizes_are_measured_alone_and_on_all_threads(engine):
    rows = benchmark(engine.configured(threads=2), seconds=SHORT).rows
    assert [(row.batch_size, row.streams) for row in rows] == [
        (1, 1), (8, 1), (32, 1), (1, 2), (8, 2), (32, 2),
    ]  # fmt: skip


def test_throughput_is_all_examples_divided_by_the_elapsed_time(monkeypatch, engine):
    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

    clock = Clock()

    def run(inputs):
        clock.now += 0.25

    monkeypatch.setattr(benchmarking, "time", clock)
    four = engine.configured(batch_size=4)
    monkeypatch.setattr(four, "runner", lambda: run)
    measurement = measure(four, 5.0)
    assert len(measurement.latencies) == 20
    assert measurement.percentile(99) == 0.25
    assert measurement.images_per_second == 4 / 0.25


def test_the_first_calls_do_not_count(monkeypatch, engine):
    calls: list[object] = []
    monkeypatch.setattr(engine, "runner", lambda: calls.append)
    measurement = measure(engine, 1e-9)
    assert len(calls) == 3 + len(measurement.latencies)


def test_repeats_are_kept_and_their_calls_counted_together(engine):
    (row,) = benchmark(engine, batch_sizes=[4], streams=[1], seconds=SHORT, repeats=3).rows
    assert len(row.repeats) == 3
    assert len(row.latencies) == sum(len(repeat.latencies) for repeat in row.repeats)
    rates = [repeat.images_per_second for repeat in row.repeats]
    assert row.rate_range == (min(rates), max(rates))
    assert min(rates) <= row.images_per_second <= max(rates)
    tails = [repeat.percentile(99) for repeat in row.repeats]
    assert row.percentile_range(99) == (min(tails), max(tails))


def test_a_measurement_without_repeats_is_its_own_range(result):
    row = result.rows[0]
    assert row.repeats == ()
    assert row.rate_range == (row.images_per_second, row.images_per_second)
    assert row.percentile_range(99) == (row.percentile(99), row.percentile(99))


def test_error_bars_span_the_repeats():
    parts = tuple(Measurement(1, 1, np.full(20, t), r) for t, r in ((0.001, 900.0), (0.002, 500.0)))
    latencies = np.concatenate([part.latencies for part in parts])
    result = Benchmark("e", (Measurement(1, 1, latencies, 650.0, repeats=parts),))
    (axes,) = result.figure().axes
    horizontal, vertical = (bars.get_paths()[0].vertices for bars in axes.collections)
    np.testing.assert_allclose(np.asarray(horizontal)[:, 0], (1, 2))
    np.testing.assert_allclose(np.asarray(vertical)[:, 1], (500, 900))
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 900
    assert "bars from the lowest to the highest repeat" in result.alt
    assert [line.get_label() for line in axes.lines if line.get_marker() == "o"] == ["1 stream"]


def test_ticks_are_plain_numbers(result):
    (axes,) = result.figure().axes
    axes.set_xlim(0.5, 20)
    axes.figure.canvas.draw()
    ticks = dict(zip(axes.get_xticks(), axes.get_xticklabels(), strict=True))
    assert [ticks[tick].get_text() for tick in (0.5, 1, 2, 5, 10, 20)] == [
        "0.5", "1", "2", "5", "10", "20",
    ]  # fmt: skip


def test_mlperfs_scenarios_are_named(result):
    assert (result.single_stream.batch_size, result.single_stream.streams) == (1, 1)
    assert result.offline.images_per_second == result.table["images/s"].max()
    assert "single stream (MLPerf) p90 " in result.summary
    assert "offline (MLPerf) " in result.summary
    without = Benchmark("e", (Measurement(8, 2, np.ones(3), 24.0),))
    assert without.single_stream is None
    assert without.summary == "e: offline (MLPerf) 24 images/s with batch size 8 in 2 streams."


def test_the_figure_has_a_line_for_each_number_of_streams(result):
    figure = result.figure()
    assert isinstance(figure, Figure)
    (axes,) = figure.axes
    assert [line.get_label() for line in axes.lines] == ["1 stream", "2 streams"]
    assert [text.get_text() for text in axes.texts] == ["1", "4", "1", "4"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("latency, 99th percentile (ms)", "images/s")
    assert result.alt.startswith("Images per second over latency. ")


def test_no_point_of_a_later_line_is_outside_the_figure():
    axes = Figure().subplots()
    for index, rate in enumerate((100.0, 900.0)):
        plot_tradeoff(axes, index, [(1, 0.001, rate), (2, 0.002, 2 * rate)], "")
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 1800


@pytest.mark.parametrize(("watts", "is_shown"), [(50.0, True), (None, False)])
def test_energy_is_a_column_where_a_device_reports_its_power(monkeypatch, engine, watts, is_shown):
    monkeypatch.setattr(PowerMeter, "watts", lambda self: watts)
    measurement = measure(engine, SHORT)
    if is_shown:
        rate = measurement.images_per_second
        assert measurement.images_per_joule == pytest.approx(rate / 50)
    else:
        assert measurement.images_per_joule is None
    assert ("images/J" in Benchmark("e", (measurement,)).table) == is_shown


def test_an_error_in_a_stream_is_raised(monkeypatch, engine):
    calls: list[object] = []

    def break_later(inputs):
        calls.append(inputs)
        if len(calls) > 2 * 3:  # after the warm-up of both streams
            raise ValueError("broken")

    two = engine.configured(streams=2)
    monkeypatch.setattr(two, "runner", lambda: break_later)
    with pytest.raises(ValueError, match="broken"):
        measure(two, SHORT)


def test_numbers_that_are_not_positive_are_refused(engine):
    with pytest.raises(Invalid, match="seconds is 0; it must be more than 0"):
        benchmark(engine, seconds=0)
    with pytest.raises(Invalid, match="repeats is 0; it must be at least 1"):
        benchmark(engine, repeats=0)
    with pytest.raises(Invalid, match="batch_size is 0"):
        benchmark(engine, batch_sizes=(0,))
    with pytest.raises(Invalid, match="streams is -1"):
        benchmark(engine, streams=(-1,))
