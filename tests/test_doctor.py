"""The doctor on this machine, and on machines that lack something."""

import errno
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from dltlab import doctor
from dltlab.devices import gpu_support
from dltlab.devices.gpu_support import TensorFlowBuild
from dltlab.doctor import Finding, Level, diagnose
from dltlab.errors import Unavailable
from dltlab.kernels import PROVISIONER
from dltlab.paths import COLD_KERNELS
from tests.deadlines import HANG_SECONDS
from tests.device_fixtures import CUDA_BUILD

GIB = 1 << 30


def findings(subject: str, level: Level, deep: bool = False) -> list[Finding]:
    return [
        finding
        for finding in diagnose(deep)
        if (finding.subject, finding.level) == (subject, level)
    ]


def text(subject: str, level: Level) -> str:
    """The one finding with this subject and level: its message and its fix."""
    (finding,) = findings(subject, level)
    return f"{finding.message} → {finding.fix}"


@pytest.fixture
def lock(monkeypatch, tmp_path):
    """Set the content of the lock file; without a call there is none."""
    path = tmp_path / "requirements.lock"
    monkeypatch.setattr(doctor, "lock_file", lambda: path if path.exists() else None)
    return path.write_text


@pytest.fixture
def provisioners(no_nvml, monkeypatch):
    """A system with warm kernels: the list of the provisioners that Jupyter knows."""
    known = [SimpleNamespace(name=PROVISIONER)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: known)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv(COLD_KERNELS, raising=False)
    monkeypatch.setattr("dltlab.kernels.list_zygotes", lambda: [SimpleNamespace(ready=True)])
    return known


def test_the_doctor_does_not_import_tensorflow():
    code = "import sys; from dltlab.doctor import diagnose; diagnose(); print(*sys.modules)"

    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    )

    assert not {"tensorflow", "keras", "numpy"} & set(process.stdout.split())


def test_every_subject_is_checked(no_nvml):
    subjects = [finding.subject for finding in diagnose()]
    assert list(dict.fromkeys(subjects)) == [
        "Python", "packages", "TensorFlow", "CPU", "GPU", "memory", "disk", "home", "course",
        "progress", "data sets", "ports", "warm kernels", "browser",
    ]  # fmt: skip


def test_every_finding_that_is_not_ok_has_a_fix(no_nvml, monkeypatch):
    monkeypatch.setattr(webbrowser, "get", no_browser)

    assert all(finding.fix for finding in diagnose() if finding.level is not Level.OK)


def test_a_home_that_cannot_be_written_is_a_problem(no_nvml, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "file" / "runtime"))

    message = f"JupyterLab must write to {tmp_path}/file/runtime, and you may not"
    assert text("home", Level.PROBLEM) == f"{message} → Set HOME to a folder that you may write to"


def test_a_variable_that_names_no_course_is_a_problem(no_nvml, monkeypatch, tmp_path):
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path))

    message = f"DLTLAB_COURSE names {tmp_path}, which is not a course"
    assert text("course", Level.PROBLEM) == f"{message} → Correct it or unset it"


@pytest.mark.parametrize("name", [".", "file/progress.jsonl"])
def test_progress_that_cannot_be_written_is_a_problem(no_nvml, monkeypatch, tmp_path, name):
    (tmp_path / "file").touch()
    path = tmp_path / name
    monkeypatch.setenv("DLTLAB_PROGRESS", str(path))

    assert text("progress", Level.PROBLEM) == (
        f"{path} cannot be written → Name another file in DLTLAB_PROGRESS"
    )


def test_another_version_of_python_is_a_problem(no_nvml, monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.9.0")

    assert "3.9.0 on " in text("Python", Level.PROBLEM)
    assert "make lab PYTHON=" in text("Python", Level.PROBLEM)


@pytest.mark.parametrize(
    ("versions", "level", "message"),
    [
        ({"CUDA_VERSION": "12.6.3", "NV_CUDNN_VERSION": "9.5.1.17-1"}, Level.OK,
         "CUDA 12.6.3, cuDNN 9.5.1.17-1, as TensorFlow needs"),
        ({"CUDA_VERSION": "13.0.1", "CUDNN_VERSION": "9.12.0"}, Level.PROBLEM,
         "CUDA 13.0.1, cuDNN 9.12.0; TensorFlow was built for CUDA 12.5.1 → Start from "),
        ({"CUDA_VERSION": "12.1.1", "NV_CUDNN_VERSION": "8.9.0"}, Level.PROBLEM,
         "CUDA 12.1.1, cuDNN 8.9.0; TensorFlow was built for cuDNN 9 → Start from "),
        ({"CUDA_VERSION": "12.5.1"}, Level.PROBLEM,
         "CUDA 12.5.1, without cuDNN; TensorFlow was built for cuDNN 9 → Start from "),
    ],
)  # fmt: skip
def test_an_image_of_nvidia_is_compared_with_tensorflow(
    two_gpus, monkeypatch, versions, level, message
):
    monkeypatch.setattr(doctor, "tensorflow_build", lambda: CUDA_BUILD)
    monkeypatch.setenv("NVIDIA_REQUIRE_CUDA", "cuda>=12")
    for name in ("CUDA_VERSION", "CUDNN_VERSION", "NV_CUDNN_VERSION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in versions.items():
        monkeypatch.setenv(name, value)

    assert text("NVIDIA image", level).startswith(message)


def test_tensorflow_without_cuda_is_a_problem_in_an_image_of_nvidia(two_gpus, monkeypatch):
    monkeypatch.setattr(
        doctor, "tensorflow_build", lambda: TensorFlowBuild("tensorflow-cpu", "2.21.0", None, ())
    )
    monkeypatch.setenv("NVIDIA_REQUIRE_CUDA", "cuda>=12")
    monkeypatch.setenv("CUDA_VERSION", "12.5.1")

    assert "TensorFlow was built without CUDA" in text("NVIDIA image", Level.PROBLEM)


def test_an_old_driver_is_a_problem(old_driver, every_cuda_library):
    assert "driver 470.82.01 is too old" in text("GPU", Level.PROBLEM)


def test_a_gpu_in_mig_mode_is_ok(mig_gpu, every_cuda_library):
    assert "MIG slices: 1" in text("GPU", Level.OK)
    assert not findings("GPU", Level.PROBLEM)


def test_a_lost_gpu_is_a_problem_beside_one_that_works(nvml, gpu, every_cuda_library):
    nvml([gpu(), gpu(answers_left=0)])

    assert "GPU 1 has fallen off the bus" in text("GPU", Level.PROBLEM)
    assert "0: NVIDIA" in text("GPU", Level.OK)


def test_a_hidden_gpu_is_a_warning(two_gpus, every_cuda_library, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert "hides 2 of 2 GPUs" in text("GPU", Level.WARNING)


def test_an_invalid_cuda_visible_devices_is_a_warning_even_without_a_gpu(no_nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "banana")

    assert "CUDA_VISIBLE_DEVICES='banana' is not understood" in text("GPU", Level.WARNING)


def test_a_full_gpu_is_a_warning(nvml, gpu, every_cuda_library):
    nvml([gpu(used=80 * GIB - 1)])

    assert "gpu_processes()" in text("GPU", Level.WARNING)


def test_a_gpu_without_its_driver_is_a_problem(no_nvml, kernel_files):
    kernel_files(
        {
            "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
            "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
        }
    )

    assert "its driver is not installed → Install the driver" in text("GPU", Level.PROBLEM)


def test_a_container_with_half_a_core_and_a_gibibyte_gets_warnings(no_nvml, kernel_files):
    kernel_files(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/memory.current": "0\n",
        }
    )

    assert "0.5 cores" in text("CPU", Level.WARNING)
    memory = text("memory", Level.WARNING)
    assert "of 1.0 GiB (the container's limit) available; labs take" in memory


def test_packages_are_compared_with_the_lock_file(no_nvml, lock):
    lock(
        f"psutil==0.1\nnowhere==1.0\nelsewhere==1.0 ; sys_platform == 'plan9'\n"
        f"numpy=={importlib.metadata.version('numpy')}\n"
    )

    version = importlib.metadata.version("psutil")
    assert text("packages", Level.WARNING).startswith(f"psutil {version} instead of 0.1 →")
    assert text("packages", Level.PROBLEM) == (
        "nowhere not installed → make --always-make .venv/.ready"
    )


def test_many_missing_packages_are_summarized(no_nvml, lock):
    lock("".join(f"nowhere-{letter}==1.0\n" for letter in "abcde"))

    assert "nowhere-a, nowhere-b, nowhere-c and 2 more not" in text("packages", Level.PROBLEM)


def test_without_a_lock_file_packages_are_compared_with_the_metadata(no_nvml, lock):
    assert "have the versions that dltlab requires" in text("packages", Level.OK)


def test_the_cpu_build_of_tensorflow_is_enough(provisioners, lock, monkeypatch):
    lock("tensorflow==2.0\n")
    installed = [SimpleNamespace(metadata={"Name": "tensorflow_cpu"}, version="2.0")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: installed)

    message = "all 1 have the versions that requirements.lock requires"
    assert text("packages", Level.OK).startswith(message)


def test_a_missing_package_that_the_doctor_needs_is_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)

    assert text("memory", Level.PROBLEM) == (
        "psutil is not installed → make --always-make .venv/.ready"
    )


def test_a_missing_tensorflow_is_a_problem(no_nvml, lock, monkeypatch):
    monkeypatch.setattr(gpu_support, "tensorflow_build", lambda: None)
    monkeypatch.setattr(doctor, "tensorflow_build", lambda: None)

    assert text("TensorFlow", Level.PROBLEM) == "not installed → pip install --upgrade dltlab"


def test_little_memory_and_disk_are_warnings(no_nvml, monkeypatch):
    memory = SimpleNamespace(total=8 * GIB, available=GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=5))

    assert "1.0 of" in text("memory", Level.WARNING)
    assert text("disk", Level.WARNING) == "0.0 GiB free in this folder → Free some space"
    assert "DLTLAB_DATA_DIR" in text("data sets", Level.WARNING)


def test_a_data_store_and_a_mirror_that_are_not_folders_are_problems(
    no_nvml, monkeypatch, tmp_path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(tmp_path / "nowhere"))

    store, mirror = findings("data sets", Level.PROBLEM)

    assert "cannot be written" in store.message
    assert "which is not a folder" in mirror.message


def test_a_home_that_this_user_may_not_enter_is_reported(no_nvml, monkeypatch, tmp_path):
    stat = os.stat

    def forbid(path, *args, **options):
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(f"{tmp_path}/"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return stat(path, *args, **options)

    tmp_path.chmod(0o500)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    for variable in ("JUPYTER_CONFIG_DIR", "DLTLAB_DATA_DIR", "DLTLAB_PROGRESS"):
        monkeypatch.setenv(variable, str(tmp_path / "below" / "it"))
    monkeypatch.setattr("os.stat", forbid)

    problems = {finding.subject for finding in diagnose() if finding.level is Level.PROBLEM}
    assert {"home", "progress", "data sets"} <= problems


def test_a_taken_port_is_reported(no_nvml, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(doctor, "JUPYTER_PORT", server.getsockname()[1])

        message = findings("ports", Level.OK)[0].message

    assert "is taken; JupyterLab uses the next free one" in message


def test_a_machine_on_which_no_program_may_listen_is_a_problem(no_nvml, monkeypatch):
    def refuse(self, address):
        raise PermissionError

    monkeypatch.setattr(socket.socket, "bind", refuse)

    assert "no program may listen" in text("ports", Level.PROBLEM)


def test_warm_kernels_are_ok(provisioners):
    expected = "available; processes with TensorFlow loaded: 1 → "
    assert text("warm kernels", Level.OK) == expected


def test_warm_kernels_that_are_turned_off_are_ok(provisioners, monkeypatch):
    monkeypatch.setenv(COLD_KERNELS, "1")

    assert text("warm kernels", Level.OK) == f"turned off by {COLD_KERNELS} → "


def test_warm_kernels_that_cannot_start_are_a_warning(provisioners, monkeypatch):
    def refuse() -> None:
        raise Unavailable("The folder must be your own.")

    monkeypatch.setattr("dltlab.kernels.list_zygotes", refuse)

    assert "not available: The folder must be your own." in text("warm kernels", Level.WARNING)


def test_an_unknown_provisioner_is_a_warning(provisioners):
    provisioners.clear()

    assert "Jupyter does not know the provisioner" in text("warm kernels", Level.WARNING)


def test_other_systems_have_no_warm_kernels(no_nvml, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert text("warm kernels", Level.OK).startswith("none on this system")


def no_browser() -> None:
    raise webbrowser.Error


def test_without_a_browser_the_address_can_be_copied(no_nvml, monkeypatch):
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(webbrowser, "get", no_browser)
    assert "Copy the address" in text("browser", Level.WARNING)

    monkeypatch.setattr(webbrowser, "get", lambda: SimpleNamespace(name="firefox"))
    assert text("browser", Level.OK) == "firefox → "

    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    assert "ssh -L 8888:localhost:8888" in text("browser", Level.WARNING)


@pytest.fixture
def probe(monkeypatch):
    """Replace the probe of TensorFlow by a Python program: `probe(code)`."""
    run = subprocess.run

    def replace(code: str) -> None:
        monkeypatch.setattr(
            subprocess,
            "run",
            lambda command, **options: run([sys.executable, "-c", code], **options),
        )

    return replace


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemExit('no such instruction')", "it ended with code 1: no such instruction"),
        ("import os; os.abort()", "it ended with code -6: it printed no message"),
    ],
)
def test_a_tensorflow_that_does_not_start_is_a_problem(no_nvml, probe, code, message):
    probe(code)

    (finding,) = findings("TensorFlow", Level.PROBLEM, deep=True)

    assert finding.message == f"does not run: {message}"


def test_a_tensorflow_that_hangs_is_a_problem(no_nvml, monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)

    (finding,) = findings("TensorFlow", Level.PROBLEM, deep=True)

    assert finding.message == "does not run: it did not answer within 300 seconds"


def test_a_device_that_computes_a_wrong_product_is_a_problem(nvml, gpu, every_cuda_library, probe):
    nvml([gpu()])
    outcome = {"import_seconds": 1, "devices": {"CPU:0": "the product is wrong"}}
    probe(f"print({json.dumps(outcome)!r})")

    wrong, unseen = findings("TensorFlow", Level.PROBLEM, deep=True)

    assert wrong.message == "CPU:0 does not compute: the product is wrong"
    assert unseen.message == "sees 0 of 1 GPUs"
