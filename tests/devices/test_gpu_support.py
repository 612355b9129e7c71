"""Why TensorFlow does not use a GPU."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dltlab.devices import gpu_support, nvidia_info, unused_gpu_reasons, visible_gpus
from dltlab.devices.gpu_support import CUDA_LIBRARIES, TensorFlowBuild, tensorflow_build


def reasons():
    return unused_gpu_reasons(nvidia_info())


@pytest.fixture
def build(monkeypatch):
    """Replace the installed TensorFlow: `build(TensorFlowBuild(…))`."""
    return lambda fake: monkeypatch.setattr(gpu_support, "tensorflow_build", lambda: fake)


def test_gpus_that_tensorflow_can_use_need_no_reason(two_gpus, every_cuda_library):
    assert reasons() == []


def test_without_a_gpu_there_is_no_reason(no_nvml, build):
    build(None)

    assert reasons() == []


def test_a_slice_of_a_gpu_in_mig_mode_can_be_used(mig_gpu, every_cuda_library):
    assert reasons() == []


def test_a_gpu_in_mig_mode_without_a_slice_cannot_be_used(nvml, gpu, every_cuda_library):
    nvml([gpu(mig=True)])

    (reason,) = reasons()

    assert "has no slice" in reason.message
    assert "nvidia-smi mig -i 0 -cgi" in reason.fix


def test_an_old_driver_is_a_reason(old_driver, every_cuda_library):
    (reason,) = reasons()

    assert "driver 470.82.01 is too old" in reason.message
    assert "Update the driver" in reason.fix


def test_an_old_gpu_is_a_reason(nvml, gpu, every_cuda_library):
    nvml([gpu("Tesla K80", capability=(3, 7))])

    (reason,) = reasons()

    assert "compute capability 3.7" in reason.message
    assert "6.0 or newer" in reason.message


def test_missing_cuda_libraries_are_named_with_the_command_that_installs_them(
    two_gpus, cuda_libraries
):
    cuda_libraries(*(CUDA_LIBRARIES.keys() - {"libcufft.so.11"}))

    (reason,) = reasons()

    assert reason.message == "CUDA library: libcufft.so.11 is missing"
    assert reason.fix == "pip install 'tensorflow[and-cuda]'"


def test_another_version_of_a_cuda_library_is_named(two_gpus, cuda_libraries):
    cuda_libraries(*(CUDA_LIBRARIES.keys() - {"libcudnn.so.9"}), "libcudnn.so.8")

    (reason,) = reasons()

    assert reason.message == "CUDA library: libcudnn.so.9 is needed but only libcudnn.so.8 found"


def test_libraries_in_the_cache_of_the_linker_are_found(two_gpus, cuda_libraries, monkeypatch):
    lines = [f"\t{name} (libc6,x86-64) => /usr/lib/{name}" for name in CUDA_LIBRARIES]
    monkeypatch.setattr(gpu_support, "linker_cache", lambda: "\n".join(lines))

    assert reasons() == []


def test_the_cache_of_the_linker_is_empty_where_there_is_no_ldconfig(monkeypatch):
    def missing(command, **options):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", missing)

    assert gpu_support.linker_cache() == ""


def test_the_cpu_build_of_tensorflow_is_a_reason(two_gpus, build):
    build(TensorFlowBuild("tensorflow-cpu", "2.21.0", None, ()))

    (reason,) = reasons()

    assert "tensorflow-cpu 2.21.0 is a build without CUDA" in reason.message
    assert reason.fix == "pip uninstall tensorflow-cpu && pip install 'tensorflow[and-cuda]'"


def test_without_tensorflow_that_is_the_reason(two_gpus, build):
    build(None)

    (reason,) = reasons()

    assert reason.message == "TensorFlow is not installed"


def test_another_system_than_linux_is_the_reason(two_gpus, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")

    (reason,) = reasons()

    assert "on Linux only" in reason.message


@pytest.mark.parametrize(
    ("value", "message", "intended"),
    [
        ("", "hides 2 of 2", True),
        ("-1", "hides 2 of 2", True),
        ("NoDevFiles", "hides 2 of 2", True),
        ("1", "hides 1 of 2", True),
        ("GPU-2b", "hides 1 of 2", True),
        ("7", "names the GPU 7, which does not exist; there is 0 (NVIDIA", False),
        ("banana", "is not understood", False),
    ],
)
def test_a_variable_that_hides_gpus_is_a_reason(
    two_gpus, every_cuda_library, monkeypatch, value, message, intended
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)

    (reason,) = reasons()

    assert message in reason.message
    assert reason.intended == intended
    assert "CUDA_VISIBLE_DEVICES" in reason.fix


def test_a_slice_is_visible_by_its_uuid(mig_gpu, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-3c")

    assert [gpu.index for gpu in visible_gpus(nvidia_info())] == [0]


def test_the_installed_build_is_read_from_its_files():
    build = tensorflow_build()

    assert build.package in ("tensorflow", "tensorflow-cpu", "tf-nightly")
    assert importlib.metadata.version(build.package) == build.version
    assert (build.cuda is None) == (build.capabilities == ())


def test_a_build_without_metadata_has_no_known_version(monkeypatch, tmp_path):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    assert tensorflow_build() == TensorFlowBuild("tensorflow", "of unknown version", None, ())

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert tensorflow_build() is None
