"""What is right and wrong with this machine, each with its mend: `diagnose`."""

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from dltlab.devices import cgroups, libraries, nvml, processor
from dltlab.errors import LabError, Unavailable
from dltlab.paths import COLD_KERNELS, DATA_MIRROR, cold_kernels, data_dir, mirror_dir

_GIB = 1 << 30
_LOCK = Path(__file__).parents[1] / "requirements.lock"  # in a clone; a wheel has none
_LAB_GIB = 2.0  # what the hungriest lab of the first parts needs
_JUPYTER_PORT, _TENSORBOARD_PORT = 8888, 6006
_PROBE_SECONDS = 300
_SHOWN = 3  # packages named in one line


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Line:
    """One finding; `mend` says what to do where something is wrong."""

    about: str
    level: Level
    says: str
    mend: str = ""

    def as_dict(self) -> dict[str, str]:
        """The line, for programs."""
        return asdict(self)


def diagnose(deep: bool = False) -> list[Line]:
    """Look at everything a lab needs: each finding is ok, a warning or a problem.

    Args:
        deep: Also start TensorFlow in a process of its own and let each device compute.
    """
    checks: list[tuple[str, Callable[[], Iterator[Line]]]] = [
        ("Python", _python),
        ("packages", _packages),
        ("TensorFlow", _tensorflow),
        ("CPU", _cpu),
        ("GPU", _gpus),
        ("memory", _memory),
        ("disk", _disk),
        ("data sets", _datasets),
        ("ports", _ports),
        ("warm kernels", _warm_kernels),
        ("browser", _browser),
    ]
    lines = [line for about, check in checks for line in _safely(about, check)]
    return lines + list(_deep_lines(_probe())) if deep else lines


def _safely(about: str, check: Callable[[], Iterator[Line]]) -> list[Line]:
    """The lines of a check; a package that it lacks is a line, too."""
    try:
        return list(check())
    except ImportError as error:
        return [_problem(about, f"{error.name} is not installed", _install())]


def _ok(about: str, says: str) -> Line:
    return Line(about, Level.OK, says)


def _warning(about: str, says: str, mend: str) -> Line:
    return Line(about, Level.WARNING, says, mend)


def _problem(about: str, says: str, mend: str) -> Line:
    return Line(about, Level.PROBLEM, says, mend)


def _python() -> Iterator[Line]:
    from packaging.specifiers import SpecifierSet

    wanted = importlib.metadata.metadata("dltlab")["Requires-Python"]
    says = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if platform.python_version() in SpecifierSet(wanted, prereleases=True):
        yield _ok("Python", says)
    else:
        mend = "Set the course up with another: make lab PYTHON=python3.12"
        yield _problem("Python", f"{says}, and dltlab needs {wanted}", mend)


def _packages() -> Iterator[Line]:
    wanted, whence = _wanted_packages()
    have = {
        _canonical(each.metadata["Name"]): each.version
        for each in importlib.metadata.distributions()
        if each.metadata["Name"]
    }
    missing = sorted(name for name in wanted if not _versions_of(name, have))
    other = [
        f"{name} {version} instead of {str(wanted[name]).removeprefix('==')}"
        for name in sorted(wanted)
        for version in _versions_of(name, have)
        if not wanted[name].contains(version, prereleases=True)
    ]
    if missing:
        yield _problem("packages", f"{_some(missing)} not installed", _install())
    if other:
        yield _warning("packages", _some(other), _install())
    if not missing and not other:
        yield _ok("packages", f"all {len(wanted)} are as {whence} wants them")


def _wanted_packages() -> tuple[dict[str, Any], str]:
    """Versions by name, and whence they are: the lock of a clone, else the package's own needs."""
    from packaging.requirements import Requirement

    if _LOCK.is_file():
        texts, whence = _LOCK.read_text().splitlines(), _LOCK.name
    else:
        texts, whence = importlib.metadata.requires("dltlab") or [], "dltlab"
    needs = [Requirement(text) for text in texts]
    held = [need for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return {_canonical(need.name): need.specifier for need in held}, whence


def _versions_of(name: str, have: dict[str, str]) -> list[str]:
    names = [name, "tensorflow-cpu"] if name == "tensorflow" else [name]
    return [have[each] for each in names if each in have][:1]


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _install() -> str:
    """The command that brings every package."""
    return f"pip install -r {_LOCK.name}" if _LOCK.is_file() else "pip install --upgrade dltlab"


def _some(words: list[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _tensorflow() -> Iterator[Line]:
    build = libraries.tensorflow_build()
    if build is None:
        yield _problem("TensorFlow", "not installed", _install())
    else:
        cuda = f"built for CUDA {build.cuda}" if build.cuda else "built for the CPU only"
        yield _ok("TensorFlow", f"{build.package} {build.version}, {cuda}")


def _cpu() -> Iterator[Line]:
    cpu = processor.cpu_info()
    cores = f"{cpu.cores:g} core{'' if cpu.cores == 1 else 's'}"
    says = ", ".join([cpu.model, cores, *cpu.extensions])
    if cpu.cores < 1:
        mend = "The labs run slowly: start the container with more, as in --cpus 2"
        yield _warning("CPU", f"{says}: the container's quota is less than a core", mend)
    else:
        yield _ok("CPU", says)


def _gpus() -> Iterator[Line]:
    nvidia = nvml.query()
    for gpu in nvidia.gpus:
        words = f"{gpu.index}: {gpu.name}, {gpu.free_bytes / _GIB:.1f} of "
        words += f"{gpu.memory_bytes / _GIB:.1f} GiB free"
        words += f", slices by MIG: {len(gpu.mig_devices)}" if gpu.mig else ""
        if gpu.free_bytes < _GIB:
            mend = "See who holds it: dltlab.devices.gpu_processes()"
            yield _warning("GPU", f"{words}: too little for a lab", mend)
        else:
            yield _ok("GPU", words)
    for link in nvidia.links:
        yield _ok("GPU", f"{link.first}–{link.second}: {link.kind}, {link.path}")
    if not nvidia.gpus:
        yield from _nonsense_in_the_environment(nvidia)
    for reason in libraries.reasons(nvidia):
        level = Level.WARNING if reason.chosen else Level.PROBLEM
        yield Line("GPU", level, f"{reason.says}, so TensorFlow does not use it", reason.mend)
    if nvidia.problem:
        yield _without_nvml(nvidia)


def _nonsense_in_the_environment(nvidia: nvml.Nvidia) -> Iterator[Line]:
    """A warning where there is no GPU to hide, but the variable that hides GPUs is nonsense."""
    try:
        libraries.visible(nvidia)
    except LabError as error:
        yield _warning("GPU", str(error).partition(":")[0], "unset CUDA_VISIBLE_DEVICES")


def _without_nvml(nvidia: nvml.Nvidia) -> Line:
    assert nvidia.problem is not None
    assert nvidia.mend is not None
    if not nvml.has_no_driver(nvidia):
        return _problem("GPU", nvidia.problem, nvidia.mend)
    if _nvidia_on_the_bus():
        says = "an NVIDIA GPU is plugged in, but its driver is not installed"
        mend = "Install the driver (Ubuntu: sudo ubuntu-drivers install) and restart the machine"
        return _problem("GPU", says, mend)
    return _ok("GPU", "none; every lab runs on the CPU")


def _nvidia_on_the_bus() -> bool:
    """Whether a display or 3D controller of NVIDIA's is on the PCI bus (Linux)."""
    for folder in (cgroups.ROOT / "sys/bus/pci/devices").glob("*"):
        try:
            vendor = (folder / "vendor").read_text().strip()
            kind = (folder / "class").read_text().strip()
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _memory() -> Iterator[Line]:
    memory = processor.memory_info()
    of = f"{memory.total / _GIB:.1f} GiB" + (" (the container's limit)" if memory.limited else "")
    says = f"{memory.available / _GIB:.1f} of {of} available"
    if memory.available < _LAB_GIB * _GIB:
        mend = "Shut down kernels you do not need, or start the container with more"
        yield _warning("memory", f"{says}; labs take up to {_LAB_GIB:g} GiB", mend)
    else:
        yield _ok("memory", says)


def _disk() -> Iterator[Line]:
    free = shutil.disk_usage(Path.cwd()).free
    says = f"{free / _GIB:.1f} GiB free in this folder"
    yield _ok("disk", says) if free > _GIB else _warning("disk", says, "Free some space")


def _datasets() -> Iterator[Line]:
    store = data_dir()
    there = next(folder for folder in (store, *store.parents) if folder.exists())
    held = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    free = shutil.disk_usage(there).free
    says = f"{held / 2**20:.0f} MiB kept in {store}, {free / _GIB:.1f} GiB free there"
    mend = "Name another folder in DLTLAB_DATA_DIR"
    if not there.is_dir() or not os.access(there, os.W_OK):
        yield _problem("data sets", f"{there} cannot be written", mend)
    elif free < _GIB:
        yield _warning("data sets", says, mend)
    else:
        yield _ok("data sets", says)
    mirror = mirror_dir()
    if mirror and not mirror.is_dir():
        says = f"{DATA_MIRROR} names {mirror}, which is no folder"
        yield _problem("data sets", says, "Mend it or unset it")


def _ports() -> Iterator[Line]:
    if not _can_bind(0):
        mend = "Look at the firewall, and at the limits of the sandbox or container"
        yield _problem("ports", "nothing may listen on this machine, so JupyterLab cannot", mend)
        return
    for port, who in ((_JUPYTER_PORT, "JupyterLab"), (_TENSORBOARD_PORT, "TensorBoard")):
        says = "is free" if _can_bind(port) else f"is taken; {who} takes the next free one"
        yield _ok("ports", f"{port} {says}")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _warm_kernels() -> Iterator[Line]:
    from dltlab.kernels import PROVISIONER

    about = "warm kernels"
    found = importlib.metadata.entry_points(group="jupyter_client.kernel_provisioners")
    if sys.platform != "linux":
        yield _ok(about, "none on this system; each kernel imports TensorFlow for itself")
    elif PROVISIONER not in {each.name for each in found}:
        yield _warning(about, "Jupyter does not know of them", "pip install --no-deps --editable .")
    elif cold_kernels():
        yield _ok(about, f"turned off by {COLD_KERNELS}")
    else:
        yield _zygotes()


def _zygotes() -> Line:
    from dltlab.kernels import list_zygotes

    try:
        states = list_zygotes()
    except (OSError, Unavailable) as error:
        mend = "Labs work all the same, each kernel starting cold"
        return _warning("warm kernels", f"not to be had: {error}", mend)
    ready = sum(each.ready for each in states)
    return _ok("warm kernels", f"available; processes with TensorFlow loaded now: {ready}")


def _browser() -> Iterator[Line]:
    mend = "Copy the address that dltlab lab prints into a browser"
    if "SSH_CONNECTION" in os.environ:
        forward = f"ssh -L {_JUPYTER_PORT}:localhost:{_JUPYTER_PORT} …"
        yield _warning("browser", "this is a remote login", f"Log in with {forward}. {mend}")
        return
    try:
        yield _ok("browser", f"{getattr(webbrowser.get(), 'name', 'the system’s own')}")
    except webbrowser.Error:
        yield _warning("browser", "none found here", mend)


def _probe() -> dict[str, Any]:
    """What TensorFlow does in a process of its own; `error` where it does not come back."""
    command = [sys.executable, "-m", "dltlab.devices.probe"]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it did not answer within {_PROBE_SECONDS} seconds"}
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return {"error": f"it ended with code {done.returncode}: {last}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _deep_lines(answer: dict[str, Any]) -> Iterator[Line]:
    about = "TensorFlow"
    if "error" in answer:
        yield _problem(about, f"does not run: {answer['error']}", _install())
        return
    yield _ok(about, f"imported in {answer['import_seconds']:.1f} s")
    for name, error in answer["devices"].items():
        if error is None:
            yield _ok(about, f"{name} computes")
        else:
            yield _problem(about, f"{name} does not compute: {error}", "Restart the machine")
    seen = sum("GPU" in name for name in answer["devices"])
    nvidia = nvml.query()
    if seen < len(nvidia.gpus) and not libraries.reasons(nvidia):
        mend = "Run python -m dltlab.devices.probe and read what it says"
        yield _problem(about, f"sees {seen} of {len(nvidia.gpus)} GPUs", mend)
