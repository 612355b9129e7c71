"""The command of a cold kernel. What the kernel does is in test_child.py."""

import sys

from dltlab.kernels.cold import command_of


def test_the_launcher_of_ipykernel_is_replaced():
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "kernel.json"]

    assert command_of(command) == [
        sys.executable,
        "-m",
        "dltlab.kernels.cold",
        "-f",
        "kernel.json",
    ]


def test_other_commands_stay_as_they_are():
    other = ["/other/python", "-m", "ipykernel_launcher", "-f", "kernel.json"]

    assert command_of(other) == other
