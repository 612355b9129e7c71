"""Whether this machine can host a workshop: `check_workshop`, and what can only be tried."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dltlab.batch import read_template, run_batch
from dltlab.course import Course
from dltlab.devices import cpu_info, memory_info
from dltlab.doctor import Finding, Level
from dltlab.errors import LabError, Unavailable
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.hub_config import learner_environment
from dltlab.workshop.members import has_accounts, require_separation
from dltlab.workshop.processes import require_free_port
from dltlab.workshop.rehearsal import Rehearsal, rehearsal_room, rehearse
from dltlab.workshop.roster import Member, read_roster
from dltlab.workshop.settings import Settings, read_settings
from dltlab.workshop.tls import certificate_files

_GB = 1e9
_ROOM_GB = 1.1  # proxy, Hub, board, zygotes: benchmarks/classroom.py measures it
_LEARNER_GB = 0.11  # a server and a kernel that has imported TensorFlow
_DISK_GB = 0.5  # of a learner's notebooks, runs and data
_LEARNERS_PER_CORE = 8
_NOBODY = 65534
_PROGRAMS = {"nft": "nftables", "useradd": "passwd or shadow-utils"}


def check_workshop(folder: WorkshopFolder, num_learners: int | None = None) -> list[Finding]:
    """Check what can be checked without running anything.

    Args:
        folder: The workshop.
        num_learners: How many learners; by default those of the roster.

    Raises:
        LabError: The settings or the roster are not valid.
    """
    settings = read_settings(folder).content
    people = read_roster(folder.roster_file, settings.sign_in.own_accounts)
    count = num_learners or len(people)
    return [
        Finding("roster", Level.OK, f"{len(people)} people; checked for {count} learners"),
        *_check_accounts(settings, count),
        *_check_interpreter(folder, settings),
        *_check_memory(settings, count),
        *_check_cores(count),
        *_check_disk(settings, count),
        *_check_address(folder, settings),
    ]


def check_labs(folder: WorkshopFolder, notify: Callable[[str], object]) -> list[Finding]:
    """Run each lab of a workshop in its shortest profile.

    Args:
        folder: The workshop.
        notify: Called with sentences for the instructor.
    """
    course = Course.find()
    settings = read_settings(folder).content
    runs = [read_template(name, course).run({}, "smoke") for name in settings.lab_names(course)]
    with tempfile.TemporaryDirectory(prefix="dltlab-") as out:
        result = run_batch(runs, Path(out), jobs=1, notify=notify)
    level = Level.PROBLEM if result.exit_code else Level.OK
    fix = "Run `dltlab doctor --deep`." if result.exit_code else ""
    counts = ", ".join(f"{count} {status}" for status, count in result.counts.items())
    return [Finding("labs", level, f"run in the profile smoke: {counts}", fix)]


def hold_rehearsal(folder: WorkshopFolder, num_learners: int | None = None) -> Rehearsal:
    """Run the workshop with simulated learners, who all start at once.

    Args:
        folder: The workshop.
        num_learners: How many learners; by default those of the roster.

    Raises:
        LabError: The workshop does not start.
    """
    settings = read_settings(folder).content
    count = num_learners or len(read_roster(folder.roster_file, settings.sign_in.own_accounts))
    with rehearsal_room(count, settings) as room:
        return asyncio.run(rehearse(room))


def _check_accounts(settings: Settings, count: int) -> Iterator[Finding]:
    learners = [Member(f"learner{number}", "") for number in range(count)]
    try:
        require_separation(settings, learners, shared_account=False)
    except Unavailable as error:
        yield Finding("accounts", Level.PROBLEM, "none of their own", str(error))
        return
    if not has_accounts(settings):
        message = f"servers are started by {settings.servers.spawner}"
        yield Finding("accounts", Level.OK, message)
        return
    yield Finding("accounts", Level.OK, "each learner gets one")
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    for program, package in _PROGRAMS.items():
        if shutil.which(program, path=path):
            continue
        if program == "nft":
            message = "not separated: a learner can open ports of another learner's kernel"
            fix = f"Install {package}."
            yield Finding("loopback", Level.WARNING, message, fix)
        else:
            message = f"{program} is not installed"
            yield Finding("accounts", Level.PROBLEM, message, f"Install {package}.")


def _check_interpreter(folder: WorkshopFolder, settings: Settings) -> Iterator[Finding]:
    if not has_accounts(settings):
        return
    environment = learner_environment(folder)
    options: dict[str, Any] = {"user": _NOBODY, "group": _NOBODY, "extra_groups": [], "cwd": "/"}
    command = [sys.executable, "-c", "import dltlab.workshop.folder, jupyterhub, tensorflow"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, **options)
        reason = "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
    except OSError as error:
        reason = str(error.strerror)
    if not reason:
        yield Finding("Python", Level.OK, f"learners can run {sys.executable}")
        return
    yield Finding(
        "Python",
        Level.PROBLEM,
        f"learners cannot run {sys.executable} ({reason})",
        "Install dltlab and its Python where everybody may read, such as /opt/dltlab.",
    )


def _check_memory(settings: Settings, count: int) -> Iterator[Finding]:
    labs = Course.find().read(settings.lab_names(Course.find()))
    largest = max(lab.front_matter.memory_gb for lab in labs)
    available = memory_info().available / _GB
    kernels = _ROOM_GB + count * _LEARNER_GB
    at_once = int((available - kernels) / largest)
    message = (
        f"{available:.0f} GB are free; {count} learners with a kernel each need {kernels:.1f} GB, "
        f"and then {max(at_once, 0)} of them can train the largest lab ({largest:g} GB) at once"
    )
    if at_once < 1:
        fix = "Take a machine with more memory, or fewer learners."
        yield Finding("memory", Level.PROBLEM, message, fix)
    elif at_once < count / 4:
        fix = "Let the class take the labs at different times, or take a larger machine."
        yield Finding("memory", Level.WARNING, message, fix)
    else:
        yield Finding("memory", Level.OK, message)


def _check_cores(count: int) -> Iterator[Finding]:
    cores = cpu_info().cores
    message = f"{cores:g} for {count} learners"
    if count <= cores * _LEARNERS_PER_CORE:
        yield Finding("cores", Level.OK, message)
        return
    share = count / cores
    fix = f"Take a larger machine: when all train at once, each waits about {share:.0f} times."
    yield Finding("cores", Level.WARNING, message, fix)


def _check_disk(settings: Settings, count: int) -> Iterator[Finding]:
    if settings.servers.spawner != "accounts":
        return
    free = shutil.disk_usage("/home" if has_accounts(settings) else "/").free / _GB
    need = count * _DISK_GB
    message = f"{free:.0f} GB are free for {count} homes; they should have {need:.0f} GB"
    if free < need:
        yield Finding("disk", Level.PROBLEM, message, "Free some space.")
    else:
        yield Finding("disk", Level.OK, message)


def _check_address(folder: WorkshopFolder, settings: Settings) -> Iterator[Finding]:
    try:
        require_free_port(settings)
        certificate_files(folder, settings.tls.model_copy(update={"self_signed": False}), "")
    except LabError as error:
        yield Finding("address", Level.PROBLEM, "it cannot be used", str(error))
        return
    proxy = settings.servers.proxy
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if not shutil.which(proxy, path=path):
        message = f"the proxy {proxy} is not installed"
        yield Finding("address", Level.PROBLEM, message, f"Install {proxy}.")
    is_local = settings.address.host in ("127.0.0.1", "localhost", "::1")
    if is_local and settings.address.url is None:
        message = f"{settings.url} is reached from this machine only"
        fix = 'Set host = "0.0.0.0" under [address], and [tls].'
        yield Finding("address", Level.WARNING, message, fix)
    elif not is_local and not settings.tls.enabled:
        message = f"{settings.url} is not encrypted: codes can be read in the network"
        yield Finding("address", Level.WARNING, message, "Set a certificate under [tls].")
    else:
        yield Finding("address", Level.OK, f"{settings.url}; the board: {settings.board_url}")
