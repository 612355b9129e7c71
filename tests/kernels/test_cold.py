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


def test_a_cold_kernel_of_a_room_has_no_debugger(launch, warm_kernels, monkeypatch, tmp_path):
    monkeypatch.setenv("DLTLAB_ROOM", str(tmp_path))
    kernel = launch()
    kernel.run("features = get_ipython().kernel.kernel_info['supported_features']")

    assert not kernel.is_warm
    assert kernel.evaluate("'debugger' in features") is False
