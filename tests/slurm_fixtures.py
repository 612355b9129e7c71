"""A Slurm of one node on this machine, for tests that submit jobs."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dltlab.workshop.connection import free_ports
from tests.deadlines import HANG_SECONDS, spawn, wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch", "scancel")


def is_idle() -> bool:
    """Return whether the node of Slurm waits for a job."""
    done = subprocess.run(["sinfo", "-h", "-o", "%t"], capture_output=True, text=True)
    return "idle" in done.stdout


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Slurm of one node on this machine, with daemons of its own; its folder is returned."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("Slurm's daemons need root")
    folder = tmp_path
    host, cpus = socket.gethostname().partition(".")[0], os.cpu_count()
    ports = free_ports(2)
    for name in ("munge", "state", "spool", "log"):
        (folder / name).mkdir(mode=0o700)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o600)
    (folder / "slurm.conf").write_text(
        f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
    )
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    munge = folder / "munge"
    commands = [
        ["munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={munge}/key"]
        + [f"--{name}-file={munge}/{name}" for name in ("pid", "log", "seed")],
        ["slurmctld", "-D"],
        ["slurmd", "-D"],
    ]
    daemons = []
    for command in commands:
        with (folder / "log" / command[0]).open("w") as log:
            daemons.append(spawn(command, stdout=log, stderr=log))
        if command[0] == "munged":
            wait_until((munge / "socket").exists)
    try:
        wait_until(lambda: is_idle() or any(daemon.poll() is not None for daemon in daemons))
        for command, daemon in zip(commands, daemons, strict=True):
            if daemon.poll() is not None:
                text = (folder / "log" / command[0]).read_text().strip()
                pytest.skip(f"{command[0]} does not run here: {text.splitlines()[-1]}")
        yield folder
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(HANG_SECONDS)
