"""Write what a cluster needs to run `dltlab launch` on its nodes: `job_script`."""

import re
import secrets
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dltlab import paths
from dltlab.distribute.cluster import DEFAULT_PORT
from dltlab.distribute.launching_plan import THREAD_VARIABLES, share, usable_cores, usable_gpus
from dltlab.errors import Invalid

_MAX_NAME = 50  # characters; a host name has at most 63, of which some are for the node's number


@dataclass(frozen=True)
class _Job:
    """A program that a launcher on each node runs; `cores` and `gpus` are those of a worker."""

    command: list[str]
    num_workers: int
    nodes: int
    max_restarts: int
    start_timeout: float
    log_dir: Path | None
    cores: int
    gpus: int
    image: str | None

    @property
    def name(self) -> str:
        """A name that Slurm, Kubernetes and DNS accept."""
        if self.command[0] == "-m":
            program = self.command[1].rpartition(".")[2]
        else:
            program = Path(self.command[0]).stem
        words = re.findall("[a-z0-9]+", program.lower())
        return "-".join(["dltlab", *words])[:_MAX_NAME].strip("-")

    @property
    def launch(self) -> list[str]:
        """The command of a launcher, up to where the nodes meet and its logs."""
        options = {
            "-n": self.num_workers,
            "--max-restarts": self.max_restarts,
            "--start-timeout": f"{self.start_timeout:g}",
        }
        return ["dltlab", "launch", *(str(word) for option in options.items() for word in option)]


def job_script(
    system: str,
    command: Sequence[str],
    *,
    num_workers: int = 1,
    nodes: int = 1,
    max_restarts: int = 0,
    start_timeout: float = 300.0,
    log_dir: Path | None = None,
    cores: int | None = None,
    gpus: int | None = None,
    image: str | None = None,
) -> str:
    """Return the job script or the manifest with which a cluster runs a program on its nodes.

    Args:
        system: "slurm": a script for sbatch; "kubernetes": an indexed Job, with a headless Service
            by which its pods find each other, and a Secret, as YAML for kubectl.
        command: A script or a notebook, or `-m` and a module, and arguments.
        num_workers: The number of workers on each node.
        nodes: The number of nodes.
        max_restarts: How often to restart all workers after one has failed. Where a node is lost,
            Slurm queues the job again, and Kubernetes replaces the pods as often as this number.
        start_timeout: Seconds for which the launchers wait for each other.
        log_dir: The folder of the workers' log files; by default, under Slurm, a folder in
            `runs/launch` with the number of the job.
        cores: The cores of each worker; by default its share of this machine.
        gpus: The GPUs of each worker; by default its share of this machine.
        image: The container image of Kubernetes, which contains the program and dltlab.

    Raises:
        Invalid: There is no such system, or the command or the image is missing.
    """
    if system not in _WRITERS:
        raise Invalid(f"--dry-run is {system!r}; it must be one of {', '.join(_WRITERS)}.")
    if not command or list(command) == ["-m"]:
        raise Invalid("Name a script, a notebook, or -m and a module, as in: -- train.py")
    job = _Job(
        list(command),
        num_workers,
        nodes,
        max_restarts,
        start_timeout,
        log_dir,
        len(share(usable_cores(), 0, num_workers)) if cores is None else cores,
        len(share(usable_gpus(), 0, num_workers)) if gpus is None else gpus,
        image,
    )
    return _WRITERS[system](job)


def _slurm(job: _Job) -> str:
    directives = [
        f"job-name={job.name}",
        f"nodes={job.nodes}",
        "ntasks-per-node=1",  # a launcher, which starts the workers of its node
        f"cpus-per-task={job.num_workers * job.cores}",
        *([f"gpus-per-node={job.num_workers * job.gpus}"] if job.gpus else []),
        "output=slurm-%j.out",
        "open-mode=append",  # also after the job was started anew
        "requeue",
    ]
    # srun does not take over --cpus-per-task of sbatch since Slurm 22.05.
    srun = 'srun --export=ALL --cpus-per-task="$SLURM_CPUS_PER_TASK"'
    log_dir = (
        shlex.quote(str(job.log_dir))
        if job.log_dir
        else '"runs/launch/$SLURM_JOB_NAME-$SLURM_JOB_ID"'
    )
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH --{directive}" for directive in directives),
            "",
            "# The secret that the launchers of the nodes share.",
            f"{paths.JOB_TOKEN}=$(head -c 16 /dev/urandom | od -An -v -tx1 | tr -d ' \\n')",
            f"export {paths.JOB_TOKEN}",
            "",
            f"{srun} \\",
            f"  {shlex.join(job.launch)} --log-dir {log_dir} \\",
            f"  -- {shlex.join(job.command)}",
            "",
        ]
    )


def _kubernetes(job: _Job) -> str:
    if not job.image:
        raise Invalid("Name the container image that contains your program and dltlab: --image.")
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": job.name},
        "stringData": {"token": secrets.token_hex(16)},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": job.name},
        "spec": {
            "clusterIP": "None",
            "selector": {"job-name": job.name},
            "publishNotReadyAddresses": True,
        },
    }
    indexed_job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job.name},
        "spec": {
            "completionMode": "Indexed",
            "completions": job.nodes,
            "parallelism": job.nodes,
            "backoffLimit": job.nodes * job.max_restarts,
            "template": {
                "spec": {
                    "subdomain": job.name,
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": False,
                    "containers": [_container(job)],
                },
            },
        },
    }
    return yaml.dump_all([secret, service, indexed_job], Dumper=_Dumper, sort_keys=False)


def _container(job: _Job) -> dict[str, Any]:
    place = ["--nodes", str(job.nodes), "--node-rank", "$(JOB_COMPLETION_INDEX)"]
    place += ["--rendezvous", f"{job.name}-0.{job.name}:{DEFAULT_PORT}"]
    logs = ["--log-dir", str(job.log_dir)] if job.log_dir else []
    token = {"secretKeyRef": {"name": job.name, "key": "token"}}
    resources: dict[str, Any] = {"requests": {"cpu": str(job.num_workers * job.cores)}}
    if job.gpus:
        resources["limits"] = {"nvidia.com/gpu": str(job.num_workers * job.gpus)}
    return {
        "name": "launcher",
        "image": job.image,
        "command": [*job.launch, *place, *map(_literal, logs), "--"],
        "args": list(map(_literal, job.command)),
        "env": [
            {"name": paths.JOB_TOKEN, "valueFrom": token},
            # A container sees all cores of its node, also those that it may not use.
            *({"name": name, "value": str(job.cores)} for name in THREAD_VARIABLES),
        ],
        "resources": resources,
    }


def _literal(text: str) -> str:
    """Return what Kubernetes, which replaces `$(NAME)`, turns into `text`."""
    return text.replace("$", "$$")


class _Dumper(yaml.SafeDumper):
    """Quotes texts such as 1e-3 and y, which Kubernetes would not take for texts."""


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    style = None if len(text) > 1 and text.isidentifier() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
_WRITERS: dict[str, Callable[[_Job], str]] = {"slurm": _slurm, "kubernetes": _kubernetes}
