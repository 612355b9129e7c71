"""What works on this machine and what does not, each problem with its fix: `diagnose`."""

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

from dltlab.devices import (
    cpu_info,
    memory_info,
    nvidia_info,
    tensorflow_build,
    unused_gpu_reasons,
    visible_gpus,
)
from dltlab.errors import Invalid, NotFound, Unavailable
from dltlab.files import is_writable
from dltlab.paths import (
    COLD_KERNELS,
    COURSE,
    DATA_MIRROR,
    PROGRESS,
    cold_kernels,
    course_dir,
    data_dir,
    lock_file,
    mirror_dir,
    progress_file,
)

JUPYTER_PORT, TENSORBOARD_PORT = 8888, 6006
_GIB = 1 << 30
_LAB_GIB = 2.0  # what the largest lab of the first parts needs
_PROBE_SECONDS = 300
_MAX_LISTED = 3  # packages named in one message


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: What was checked, such as "GPU".
        level: How serious it is.
        message: What was found.
        fix: What to do; empty where nothing is wrong.
    """

    subject: str
    level: Level
    message: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain values, ready for JSON."""
        return asdict(self)


def diagnose(deep: bool = False) -> list[Finding]:
    """Check everything that a lab needs.

    Args:
        deep: Also start TensorFlow in a process of its own and let each device compute.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": _check_python,
        "packages": _check_packages,
        "TensorFlow": _check_tensorflow,
        "CPU": _check_cpu,
        "GPU": _check_gpus,
        "NVIDIA image": _check_nvidia_image,
        "memory": _check_memory,
        "disk": _check_disk,
        "home": _check_home,
        "course": _check_course,
        "progress": _check_progress,
        "data sets": _check_data_store,
        "ports": _check_ports,
        "warm kernels": _check_warm_kernels,
        "browser": _check_browser,
    }
    findings = [finding for subject in checks for finding in _run(subject, checks[subject])]
    return findings + list(_check_probe(_run_probe())) if deep else findings


def _run(subject: str, check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Return the findings of a check; a package that the check itself needs may be missing."""
    try:
        return list(check())
    except ImportError as error:
        return [_problem(subject, f"{error.name} is not installed", _install_command())]


def _ok(subject: str, message: str) -> Finding:
    return Finding(subject, Level.OK, message)


def _warning(subject: str, message: str, fix: str) -> Finding:
    return Finding(subject, Level.WARNING, message, fix)


def _problem(subject: str, message: str, fix: str) -> Finding:
    return Finding(subject, Level.PROBLEM, message, fix)


def _check_python() -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    required = importlib.metadata.metadata("dltlab")["Requires-Python"]
    message = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if platform.python_version() in SpecifierSet(required, prereleases=True):
        yield _ok("Python", message)
    else:
        fix = "Set up the course with another version: make lab PYTHON=python3.12"
        yield _problem("Python", f"{message}, and dltlab needs {required}", fix)


def _check_packages() -> Iterator[Finding]:
    required, source = _required_packages()
    installed = {
        _canonical(distribution.metadata["Name"]): distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.metadata["Name"]
    }
    missing = sorted(name for name in required if not _installed_version(name, installed))
    different = [
        f"{name} {version} instead of {str(required[name]).removeprefix('==')}"
        for name in sorted(required)
        if (version := _installed_version(name, installed))
        and not required[name].contains(version, prereleases=True)
    ]
    if missing:
        yield _problem("packages", f"{_listed(missing)} not installed", _install_command())
    if different:
        yield _warning("packages", _listed(different), _install_command())
    if not missing and not different:
        yield _ok("packages", f"all {len(required)} have the versions that {source} requires")


def _required_packages() -> tuple[dict[str, Any], str]:
    """Return versions by name, and their source: a clone's lock file, or the package's metadata."""
    from packaging.requirements import Requirement

    lock = lock_file()
    if lock:
        lines, source = lock.read_text().splitlines(), lock.name
    else:
        lines, source = importlib.metadata.requires("dltlab") or [], "dltlab"
    requirements = [
        requirement
        for requirement in map(Requirement, lines)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
    versions = {_canonical(item.name): item.specifier for item in requirements}
    return versions, source


def _installed_version(name: str, installed: dict[str, str]) -> str | None:
    if name == "tensorflow" and name not in installed:
        name = "tensorflow-cpu"  # the smaller build is enough for every lab
    return installed.get(name)


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _install_command() -> str:
    return "make --always-make .venv/.ready" if lock_file() else "pip install --upgrade dltlab"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more


def _check_tensorflow() -> Iterator[Finding]:
    build = tensorflow_build()
    if build is None:
        yield _problem("TensorFlow", "not installed", _install_command())
    else:
        cuda = f"built for CUDA {build.cuda}" if build.cuda else "built for the CPU only"
        yield _ok("TensorFlow", f"{build.package} {build.version}, {cuda}")


def _check_cpu() -> Iterator[Finding]:
    cpu = cpu_info()
    message = ", ".join([cpu.model, cpu.cores_text, *cpu.extensions])
    if cpu.cores < 1:
        fix = "The labs run slowly: start the container with more, as in --cpus 2"
        yield _warning("CPU", f"{message}: the container's quota is less than a core", fix)
    else:
        yield _ok("CPU", message)


def _check_gpus() -> Iterator[Finding]:
    nvidia = nvidia_info()
    for gpu in nvidia.gpus:
        memory = f"{gpu.free_bytes / _GIB:.1f} of {gpu.memory_bytes / _GIB:.1f} GiB free"
        message = f"{gpu.index}: {gpu.name}, {memory}"
        message += f", MIG slices: {len(gpu.mig_devices)}" if gpu.mig else ""
        if gpu.free_bytes < _GIB:
            fix = "See which process holds it: dltlab.devices.gpu_processes()"
            yield _warning("GPU", f"{message}: too little for a lab", fix)
        else:
            yield _ok("GPU", message)
    for link in nvidia.links:
        yield _ok("GPU", f"{link.first}–{link.second}: {link.kind}, {link.path}")
    if not nvidia.gpus:
        try:
            visible_gpus(nvidia)
        except Invalid as error:
            message = str(error).partition(":")[0]
            yield _warning("GPU", message, "unset CUDA_VISIBLE_DEVICES")
    for reason in unused_gpu_reasons(nvidia):
        level = Level.WARNING if reason.intended else Level.PROBLEM
        message = f"{reason.message}, so TensorFlow does not use it"
        yield Finding("GPU", level, message, reason.fix)
    if nvidia.nothing_to_fix:
        yield _ok("GPU", "none; every lab runs on the CPU")
    elif nvidia.problem:
        yield _problem("GPU", nvidia.problem, nvidia.fix or "")


def _check_nvidia_image() -> Iterator[Finding]:
    """Compare what an image of NVIDIA says that it contains with what TensorFlow was built for."""
    image = os.environ.get("CUDA_VERSION") if "NVIDIA_REQUIRE_CUDA" in os.environ else None
    build = tensorflow_build()
    if not image or build is None:
        return
    cudnn = os.environ.get("NV_CUDNN_VERSION") or os.environ.get("CUDNN_VERSION")
    contents = f"CUDA {image}, " + (f"cuDNN {cudnn}" if cudnn else "without cuDNN")
    base = "nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04"
    if build.cuda is None:
        fix = "Build the image with PINS=image-gpu.txt, or see GPU above"
        yield _problem("NVIDIA image", f"{contents}; TensorFlow was built without CUDA", fix)
    elif image.split(".")[0] != build.cuda.split(".")[0]:
        message = f"{contents}; TensorFlow was built for CUDA {build.cuda}"
        yield _problem("NVIDIA image", message, f"Start from {base}")
    elif not cudnn or cudnn.split(".")[0] != build.cudnn:
        message = f"{contents}; TensorFlow was built for cuDNN {build.cudnn}"
        yield _problem("NVIDIA image", message, f"Start from {base}")
    else:
        yield _ok("NVIDIA image", f"{contents}, as TensorFlow needs")


def _check_memory() -> Iterator[Finding]:
    memory = memory_info()
    limit = " (the container's limit)" if memory.limited else ""
    total = f"{memory.total / _GIB:.1f} GiB{limit}"
    message = f"{memory.available / _GIB:.1f} of {total} available"
    if memory.available < _LAB_GIB * _GIB:
        fix = "Shut down kernels that you do not need, or start the container with more"
        yield _warning("memory", f"{message}; labs take up to {_LAB_GIB:g} GiB", fix)
    else:
        yield _ok("memory", message)


def _check_disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    message = f"{free / _GIB:.1f} GiB free in this folder"
    if free > _GIB:
        yield _ok("disk", message)
    else:
        yield _warning("disk", message, "Free some space")


def _check_home() -> Iterator[Finding]:
    from dltlab.course import unwritable_jupyter_folder

    if folder := unwritable_jupyter_folder():
        message = f"JupyterLab must write to {folder}, and you may not"
        yield _problem("home", message, "Set HOME to a folder that you may write to")
    else:
        yield _ok("home", "JupyterLab can write its settings")


def _check_course() -> Iterator[Finding]:
    from dltlab.course import Course

    try:
        yield _ok("course", str(Course.find().root))
    except NotFound:
        message = f"{COURSE} names {course_dir()}, which is not a course"
        yield _problem("course", message, "Correct it or unset it")


def _check_progress() -> Iterator[Finding]:
    file = progress_file()
    is_new = not os.path.exists(file)
    can_write = is_writable(file.parent) if is_new else file.is_file() and os.access(file, os.W_OK)
    if can_write:
        yield _ok("progress", f"in {file}")
    else:
        yield _problem("progress", f"{file} cannot be written", f"Name another file in {PROGRESS}")


def _check_data_store() -> Iterator[Finding]:
    store = data_dir()
    existing = next(filter(os.path.exists, (store, *store.absolute().parents)))
    files = store.rglob("*") if os.path.isdir(store) else ()
    used = sum(path.stat().st_size for path in files if path.is_file())
    free = shutil.disk_usage(existing).free
    message = f"{used / 2**20:.0f} MiB used in {store}, {free / _GIB:.1f} GiB free there"
    fix = "Name another folder in DLTLAB_DATA_DIR"
    if not is_writable(store):
        yield _problem("data sets", f"{existing} cannot be written", fix)
    elif free < _GIB:
        yield _warning("data sets", message, fix)
    else:
        yield _ok("data sets", message)
    mirror = mirror_dir()
    if mirror and not os.path.isdir(mirror):
        message = f"{DATA_MIRROR} names {mirror}, which is not a folder"
        yield _problem("data sets", message, "Correct it or unset it")


def _check_ports() -> Iterator[Finding]:
    if not _can_bind(0):
        fix = "Check the firewall, and the limits of the sandbox or container"
        message = "no program may listen on this machine, so JupyterLab cannot"
        yield _problem("ports", message, fix)
        return
    for port, program in ((JUPYTER_PORT, "JupyterLab"), (TENSORBOARD_PORT, "TensorBoard")):
        state = "is free" if _can_bind(port) else f"is taken; {program} uses the next free one"
        yield _ok("ports", f"{port} {state}")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _check_warm_kernels() -> Iterator[Finding]:
    from dltlab.kernels import PROVISIONER, list_zygotes

    subject = "warm kernels"
    entry_points = importlib.metadata.entry_points(group="jupyter_client.kernel_provisioners")
    if sys.platform != "linux":
        yield _ok(subject, "none on this system; each kernel imports TensorFlow by itself")
    elif PROVISIONER not in {entry_point.name for entry_point in entry_points}:
        fix = "pip install --no-deps --editable ."
        yield _warning(subject, "Jupyter does not know the provisioner", fix)
    elif cold_kernels():
        yield _ok(subject, f"turned off by {COLD_KERNELS}")
    else:
        try:
            num_ready = sum(zygote.ready for zygote in list_zygotes())
        except (OSError, Unavailable) as error:
            fix = "Labs work nevertheless; each kernel starts cold"
            yield _warning(subject, f"not available: {error}", fix)
        else:
            yield _ok(subject, f"available; processes with TensorFlow loaded: {num_ready}")


def _check_browser() -> Iterator[Finding]:
    fix = "Copy the address that dltlab lab prints into a browser"
    if "SSH_CONNECTION" in os.environ:
        forward = f"ssh -L {JUPYTER_PORT}:localhost:{JUPYTER_PORT} …"
        yield _warning("browser", "this is a remote login", f"Log in with {forward}. {fix}")
        return
    try:
        yield _ok("browser", f"{getattr(webbrowser.get(), 'name', 'the system’s default')}")
    except webbrowser.Error:
        yield _warning("browser", "none found here", fix)


def _run_probe() -> dict[str, Any]:
    """Return what `dltlab.devices.probe` prints, or an `error` where it fails."""
    command = [sys.executable, "-m", "dltlab.devices.probe"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"it did not answer within {_PROBE_SECONDS} seconds"}
    if process.returncode:
        last_line = (process.stderr.strip().splitlines() or ["it printed no message"])[-1]
        return {"error": f"it ended with code {process.returncode}: {last_line}"}
    answer: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return answer


def _check_probe(answer: dict[str, Any]) -> Iterator[Finding]:
    subject = "TensorFlow"
    if "error" in answer:
        yield _problem(subject, f"does not run: {answer['error']}", _install_command())
        return
    yield _ok(subject, f"imported in {answer['import_seconds']:.1f} s")
    for name, error in answer["devices"].items():
        if error is None:
            yield _ok(subject, f"{name} computes")
        else:
            yield _problem(subject, f"{name} does not compute: {error}", "Restart the machine")
    num_visible = sum("GPU" in name for name in answer["devices"])
    nvidia = nvidia_info()
    if num_visible < len(nvidia.gpus) and not unused_gpu_reasons(nvidia):
        fix = "Run TF_CPP_MIN_LOG_LEVEL=0 python -m dltlab.devices.probe and read its messages"
        yield _problem(subject, f"sees {num_visible} of {len(nvidia.gpus)} GPUs", fix)
