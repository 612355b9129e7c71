"""What warm kernels survive: killed zygotes, kernels and servers, foreign sockets, no memory."""

import contextlib
import ctypes
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

from dltlab.kernels import pool, protocol, provisioner

STRESS = int(os.environ.get("DLTLAB_STRESS_KERNELS", 8))
AS_NOBODY = "import os, socket; os.setuid(65534)"
GONE = 2.0  # seconds
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

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture
def sleeping(launch, zygote):
    """A warm kernel."""
    kernel = launch()
    assert kernel.is_warm
    return kernel


@pytest.fixture
def server():
    """Start processes that start a kernel each, and end them with the test."""
    started = []

    def start(**options):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **options,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.communicate()


def gone(pid):
    return not psutil.pid_exists(pid)


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_kernels_outlive_a_killed_zygote(sleeping, zygote, launch, until, caplog):
    os.kill(zygote().pid, signal.SIGKILL)

    def interrupt(message):
        if message["msg_type"] == "stream":
            sleeping.manager.interrupt_kernel()

    said = sleeping.try_to_run("print(1, flush=True); import time; time.sleep(1000)", interrupt)
    assert said.reply["ename"] == "KeyboardInterrupt"
    assert sleeping.process.poll() is None
    pid = sleeping.pid
    sleeping.end()
    until(lambda: gone(pid))

    assert not launch().is_warm
    assert caplog.text.count("A kernel starts cold: the last zygote has died.") == 1
    until(lambda: [each for each in pool.zygotes() if each.ready])
    assert launch().is_warm


def test_a_killed_kernel_is_known_by_its_exit_code(sleeping, zygote, until):
    os.kill(sleeping.pid, signal.SIGKILL)

    assert sleeping.process.wait(timeout=60) == -signal.SIGKILL
    until(lambda: not zygote().kernels)
    until(lambda: gone(sleeping.pid))


def test_the_kernels_of_a_killed_process_are_gone_at_once(zygote, server, until):
    process = server()
    kind, pid = process.stdout.readline().split()
    assert kind == "WarmKernel"

    process.kill()

    until(lambda: gone(int(pid)), GONE)
    until(lambda: not zygote().kernels)


def test_the_kernels_of_a_killed_jupyter_server_are_gone_at_once(zygote, until, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [f"port={port}", f"root_dir={tmp_path}", "token=", "disable_check_xsrf=True"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root"]
        + [f"--ServerApp.{option}" for option in options],
        stderr=subprocess.DEVNULL,
    )
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    address = f"http://127.0.0.1:{port}/api/kernels"
    urllib.request.urlopen(urllib.request.Request(address, b"{}", method="POST"))
    (pid,) = zygote().kernels

    process.kill()

    until(lambda: gone(pid), GONE)
    process.wait()
    until(lambda: not zygote().kernels)


def test_two_servers_that_start_at_once_share_a_zygote(runtime, server, until):
    both = [server(), server()]

    assert [process.stdout.readline().split()[0] for process in both] == ["Popen", "Popen"]
    until(lambda: [each for each in pool.zygotes() if each.ready])
    assert len(pool.zygotes()) == 1


def test_a_fork_that_is_not_taken_ends_by_itself(zygote, until):
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "connection.json"]
    wanted = provisioner.Wanted.read(command, {"env": dict(os.environ)})

    offer = provisioner._ask(wanted)
    assert zygote().kernels == [offer.pid]
    del offer

    until(lambda: not zygote().kernels)


def test_a_stale_socket_is_replaced(runtime, zygote, launch, until):
    socket_file = zygote().files.with_suffix(".socket")
    os.kill(zygote().pid, signal.SIGKILL)
    assert socket_file.exists()

    assert not launch().is_warm

    until(lambda: [each for each in pool.zygotes() if each.ready])
    assert launch().is_warm


@pytest.mark.parametrize("answer", [None, b"", b"{}", b'{"pid": 1}'])
def test_a_foreign_socket_means_a_cold_start(runtime, launch, until, caplog, monkeypatch, answer):
    """Something else than a zygote is there: it hangs up, says nothing, or says nonsense."""
    monkeypatch.setattr(provisioner, "_PATIENCE", 0.5)
    path = socket_of(launch, until)

    with protocol.listen(path) as listener:
        stop = threading.Event()

        def foreigner():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    if answer is None:
                        stop.wait(60)
                    elif answer:
                        connection.recv(1 << 16)  # or the request may fail before the answer comes
                        connection.send(answer)

        thread = threading.Thread(target=foreigner)
        thread.start()
        kernel = launch()
        stop.set()
        thread.join()

    assert not kernel.is_warm
    assert kernel.tell("1 + 1") == 2
    assert caplog.text.count("A kernel starts cold") == 1


def test_a_file_in_place_of_the_socket_means_a_cold_start(runtime, launch, until):
    socket_of(launch, until).write_text("")

    assert not launch().is_warm
    until(lambda: [each for each in pool.zygotes() if each.ready])
    assert launch().is_warm


def socket_of(launch, until):
    """Where the socket of a zygote would be that has ended."""
    launch().end()
    until(lambda: [each for each in pool.zygotes() if each.ready])
    (state,) = pool.stop()
    until(lambda: not pool.zygotes())
    return state.files.with_suffix(".socket")


@as_root
def test_a_socket_of_another_user_is_not_spoken_to(runtime, launch, until, caplog):
    path = socket_of(launch, until)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with protocol._short(path) as address:
        listener.bind(address)
    number = listener.fileno()
    other = subprocess.Popen(
        [sys.executable, "-c", f"{AS_NOBODY}; socket.socket(fileno={number}).listen(); input()"],
        pass_fds=[number],
        stdin=subprocess.PIPE,
    )
    until(lambda: listening(path))

    kernel = launch()

    assert not kernel.is_warm
    assert "belongs to another user" in caplog.text
    other.communicate(b"\n")
    listener.close()


def listening(path):
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with probe, protocol._short(path) as address:
        return probe.connect_ex(address) == 0


@as_root
def test_another_user_is_not_answered(runtime, zygote):
    state = zygote()
    private = [each for each in (runtime, *runtime.parents) if each.stat().st_mode & 0o077 == 0]
    for each in private:
        each.chmod(0o711)
    path = state.files.with_suffix(".socket")
    path.chmod(0o666)
    program = (
        f"{AS_NOBODY}; asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"asking.connect({path.name!r}); print('connected', flush=True)\n"
        'asking.send(b\'{"ask": "retire"}\')'
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=runtime, stdout=subprocess.PIPE)

    for each in private:
        each.chmod(0o700)
    assert done.stdout == b"connected\n"
    assert not zygote().retired
    assert "another user asks" in state.files.with_suffix(".log").read_text()


def test_only_the_user_can_reach_the_socket(runtime, zygote):
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700
    assert stat.S_IMODE(zygote().files.with_suffix(".socket").stat().st_mode) == 0o600


def test_no_kernel_sees_the_variables_of_another(zygote, launch):
    launch(variables={"TOKEN": "secret"})
    other = launch()
    other.run("import os, pathlib")

    seen = other.tell("(dict(os.environ), pathlib.Path('/proc/self/environ').read_text())")

    assert "secret" not in str(seen)
    assert "secret" not in Path(f"/proc/{zygote().pid}/environ").read_text()


@pytest.mark.parametrize("obstacle", ["file", "open", "read-only"])
def test_a_folder_that_cannot_be_used_means_a_cold_start(runtime, server, obstacle):
    options = {}
    if obstacle == "file":
        runtime.write_text("")
    elif obstacle == "open":
        runtime.mkdir()
        runtime.chmod(0o755)
    else:
        runtime.parent.chmod(0o500)
        options["preexec_fn"] = _obey_permissions

    process = server(**options)

    assert process.stdout.readline().startswith("Popen ")
    error = process.communicate()[1]
    runtime.parent.chmod(0o700)
    assert error.count("A kernel starts cold: ") == 1


def _obey_permissions():
    """Take from root the capability to write where the permissions forbid it."""
    drop_from_bounding_set, dac_override = 24, 1  # linux/prctl.h, linux/capability.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)


@pytest.mark.parametrize("code", ["import threading; threading.Event().wait()", "1 / 0"])
def test_a_zygote_that_hangs_or_fails_while_it_imports_does_no_harm(
    runtime, launch, until, monkeypatch, caplog, code
):
    monkeypatch.setattr(pool, "WARM_UP", 2)
    (runtime.parent / "libraries" / "keras" / "__init__.py").write_text(code)

    assert launch().tell("1 + 1") == 2
    until(lambda: not pool.zygotes())

    for _ in range(2):
        assert not launch().is_warm
    until(lambda: "the last zygote did not get ready" in caplog.text)
    assert caplog.text.count("A kernel starts cold") == 1


def test_a_zygote_that_hangs_makes_no_second_kernel(zygote, launch, until, monkeypatch, caplog):
    monkeypatch.setattr(provisioner, "_PATIENCE", 0.5)
    pid = zygote().pid
    os.kill(pid, signal.SIGSTOP)

    kernel = launch()
    os.kill(pid, signal.SIGCONT)

    assert not kernel.is_warm
    assert "the zygote does not answer" in caplog.text
    until(lambda: zygote().ready and not zygote().kernels)


def test_a_kernel_out_of_memory_harms_nobody_else(sleeping, zygote, launch):
    greedy = launch()
    greedy.run("import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))")

    assert greedy.try_to_run("b'0' * 10**10").reply["ename"] == "MemoryError"

    assert greedy.tell("1 + 1") == 2
    assert sleeping.tell("1 + 1") == 2
    assert zygote().ready


def test_many_kernels_leave_nothing_behind(ready, launch, until):
    """Four at a time, with work for TensorFlow and for BLAS."""
    first = launch()
    assert first.is_warm
    zygote = psutil.Process(first.pid).parent()
    first.end()
    until(lambda: gone(first.pid))
    others = set(zygote.children())

    def one(_):
        kernel = launch()
        kernel.run(WORK)
        kernel.end()
        return kernel.pid, kernel.is_warm

    with ThreadPoolExecutor(4) as several:
        list(several.map(one, range(4)))
        until(lambda: set(zygote.children()) <= others)
        ours, theirs = descriptors("self"), descriptors(zygote.pid)
        memory = zygote.memory_full_info().uss
        done = list(several.map(one, range(STRESS)))

    until(lambda: set(zygote.children()) <= others)
    assert all(is_warm for _, is_warm in done)
    assert all(gone(pid) for pid, _ in done)
    assert descriptors(zygote.pid) == theirs
    assert descriptors("self") <= ours
    assert zygote.memory_full_info().uss < memory * 1.05
