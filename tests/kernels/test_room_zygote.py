"""The zygote of a room: every account gets its own kernels, and nothing of another's."""

import json
import socket
from types import SimpleNamespace

import psutil
import pytest

from dltlab.kernels import room_zygote
from dltlab.kernels.privileges import Account
from dltlab.kernels.room_zygote import BURST, MAX_KERNELS, SECONDS_PER_KERNEL
from tests.deadlines import wait_until
from tests.room_fixtures import FOLDER, Room, open_light_room

SIZES = (1, 20, 200, 1000, 3000, 4000)
ADA, BOB, EVE = "learner01", "learner02", "learner03"
# The pattern has a class of one character, so that the code itself does not contain the text.
SCAN = """
import re

def count(pattern):
    number = 0
    with open("/proc/self/mem", "rb", 0) as memory:
        for line in open("/proc/self/maps"):
            start, end, readable = re.match("([0-9a-f]+)-([0-9a-f]+) (.)", line).groups()
            if readable == "r" and "[v" not in line:
                try:
                    memory.seek(int(start, 16))
                    data = memory.read(int(end, 16) - int(start, 16))
                    number += len(re.findall(pattern, data))
                except (OSError, ValueError, OverflowError):
                    pass
    return number
"""
CONNECT = f"""
import json, os, socket, sys

def connect(user=os.getuid()):
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(600)
    connection.connect(f"{FOLDER}/kernels/{{user}}/kernels.socket")
    return connection

def answer(data):
    with connect() as connection:
        connection.send(data)
        return json.loads(connection.recv(4096))
"""
FLOOD = f"""{CONNECT}
print("started", flush=True)
held = []
while True:
    held = [connect(), *held[:100]]
"""
ATTACKS = """
import ctypes, json, os, signal, sys

libc = ctypes.CDLL(None, use_errno=True)
victims = [int(word) for word in sys.argv[1:]]

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def read_memory(pid):
    local = Vector(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    remote = Vector(0x400000, 8)
    checked(libc.process_vm_readv(pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0))

attacks = {
    "kill": lambda pid: os.kill(pid, signal.SIGTERM),
    "take a file": lambda pid: checked(libc.syscall(438, os.pidfd_open(pid), 0, 0)),
    "trace": lambda pid: checked(libc.ptrace(16, pid, 0, 0)),
    "read memory": read_memory,
    "list files": lambda pid: os.listdir(f"/proc/{pid}/fd"),
    "folder": lambda pid: os.readlink(f"/proc/{pid}/cwd"),
    "limits": lambda pid: checked(libc.prlimit(pid, 7, b"\\0" * 16, None)),
}
for name in ("environ", "maps", "mem", "smaps_rollup", "io", "stack", "syscall"):
    attacks[name] = lambda pid, name=name: open(f"/proc/{pid}/{name}", "rb").read(1)
done = []
for pid in victims:
    for name, attack in attacks.items():
        try:
            attack(pid)
        except OSError:
            pass
        else:
            done.append([pid, name])
print(json.dumps(done))
"""


@pytest.fixture(scope="module")
def room():
    """A room that tests share, with a zygote that has had a variable that no kernel may see."""
    with open_light_room() as room:
        room.start_zygote(variables={"HUB_SECRET": "hub" + "secret4711"})
        yield room


@pytest.fixture(scope="module")
def ada(room: Room):
    return room.sign_in(
        ADA, **{f"TOKENS_{size}": "token-of-ada-1234567890" * size for size in SIZES}
    )


@pytest.fixture(scope="module")
def bob(room: Room, ada):
    return room.sign_in(BOB)


@pytest.fixture
def new_room():
    """A room of the test's own, without a zygote."""
    with open_light_room() as room:
        yield room


def test_a_kernel_is_its_account_s_and_has_no_privileges(room, bob):
    bob.run("status = dict(l.split(':', 1) for l in open('/proc/self/status').read().splitlines())")
    status = json.loads(bob.run("import json; print(json.dumps(status))"))
    user = str(room.user(BOB))

    assert bob.kernel["is_warm"]
    assert status["Uid"].split() == status["Gid"].split() == 4 * [user]
    assert status["Groups"].split() == [user]
    assert {status[f"Cap{kind}"].strip("\t0") for kind in ("Inh", "Prm", "Eff", "Amb")} == {""}
    assert status["NoNewPrivs"].strip() == "1"


def test_a_kernel_runs_in_its_home_with_its_variables(bob):
    code = "import os; print(os.getcwd(), os.environ['HOME'], os.environ['USER'])"

    assert bob.run(code) == f"/home/{BOB} /home/{BOB} {BOB}"


def test_the_zygote_has_no_capability_but_to_become_others(room):
    status = room.namespace.run(["grep", "Cap", f"/proc/{room.zygote}/status"]).stdout
    masks = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines()}
    setgid, setuid, resource = 1 << 6, 1 << 7, 1 << 24

    assert masks["CapPrm:"] & ~resource == setgid | setuid
    assert masks["CapBnd:"] & ~resource == setgid | setuid
    assert masks["CapInh:"] == masks["CapAmb:"] == 0


def test_nothing_of_one_learner_is_in_the_memory_of_another_s_kernel(ada, bob):
    ada.run("secret = 'secret-of-' + 'ada-0987654321'")
    for learner in (ada, bob):
        learner.run(SCAN)

    assert ada.kernel["is_warm"]
    assert bob.kernel["is_warm"]
    assert int(ada.run("print(count(b'token-of-ad[a]-1234567890'))")) > 0
    assert bob.run("print(count(b'token-of-ad[a]-1234567890'))") == "0"
    assert bob.run("print(count(b'secret-of-ad[a]-0987654321'))") == "0"


def test_a_fork_has_become_the_account_before_it_reads_the_request(room):
    code = f"""{CONNECT}
import select
from pathlib import Path

name = b"kernels.room_zyg" + b"ote"  # this code is in a command, too

def forks():
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.stat().st_uid == os.getuid() and name in path.read_bytes():
                yield path
        except OSError:
            pass

with connect() as connection:
    while not any(forks()) and not select.select([connection], [], [], 0.02)[0]:
        pass
    print(any(forks()))
"""

    assert room.namespace.python(code, account=EVE) == "True"


def test_nothing_of_the_hub_is_in_the_memory_or_the_environment_of_a_kernel(bob):
    bob.run(SCAN)

    assert bob.run("print(count(b'hubsecre[t]4711'))") == "0"
    assert "hubsecret4711" not in bob.run("print(open('/proc/self/environ').read())")


def test_a_kernel_has_no_file_of_the_zygote_or_of_another_kernel(room, ada, bob):
    code = """
import os, socket, stat, struct
for name in os.listdir("/proc/self/fd"):
    try:
        status = os.fstat(int(name))
    except OSError:
        continue
    if stat.S_ISSOCK(status.st_mode):
        copy = socket.socket(fileno=os.dup(int(name)))
        if copy.family == socket.AF_UNIX:
            owner = copy.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            print("socket", struct.unpack("3i", owner)[1], copy.getsockname() or "", sep="|")
        copy.close()
    information = open(f"/proc/self/fdinfo/{name}").read()
    if "Pid:" in information:
        print("process", information.partition("Pid:")[2].split()[0], "", sep="|")
"""
    files = [line.split("|") for line in bob.run(code).splitlines()]

    assert {file[1] for file in files if file[0] == "socket"} <= {str(room.user(BOB)), "-1"}
    assert not [file for file in files if file[2].startswith(FOLDER)]
    processes = {file[1] for file in files if file[0] == "process"}
    assert processes == {str(room.inner_pid(bob.process))}


def test_a_neighbor_s_kernel_server_and_files_and_the_zygote_are_out_of_reach(room, ada, bob):
    victims = [ada.kernel["pid"], room.inner_pid(ada.process), room.zygote]

    done = room.namespace.python(ATTACKS, *map(str, victims), account=BOB)

    assert json.loads(done) == []
    home = room.namespace.run(["ls", f"/home/{ADA}"], BOB)
    assert home.returncode != 0
    assert "Permission denied" in home.stderr
    own = ["head", "-c1", f"/proc/{bob.kernel['pid']}/environ"]
    assert room.namespace.run(own, BOB).returncode == 0


def test_the_door_of_another_account_is_closed(room):
    code = CONNECT + "connect(int(sys.argv[1])).recv(100)"

    done = room.namespace.run(["python", "-c", code, str(room.user(ADA))], BOB)

    assert "PermissionError" in done.stderr


def test_at_an_open_door_another_account_and_root_are_refused(room):
    folder = f"{FOLDER}/kernels/{room.user(ADA)}"
    room.namespace.run(["chmod", "755", folder])
    code = CONNECT + "print(connect(int(sys.argv[1])).recv(100))"
    try:
        answers = [
            room.namespace.python(code, str(room.user(ADA)), account=account)
            for account in (BOB, "root")
        ]
    finally:
        room.namespace.run(["chmod", "710", folder])

    assert all("socket of another account" in answer for answer in answers)


@pytest.mark.parametrize(
    "data", [b"{", b"[" * 100_000, b"{}", b'{"command": [], "env": {}}', b"\xff\xfe"]
)
def test_a_malformed_request_is_refused_by_a_fork(room, data):
    answer = json.loads(
        room.namespace.python(CONNECT + f"print(json.dumps(answer({data!r})))", account=EVE)
    )

    assert set(answer) == {"refused"}
    assert room.zygotes[0].poll() is None


def test_silence_gets_no_answer_but_its_end(room):
    code = CONNECT + "print(json.loads(connect().recv(4096)))"

    assert "TimeoutError" in room.namespace.python(code, account=EVE)


def test_a_kernel_has_no_debugger(bob):
    bob.run("kernel = get_ipython().kernel")

    assert bob.run("print(hasattr(kernel, 'debugger'))") == "False"
    assert bob.run("print('debugger' in kernel.kernel_info['supported_features'])") == "False"


def test_memory_shortage_ends_kernels_before_the_rest_of_the_room(room, bob):
    assert int(bob.run("print(open('/proc/self/oom_score_adj').read())")) > 0
    score = room.namespace.run(["cat", f"/proc/{room.zygote}/oom_score_adj"]).stdout
    assert int(score) < 300


def test_kernels_of_an_account_start_one_after_another_after_a_burst(monkeypatch):
    clock = SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr(room_zygote, "time", clock)
    account = Account("ada", 1000, 1000, [1000], "/home/ada")
    with socket.socket() as listener:
        door = room_zygote.Door(account, listener, 0, since=100.0)

    assert door.seconds_to_wait() == 0
    door.allowance -= BURST
    assert door.seconds_to_wait() == SECONDS_PER_KERNEL
    clock.monotonic = lambda: 100.0 + SECONDS_PER_KERNEL / 2
    assert door.seconds_to_wait() == SECONDS_PER_KERNEL / 2
    clock.monotonic = lambda: 100.0 + SECONDS_PER_KERNEL
    assert door.seconds_to_wait() == 0
    clock.monotonic = lambda: 1e6
    assert (door.seconds_to_wait(), door.allowance) == (0, BURST)


def test_requests_beyond_the_allowance_wait_in_the_queue_of_their_account(new_room):
    new_room.start_zygote()
    code = f"""{CONNECT}
import time
start = time.monotonic()
for _ in range({BURST + 2}):
    answer(b"{{")
print(time.monotonic() - start)
"""

    assert float(new_room.namespace.python(code, account=EVE)) > SECONDS_PER_KERNEL


def test_a_neighbor_cannot_connect_to_a_kernel(room, ada):
    file = ada.run("from ipykernel.connect import get_connection_file as f; print(f())")
    code = """
import json, os, socket, sys
for path in sys.argv[1:]:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(path)
            print("connected")
        except OSError as error:
            print(type(error).__name__)
try:
    open(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
"""
    prefix = json.loads(room.namespace.run(["cat", file]).stdout)["ip"]
    sockets = [f"{prefix}-{number}" for number in range(1, 6)]

    refused = room.namespace.python(code, *sockets, account=BOB).split()
    allowed = room.namespace.python(code, *sockets, account=ADA).split()

    assert prefix == f"/home/{ADA}/kernel"
    assert set(refused) == {"PermissionError"}
    assert "connected" in allowed


def test_a_flood_by_one_account_keeps_nobody_else_waiting(new_room):
    new_room.start_zygote()
    with new_room.namespace.start(["python", "-c", FLOOD], EVE, stdout=-1) as process:
        assert process.stdout.readline() == "started\n"
        learner = new_room.sign_in(ADA)
        children = psutil.Process(new_room.zygotes[0].pid).children(recursive=True)
        process.kill()

    assert learner.kernel["is_warm"]
    assert len(children) < BURST + 15


def test_an_account_has_a_limited_number_of_kernels(new_room):
    new_room.start_zygote()
    hold = (
        CONNECT
        + f"""
request = json.dumps({{"command": [], "env": {{}}}})
held = [connect() for _ in range({MAX_KERNELS})]
with connect() as connection:
    print(connection.recv(4096).decode())
"""
    )

    answer = new_room.namespace.python(hold, account=EVE)

    assert "denied" in answer
    assert f"You have {MAX_KERNELS} kernels already." in answer


def test_kernels_go_on_without_the_zygote_and_new_ones_wait_for_the_next(new_room):
    new_room.start_zygote()
    learner = new_room.sign_in(ADA)
    learner.run("x = 41")

    new_room.zygotes[0].kill()
    new_room.zygotes[0].wait()
    new_room.start_zygote()

    assert learner.run("print(x + 1)") == "42"
    assert new_room.sign_in(BOB).kernel["is_warm"]


def test_a_zygote_that_another_one_replaces_ends(new_room):
    new_room.start_zygote()
    new_room.start_zygote()

    assert new_room.zygotes[0].wait() == 0
    assert new_room.sign_in(ADA).kernel["is_warm"]


def test_accounts_may_be_admitted_and_dismissed_while_it_runs(new_room):
    new_room.start_zygote()
    new_room.admit("learner04")

    wait_until(lambda: str(new_room.user("learner04")) in new_room.open_doors())
    assert new_room.sign_in("learner04").kernel["is_warm"]

    user = new_room.user("learner04")
    new_room.namespace.run(["rm", "-r", f"{FOLDER}/kernels/{user}"])
    listening = f"grep -c kernels/{user}/ /proc/net/unix"
    wait_until(lambda: new_room.namespace.run(["sh", "-c", listening]).stdout.strip() == "0")


def test_a_kernel_with_other_variables_starts_cold_and_says_why(room):
    learner = room.sign_in(EVE, KERAS_BACKEND="jax")

    assert not learner.kernel["is_warm"]
    assert "KERAS_BACKEND differs from that of the room" in room.log.read_text()
