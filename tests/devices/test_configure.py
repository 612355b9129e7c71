"""Configuring TensorFlow: the real one on the CPU in a process of its own, and fakes of GPUs."""

import os
import re
import subprocess
import sys

import pytest
from IPython.core.formatters import DisplayFormatter

from dltlab.devices import processor, setup
from dltlab.errors import Invalid, Unavailable
from tests.deadlines import HANG_SECONDS

GIB = 1 << 30
PROGRAM = """
import numpy as np
from dltlab.devices import setup
from dltlab.errors import Unavailable

first = repr(setup(logical_devices=4, threads=1, seed=1, precision="mixed_bfloat16"))
first_draw = np.random.rand()
assert repr(setup(logical_devices=4, threads=1, seed=1, precision="mixed_bfloat16")) == first
assert np.random.rand() == first_draw

import keras
import tensorflow as tf
assert len(tf.config.list_logical_devices("CPU")) == 4
assert tf.config.threading.get_intra_op_parallelism_threads() == 1
assert keras.config.dtype_policy().name == "mixed_bfloat16"

assert repr(setup(logical_devices=4, threads=1, seed=1, precision="mixed_bfloat16")) == first
assert setup(precision="float32").num_logical_devices == 4
for late in ({"logical_devices": 3}, {"threads": 2}):
    try:
        setup(**late)
    except Unavailable as error:
        print(error)
print(first)
"""


def test_setup_on_a_cpu_can_be_repeated_and_reports_when_it_is_too_late():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )

    assert process.returncode == 0, process.stderr
    *late, first = process.stdout.splitlines()
    assert len(late) == 2
    assert all("restart the kernel and call setup first" in line for line in late)
    assert first.startswith("TensorFlow computes on the CPU (")
    assert first.endswith("as 4 logical devices in mixed_bfloat16, with 1 thread, from seed 1.")


def test_two_gpus_with_matrix_units_compute_in_bfloat16(two_gpus, tensorflow):
    tf = tensorflow(2)

    text = repr(setup())

    assert text == "TensorFlow computes on 2 × NVIDIA A100-SXM4-80GB in mixed_bfloat16."
    assert [*tf.growth.values()] == [True, True]


@pytest.mark.parametrize(
    ("capability", "policy"), [((7, 0), "float32"), ((9, 0), "mixed_bfloat16")]
)
def test_bfloat16_is_chosen_only_where_tensor_cores_support_it(
    two_gpus, tensorflow, capability, policy
):
    tensorflow(2, capability)

    assert setup().precision == policy


@pytest.mark.parametrize(
    ("extensions", "policy"),
    [(("AVX-512", "AVX-512 BF16"), "float32"), (("AMX", "AMX-BF16"), "mixed_bfloat16")],
)
def test_bfloat16_on_a_cpu_needs_amx(no_nvml, tensorflow, monkeypatch, extensions, policy):
    cpu = processor.Cpu("a CPU", 2, 2, 2, extensions, None, None)
    monkeypatch.setattr(processor, "cpu_info", lambda: cpu)
    tensorflow()

    assert setup().precision == policy


def test_four_logical_devices_share_two_gpus(two_gpus, tensorflow):
    tf = tensorflow(2)

    assert setup(logical_devices=4).num_logical_devices == 4
    assert [len(parts) for parts in tf.parts.values()] == [2, 2]
    assert all(part.memory_limit == 36 * 1024 for parts in tf.parts.values() for part in parts)
    assert not tf.growth

    two_gpus.gpus[0].used = 70 * GIB  # by the first call
    assert setup(logical_devices=4).num_logical_devices == 4


def test_no_more_gpus_are_visible_than_logical_devices_are_asked_for(two_gpus, tensorflow):
    tf = tensorflow(2)

    assert setup(logical_devices=1).num_logical_devices == 1
    assert tf.visible == tf.gpus[:1]


def test_too_many_logical_devices_for_the_memory_of_a_gpu_are_refused(two_gpus, tensorflow):
    two_gpus.gpus[1].used = 77 * GIB
    tensorflow(2)

    with pytest.raises(
        Unavailable, match=r"4 logical devices need 4,096 MiB.*ask for 2 or fewer\.$"
    ):
        setup(logical_devices=8)


def test_too_many_logical_devices_for_the_memory_of_the_cpu_are_refused(no_nvml, tensorflow):
    tensorflow()

    with pytest.raises(Unavailable, match=r"^100000 logical devices need 25,600,000 MiB"):
        setup(logical_devices=100_000)


def test_half_a_core_gets_one_thread(no_nvml, tensorflow, kernel_files):
    tf = tensorflow()
    kernel_files({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"})

    text = repr(setup())

    assert tf.threads == 1
    assert "0.5 cores) in float32, with 1 thread." in text


def test_a_gpu_that_is_not_used_is_reported_with_the_fix(two_gpus, tensorflow, cuda_libraries):
    tensorflow(0)
    cuda_libraries()

    result = setup()

    assert "A GPU is not used: CUDA library: libcudart.so.12" in repr(result)
    assert repr(result).endswith("pip install 'tensorflow[and-cuda]'.")
    html = DisplayFormatter().format(result)[0]["text/html"]
    assert "<b>A GPU is not used" in html


def test_memory_growth_after_the_first_computation_is_refused(two_gpus, tensorflow):
    tf = tensorflow(2)

    def too_late(gpu: object, enabled: bool) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    tf.config.experimental.set_memory_growth = too_late

    with pytest.raises(Unavailable, match="restart the kernel and call setup first"):
        setup()


def test_logical_devices_share_the_slice_of_a_gpu_in_mig_mode(mig_gpu, tensorflow):
    tf = tensorflow(1)

    setup(logical_devices=2)

    assert [part.memory_limit for part in tf.parts[tf.gpus[0]]] == [18 * 1024] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "half"}, "precision is 'half'; it must be one of auto, float32"),
        ({"logical_devices": 0}, "logical_devices is 0; it must be a positive integer"),
        ({"logical_devices": 1.5}, "logical_devices is 1.5"),
        ({"threads": -1}, "threads is -1"),
        ({"seed": -1}, "seed is -1; it must be an integer from 0"),
        ({"seed": "one"}, "seed is 'one'"),
    ],
)
def test_invalid_arguments_are_refused_before_tensorflow_is_imported(
    arguments, message, monkeypatch
):
    monkeypatch.setitem(sys.modules, "tensorflow", None)

    with pytest.raises(Invalid, match=re.escape(message)):
        setup(**arguments)


@pytest.mark.parametrize(
    ("value", "message"), [("banana", "is not understood"), ("0,7", "names the GPU 7")]
)
def test_an_invalid_value_of_cuda_visible_devices_is_refused(two_gpus, monkeypatch, value, message):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)

    with pytest.raises(Invalid, match=message):
        setup()


def test_without_gpus_a_number_in_cuda_visible_devices_is_accepted(
    no_nvml, tensorflow, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    tensorflow()

    assert setup().unused_gpu is None
