import os

import pytest

from dltlab.distribute.launching_plan import (
    Member,
    assign,
    environment,
    join_address,
    share,
    usable_cores,
    usable_gpus,
)


def member(node_rank: int, num_workers: int, host: str = "a", **more: object) -> Member:
    values: dict[str, object] = {
        "node_rank": node_rank,
        "nodes": 2,
        "host": host,
        "address": host,
        "ports": list(range(num_workers + 1)),
        "cores": [0, 1, 2, 3],
        "gpus": [],
        "versions": {},
        "script": ("train.py", ""),
    }
    return Member(**values | more)  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("things", "count", "parts"),
    [
        ([1, 2, 3, 4], 2, [[1, 2], [3, 4]]),
        ([1, 2, 3], 2, [[1], [2]]),
        ([1, 2], 3, [[1], [2], [1]]),
        ([], 2, [[], []]),
    ],
)
def test_things_are_divided_or_shared_where_there_are_too_few(things, count, parts):
    assert [share(things, index, count) for index in range(count)] == parts


def test_ranks_follow_the_nodes_and_local_ranks_the_hosts():
    workers = assign([member(0, 2), member(1, 1), member(2, 1, "b")])

    assert [worker["node_rank"] for worker in workers] == [0, 0, 1, 2]
    assert [worker["local_rank"] for worker in workers] == [0, 1, 2, 0]
    assert [worker["local_world_size"] for worker in workers] == [3, 3, 3, 1]
    assert [worker["address"] for worker in workers] == ["a:0", "a:1", "a:0", "b:0"]


def test_launchers_on_a_host_divide_the_same_cores_and_keep_their_own():
    shared = assign([member(0, 1), member(1, 1)])
    own = assign([member(0, 1, cores=[0, 1]), member(1, 1, cores=[2, 3])])

    assert [worker["cores"] for worker in shared] == [[0, 1], [2, 3]] == [w["cores"] for w in own]


def test_gpus_are_divided():
    workers = assign([member(0, 2, gpus=["GPU-a", "GPU-b", "GPU-c", "GPU-d"])])

    assert environment(workers, 1, {})["CUDA_VISIBLE_DEVICES"] == "GPU-c,GPU-d"
    assert "CUDA_VISIBLE_DEVICES" not in environment(assign([member(0, 1)]), 0, {})


def test_the_users_numbers_of_threads_are_kept():
    variables = environment(assign([member(0, 2)]), 0, {"OMP_NUM_THREADS": "9", "HOME": "/h"})

    assert (variables["OMP_NUM_THREADS"], variables["TF_NUM_INTRAOP_THREADS"]) == ("9", "2")
    assert variables["HOME"] == "/h"


def test_the_usable_cores_are_those_of_this_process():
    assert sorted(usable_cores()) == sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("value", "gpus"), [("0, 2", ["0", "2"]), ("", []), ("-1", []), ("NoDevFiles", [])]
)
def test_the_usable_gpus_are_the_visible_ones(monkeypatch, value, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    assert usable_gpus() == gpus


def test_without_a_variable_all_gpus_are_usable(monkeypatch):
    class Gpu:
        def __init__(self, uuid: str) -> None:
            self.uuid = uuid

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("dltlab.devices.list_gpus", lambda: (Gpu("GPU-a"), Gpu("GPU-b")))
    assert usable_gpus() == ["GPU-a", "GPU-b"]


def test_an_ipv6_address_has_brackets():
    assert join_address("host", 1) == "host:1"
    assert join_address("::1", 1) == "[::1]:1"
