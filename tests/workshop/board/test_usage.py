"""Memory and processor time by account."""

import getpass
import os

from dltlab.workshop.board.usage import UsageMeter
from tests.deadlines import wait_until


def test_the_processes_of_an_account_are_measured():
    meter = UsageMeter()
    account = getpass.getuser()
    first = meter.sample([account, "no-such-account"])
    begin = os.times().user
    wait_until(lambda: sum(range(200_000)) and os.times().user > begin + 0.2)
    second = meter.sample([account, "no-such-account"])

    assert list(first.memory) == list(second.cores) == [account]
    assert first.memory[account] > 10_000_000
    assert first.cores[account] == 0
    assert second.cores[account] > 0
    assert 0 < second.memory_used < second.memory_total
    assert second.cores_total == os.cpu_count()


def test_without_accounts_only_the_machine_is_measured():
    usage = UsageMeter().sample([])

    assert usage.memory == usage.cores == {}
    assert usage.memory_total > 0
