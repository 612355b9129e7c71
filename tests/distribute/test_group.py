"""`join` and what a group exchanges, in processes without TensorFlow that the launcher starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dltlab.distribute.group import join
from dltlab.errors import Invalid, Unavailable
from tests.deadlines import HANG_SECONDS

PROGRAM = """
import json
import sys
from dltlab.distribute.group import join
from dltlab.errors import Invalid

group = join()
assert join() is group
result = {"rank": group.rank, "size": group.size, "values": group.exchange({"rank": group.rank})}
group.require_same({"seed": 1})
try:
    group.require_same({"seed": group.rank})
except Invalid as error:
    result["error"] = str(error)
with open(f"{sys.argv[1]}/{group.rank}.json", "w") as file:
    json.dump(result, file)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """What each of three workers has received."""
    folder = tmp_path_factory.mktemp("workers")
    (folder / "program.py").write_text(PROGRAM)
    launch: list[str | Path] = [Path(sys.executable).with_name("dltlab"), "launch", "-n", "3"]
    done = subprocess.run(
        [*launch, "--log-dir", folder / "logs", "--", folder / "program.py", folder],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(3)]


def test_every_worker_receives_the_values_of_all(results: list[dict[str, object]]) -> None:
    for rank, result in enumerate(results):
        assert (result["rank"], result["size"]) == (rank, 3)
        assert result["values"] == [{"rank": 0}, {"rank": 1}, {"rank": 2}]


def test_workers_that_differ_are_named_on_all_workers(results: list[dict[str, object]]) -> None:
    for result in results:
        assert str(result["error"]).startswith(
            "The seed of worker 1 differs from that of worker 0: 1 instead of 0."
        )


def test_a_process_without_a_launcher_is_a_group_of_one() -> None:
    group = join()

    assert (group.rank, group.size, group.exchange("value")) == (0, 1, ["value"])


def test_a_worker_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"RANK": 0, "WORLD_SIZE": 3, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 3, "ATTEMPT": 0}
    for name, value in place.items():
        monkeypatch.setenv(f"DLTLAB_{name}", str(value))
    monkeypatch.setenv("DLTLAB_RENDEZVOUS", "127.0.0.1:0")
    monkeypatch.setenv("DLTLAB_JOB_TOKEN", "secret")

    with pytest.raises(Unavailable, match="these did not come in time: 1, 2"):
        join(timeout=0.2)


def test_workers_without_an_address_are_told_about_the_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_LOCALID", "1")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_STEP_ID", "0")

    with pytest.raises(Invalid, match="dltlab launch"):
        join()
