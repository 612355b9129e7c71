"""`benchmark_collectives`, with real workers."""

import importlib.util
import sys

import pytest

from dltlab.distribute.benchmarking import CollectivesBenchmark, benchmark_collectives
from dltlab.errors import Invalid, Unavailable


@pytest.fixture(scope="module")
def result() -> CollectivesBenchmark:
    """Measured between two workers."""
    return benchmark_collectives(2, ["ring"], min_bytes=1000, max_bytes=40_000, step_factor=10)


def test_the_sums_of_all_sizes_are_right_and_timed(result: CollectivesBenchmark) -> None:
    assert [time.num_bytes for time in result.times] == [1000, 10_000]
    for time in result.times:
        assert (time.num_wrong, time.count) == (0, time.num_bytes // 4)
        assert time.seconds > 0
        assert time.copy_seconds > 0
        assert time.bandwidth.busbw == time.bandwidth.algbw  # of an all-reduce of two


def test_the_report_has_the_columns_and_the_footer_of_nccl_tests(
    result: CollectivesBenchmark,
) -> None:
    title, names, units, first, *_ = result.report().splitlines()

    assert title == "# all_reduce, 2 workers, ring"
    columns = ["#", "size", "count", "type", "redop", "time", "algbw", "busbw", "#wrong"]
    assert names.split() == columns
    assert units.split() == ["#", "(B)", "(elements)", "(us)", "(GB/s)", "(GB/s)"]
    assert first.split()[:4] == ["1000", "250", "float", "sum"]
    assert "# Out of bounds values : 0 OK\n# Avg bus bandwidth    : " in result.report()


def test_table_figure_and_summary_show_the_times(result: CollectivesBenchmark) -> None:
    assert list(result.table["size (B)"]) == [1000, 10_000]
    assert result.table["time (us)"][0] == pytest.approx(1e6 * result.times[0].seconds)
    figure = result.figure()
    assert [axes.get_title() for axes in figure.axes] == ["Time", "Bus bandwidth"]
    assert "ring is fastest with 10,000 bytes" in result.summary
    assert result.summary.endswith("All sums are right.")


def test_mpi_is_refused_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(Unavailable, match="mpi4py is not installed"):
        benchmark_collectives(2, ["mpi"])

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Unavailable, match="there is no mpirun"):
        benchmark_collectives(2, ["mpi"])


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 1},
        {"min_bytes": 0},
        {"min_bytes": 100, "max_bytes": 10},
        {"step_factor": 1},
        {"transports": ["nccl"]},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        benchmark_collectives(**options)  # type: ignore[arg-type]
