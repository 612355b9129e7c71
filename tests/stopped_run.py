"""Name the tests that run when the tests are stopped, as by a time limit of a build server.

`timeout` in pyproject.toml ends a test that waits in Python. One that waits in a library's own code
ends with its process, after `faulthandler_timeout`.
"""

import signal
import time
from types import FrameType

import pytest


class RunningTests:
    """The tests of all workers that have started and not ended."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.started: dict[str, float] = {}
        signal.signal(signal.SIGTERM, self.stop)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.started[nodeid] = time.monotonic()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self.started.pop(nodeid, None)

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Print the tests that run, then end with the failures and the longest tests."""
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        now = time.monotonic()
        for name, since in self.started.items():
            terminal.write_line(f"\nstill running, for {now - since:.0f} s: {name}")
        pytest.exit("stopped by SIGTERM", returncode=128 + number)


def pytest_configure(config: pytest.Config) -> None:
    """Watch the tests of all workers in the process that started them."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(RunningTests(config))
