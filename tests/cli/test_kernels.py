"""The commands that show and stop warm kernels."""

from dltlab.kernels import list_zygotes
from tests.deadlines import wait_until


def test_status_and_stop(runtime, zygote, launch, dltlab):
    kernel = launch()

    head, row = dltlab("kernels", "status").out.splitlines()
    assert head.split() == ["process", "state", "since", "kernels", "memory"]
    pid, state, _, kernels, memory, unit = row.split()
    assert (pid, state, kernels, unit) == (str(zygote().pid), "ready", "1", "MB")
    assert int(memory) > 0

    assert dltlab("kernels", "stop").out == "Stopped: 0. Stopping with their last kernel: 1.\n"
    assert "retired" in dltlab("kernels", "status").out
    assert kernel.evaluate("1 + 1") == 2

    kernel.shut_down()
    wait_until(lambda: not list_zygotes())
    assert list(runtime.iterdir()) == []
    assert dltlab("kernels", "stop").out == "Stopped: 0.\n"
