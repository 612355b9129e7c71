import asyncio
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from traitlets.config import Config

from dltlab.workshop.spawner import AccountSpawner


@pytest.fixture
def spawner(tmp_path):
    """A spawner without accounts."""
    config = Config(AccountSpawner={"homes": str(tmp_path / "homes")})
    spawner = AccountSpawner(config=config)
    spawner.user = SimpleNamespace(name="learner01")
    return spawner


@pytest.fixture
def process():
    """A process of the learner."""
    command = [sys.executable, "-c", "input()"]
    environment = {"JUPYTERHUB_USER": "learner01"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as process:
        yield process
        process.kill()


def test_without_accounts_each_learner_has_a_closed_home_folder(spawner, tmp_path):
    environment = spawner.user_env({"A": "b"})

    home = tmp_path / "homes" / "learner01"
    assert environment == {"A": "b", "USER": "learner01", "HOME": str(home)}
    spawner.make_preexec_fn("learner01")
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_server_of_an_earlier_hub_is_recognized(spawner, process):
    spawner.load_state({"pid": process.pid})
    assert asyncio.run(spawner.poll()) is None

    process.kill()  # and nobody waits for it
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert asyncio.run(spawner.poll()) == 0
    assert spawner.pid == 0


def test_another_process_with_the_number_of_a_server_is_none(spawner):
    spawner.load_state({"pid": os.getpid()})

    assert asyncio.run(spawner.poll()) == 0
