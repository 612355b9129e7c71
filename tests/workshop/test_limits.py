"""What a learner may use: a hog is stopped, and others go on."""

import json
import pwd
from types import SimpleNamespace

import pytest

from dltlab.workshop.limits import LearnerLimits
from dltlab.workshop.settings import Limits
from tests.room_fixtures import ACCOUNTS, open_light_room

ADA, BOB, _ = ACCOUNTS
LIMITS = "Limits(memory_gb=1.0, processes=60, disk_gb=0.01)"
SET_UP = f"""
import json, pwd, sys
from dltlab.workshop.limits import LearnerLimits
from dltlab.workshop.settings import Limits
limits = LearnerLimits({LIMITS}, "dltlab-room-test")
notes = limits.set_up([pwd.getpwnam(name) for name in sys.argv[1:]])
print(json.dumps([notes, limits.zygote_options()]))
"""
TEAR_DOWN = SET_UP.partition("notes")[0] + "limits.tear_down()"
FORK_BOMB = """
import os, time
children = []
try:
    while len(children) < 1000:
        children.append(os.fork())
        if not children[-1]:
            time.sleep(600)
            os._exit(0)
except OSError as error:
    print(type(error).__name__, len(children) < 60)
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
"""
FILL = """
try:
    with open("large", "wb") as file:
        for _ in range(20):
            file.write(bytes(10**6))
            file.flush()
except OSError as error:
    print(error.strerror)
"""
ENTER = f"""
import json, os, resource
from dltlab.workshop.limits import LearnerLimits
from dltlab.workshop.settings import Limits
limits = LearnerLimits({LIMITS}, "dltlab-room-test")
limits.enter("{ADA}")
names = ("CORE", "DATA", "FSIZE", "NPROC")
values = {{name: resource.getrlimit(getattr(resource, f"RLIMIT_{{name}}"))[1] for name in names}}
print(json.dumps([values, open("/proc/self/cgroup").read()]))
"""


@pytest.fixture(scope="module")
def room():
    """A room with the limits `LIMITS`; `room.notes` says which of them do not apply."""
    with open_light_room() as room:
        notes, options = json.loads(room.namespace.python(SET_UP, *ACCOUNTS))
        room.start_zygote(*options)
        yield SimpleNamespace(room=room, notes=notes, options=options)
        for learner in room.learners:
            learner.close()
        room.namespace.python(TEAR_DOWN)


def sign_in(room, account):
    """Return a learner with a kernel of the zygote.

    A cold kernel, as one may get on a busy machine, has the limits of its server, which has none
    in these tests.
    """
    for _ in range(3):
        learner = room.room.sign_in(account)
        if learner.kernel.get("is_warm"):
            return learner
        learner.close()
    pytest.fail(f"{learner.kernel}\n{room.room.log.read_text()}")


@pytest.fixture(scope="module")
def ada(room):
    return sign_in(room, ADA)


@pytest.fixture(scope="module")
def bob(room):
    return sign_in(room, BOB)


def test_a_memory_hog_gets_an_error_and_its_kernel_lives(ada, bob):
    result = ada.try_to_run("data = bytearray(2 * 10**9)")

    assert result["error"] == "MemoryError"
    assert ada.run("print(1 + 1)") == bob.run("print(1 + 1)") == "2"


def test_a_fork_bomb_is_stopped_and_others_go_on(ada, bob):
    assert ada.run(FORK_BOMB) == "BlockingIOError True"
    assert bob.run("import subprocess; print(subprocess.check_output(['echo', 'here']))")
    assert ada.run("print(1 + 1)") == "2"


def test_a_file_does_not_fill_the_disk(ada):
    assert ada.run(FILL) == "File too large"


def test_many_processes_of_a_learner_have_one_memory_limit(room, ada, bob):
    """Each is below its own limit; the kernel ends one of them."""
    if not any(option.startswith("--cgroups") for option in room.options):
        pytest.skip(room.notes[0])
    hog = """
import os
child = os.fork()
if not child:
    data = bytearray(700_000_000)
    grandchild = os.fork()
    if not grandchild:
        for place in range(0, len(data), 4096):
            data[place] = 1
        os._exit(0)
    _, status = os.waitpid(grandchild, 0)
    os._exit(1 if status else 0)
print(os.waitpid(child, 0)[1] != 0)
"""
    assert ada.run(hog) == "True"
    assert bob.run("print(1 + 1)") == "2"


def test_the_server_of_a_learner_has_the_same_limits(room):
    values, group = json.loads(room.room.namespace.python(ENTER))

    assert values == {"CORE": 0, "DATA": 10**9, "FSIZE": 10**7, "NPROC": 60}
    if any(option.startswith("--cgroups") for option in room.options):
        assert f"dltlab-room-test/{ADA}" in group


def test_what_the_system_does_not_allow_is_said(room):
    assert len(room.notes) <= 2
    for note in room.notes:
        assert "for each" in note


def test_control_groups_of_version_2(tmp_path):
    for group in (tmp_path / "w1", tmp_path / "w1" / "root"):
        group.mkdir()
        for name in ("cgroup.subtree_control", "cgroup.procs", "memory.max"):
            (group / name).touch()
    limits = LearnerLimits(Limits(memory_gb=2.0), "w1", tmp_path)

    limits.set_up([pwd.getpwuid(0)])

    assert (tmp_path / "w1" / "cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "w1" / "root" / "memory.max").read_text() == "2000000000"
    assert f"--cgroups={tmp_path}/w1" in limits.zygote_options()


def test_quotas_are_set_with_the_program_of_the_system(tmp_path, monkeypatch):
    program = tmp_path / "setquota"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    limits = LearnerLimits(Limits(disk_gb=1.024), "w1", tmp_path)

    notes = limits.set_up([pwd.getpwuid(0)])

    assert (tmp_path / "calls").read_text().startswith("-u root 0 1000000 0 0 /")
    assert not [note for note in notes if "Disk" in note]
