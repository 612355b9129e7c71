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


def test_a_folder_that_cannot_be_made_is_one_sentence(dltlab, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "file"))

    for command in ("status", "stop"):
        result = dltlab("kernels", command)

        assert result.code == 2
        assert result.err.startswith(
            f"dltlab: {tmp_path}/file/dltlab-kernels cannot be written (Not a directory); "
        )
        assert len(result.err.splitlines()) == 1
