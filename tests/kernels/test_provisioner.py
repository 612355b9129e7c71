"""The provisioner, and the zygote that `dltlab lab` starts."""

import json
import os
import subprocess
import sys
import urllib.request

import pytest

from dltlab.kernels import list_zygotes, prestart
from dltlab.paths import COLD_KERNELS
from tests.deadlines import HANG_SECONDS, spawn, wait_for_port, wait_until


@pytest.mark.parametrize("name", [COLD_KERNELS, "BINDER_SERVICE_HOST"])
def test_a_variable_turns_warm_kernels_off(zygote, launch, monkeypatch, name):
    assert launch().is_warm

    monkeypatch.setenv(name, "1")

    assert not launch().is_warm


def test_other_systems_start_cold(zygote, launch, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    assert not launch().is_warm


def test_a_system_without_proc_starts_cold(zygote, launch, monkeypatch, caplog):
    def fail(command, options):
        raise FileNotFoundError("/proc/self/status")

    monkeypatch.setattr("dltlab.kernels.request.KernelRequest.from_command", fail)

    assert not launch().is_warm
    assert "A kernel starts cold: /proc/self/status." in caplog.text


def test_the_first_kernel_after_a_prestart_is_a_fork(zygote, launch):
    kernel = launch()

    assert kernel.is_warm
    assert zygote().kernels == [kernel.pid]


@pytest.mark.parametrize("name", [COLD_KERNELS, "BINDER_SERVICE_HOST"])
def test_nothing_is_prestarted_where_kernels_are_cold(runtime, name):
    prestart({**os.environ, name: "1"})

    assert list_zygotes() == []


def test_nothing_is_prestarted_on_other_systems(runtime, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")

    prestart(os.environ)

    assert list_zygotes() == []


def test_a_prestart_that_fails_is_left_to_the_first_kernel(runtime, launch, caplog):
    runtime.write_text("")  # a file in place of the folder

    prestart(os.environ)

    assert not launch().is_warm
    assert "A kernel starts cold" in caplog.text


@pytest.fixture
def lab(runtime, script, tmp_path, monkeypatch):
    """JupyterLab as `dltlab lab` starts it: its address and token."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.delenv("JUPYTER_DEFAULT_PROVISIONER_NAME")
    process = spawn(
        [script, "lab", "--no-browser", "--dir", tmp_path / "workspace"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        path = tmp_path / "jupyter" / f"jpserver-{process.pid}.json"
        wait_until(lambda: path.exists() and path.read_text().endswith("}"))
        server = json.loads(path.read_text())
        wait_for_port(server["port"])
        yield server
    finally:
        process.terminate()
        process.wait(HANG_SECONDS)


def test_the_first_kernel_of_dltlab_lab_is_a_fork_of_the_zygote_it_started(lab):
    (zygote,) = list_zygotes()
    request = urllib.request.Request(
        f"{lab['url']}api/kernels",
        b'{"name": "python3"}',
        headers={"Authorization": f"token {lab['token']}"},
    )

    with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
        assert answer.status == 201

    (after,) = list_zygotes()
    assert after.pid == zygote.pid
    assert len(after.kernels) == 1
