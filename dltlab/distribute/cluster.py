"""What a process knows of the job that it is part of: `Worker`, read from the environment."""

import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dltlab import paths
from dltlab.errors import Invalid

DEFAULT_PORT = 29400  # of the rendezvous, as torchrun's


@dataclass(frozen=True)
class Worker:
    """One of the processes that train together, as the launcher or the cluster numbers them.

    Attributes:
        rank: Its number in the job, from 0.
        world_size: The number of workers in the job.
        local_rank: Its number on this host, from 0.
        local_world_size: The number of workers on this host.
        rendezvous: `host:port` at which rank 0 waits for the others; "" where it is not known.
        attempt: How often all workers have been restarted after a failure.
        token: The secret that all workers of the job share; "" where there is none.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    rendezvous: str = ""
    attempt: int = 0
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise Invalid(
                f"The environment says that this is worker {self.rank} of {self.world_size}; "
                "ranks count from 0 to the number of workers less 1."
            )


def worker() -> Worker:
    """Return this process's place in its job.

    `dltlab launch` sets it. Without it, the place is read from the variables of TensorFlow
    (`TF_CONFIG`), Kubeflow Trainer, Open MPI or Slurm, and is one worker of one where none is set.

    Raises:
        Invalid: The variables contradict each other, or a value is not a number.
    """
    variables = os.environ
    if not variables.get(paths.RANK):
        return cluster_place() or Worker(token=variables.get(paths.JOB_TOKEN, ""))
    return Worker(
        rank=_number(variables, paths.RANK),
        world_size=_number(variables, paths.WORLD_SIZE),
        local_rank=_number(variables, paths.LOCAL_RANK),
        local_world_size=_number(variables, paths.LOCAL_WORLD_SIZE),
        rendezvous=variables.get(paths.RENDEZVOUS, ""),
        attempt=_number(variables, paths.ATTEMPT),
        token=variables.get(paths.JOB_TOKEN, ""),
    )


def cluster_place() -> Worker | None:
    """Return the place that a cluster gave to this process, or None where none did.

    Raises:
        Invalid: As `worker` does.
    """
    for read in (_tf_config, _kubeflow, _open_mpi, _slurm):
        place = read(os.environ)
        if place is not None:
            return replace(place, token=os.environ.get(paths.JOB_TOKEN, ""))
    return None


def _number(variables: Mapping[str, str], name: str) -> int:
    try:
        return int(variables.get(name, ""))
    except ValueError:
        raise Invalid(
            f"The variable {name} must be a whole number, not {variables.get(name)!r}."
        ) from None


def _tf_config(variables: Mapping[str, str]) -> Worker | None:
    text = variables.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        chiefs = [*cluster.get("chief", ()), *cluster.get("master", ())]
        addresses = [*chiefs, *cluster.get("worker", ())]
        index = int(task["index"]) + (len(chiefs) if task["type"] == "worker" else 0)
        host = str(addresses[0]).rpartition(":")[0]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise Invalid(
            'TF_CONFIG must be JSON such as {"cluster": {"worker": ["host0:2222", "host1:2222"]}, '
            '"task": {"type": "worker", "index": 0}}.'
        ) from None
    if task["type"] not in ("chief", "master", "worker"):
        raise Invalid(
            f"TF_CONFIG makes this process a task of type {task['type']!r}; only workers and a "
            "chief can train together here."
        )
    return Worker(index, len(addresses), rendezvous=f"{host}:{DEFAULT_PORT}")


def _kubeflow(variables: Mapping[str, str]) -> Worker | None:
    if not variables.get("PET_NNODES") or not variables.get("PET_NODE_RANK"):
        return None
    host = variables.get("PET_MASTER_ADDR", "")
    port = variables.get("PET_MASTER_PORT") or str(DEFAULT_PORT)
    return Worker(
        _number(variables, "PET_NODE_RANK"),
        _number(variables, "PET_NNODES"),
        rendezvous=f"{host}:{port}" if host else "",
    )


def _open_mpi(variables: Mapping[str, str]) -> Worker | None:
    if not variables.get("OMPI_COMM_WORLD_RANK"):
        return None
    size = _number(variables, "OMPI_COMM_WORLD_SIZE")
    local_size = _number(variables, "OMPI_COMM_WORLD_LOCAL_SIZE")
    job = variables.get("PMIX_NAMESPACE") or variables.get("OMPI_MCA_ess_base_jobid", "")
    return Worker(
        _number(variables, "OMPI_COMM_WORLD_RANK"),
        size,
        _number(variables, "OMPI_COMM_WORLD_LOCAL_RANK"),
        local_size,
        rendezvous=f"127.0.0.1:{_port(zlib.crc32(job.encode()))}" if local_size == size else "",
    )


def _slurm(variables: Mapping[str, str]) -> Worker | None:
    # The script of sbatch has SLURM_PROCID, too, but only what srun starts is one of several tasks.
    if not variables.get("SLURM_STEP_NUM_TASKS") or not variables.get("SLURM_PROCID"):
        return None
    host = _first_host(variables.get("SLURM_STEP_NODELIST", ""))
    step = _number(variables, "SLURM_JOB_ID") + _number(variables, "SLURM_STEP_ID")
    rank, local_rank = _number(variables, "SLURM_PROCID"), _number(variables, "SLURM_LOCALID")
    return Worker(
        rank,
        _number(variables, "SLURM_STEP_NUM_TASKS"),
        local_rank,
        _tasks_of_node(variables),
        rendezvous=f"{host}:{_port(step)}" if host else "",
    )


def _tasks_of_node(variables: Mapping[str, str]) -> int:
    """Return the number of tasks on this node: `2(x3),1` means 2 on each of 3 nodes, then 1."""
    counts: list[int] = []
    text = variables.get("SLURM_STEP_TASKS_PER_NODE", "1")
    for count, repeat in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(repeat or 1)
    node = int(variables.get("SLURM_NODEID") or 0)
    return counts[node] if node < len(counts) else 1


def _first_host(nodes: str) -> str:
    """Return the first host of a list such as `gpu[03-05,9],login`: `gpu03`."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[([^\-,\]]*)[^\]]*\]", r"\1", first.group() if first else "")


def _port(job: int) -> int:
    """Return a port that differs between the jobs on a host, below Linux' range of free ports."""
    return 20000 + job % 10000
