"""The inventory of machines of several kinds."""

import json
import subprocess
import sys

from dltlab.devices import gpu_support, inventory
from tests.deadlines import HANG_SECONDS


def descriptions(machine) -> dict[str, str]:
    return dict(zip(machine.table["device"], machine.table["description"], strict=True))


def test_importing_the_room_imports_nothing_large():
    code = (
        "import sys, dltlab.devices; dltlab.devices.inventory; "
        "print({'tensorflow', 'keras', 'numpy', 'pandas', 'pynvml', 'psutil'} & set(sys.modules))"
    )

    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=HANG_SECONDS,
    )

    assert process.stdout == "set()\n"


def test_a_laptop_without_a_gpu(no_nvml):
    laptop = inventory(ask_tensorflow=False)

    assert (laptop.gpus, laptop.links, laptop.driver, laptop.reasons) == ((), (), None, ())
    assert laptop.no_gpu == "There is no NVIDIA driver"
    assert laptop.cpu.cores > 0
    assert 0 < laptop.memory.available <= laptop.memory.total
    assert laptop.summary.endswith("GiB of memory, no GPU.")
    assert descriptions(laptop)["GPU"] == "There is no NVIDIA driver"


def test_two_gpus_with_nvlink(two_gpus, every_cuda_library):
    machine = inventory(ask_tensorflow=False)

    assert len(machine.gpus) == 2
    assert machine.summary.endswith("2 × NVIDIA A100-SXM4-80GB.")
    rows = descriptions(machine)
    assert rows["GPU 0–1"] == "NVLink, directly"
    assert rows["GPU 1"] == (
        "NVIDIA A100-SXM4-80GB, 80.0 GiB, 80.0 GiB free, compute capability 8.0"
    )
    assert rows["driver"] == "550.54.15, runs CUDA up to 12.4"


def test_an_inventory_is_shown_as_text_html_and_json(two_gpus, cuda_libraries, capsys):
    cuda_libraries()
    machine = inventory(ask_tensorflow=False)

    machine.show()

    assert capsys.readouterr().out == f"{machine}\n"
    assert f"{machine}".splitlines()[0] == machine.summary
    assert "unused GPU" in f"{machine}"
    assert machine.figure() is None
    as_json = json.loads(json.dumps(machine.as_dict()))
    assert as_json["gpus"][1]["uuid"] == "GPU-2b"
    assert as_json["reasons"][0]["fix"] == "pip install 'tensorflow[and-cuda]'"


def test_a_gpu_in_mig_mode_lists_its_slices(mig_gpu, every_cuda_library):
    rows = descriptions(inventory(ask_tensorflow=False))

    assert rows["GPU 0"].endswith("MIG: NVIDIA A100-SXM4-80GB MIG 3g.40gb")


def test_a_driver_without_a_gpu(nvml):
    nvml([], cuda=None)

    machine = inventory(ask_tensorflow=False)

    assert machine.no_gpu == "The driver reports no GPU"
    assert descriptions(machine)["driver"] == "550.54.15"


def test_a_container_with_half_a_core(no_nvml, kernel_files):
    kernel_files(
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/memory.max": "1073741824\n",
        }
    )

    rows = descriptions(inventory(ask_tensorflow=False))

    assert "0.5 cores of " in rows["CPU"]
    assert "by the container's quota" in rows["CPU"]
    assert "1.0 GiB (the container's limit)" in rows["memory"]


def test_where_tensorflow_sees_every_gpu_there_is_no_reason(two_gpus, tensorflow, cuda_libraries):
    tensorflow(2)
    cuda_libraries()  # dltlab finds none of them, and TensorFlow does

    machine = inventory()

    assert machine.tensorflow.gpus == ("NVIDIA A100-SXM4-80GB",) * 2
    assert machine.reasons == ()
    assert "sees NVIDIA A100-SXM4-80GB, NVIDIA" in descriptions(machine)["TensorFlow"]


def test_where_tensorflow_sees_fewer_gpus_there_is_a_reason_even_if_none_is_known(
    two_gpus, tensorflow, every_cuda_library
):
    tensorflow(1)

    (reason,) = inventory().reasons

    assert "TensorFlow sees 1 of 2 GPUs" in reason.message
    assert "TF_CPP_MIN_LOG_LEVEL=0 and TF_CPP_MAX_VLOG_LEVEL=1" in reason.fix


def test_a_machine_without_tensorflow(no_nvml, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setattr(gpu_support, "tensorflow_build", lambda: None)

    machine = inventory()

    assert machine.tensorflow is None
    assert descriptions(machine)["TensorFlow"] == "not installed"
