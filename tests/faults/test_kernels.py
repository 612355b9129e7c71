"""Faults of warm kernels: killed zygotes, kernels and servers, foreign sockets, no memory."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from jupyter_core.utils import ensure_event_loop

from dltlab.kernels import list_zygotes, pool, protocol, stop_zygotes, warm_kernel
from dltlab.workshop.connection import free_ports
from tests.deadlines import HANG_SECONDS, drop_root_permissions, spawn, wait_for_port, wait_until

NUM_KERNELS = int(os.environ.get("DLTLAB_STRESS_KERNELS", 8))
AS_NOBODY = "import os, socket; os.setuid(65534)"
WORK = (
    "import numpy as np, tensorflow as tf\n"
    "square = np.random.rand(300, 300)\n"
    "product = square @ square\n"
    "tf.linalg.matmul(square, square).numpy()"
)
SERVER = """
import logging, sys
logging.basicConfig()
from jupyter_client.manager import KernelManager
manager = KernelManager()
manager.start_kernel()
print(type(manager.provisioner.process).__name__, manager.provisioner.pid, flush=True)
sys.stdin.read()
manager.shutdown_kernel()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start another user's process")


@pytest.fixture
def warm(launch, zygote):
    """A warm kernel."""
    kernel = launch()
    assert kernel.is_warm
    return kernel


@pytest.fixture
def server():
    """Start processes that start a kernel each, and end them after the test."""
    processes = []

    def start(**options):
        process = spawn(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.communicate(timeout=HANG_SECONDS)


def has_ended(pid):
    return not psutil.pid_exists(pid)


def a_zygote_is_ready():
    return any(zygote.ready for zygote in list_zygotes())


def num_descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_kernels_outlive_a_killed_zygote(warm, zygote, launch, caplog):
    os.kill(zygote().pid, signal.SIGKILL)

    def interrupt(message):
        if message["msg_type"] == "stream":
            warm.manager.interrupt_kernel()

    result = warm.try_to_run("print(1, flush=True); import time; time.sleep(1000)", interrupt)
    assert result.reply["ename"] == "KeyboardInterrupt"
    assert warm.process.poll() is None
    pid = warm.pid
    warm.shut_down()
    wait_until(lambda: has_ended(pid))

    assert not launch().is_warm
    assert caplog.text.count("A kernel starts cold: The last zygote has died.") == 1
    wait_until(a_zygote_is_ready)
    assert launch().is_warm


def test_the_exit_code_of_a_killed_kernel_is_known(warm, zygote):
    os.kill(warm.pid, signal.SIGKILL)

    assert warm.process.wait(timeout=HANG_SECONDS) == -signal.SIGKILL
    wait_until(lambda: not zygote().kernels)
    wait_until(lambda: has_ended(warm.pid))


def test_the_kernels_of_a_killed_process_end(zygote, server):
    process = server()
    kind, pid = process.stdout.readline().split()
    assert kind == "WarmKernel"

    process.kill()

    wait_until(lambda: has_ended(int(pid)))
    wait_until(lambda: not zygote().kernels)


def test_the_kernels_of_a_killed_jupyter_server_end(zygote, tmp_path):
    (port,) = free_ports(1)
    options = [f"port={port}", f"root_dir={tmp_path}", "token=", "disable_check_xsrf=True"]
    process = spawn(
        [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
        + [f"--ServerApp.{option}" for option in options],
        stderr=subprocess.DEVNULL,
    )
    wait_for_port(port)
    address = f"http://127.0.0.1:{port}/api/kernels"
    request = urllib.request.Request(address, b"{}", method="POST")
    urllib.request.urlopen(request, timeout=HANG_SECONDS).close()
    (pid,) = zygote().kernels

    process.kill()

    wait_until(lambda: has_ended(pid))
    process.wait(timeout=HANG_SECONDS)
    wait_until(lambda: not zygote().kernels)


def test_two_servers_that_start_at_once_share_a_zygote(runtime, server):
    servers = [server(), server()]

    for process in servers:
        process.stdout.readline()
    wait_until(a_zygote_is_ready)
    assert len(list_zygotes()) == 1


def test_a_stale_socket_is_replaced(runtime, zygote, launch):
    socket_file = zygote().stem.with_suffix(".socket")
    os.kill(zygote().pid, signal.SIGKILL)
    assert socket_file.exists()

    assert not launch().is_warm

    wait_until(a_zygote_is_ready)
    assert launch().is_warm


@pytest.mark.parametrize("answer", [None, b"", b"{}", b'{"pid": 1}'])
def test_a_foreign_socket_means_a_cold_start(zygote, launch, caplog, monkeypatch, answer):
    """Another program listens: it closes the connection, or sends nothing, or nonsense."""
    monkeypatch.setattr(warm_kernel, "ANSWER_SECONDS", 0.5)
    path = socket_of_stopped(zygote)

    with protocol.listen(path) as listener:
        stop = threading.Event()

        def foreign_program():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    if answer is None:
                        stop.wait(HANG_SECONDS)
                    elif answer:
                        connection.recv(1 << 16)  # or sending the request may fail
                        connection.send(answer)

        thread = threading.Thread(target=foreign_program)
        thread.start()
        kernel = launch()
        stop.set()
        thread.join()

    assert not kernel.is_warm
    assert kernel.evaluate("1 + 1") == 2
    assert caplog.text.count("A kernel starts cold") == 1


def test_a_file_in_place_of_the_socket_means_a_cold_start(zygote, launch):
    socket_of_stopped(zygote).write_text("")

    assert not launch().is_warm
    wait_until(a_zygote_is_ready)
    assert launch().is_warm


def socket_of_stopped(zygote):
    """Stop a zygote and return the path at which its socket was."""
    path = zygote().stem.with_suffix(".socket")
    stop_zygotes()
    wait_until(lambda: not list_zygotes())
    return path


@as_root
def test_a_socket_of_another_user_is_not_used(zygote, launch, caplog):
    path = socket_of_stopped(zygote)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with protocol.short_address(path) as address:
        listener.bind(address)
    number = listener.fileno()
    other = subprocess.Popen(
        [sys.executable, "-c", f"{AS_NOBODY}; socket.socket(fileno={number}).listen(); input()"],
        pass_fds=[number],
        stdin=subprocess.PIPE,
    )
    wait_until(lambda: is_listening(path))

    kernel = launch()

    assert not kernel.is_warm
    assert "belongs to another user" in caplog.text
    other.communicate(b"\n")
    listener.close()


def is_listening(path):
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with probe, protocol.short_address(path) as address:
        return probe.connect_ex(address) == 0


@as_root
def test_a_request_of_another_user_is_refused(runtime, zygote):
    state = zygote()
    folders = (runtime, *runtime.parents)
    private = [folder for folder in folders if folder.stat().st_mode & 0o077 == 0]
    for folder in private:
        folder.chmod(0o711)
    path = state.stem.with_suffix(".socket")
    path.chmod(0o666)
    program = (
        f"{AS_NOBODY}; asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"asking.connect({path.name!r}); print('connected', flush=True)\n"
        'asking.send(b\'{"ask": "retire"}\')'
    )

    process = subprocess.run([sys.executable, "-c", program], cwd=runtime, stdout=subprocess.PIPE)

    for folder in private:
        folder.chmod(0o700)
    assert process.stdout == b"connected\n"
    assert not zygote().retired
    assert "the request of another user" in state.stem.with_suffix(".log").read_text()


def test_only_the_user_can_reach_the_socket(runtime, zygote):
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert stat.S_IMODE(zygote().stem.with_suffix(".socket").stat().st_mode) == 0o600


def test_no_kernel_sees_the_variables_of_another(zygote, launch):
    launch(variables={"TOKEN": "secret"})
    other = launch()
    other.run("import os, pathlib")

    visible = other.evaluate("(dict(os.environ), pathlib.Path('/proc/self/environ').read_text())")

    assert "secret" not in str(visible)
    assert "secret" not in Path(f"/proc/{zygote().pid}/environ").read_text()


@pytest.mark.parametrize("obstacle", ["a file", "open to others", "read-only"])
def test_a_folder_that_cannot_be_used_means_a_cold_start(runtime, server, obstacle):
    options = {}
    if obstacle == "a file":
        runtime.write_text("")
    elif obstacle == "open to others":
        runtime.mkdir()
        runtime.chmod(0o755)
    else:
        runtime.parent.chmod(0o500)
        options["preexec_fn"] = drop_root_permissions

    process = server(**options)

    assert process.stdout.readline().startswith("Popen ")
    stderr = process.communicate(timeout=HANG_SECONDS)[1]
    runtime.parent.chmod(0o700)
    assert stderr.count("A kernel starts cold: ") == 1


@pytest.mark.parametrize("code", ["import threading; threading.Event().wait()", "1 / 0"])
def test_kernels_start_cold_where_a_zygote_hangs_or_fails_on_import(
    runtime, launch, monkeypatch, caplog, code
):
    monkeypatch.setattr(pool, "WARM_UP_SECONDS", 2)
    (runtime.parent / "libraries" / "keras" / "__init__.py").write_text(code)

    assert launch().evaluate("1 + 1") == 2
    wait_until(lambda: not list_zygotes())

    for _ in range(2):
        assert not launch().is_warm
    wait_until(lambda: "The last zygote failed to start" in caplog.text)
    assert caplog.text.count("A kernel starts cold") == 1


def test_a_zygote_that_stops_answering_makes_no_second_kernel(zygote, launch, monkeypatch, caplog):
    monkeypatch.setattr(warm_kernel, "ANSWER_SECONDS", 0.5)
    pid = zygote().pid
    os.kill(pid, signal.SIGSTOP)

    kernel = launch()
    os.kill(pid, signal.SIGCONT)

    assert not kernel.is_warm
    assert "The zygote does not answer" in caplog.text
    wait_until(lambda: zygote().ready and not zygote().kernels)


def test_a_kernel_out_of_memory_does_not_affect_the_others(warm, zygote, launch):
    greedy = launch()
    greedy.run("import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))")

    assert greedy.try_to_run("b'0' * 10**10").reply["ename"] == "MemoryError"

    assert greedy.evaluate("1 + 1") == 2
    assert warm.evaluate("1 + 1") == 2
    assert zygote().ready


def test_many_kernels_leave_nothing_behind(ready_zygote, launch):
    """Four at a time, with work for TensorFlow and for BLAS."""
    first = launch()
    assert first.is_warm
    zygote = psutil.Process(first.pid).parent()
    first.shut_down()
    wait_until(lambda: has_ended(first.pid))
    others = set(zygote.children())

    def run_one(_):
        kernel = launch()
        kernel.run(WORK)
        kernel.shut_down()
        ensure_event_loop().close()  # that of this thread
        return kernel.pid, kernel.is_warm

    with ThreadPoolExecutor(4) as executor:
        list(executor.map(run_one, range(4)))
        wait_until(lambda: set(zygote.children()) <= others)
        before = num_descriptors("self"), num_descriptors(zygote.pid)
        memory = zygote.memory_full_info().uss
        kernels = list(executor.map(run_one, range(NUM_KERNELS)))

    wait_until(lambda: set(zygote.children()) <= others)
    assert all(is_warm for _, is_warm in kernels)
    assert all(has_ended(pid) for pid, _ in kernels)
    assert num_descriptors(zygote.pid) == before[1]
    assert num_descriptors("self") <= before[0]
    assert zygote.memory_full_info().uss < memory * 1.05
