"""The doctor on this machine, and on machines that lack something."""

import importlib.metadata
import json
import socket
import subprocess
import sys
import webbrowser
from types import SimpleNamespace

import psutil
import pytest

from dltlab import doctor
from dltlab.devices import libraries
from dltlab.doctor import Level, diagnose
from dltlab.errors import Unavailable
from dltlab.kernels import PROVISIONER, pool
from dltlab.paths import COLD_KERNELS

GIB = 1 << 30


def lines(about: str, level: Level) -> list[doctor.Line]:
    return [line for line in diagnose() if (line.about, line.level) == (about, level)]


def said(about: str, level: Level) -> str:
    """The one line about this, and its mend."""
    (line,) = lines(about, level)
    return f"{line.says} → {line.mend}"


def test_the_doctor_imports_no_tensorflow():
    code = "import sys; from dltlab.doctor import diagnose; diagnose(); print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert not {"tensorflow", "keras", "numpy"} & set(done.stdout.split())


def test_a_machine_without_a_gpu_has_no_problem(dltlab, no_nvml):
    answer = dltlab("doctor")

    assert (answer.code, answer.err) == (0, "")
    abouts = [line.about for line in diagnose()]
    assert list(dict.fromkeys(abouts)) == [
        "Python", "packages", "TensorFlow", "CPU", "GPU", "memory", "disk", "data sets", "ports",
        "warm kernels", "browser",
    ]  # fmt: skip
    assert "ok       GPU           none; every lab runs on the CPU" in answer.out


def test_every_line_that_is_not_ok_has_a_mend(no_nvml, monkeypatch):
    monkeypatch.setattr(webbrowser, "get", _no_browser)

    assert all(line.mend for line in diagnose() if line.level is not Level.OK)


def test_programs_get_json(dltlab, two_gpus, every_cuda_library):
    found = json.loads(dltlab("doctor", "--json").out)

    assert {"about", "level", "says", "mend"} == set(found[0])
    gpus = [line["says"] for line in found if line["about"] == "GPU"]
    assert gpus == [
        "0: NVIDIA A100-SXM4-80GB, 80.0 of 80.0 GiB free",
        "1: NVIDIA A100-SXM4-80GB, 80.0 of 80.0 GiB free",
        "0–1: NVLink, directly",
    ]


def test_a_gpu_that_tensorflow_cannot_use_is_a_problem_with_its_mend(
    dltlab, two_gpus, cuda_libraries
):
    cuda_libraries()

    answer = dltlab("doctor")

    assert answer.code == 1
    assert "libcudnn.so.9 are missing, so TensorFlow does not use it\n" in answer.out
    assert "→ pip install 'tensorflow[and-cuda]'\n" in answer.out


def test_a_driver_that_is_too_old_is_a_problem(dltlab, old_driver, every_cuda_library):
    assert dltlab("doctor").code == 1
    assert "driver 470.82.01 is too old" in said("GPU", Level.PROBLEM)


def test_a_gpu_in_mig_mode_is_fine(dltlab, mig_gpu, every_cuda_library):
    assert "slices by MIG: 1" in said("GPU", Level.OK)
    assert dltlab("doctor").code == 0


def test_a_gpu_that_fell_off_the_bus_is_a_problem_beside_one_that_works(
    dltlab, nvml, gpu, every_cuda_library
):
    nvml([gpu(), gpu(answers_left=0)])

    assert dltlab("doctor").code == 1
    assert "GPU 1 has fallen off the bus" in said("GPU", Level.PROBLEM)
    assert "0: NVIDIA" in said("GPU", Level.OK)


def test_a_gpu_that_somebody_hides_is_a_warning(two_gpus, every_cuda_library, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    assert "hides 2 of 2 GPUs" in said("GPU", Level.WARNING)


def test_nonsense_in_cuda_visible_devices_is_told_even_without_a_gpu(no_nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "banana")

    assert "CUDA_VISIBLE_DEVICES='banana' is not understood" in said("GPU", Level.WARNING)


def test_a_full_gpu_is_a_warning(nvml, gpu, every_cuda_library):
    nvml([gpu(used=80 * GIB - 1)])

    assert "gpu_processes()" in said("GPU", Level.WARNING)


def test_a_gpu_without_its_driver_is_a_problem(no_nvml, kernel_files):
    kernel_files(
        {
            "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
            "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
        }
    )

    assert "its driver is not installed → Install the driver" in said("GPU", Level.PROBLEM)


def test_a_container_with_half_a_core_and_a_gibibyte_is_warned_of(no_nvml, kernel_files):
    kernel_files(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/memory.current": "0\n",
        }
    )

    assert "0.5 cores" in said("CPU", Level.WARNING)
    assert "of 1.0 GiB (the container's limit) available; labs take" in said(
        "memory", Level.WARNING
    )


def test_packages_are_held_against_the_lock(no_nvml, monkeypatch, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"psutil==0.1\nnowhere==1.0\nelsewhere==1.0 ; sys_platform == 'plan9'\n"
        f"numpy=={importlib.metadata.version('numpy')}\n"
    )
    monkeypatch.setattr(doctor, "_LOCK", lock)

    version = importlib.metadata.version("psutil")
    assert said("packages", Level.WARNING).startswith(f"psutil {version} instead of 0.1 →")
    assert said("packages", Level.PROBLEM) == (
        "nowhere not installed → pip install -r requirements.lock"
    )


def test_without_a_lock_the_packages_own_needs_count(no_nvml, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_LOCK", tmp_path / "requirements.lock")

    assert "are as dltlab wants them" in said("packages", Level.OK)


def test_the_smaller_tensorflow_will_do(no_nvml, monkeypatch, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("tensorflow==2.0\n")
    monkeypatch.setattr(doctor, "_LOCK", lock)
    installed = [SimpleNamespace(metadata={"Name": "tensorflow_cpu"}, version="2.0")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: installed)

    (line,) = doctor._packages()
    assert line.says == "all 1 are as requirements.lock wants them"


def test_without_a_package_it_needs_the_doctor_still_answers(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)

    assert said("memory", Level.PROBLEM) == (
        "psutil is not installed → pip install -r requirements.lock"
    )


def test_without_tensorflow_that_is_the_problem(no_nvml, monkeypatch):
    monkeypatch.setattr(libraries, "tensorflow_build", lambda: None)

    assert said("TensorFlow", Level.PROBLEM).startswith("not installed")


def test_little_memory_and_disk_are_warnings(no_nvml, monkeypatch):
    memory = SimpleNamespace(total=8 * GIB, available=GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=5))

    assert "1.0 of" in said("memory", Level.WARNING)
    assert said("disk", Level.WARNING) == "0.0 GiB free in this folder → Free some space"
    assert "DLTLAB_DATA_DIR" in said("data sets", Level.WARNING)


def test_a_store_and_a_mirror_that_are_no_folders_are_problems(no_nvml, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "file" / "below"))
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(tmp_path / "nowhere"))

    store, mirror = lines("data sets", Level.PROBLEM)

    assert "cannot be written" in store.says
    assert "which is no folder" in mirror.says


def test_ports_that_are_taken_are_told(no_nvml, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(doctor, "_JUPYTER_PORT", server.getsockname()[1])

        assert "is taken; JupyterLab takes the next free one" in lines("ports", Level.OK)[0].says


def test_a_machine_on_which_nothing_may_listen_is_a_problem(no_nvml, monkeypatch):
    monkeypatch.setattr(doctor, "_can_bind", lambda port: False)

    assert "nothing may listen" in said("ports", Level.PROBLEM)


@pytest.fixture
def warm(monkeypatch):
    """A system on which Jupyter knows of warm kernels."""
    found = [SimpleNamespace(name=PROVISIONER)]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: found)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv(COLD_KERNELS, raising=False)
    monkeypatch.setattr(pool, "list_zygotes", lambda: [SimpleNamespace(ready=True)])
    return found


def test_warm_kernels_are_told(warm, monkeypatch):
    assert [line.says for line in doctor._warm_kernels()] == [
        "available; processes with TensorFlow loaded now: 1"
    ]
    monkeypatch.setenv(COLD_KERNELS, "1")
    assert [line.says for line in doctor._warm_kernels()] == [f"turned off by {COLD_KERNELS}"]


def test_warm_kernels_that_cannot_be_had_are_a_warning(warm, monkeypatch):
    def refuse() -> None:
        raise Unavailable("The folder must be your own.")

    monkeypatch.setattr(pool, "list_zygotes", refuse)
    (line,) = doctor._warm_kernels()
    assert (line.level, line.says) == (
        Level.WARNING,
        "not to be had: The folder must be your own.",
    )

    warm.clear()
    (line,) = doctor._warm_kernels()
    assert (line.level, line.says) == (Level.WARNING, "Jupyter does not know of them")


def test_elsewhere_than_on_linux_kernels_start_cold(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    (line,) = doctor._warm_kernels()

    assert (line.level, line.says[:19]) == (Level.OK, "none on this system")


def _no_browser() -> None:
    raise webbrowser.Error


def test_where_there_is_no_browser_the_address_is_to_be_copied(no_nvml, monkeypatch):
    monkeypatch.delenv("SSH_CONNECTION", raising=False)
    monkeypatch.setattr(webbrowser, "get", _no_browser)
    assert "Copy the address" in said("browser", Level.WARNING)

    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    assert "ssh -L 8888:localhost:8888" in said("browser", Level.WARNING)


def test_the_deep_look_lets_tensorflow_compute(dltlab, no_nvml, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    answer = dltlab("doctor", "--deep")

    assert answer.code == 0
    assert "TensorFlow    CPU:0 computes" in answer.out


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit('no such instruction')", "it ended with code 1: no such instruction"),
        ("import os; os.abort()", "it ended with code -6: it said nothing"),
    ],
)
def test_a_tensorflow_that_does_not_start_is_a_problem(no_nvml, monkeypatch, code, told):
    run = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: run([sys.executable, "-c", code], **options)
    )

    (line,) = doctor._deep_lines(doctor._probe())

    assert (line.level, line.says) == (Level.PROBLEM, f"does not run: {told}")


def test_a_device_that_computes_nonsense_is_a_problem(nvml, gpu, every_cuda_library):
    nvml([gpu()])
    answer = {"import_seconds": 1, "devices": {"CPU:0": "the product is wrong"}}

    *_, computes, sees = doctor._deep_lines(answer)

    assert computes.says == "CPU:0 does not compute: the product is wrong"
    assert sees.says == "sees 0 of 1 GPUs"
