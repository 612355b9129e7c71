"""A workshop from the printed card on, with an instructor and three learners in browsers."""

import json
import sys
from pathlib import Path

import pytest

from tests.browser.conftest import CHROMIUM
from tests.deadlines import HANG_SECONDS
from tests.workshop.namespace import REPOSITORY, namespaces, reason_without

SCENARIO = REPOSITORY / "tests" / "browser" / "workshop_scenario.py"


def test_an_instructor_and_three_learners_come_from_the_printed_card_to_a_certificate(
    tmp_path: Path,
) -> None:
    reason = reason_without() or (None if CHROMIUM else "chromium is not installed")
    if reason:
        pytest.skip(reason)
    with namespaces() as inside:
        command = [sys.executable, str(SCENARIO), str(tmp_path), str(CHROMIUM)]
        done = inside.run(command, timeout=2 * HANG_SECONDS)
    logs = sorted(tmp_path.rglob("*.log"))
    ends = "".join(f"--- {log.name}\n{log.read_text()[-1500:]}\n" for log in logs)
    assert done.returncode == 0, f"{done.stderr[-8000:]}\n{ends}"
    facts = json.loads(done.stdout.splitlines()[-1])

    assert len(facts["wrong answers"]) == 1
    memory, cores = map(float, facts["cells"])
    assert memory > 0
    assert cores >= 0
    assert facts["a learner at the board"] == 403
    assert facts["the instructor at a learner's server"] == 403
    assert facts["faults"] == []
    genuine, changed = facts["certificates"].values()
    assert genuine[0] == 0
    assert "Emmy Noether passed" in genuine[1]
    assert "signed with the key that this page knows" in genuine[2]
    assert changed[0] == 2
    assert "was changed after it was signed" in changed[1]
    assert "was changed after it was signed" in changed[2]
