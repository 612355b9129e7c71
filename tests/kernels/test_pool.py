"""Zygotes of a user: how they are started, replaced, listed and stopped."""

import os
import signal

import pytest

from dltlab.errors import Unavailable
from dltlab.kernels import list_zygotes, pool, prestart, stop_zygotes
from tests.deadlines import wait_until


def pids() -> list[int]:
    return [zygote.pid for zygote in list_zygotes()]


def test_a_change_of_the_packages_retires_the_zygote_with_its_last_kernel(
    zygote, launch, monkeypatch, tmp_path
):
    kernel = launch()
    assert kernel.is_warm
    old = zygote().pid
    packages = tmp_path / "site-packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)

    assert not launch().is_warm
    wait_until(lambda: [state for state in list_zygotes() if state.ready and state.pid != old])

    assert zygote().retired
    assert kernel.evaluate("1 + 1") == 2
    assert launch().is_warm
    kernel.shut_down()
    wait_until(lambda: old not in pids())


def test_there_are_never_more_zygotes_than_allowed(zygote, launch, monkeypatch, caplog):
    monkeypatch.setattr(pool, "MAX_ZYGOTES", 1)
    first = zygote().pid

    launch(variables={"KERAS_BACKEND": "jax"})
    wait_until(lambda: first not in pids())
    wait_until(lambda: [state for state in list_zygotes() if state.ready])
    kernel = launch(variables={"KERAS_BACKEND": "jax"})
    assert kernel.is_warm
    for _ in range(2):
        assert not launch(variables={"KERAS_BACKEND": "torch"}).is_warm

    wait_until(lambda: "There are 1 zygotes with kernels already" in caplog.text)
    assert caplog.text.count("A kernel starts cold") == 1
    assert len(pids()) == 1


def test_a_zygote_without_kernels_ends_after_the_idle_time(runtime, monkeypatch):
    monkeypatch.setattr(pool, "IDLE_SECONDS", 1)
    prestart(os.environ)
    assert pids()

    wait_until(lambda: not pids())

    assert list(runtime.iterdir()) == []


def test_a_second_start_leaves_the_zygote_as_it_is(zygote):
    prestart(os.environ)

    assert pids() == [zygote().pid]


def test_the_files_of_a_killed_zygote_are_removed(runtime, zygote):
    os.kill(zygote().pid, signal.SIGKILL)

    wait_until(lambda: not pids())

    assert list(runtime.iterdir()) == []


def test_a_zygote_that_does_not_answer_is_killed(zygote, monkeypatch):
    pid = zygote().pid
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(pool, "ANSWER_SECONDS", 0.1)

    (state,) = stop_zygotes()

    assert (state.pid, state.ready) == (pid, False)
    wait_until(lambda: not pids())


@pytest.mark.parametrize("obstacle", ["open to others", "a file"])
def test_a_folder_that_is_not_the_users_own_is_refused(runtime, obstacle):
    if obstacle == "a file":
        runtime.write_text("")
    else:
        runtime.mkdir(mode=0o755)
        runtime.chmod(0o755)

    with pytest.raises((Unavailable, FileExistsError)):
        list_zygotes()
