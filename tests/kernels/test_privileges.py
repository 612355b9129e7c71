"""A fork becomes an account, or ends."""

import json

import pytest

BECOME = """
import json, os, resource, sys
from pathlib import Path
from dltlab.kernels.privileges import Account, become, keep_capabilities_to_become_others
"""
# What is left is read in the process that gave it up.
REPORT = """
status = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines())
names = ("Uid", "Gid", "Groups", "CapPrm", "CapEff", "CapInh", "CapAmb", "NoNewPrivs")
print(json.dumps({
    "status": {name: status[name].split() for name in names},
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "data": resource.getrlimit(resource.RLIMIT_DATA),
    "own files": os.stat("/proc/self/environ").st_uid,
}))
"""


@pytest.fixture(scope="module")
def user(namespace) -> int:
    """The ID of the user ada, who is in the group `course`, too."""
    namespace.run(["groupadd", "--gid", "4000", "course"])
    namespace.run(["useradd", "--create-home", "--groups", "course", "ada"])
    return int(namespace.run(["id", "-u", "ada"]).stdout)


def test_all_of_root_is_given_up(namespace, user):
    code = f"become(Account.of_user({user}), {{resource.RLIMIT_DATA: 10**9}}, [])"

    left = json.loads(namespace.python(BECOME + code + REPORT))

    nothing = ["0000000000000000"]
    assert left["status"] == {
        "Uid": 4 * [str(user)],
        "Gid": 4 * [str(user)],
        "Groups": ["4000", str(user)] if user > 4000 else [str(user), "4000"],
        **dict.fromkeys(("CapPrm", "CapEff", "CapInh", "CapAmb"), nothing),
        "NoNewPrivs": ["1"],
    }
    assert left["core"] == [0, 0]
    assert left["data"] == [10**9, 10**9]
    assert left["own files"] == user


def test_a_program_with_the_privileges_of_root_does_not_give_them_back(namespace, user):
    namespace.run(["sh", "-c", "cp /usr/bin/id /usr/local/bin/id-of-root"])
    try:
        namespace.run(["chmod", "4755", "/usr/local/bin/id-of-root"])
        run = "os.execv('/usr/local/bin/id-of-root', ['id', '-u'])"
        before = namespace.run(["id-of-root", "-u"], "ada").stdout
        after = namespace.python(f"{BECOME}become(Account.of_user({user}), {{}}, [])\n{run}")
    finally:
        namespace.run(["rm", "/usr/local/bin/id-of-root"])

    assert (before.strip(), after) == ("0", str(user))


@pytest.mark.parametrize(
    "account",
    [
        "Account('root', 0, 0, [0], '/root')",
        "Account('ada', 1000, 0, [1000], '/home/ada')",
        "Account('ada', 1000, 1000, [1000, 0], '/home/ada')",
    ],
)
def test_nobody_becomes_root_or_a_member_of_its_group(namespace, account):
    code = f"""
try:
    become({account}, {{}}, [])
except PermissionError as error:
    print(error)
"""

    assert "root and its group get no processes" in namespace.python(BECOME + code)


def test_a_process_that_may_not_change_its_user_does_not_go_on(namespace, user):
    code = f"become(Account.of_user({user}), {{}}, [])"

    done = namespace.run(["setpriv", "--bounding-set=-setuid", "python", "-c", BECOME + code])

    assert "PermissionError" in done.stderr


def test_the_memory_of_a_zygote_is_hidden_and_its_capabilities_are_few(namespace):
    code = """
keep_capabilities_to_become_others()
status = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines())
try:
    os.chown("/home/ada", 0, 0)
except PermissionError:
    print(status["CapEff"])
import ctypes
print(ctypes.CDLL(None).prctl(3))
"""

    capabilities, dumpable = namespace.python(BECOME + code).splitlines()

    assert int(capabilities, 16) & ~(1 << 24) == 1 << 6 | 1 << 7
    assert dumpable == "0"


def test_a_fork_joins_the_control_group_of_its_account(namespace, user):
    code = f"""
folder = Path("/run/groups")
(folder / "ada").mkdir(parents=True)
become(Account.of_user({user}), {{}}, [folder])
"""
    namespace.python(BECOME + code)

    assert namespace.run(["cat", "/run/groups/ada/cgroup.procs"]).stdout == "0"
