"""What workers get of the hosts that they share: ranks, addresses, cores and GPUs."""

import json
import os
import socket
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from dltlab import paths

THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Member(TypedDict):
    """What a launcher tells of itself and its host at the start.

    Attributes:
        node_rank: The number of the launcher, from 0.
        nodes: The number of launchers that it expects.
        host: The name of its host.
        address: The address of its host for the others.
        ports: Reserved ports: one for each of its workers, and one for the rendezvous.
        cores: The numbers of the processor's threads that it may use, neighbors together.
        gpus: The numbers or UUIDs of the GPUs that it may use.
        versions: The versions of Python, TensorFlow and dltlab.
        script: The name of what it runs, and a digest of its content.
    """

    node_rank: int
    nodes: int
    host: str
    address: str
    ports: list[int]
    cores: list[int]
    gpus: list[str]
    versions: dict[str, str]
    script: tuple[str, str]


class Assignment(TypedDict):
    """What one worker gets; `address` is reserved for it, `cores` and `gpus` are its share."""

    node_rank: int
    local_rank: int
    local_world_size: int
    address: str
    cores: list[int]
    gpus: list[str]


def usable_cores() -> list[int]:
    """Return the processor's threads that this process may use; those of one core together."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))

    def place(thread: int) -> tuple[int, int, int]:
        folder = Path(f"/sys/devices/system/cpu/cpu{thread}/topology")
        with suppress(OSError, ValueError):
            package = int((folder / "physical_package_id").read_text())
            return package, int((folder / "core_id").read_text()), thread
        return 0, thread, thread

    return sorted(os.sched_getaffinity(0), key=place)


def usable_gpus() -> list[str]:
    """Return the GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is not None:
        names = [name.strip() for name in value.split(",")]
        return [name for name in names if name not in ("", "-1", "NoDevFiles")]
    from dltlab.devices import list_gpus

    return [gpu.uuid for gpu in list_gpus()]


def limit_to(num_cores: int, num_gpus: int) -> None:
    """Let this process use only the first of its cores and GPUs; call it before TensorFlow loads.

    Args:
        num_cores: At most so many cores, and as many threads.
        num_gpus: At most so many GPUs.
    """
    cores = usable_cores()[:num_cores]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(len(cores))))
    gpus = usable_gpus()[:num_gpus]
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)


def share(things: Sequence[Any], index: int, count: int) -> list[Any]:
    """Return the part of `things` for one of `count`; where there are too few, they are shared."""
    if len(things) < count:
        return [things[index % len(things)]] if things else []
    size = len(things) // count
    return list(things[index * size : (index + 1) * size])


def assign(members: Sequence[Member]) -> list[Assignment]:
    """Return what each worker gets, in the order of the ranks.

    Launchers on the same host with the same cores (or GPUs) divide them; a launcher to which a
    cluster gave cores of its own divides those between its own workers.
    """
    slots = [(member, number) for member in members for number in range(len(member["ports"]) - 1)]
    owners = [member for member, _ in slots]
    on_host = _positions([member["host"] for member in owners])
    at_cores = _positions([(member["host"], *member["cores"]) for member in owners])
    at_gpus = _positions([(member["host"], *member["gpus"]) for member in owners])
    assignments = []
    for rank, (member, number) in enumerate(slots):
        local_rank, local_world_size = on_host[rank]
        assignments.append(
            Assignment(
                node_rank=member["node_rank"],
                local_rank=local_rank,
                local_world_size=local_world_size,
                address=join_address(member["address"], member["ports"][number]),
                cores=share(member["cores"], *at_cores[rank]),
                gpus=share(member["gpus"], *at_gpus[rank]),
            )
        )
    return assignments


def _positions(groups: Sequence[Hashable]) -> list[tuple[int, int]]:
    """Return for each item its index in its group, and the size of the group."""
    sizes, seen = Counter(groups), Counter[Hashable]()
    positions = []
    for group in groups:
        positions.append((seen[group], sizes[group]))
        seen[group] += 1
    return positions


def join_address(host: str, port: int) -> str:
    """Return `host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def reserved_port() -> socket.socket:
    """Return a socket bound to a free port, where a worker can listen and nobody else.

    Linux gives the port to no other program as long as the socket is open, while programs that
    set SO_REUSEADDR and ask for this very port, as TensorFlow does, can listen there.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("", 0))
    return reserved


def environment(
    assignments: Sequence[Assignment], rank: int, variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of a worker: `variables`, its place in the job, and what it gets.

    The numbers of threads are those of its cores, unless `variables` has them already.
    """
    own = assignments[rank]
    addresses = [assignment["address"] for assignment in assignments]
    task = {"type": "worker", "index": rank}
    result = {
        **dict.fromkeys(THREAD_VARIABLES, str(len(own["cores"]))),
        "PYTHONUNBUFFERED": "1",
        **variables,
        "TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task}),
        paths.RANK: str(rank),
        paths.WORLD_SIZE: str(len(assignments)),
        paths.LOCAL_RANK: str(own["local_rank"]),
        paths.LOCAL_WORLD_SIZE: str(own["local_world_size"]),
        paths.COLD_KERNELS: "1",  # the fork of a warm kernel would not have these cores
    }
    if own["gpus"]:
        result["CUDA_VISIBLE_DEVICES"] = ",".join(own["gpus"])
    return result
