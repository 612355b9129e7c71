"""What NVML reports, with a fake of the library."""

import pynvml
import pytest

from dltlab.devices import list_gpus, nvidia_info
from dltlab.devices.nvml import Driver

GIB = 1 << 30
NVIDIA_ON_PCI_BUS = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n",
}


def test_two_gpus_with_nvlink(two_gpus):
    nvidia = nvidia_info()

    first, second = nvidia.gpus
    assert (first.index, first.name) == (0, "NVIDIA A100-SXM4-80GB")
    assert first.compute_capability == (8, 0)
    assert (second.index, second.memory_bytes, second.mig) == (1, 80 * GIB, False)
    assert [(link.first, link.second, link.kind) for link in nvidia.links] == [(0, 1, "NVLink")]
    assert nvidia.driver == Driver("550.54.15", (12, 4))
    assert (nvidia.problem, nvidia.fix) == (None, None)
    assert list_gpus() == nvidia.gpus
    assert two_gpus.num_sessions == 0


def test_two_gpus_without_nvlink_are_linked_by_pcie(nvml, gpu):
    nvml([gpu(), gpu()], nvlink=False)

    (link,) = nvidia_info().links

    assert (link.kind, link.path) == ("PCIe", "from one CPU to another")


def test_the_usable_memory_of_a_gpu_in_mig_mode_is_one_slice(mig_gpu):
    (gpu,) = list_gpus()

    assert gpu.mig
    assert [part.memory_bytes for part in gpu.mig_devices] == [40 * GIB]
    assert (gpu.free_bytes, gpu.usable_bytes) == (80 * GIB, 40 * GIB)


def test_an_old_driver_does_not_report_everything(old_driver):
    (gpu,) = list_gpus()

    assert (gpu.compute_capability, gpu.mig) == (None, None)


def test_a_lost_gpu_does_not_hide_the_others(nvml, gpu):
    nvml([gpu(answers_left=0), gpu(uuid="GPU-2b")])

    nvidia = nvidia_info()

    assert [gpu.index for gpu in nvidia.gpus] == [1]
    assert nvidia.problem == "GPU 0 has fallen off the bus"
    assert "Restart the machine" in str(nvidia.fix)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (pynvml.NVMLError_DriverNotLoaded, "not loaded"),
        (pynvml.NVMLError_LibRmVersionMismatch, "was updated"),
        (pynvml.NVMLError_NoPermission, "may not use"),
        (pynvml.NVMLError_Unknown, "does not answer"),
    ],
)
def test_a_driver_that_does_not_answer_is_a_problem_with_a_fix(nvml, error, message):
    nvml(init_error=error)

    nvidia = nvidia_info()

    assert message in str(nvidia.problem)
    assert nvidia.fix
    assert not nvidia.nothing_to_fix


def test_without_a_driver_and_a_gpu_there_is_nothing_to_fix(no_nvml, kernel_files):
    kernel_files(
        {
            "sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n",
            "sys/bus/pci/devices/0000:00:02.0/class": "0x030000\n",
            "sys/bus/pci/devices/0000:00:03.0/vendor": "0x10de\n",
            "sys/bus/pci/devices/0000:00:03.0/class": "0x040300\n",  # a sound device
            "sys/bus/pci/devices/0000:00:04.0/vendor": "0x10de\n",  # without a class
        }
    )

    nvidia = nvidia_info()

    assert (nvidia.gpus, nvidia.driver) == ((), None)
    assert nvidia.problem == "There is no NVIDIA driver"
    assert nvidia.nothing_to_fix


def test_a_gpu_without_its_driver_is_a_problem(no_nvml, kernel_files):
    kernel_files(NVIDIA_ON_PCI_BUS)

    nvidia = nvidia_info()

    assert "its driver is not installed" in str(nvidia.problem)
    assert "Install the driver" in str(nvidia.fix)
    assert not nvidia.nothing_to_fix
