"""The inventory of machines of many kinds."""

import json
import subprocess
import sys

import pynvml
import pytest

from dltlab import devices
from dltlab.devices import cgroups, libraries, processor
from dltlab.devices.nvml import Driver, query

GIB = 1 << 30
CPUINFO = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C
cpu MHz\t\t: 2700.000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 fma avx512f avx512_bf16 amx_bf16 amx_tile amx_int8

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8481C
cpu MHz\t\t: 2700.000
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 fma avx512f avx512_bf16 amx_bf16 amx_tile amx_int8
"""


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys, dltlab.devices; dltlab.devices.inventory; "
        "print({'tensorflow', 'keras', 'numpy', 'pandas', 'pynvml', 'psutil'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"


def test_a_laptop_without_a_gpu_has_nothing_to_explain(no_nvml):
    found = devices.inventory(ask_tensorflow=False)

    assert (found.gpus, found.links, found.driver, found.reasons) == ((), (), None, ())
    assert found.no_gpu == "There is no NVIDIA driver"
    assert found.cpu.cores > 0
    assert 0 < found.memory.available <= found.memory.total
    json.dumps(found.as_dict())


def test_two_gpus_with_nvlink(two_gpus, every_cuda_library):
    found = devices.inventory(ask_tensorflow=False)

    first, second = found.gpus
    assert (first.index, first.name, first.compute_capability) == (
        0,
        "NVIDIA A100-SXM4-80GB",
        (8, 0),
    )
    assert (second.index, second.memory_bytes, second.mig) == (1, 80 * GIB, False)
    assert [(link.first, link.second, link.kind) for link in found.links] == [(0, 1, "NVLink")]
    assert found.driver == Driver("550.54.15", (12, 4))
    assert "GPU 0–1     NVLink, directly" in str(found)
    assert two_gpus.opened == 0


def test_two_gpus_without_nvlink_are_linked_by_pcie(nvml, gpu):
    nvml([gpu(), gpu()], nvlink=False)

    (link,) = devices.inventory(ask_tensorflow=False).links

    assert (link.kind, link.path) == ("PCIe", "from one CPU to another")


def test_a_gpu_in_mig_mode_tells_its_slices(mig_gpu, every_cuda_library):
    found = devices.inventory(ask_tensorflow=False)

    (gpu,) = found.gpus
    assert gpu.mig
    assert [part.memory_bytes for part in gpu.mig_devices] == [40 * GIB]
    assert "MIG: NVIDIA A100-SXM4-80GB MIG 3g.40gb" in str(found)
    assert not found.reasons


def test_a_gpu_in_mig_mode_without_a_slice_is_explained(nvml, gpu, every_cuda_library):
    nvml([gpu(mig=True)])

    (reason,) = devices.inventory(ask_tensorflow=False).reasons

    assert "has no slice" in reason.says
    assert "nvidia-smi mig -i 0 -cgi" in reason.mend


def test_a_gpu_that_vanished_does_not_hide_the_others(nvml, gpu, every_cuda_library):
    nvml([gpu(answers_left=0), gpu(uuid="GPU-2b")])

    found = devices.inventory(ask_tensorflow=False)

    assert [each.index for each in found.gpus] == [1]
    assert found.no_gpu == "GPU 0 has fallen off the bus"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (pynvml.NVMLError_DriverNotLoaded, "not loaded"),
        (pynvml.NVMLError_LibRmVersionMismatch, "was updated"),
        (pynvml.NVMLError_NoPermission, "may not talk"),
        (pynvml.NVMLError_Unknown, "does not answer"),
    ],
)
def test_what_keeps_nvml_from_answering_is_told_with_its_mend(nvml, error, said):
    nvml(init_error=error)

    found = query()

    assert said in found.problem
    assert found.mend


def test_where_tensorflow_sees_every_gpu_there_is_nothing_to_explain(
    two_gpus, tensorflow, cuda_libraries
):
    tensorflow(2)
    cuda_libraries()  # wherever they are, TensorFlow has found them

    found = devices.inventory()

    assert found.tensorflow.gpus == ("NVIDIA A100-SXM4-80GB",) * 2
    assert found.reasons == ()


def test_where_tensorflow_sees_fewer_gpus_there_is_a_reason_even_if_none_is_known(
    two_gpus, tensorflow, every_cuda_library
):
    tensorflow(1)

    (reason,) = devices.inventory().reasons

    assert "TensorFlow sees 1 of 2 GPUs" in reason.says
    assert "TF_CPP_MAX_VLOG_LEVEL=1" in reason.mend


def test_a_driver_that_is_too_old_is_the_reason(old_driver, every_cuda_library):
    found = devices.inventory(ask_tensorflow=False)

    (reason,) = found.reasons
    assert "driver 470.82.01 is too old" in reason.says
    assert "Update the driver" in reason.mend
    assert (found.gpus[0].compute_capability, found.gpus[0].mig) == (None, None)


def test_a_gpu_that_is_too_old_is_the_reason(nvml, gpu, every_cuda_library):
    nvml([gpu("Tesla K80", capability=(3, 7))])

    (reason,) = devices.inventory(ask_tensorflow=False).reasons

    assert "compute capability 3.7" in reason.says
    assert "6.0 or newer" in reason.says


def test_missing_cuda_libraries_are_named_with_the_command_that_brings_them(
    two_gpus, cuda_libraries
):
    cuda_libraries(*(set(libraries._LIBRARIES) - {"libcufft.so.11"}))

    (reason,) = devices.inventory(ask_tensorflow=False).reasons

    assert reason.says == "CUDA library: libcufft.so.11 is missing"
    assert reason.mend == "pip install 'tensorflow[and-cuda]'"


def test_a_cuda_library_that_is_too_old_is_named(two_gpus, cuda_libraries):
    cuda_libraries(*(set(libraries._LIBRARIES) - {"libcudnn.so.9"}), "libcudnn.so.8")

    (reason,) = devices.inventory(ask_tensorflow=False).reasons

    assert reason.says == "CUDA library: libcudnn.so.9 is needed but only libcudnn.so.8 found"


def test_the_cpu_build_of_tensorflow_is_the_reason(two_gpus, monkeypatch):
    build = libraries.Build("tensorflow-cpu", "2.21.0", None, ())
    monkeypatch.setattr(libraries, "tensorflow_build", lambda: build)

    (reason,) = devices.inventory(ask_tensorflow=False).reasons

    assert "tensorflow-cpu 2.21.0 is a build without CUDA" in reason.says
    assert reason.mend == "pip uninstall tensorflow-cpu && pip install 'tensorflow[and-cuda]'"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "hides 2 of 2"),
        ("-1", "hides 2 of 2"),
        ("1", "hides 1 of 2"),
        ("GPU-2b", "hides 1 of 2"),
        ("7", "names the GPU 7, which does not exist; there is 0 (NVIDIA"),
        ("banana", "is not understood"),
    ],
)
def test_a_variable_that_hides_gpus_is_the_reason(
    two_gpus, every_cuda_library, monkeypatch, value, said
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)

    (reason,) = devices.inventory(ask_tensorflow=False).reasons

    assert said in reason.says
    assert "CUDA_VISIBLE_DEVICES" in reason.mend


def test_a_processor_with_amx_in_a_container_with_half_a_core(kernel_files, monkeypatch):
    monkeypatch.setattr(processor, "_allowed", lambda: [0, 1])
    kernel_files(
        {
            "proc/cpuinfo": CPUINFO,
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/cpu.max": "50000 100000\n",
            "sys/devices/system/cpu/cpu0/cache/index3/size": "105M\n",
        }
    )

    cpu = processor.cpu_info()

    assert (cpu.cores, cpu.threads, cpu.physical_cores, cpu.has_quota) == (0.5, 2, 1, True)
    assert (cpu.ghz, cpu.cache_bytes) == (2.7, 105 << 20)
    assert {"AVX-512", "AMX-BF16"} <= set(cpu.extensions)
    assert "0.5 cores of 2" in str(devices.inventory(ask_tensorflow=False))


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/user/job\n",
            "sys/fs/cgroup/user/job/memory.max": "max\n",
            "sys/fs/cgroup/user/memory.max": "2147483648\n",
            "sys/fs/cgroup/user/job/memory.current": "1073741824\n",
            "sys/fs/cgroup/user/job/memory.stat": "anon 5\ninactive_file 536870912\n",
            "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user/cpu.max": "150000 100000\n",
        },
        {
            "proc/self/cgroup": "4:memory:/docker/1a\n2:cpu,cpuacct:/docker/1a\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1073741824\n",
            "sys/fs/cgroup/memory/memory.stat": "cache 7\ninactive_file 536870912\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
    ids=["version 2, limited further up", "version 1, seen from inside the container"],
)
def test_a_containers_limits_count(kernel_files, files):
    kernel_files(files)

    assert cgroups.cpu_quota() == 1.5
    memory = processor.memory_info()
    assert (memory.total, memory.limited) == (2 * GIB, True)
    assert memory.available == 3 * GIB // 2


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"},
        {
            "proc/self/cgroup": "4:memory:/\n2:cpu:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
    ids=["no control groups", "version 2", "version 1"],
)
def test_without_limits_the_machine_counts(kernel_files, files):
    kernel_files(files)

    assert (cgroups.memory_limit(), cgroups.cpu_quota()) == (None, None)
    assert not processor.memory_info().limited
