import pytest

from dltlab.distribute import bandwidth
from dltlab.distribute.benchmarking import CollectivesBenchmark, CollectiveTime


@pytest.mark.parametrize("num_wrong", [0, 3])
def test_the_exit_code_tells_of_wrong_values(dltlab, monkeypatch, num_wrong):
    time = CollectiveTime(
        "ring", 4000, 1000, 1e-4, num_wrong, 1e-6, bandwidth("all_reduce", 4000, 1e-4, 4)
    )
    asked = []

    def benchmark_collectives(*arguments):
        asked.append(arguments)
        return CollectivesBenchmark(4, (time,), {"mpi": "mpi4py is not installed"})

    monkeypatch.setattr("dltlab.distribute.benchmark_collectives", benchmark_collectives)
    result = dltlab("bench", "collectives", "-n", "4", "--transport", "ring", "-e", "4096")

    assert asked == [(4, ["ring"], 1024, 4096, 4)]
    assert result.code == (1 if num_wrong else 0)
    footer = "# Out of bounds values : " + ("3 FAILED" if num_wrong else "0 OK")
    assert footer in result.out.splitlines()
    assert "# mpi is left out: mpi4py is not installed" in result.out


@pytest.mark.parametrize(
    "arguments",
    [["-n", "1"], ["--transport", "nccl"], ["-b", "9", "-e", "8"], ["-f", "1"]],
    ids=str,
)
def test_wrong_usage_exits_with_2(dltlab, arguments):
    assert dltlab("bench", "collectives", *arguments).code == 2
