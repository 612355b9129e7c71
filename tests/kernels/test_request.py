"""Requests for kernels: which a zygote can serve, and where warm kernels are turned off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dltlab.kernels.request import KernelRequest, warm_kernels_enabled
from dltlab.paths import COLD_KERNELS

VARIABLES = {"HOME": "/home/ada", "PATH": "/usr/bin"}
COMMAND = [sys.executable, "-m", "ipykernel_launcher", "-f", "connection.json"]


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["/usr/bin/python3", *COMMAND[1:]], {}),
        ([sys.executable, "-O", *COMMAND[1:]], {}),
        ([sys.executable, "-m", "xeus", "-f", "connection.json"], {}),
        (["R", "--slave", "-e", "IRkernel::main()"], {}),
        (COMMAND, {"stdin": 0}),
        (COMMAND, {"stdout": subprocess.PIPE}),
        (COMMAND, {"independent": True}),
    ],
)
def test_a_kernel_that_a_zygote_cannot_fork_has_no_request(command, options):
    assert KernelRequest.from_command(command, {"env": VARIABLES, **options}) is None


@pytest.mark.parametrize("name", ["keras.py", "matplotlibrc"])
def test_a_kernel_in_a_folder_with_its_own_libraries_has_no_request(tmp_path, name):
    (tmp_path / name).touch()

    def request_in(folder: Path):
        return KernelRequest.from_command(COMMAND, {"env": VARIABLES, "cwd": str(folder)})

    assert request_in(tmp_path) is None
    assert request_in(tmp_path.parent) is not None


def test_a_request_holds_what_a_process_inherits(tmp_path):
    umask = os.umask(0o027)
    try:
        request = KernelRequest.from_command(COMMAND, {"env": VARIABLES, "cwd": str(tmp_path)})
    finally:
        os.umask(umask)

    assert request.interpreter == [sys.executable]
    assert request.message["argv"] == ["-f", "connection.json"]
    assert request.message["env"] == VARIABLES | {"JPY_PARENT_PID": str(os.getpid())}
    assert (request.message["cwd"], request.message["umask"]) == (str(tmp_path), 0o027)
    assert request.streams == (None, None)


def test_warm_kernels_are_enabled_on_linux():
    assert warm_kernels_enabled({})
    assert warm_kernels_enabled({COLD_KERNELS: ""})


@pytest.mark.parametrize("name", [COLD_KERNELS, "BINDER_SERVICE_HOST"])
def test_a_variable_turns_warm_kernels_off(name):
    assert not warm_kernels_enabled({name: "1"})


def test_warm_kernels_are_off_on_other_systems(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert not warm_kernels_enabled({})
