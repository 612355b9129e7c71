"""The accounts of learners: made once, closed to others, and removed with everything."""

import json
import pwd
import sys
from pathlib import Path

import pytest

from dltlab.errors import Invalid
from dltlab.workshop.accounts import create_account, remove_account
from tests.deadlines import wait_until

CREATE = """
import os, sys
from dltlab.workshop.accounts import create_account
for name in sys.argv[2:]:
    account = create_account(name, sys.argv[1])
    print(name, oct(os.stat(account.pw_dir).st_mode & 0o777), account.pw_gecos, sep="|")
"""
REMOVE = """
import sys
from dltlab.workshop.accounts import remove_account
remove_account(sys.argv[2], sys.argv[1])
"""
ACCOUNTS = "import json, pwd; print(json.dumps([account.pw_name for account in pwd.getpwall()]))"


@pytest.fixture
def accounts(namespace):
    """Return the names of the accounts inside."""
    return lambda: json.loads(namespace.python(ACCOUNTS))


def failure(namespace, *arguments):
    """Return the last line of the error of Python code that must fail."""
    done = namespace.run([sys.executable, "-c", *arguments])
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


def test_an_account_is_made_once_with_a_home_that_is_closed_to_others(namespace):
    first = namespace.python(CREATE, "w1", "learner01")
    second = namespace.python(CREATE, "w1", "learner01")

    assert first == second == "learner01|0o700|dltlab workshop w1"


def test_an_account_of_another_workshop_or_of_the_machine_is_refused(namespace, accounts):
    namespace.python(CREATE, "w1", "learner02")
    namespace.run(["useradd", "teacher"])

    assert "already an account learner02" in failure(namespace, CREATE, "w2", "learner02")
    assert "already an account teacher" in failure(namespace, CREATE, "w1", "teacher")
    assert "did not make the account learner02" in failure(namespace, REMOVE, "w2", "learner02")
    assert "did not make the account teacher" in failure(namespace, REMOVE, "w1", "teacher")
    assert {"learner02", "teacher"} <= set(accounts())


def test_the_home_folder_of_somebody_else_is_refused(namespace):
    namespace.run(["mkdir", "/home/learner03"])

    assert "/home/learner03 must belong to learner03" in failure(
        namespace, CREATE, "w1", "learner03"
    )


def test_a_removed_account_leaves_no_process_and_no_file(namespace, accounts):
    namespace.python(CREATE, "w1", "learner04")
    namespace.python("open('/dev/shm/secret', 'w').close()", account="learner04")
    code = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(1000)"
    with namespace.start([sys.executable, "-c", code], "learner04") as process:
        running = ["pgrep", "-U", "learner04", "python"]
        wait_until(lambda: namespace.run(running).returncode == 0)

        namespace.python(REMOVE, "w1", "learner04")

        assert process.wait() != 0
    assert "learner04" not in accounts()
    assert namespace.python("import os; print(os.listdir('/dev/shm'))") == "[]"
    assert "learner04" not in namespace.run(["ls", "/home"]).stdout
    assert namespace.python(REMOVE, "w1", "learner04") == ""


@pytest.mark.parametrize("name", ["", "Ada", "../ada", "-r", "a" * 32, "ada:0", "ada\nroot"])
def test_a_name_that_is_no_account_is_refused(name):
    with pytest.raises(Invalid, match="cannot be the name of an account"):
        create_account(name, "w1")


def test_root_is_never_removed():
    with pytest.raises(Invalid, match="did not make the account root"):
        remove_account("root", "w1")

    assert pwd.getpwuid(0).pw_name == "root"
    assert Path("/").is_dir()
