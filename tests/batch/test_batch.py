"""A batch of runs: the queue, what hosts have, memory, control, and what other processes do."""

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from dltlab.batch.batch import run_batch
from dltlab.batch.control import pause, read_control, resume, stop
from dltlab.batch.run_folder import Run, RunFolder, State, Status
from dltlab.batch.scheduling import Host, Outcome, Task, execute
from dltlab.errors import Invalid
from tests.batch.fake_execution import run_of, states
from tests.deadlines import wait_until


class Threads:
    """A backend whose workers are threads, of hosts that a test describes.

    Attributes:
        lost: The workers that are lost when they get their next run.
        gpus: The GPUs of each run.
    """

    def __init__(self, workers: Mapping[str, Host]) -> None:
        self.lost: list[str] = []
        self.gpus: dict[int, tuple[str, ...]] = {}
        self._workers = dict(workers)
        self._outcomes: list[Outcome] = []

    def workers(self) -> Mapping[str, Host]:
        return self._workers

    def start(self, worker: str, task: Task) -> None:
        self.gpus[task.run.parameters["number"]] = task.gpus
        if worker in self.lost:
            self.lost.remove(worker)
            self._outcomes.append(Outcome(task.run.id, None, worker))
            return
        threading.Thread(target=self._execute, args=[task]).start()

    def outcomes(self, seconds: float) -> list[Outcome]:
        threading.Event().wait(0.01)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        pass

    def _execute(self, task: Task) -> None:
        outcome = Outcome(task.run.id, execute(task))
        self._outcomes = [*self._outcomes, outcome]


@pytest.fixture
def backend(monkeypatch) -> Threads:
    """A host with three workers, 4 cores, 10,000 bytes of memory and three GPUs."""
    host = Host("host", 4, 10_000, ("a", "b", "c"))
    threads = Threads(dict.fromkeys(("one", "two", "three"), host))
    monkeypatch.setattr("dltlab.batch.batch.existing_cluster", lambda *_: threads)
    return threads


def run_all(runs, out, **options):
    """Run a batch on the backend; return its result and what it has told."""
    told: list[str] = []
    result = run_batch(runs, out, scheduler="here", notify=told.append, **options)
    return result, told


def test_each_run_is_executed_once_and_the_finished_ones_never_again(tmp_path, fake, capsys):
    runs = [run_of(number) for number in (3, 1, 2, 1)]

    first = run_batch(runs, tmp_path, jobs=1)
    again = run_batch([*runs, run_of(4)], tmp_path, jobs=1)

    assert fake.started == [3, 1, 2, 4]
    assert first.counts == {Status.DONE: 3}
    assert again.counts == {Status.DONE: 4}
    assert (first.exit_code, again.exit_code) == (0, 0)


def test_the_kernels_of_several_runs_wait_for_one_zygote(tmp_path, fake, monkeypatch):
    environments: list[dict[str, str]] = []
    monkeypatch.setattr("dltlab.batch.batch.prestart", environments.append)

    run_batch([run_of(1, cores=2)], tmp_path, jobs=1)
    assert environments == []

    run_batch([run_of(2, cores=2), run_of(3, cores=2)], tmp_path, jobs=1)
    assert [environment["OMP_NUM_THREADS"] for environment in environments] == ["2"]


def test_what_did_not_end_well_is_run_again_by_the_same_command(tmp_path, fake):
    runs = [
        run_of(number, status=status)
        for number, status in enumerate(["done", "failed", "killed", "timeout", "pruned"])
    ]
    assert run_batch(runs, tmp_path, jobs=1).exit_code == 1

    run_batch(runs, tmp_path, jobs=1)

    assert fake.started == [0, 1, 2, 3, 4, 1, 2, 3]
    assert states(tmp_path)[1].attempt == 2


def test_two_batches_of_one_folder_share_the_work(tmp_path, fake, backend):
    runs = [run_of(number, status="failed" if number % 2 else "done") for number in range(30)]
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(run_all(runs, tmp_path)[0]))
        for _ in range(2)
    ]
    other = Threads(backend.workers())
    backends = iter([backend, other])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dltlab.batch.batch.existing_cluster", lambda *_: next(backends))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(fake.started) == list(range(30))
    assert [result.counts for result in results] == [{Status.FAILED: 15, Status.DONE: 15}] * 2


def test_a_run_that_another_process_executes_is_waited_for(tmp_path, fake, backend):
    run = run_of(1)
    with RunFolder(tmp_path / run.id).locked():
        thread = threading.Thread(target=run_all, args=[[run, run_of(2)], tmp_path])
        thread.start()
        wait_until(lambda: fake.started == [2])

        RunFolder(tmp_path / run.id).write_state(State(Status.FAILED, "elsewhere", attempt=1))
    thread.join()

    assert fake.started == [2]
    assert states(tmp_path)[1].reason == "elsewhere"


def test_runs_share_the_cores_and_the_gpus_of_a_host(tmp_path, fake, backend):
    runs = [run_of(1, gpus=2), run_of(2, gpus=(0, 1)), run_of(3, gpus=1), run_of(4, cores=4)]

    run_all(runs, tmp_path)

    assert backend.gpus == {1: ("a", "b"), 2: ("a", "b"), 3: ("c",), 4: ()}
    assert fake.most <= 2


def test_no_two_runs_have_the_same_gpu(tmp_path, fake, backend):
    runs = [run_of(number, gpus=1, waits=True) for number in range(3)]
    thread = threading.Thread(target=run_all, args=[runs, tmp_path])
    thread.start()
    wait_until(lambda: len(fake.started) == 3)
    fake.go.set()
    thread.join()

    assert set(backend.gpus.values()) == {("a",), ("b",), ("c",)}


def test_jobs_limit_the_runs_at_a_time_and_not_the_cores(tmp_path, fake, backend):
    runs = [run_of(number, waits=True, cores=4) for number in range(4)]
    thread = threading.Thread(target=run_all, args=[runs, tmp_path], kwargs={"jobs": 2})
    thread.start()
    wait_until(lambda: len(fake.started) == 2)
    fake.go.set()
    thread.join()

    assert fake.most == 2


def test_memory_that_was_measured_limits_the_runs_at_a_time(tmp_path, fake, backend):
    measured = run_of(0, peak=6000)
    run_all([measured], tmp_path)

    _, told = run_all([measured, *map(run_of, range(1, 6))], tmp_path)

    assert fake.most == 1
    assert any("Memory allows 1 run at a time" in sentence for sentence in told)


def test_a_run_that_needs_more_than_there_is_is_refused_before_anything_starts(tmp_path, fake):
    cases: list[tuple[dict[str, Any], str]] = [
        ({"cores": 10_000}, "needs 10000 cores; .* has"),
        ({"memory_bytes": 10**18}, "needs 1000000000.0 GB of memory"),
        ({"gpus": (97,)}, r"needs the GPUs \(97,\)"),
    ]
    for options, message in cases:
        with pytest.raises(Invalid, match=message):
            run_batch([run_of(0), run_of(1, **options)], tmp_path)
    assert fake.started == []


def test_a_run_that_died_of_memory_is_tried_again_alone_and_only_once(tmp_path, fake, backend):
    runs = [run_of(1, needs_memory=True), run_of(2, waits=True), run_of(3), run_of(4)]
    fake.on_start = lambda run: fake.go.set() if run.parameters["number"] == 4 else None

    result, told = run_all(runs, tmp_path)

    assert result.exit_code == 0
    assert fake.started[-1] == 1
    assert states(tmp_path)[1].attempt == 2
    assert any("ran out of memory beside 2 other runs; it is tried again alone" in s for s in told)


def test_the_run_of_a_lost_worker_is_tried_again_and_the_worker_is_named(tmp_path, fake, backend):
    backend.lost = ["one"]

    result, told = run_all([run_of(1)], tmp_path)

    assert result.exit_code == 0
    assert fake.started == [1]
    assert told == [f"{run_of(1).id}: The worker one was lost; it is tried again."]


def test_a_run_whose_workers_are_always_lost_is_killed(tmp_path, fake, backend):
    backend.lost = ["one"] * 9

    result, _ = run_all([run_of(1)], tmp_path)

    assert fake.started == []
    assert result.exit_code == 1
    state = states(tmp_path)[1]
    assert state.status is Status.KILLED
    assert state.reason.startswith("Its worker was lost 3 times, at last one.")


def test_a_paused_batch_starts_no_run_until_it_is_resumed(tmp_path, fake, backend):
    pause(tmp_path)
    told: list[str] = []
    thread = threading.Thread(
        target=run_batch,
        args=[[run_of(1)], tmp_path],
        kwargs={"scheduler": "here", "notify": told.append},
    )
    thread.start()
    wait_until(lambda: told)
    assert "Paused. Go on with: dltlab runs resume" in told[0]
    assert fake.started == []

    resume(tmp_path)
    thread.join()
    assert fake.started == [1]


def test_stopping_ends_what_runs_and_what_is_queued(tmp_path, fake, backend):
    runs = [run_of(number, waits=True) for number in range(8)]
    fake.on_start = lambda run: stop(tmp_path) if len(fake.started) == 3 else None

    result, _ = run_all(runs, tmp_path)

    assert result.counts == {Status.CANCELLED: 8}
    assert len(fake.started) == 3

    fake.go.set()
    fake.on_start = lambda run: None
    assert run_all(runs, tmp_path)[0].counts == {Status.DONE: 8}


def test_after_ctrl_c_the_kernels_have_ended_and_the_same_command_goes_on(
    tmp_path, fake, backend, monkeypatch
):
    runs = [run_of(number, waits=True) for number in range(5)]
    outcomes = backend.outcomes

    def interrupt(seconds: float) -> list[Outcome]:
        if len(fake.started) == 3:
            backend.outcomes = outcomes
            raise KeyboardInterrupt
        return outcomes(seconds)

    backend.outcomes = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, tmp_path)

    assert [states(tmp_path)[number].status for number in range(5)] == [
        *[Status.CANCELLED] * 3,
        *[Status.QUEUED] * 2,
    ]
    assert read_control(tmp_path).stop == frozenset()
    fake.go.set()
    assert run_all(runs, tmp_path)[0].exit_code == 0


def test_ctrl_c_in_this_process_cancels_the_run(tmp_path, fake):
    def interrupt(run: Run) -> None:
        raise KeyboardInterrupt

    fake.on_start = interrupt
    with pytest.raises(KeyboardInterrupt):
        run_batch([run_of(1), run_of(2)], tmp_path, jobs=1)

    assert states(tmp_path)[1].status is Status.CANCELLED
    assert states(tmp_path)[2].status is Status.QUEUED


def test_options_that_exclude_each_other_are_refused(tmp_path):
    with pytest.raises(Invalid, match="exclude each other"):
        run_batch([run_of(1)], tmp_path, scheduler="tcp://host:1", slurm={})
    with pytest.raises(Invalid, match="Add --jobs N"):
        run_batch([run_of(1)], tmp_path, slurm={})
