"""Where runs are executed: in this process, on the workers of a Dask cluster, or under Slurm."""

import gc
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import pytest
import requests

from dltlab.batch.batch import run_batch
from dltlab.batch.run_folder import RunFolder, State, Status
from dltlab.batch.scheduling import (
    DaskWorkers,
    Outcome,
    Task,
    ThisProcess,
    execute,
    existing_cluster,
    local_cluster,
    packages,
    slurm_arguments,
    slurm_cluster,
    this_host,
)
from dltlab.errors import Invalid, Unavailable
from tests.batch.fake_execution import run_of, states
from tests.batch.notebooks import light_kernels, read_run, write_notebook
from tests.deadlines import HANG_SECONDS, wait_until


@pytest.fixture
def cluster() -> Iterator:
    """A Dask cluster whose two workers are threads of this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def workers(cluster, tmp_path, told) -> Iterator[DaskWorkers]:
    backend = existing_cluster(cluster.scheduler_address, tmp_path, told.append)
    yield backend
    backend.close()


def task(out, number, **options) -> Task:
    run = run_of(number, **options)
    RunFolder(out / run.id).create(run)
    return Task(run, out / run.id, attempt=0)


def test_a_run_that_another_process_executes_is_left_alone(tmp_path, fake):
    first = task(tmp_path, 1)
    with RunFolder(first.path).locked():
        assert execute(first) is None
    assert fake.started == []


def test_what_another_runner_has_finished_since_is_the_result(tmp_path, fake):
    first = task(tmp_path, 1)
    RunFolder(first.path).write_state(State(Status.FAILED, "theirs", attempt=1))
    assert execute(first).reason == "theirs"
    assert fake.started == []

    RunFolder(first.path).write_state(State(Status.RUNNING, attempt=1))  # it was killed
    assert execute(first).status is Status.DONE
    assert fake.started == [1]


def test_a_folder_that_cannot_be_written_fails_the_run_only(tmp_path, monkeypatch):
    def refuse(run, folder):
        raise Unavailable("The disk is full.")

    monkeypatch.setattr("dltlab.batch.scheduling.execute_run", refuse)

    assert execute(task(tmp_path, 1)) == State(Status.FAILED, "The disk is full.", attempt=1)


def test_a_run_sees_the_gpus_that_were_chosen_for_it(tmp_path, fake, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    assert this_host(tmp_path).gpus == ("4", "5", "6")
    first = task(tmp_path, 1)

    execute(Task(first.run, first.path, 0, ("5", "6")))
    assert fake.visible == "5,6"
    execute(task(tmp_path, 2))
    assert fake.visible == "4,5,6"

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    execute(Task(run_of(3), task(tmp_path, 3).path, 0, ("GPU-1",)))
    assert fake.visible == "GPU-1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_this_process_executes_a_run_when_it_is_started(tmp_path, fake):
    backend = ThisProcess(this_host(tmp_path))
    (worker,) = backend.workers()
    backend.start(worker, task(tmp_path, 1))

    (outcome,) = backend.outcomes(0)
    assert (outcome.run_id, outcome.state.status) == (run_of(1).id, Status.DONE)
    assert backend.outcomes(0) == []


def test_a_cluster_executes_runs_on_all_its_workers(tmp_path, fake, cluster):
    runs = [run_of(number, waits=True) for number in range(2)]
    fake.on_start = lambda run: fake.go.set() if len(fake.started) == 2 else None

    result = run_batch(
        [*runs, run_of(3)], tmp_path, jobs=2, scheduler=cluster.scheduler_address, notify=str
    )

    assert fake.most == 2
    assert result.counts == {Status.DONE: 3}


def test_a_run_that_a_worker_cannot_execute_fails_with_the_reason(tmp_path, cluster, monkeypatch):
    def fail(run, folder):
        raise TypeError("unexpected keyword")

    monkeypatch.setattr("dltlab.batch.scheduling.execute_run", fail)

    result = run_batch([run_of(1)], tmp_path, scheduler=cluster.scheduler_address, notify=str)

    assert result.counts == {Status.FAILED: 1}
    assert "could not execute it: TypeError('unexpected keyword')" in states(tmp_path)[1].reason


def test_the_run_of_a_worker_that_ends_is_reported_with_its_name(tmp_path, fake, cluster, workers):
    first, second = workers.workers()
    workers.start(first, task(tmp_path, 1, waits=True))
    wait_until(lambda: fake.started)

    remove = partial(cluster.scheduler.remove_worker, address=first, close=False)
    cluster.sync(remove, stimulus_id="test")
    outcomes: list[Outcome] = []

    def has_ended() -> bool:
        outcomes.extend(workers.outcomes(0.1))
        return bool(outcomes)

    wait_until(has_ended)

    (outcome,) = outcomes
    assert outcome.state is None
    assert outcome.lost.startswith(f"{first} on ")
    assert list(workers.workers()) == [second]
    fake.go.set()
    wait_until(lambda: states(tmp_path)[1].status is Status.DONE)


@pytest.fixture
def local(tmp_path, fake, told, monkeypatch) -> Iterator[DaskWorkers]:
    """A local cluster with one worker, which is replaced as soon as it is lost."""
    dask, _ = packages("dask", "distributed")  # whose defaults must be there before

    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "1ms"}):
        backend = local_cluster(1, tmp_path, told.append)
        yield backend
        backend.close()


def test_a_local_cluster(local, told):
    """One cluster for several facts: it takes seconds to start."""
    from distributed import default_client

    address = told[0].rpartition(" ")[2]
    assert requests.get(address, timeout=HANG_SECONDS).status_code == 200
    without_secret = re.sub(r"(:\d+)/[^/]+/", r"\1/", address)
    assert requests.get(without_secret, timeout=HANG_SECONDS).status_code == 404

    # Dask sets one for its workers, for which kernels would need another zygote.
    assert list(default_client().run(os.getenv, "PYTHONHASHSEED").values()) == [None]

    (first,) = local.workers()
    default_client().retire_workers([first])
    wait_until(lambda: set(local.workers()) - {first})
    (second,) = local.workers()
    assert first.startswith("tls://127.0.0.1:")
    assert second.startswith("tls://127.0.0.1:")


def test_a_worker_that_does_not_see_the_folder_is_not_used(tmp_path, cluster, told):
    backend = existing_cluster(cluster.scheduler_address, tmp_path / "elsewhere", told.append)

    assert backend.workers() == {}
    assert any("does not see" in sentence for sentence in told)
    backend.close()


def test_the_workers_are_those_of_the_scheduler_not_of_the_cache_of_its_client(
    workers, monkeypatch
):
    """A thread of Dask's client replaces what `scheduler_info` returns by one without workers."""
    monkeypatch.setattr("distributed.Client.scheduler_info", lambda *_, **__: {"workers": {}})

    assert len(workers.workers()) == 2


def test_a_worker_that_lacks_a_package_is_not_used(workers, told, monkeypatch):
    def fail(out):
        raise ModuleNotFoundError("No module named 'dltlab'")

    monkeypatch.setattr("dltlab.batch.scheduling.this_host", fail)

    assert workers.workers() == {}
    assert sum("cannot be used: ModuleNotFoundError" in sentence for sentence in told) == 2


def test_a_scheduler_that_is_lost_is_named(tmp_path, told):
    from distributed import LocalCluster

    cluster = LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0")
    address = cluster.scheduler_address
    backend = existing_cluster(address, tmp_path, told.append)
    cluster.close()

    with pytest.raises(Unavailable, match=r"The Dask scheduler at inproc.* was lost"):
        wait_until(lambda: backend.workers() and False)
    backend.close()


def test_a_scheduler_that_does_not_exist_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("dltlab.batch.scheduling.CONNECT_SECONDS", 0.5)

    with pytest.raises(Unavailable, match=r"no Dask scheduler at tcp://127\.0\.0\.1:1 "):
        existing_cluster("tcp://127.0.0.1:1", tmp_path, str)
    with pytest.raises(Unavailable, match="no Dask scheduler at nonsense://x"):
        existing_cluster("nonsense://x", tmp_path, str)


def test_a_package_that_is_missing_is_named_with_the_extra(tmp_path, fake, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    runs = [run_of(1), run_of(2)]

    with pytest.raises(Unavailable, match=r"distributed is not installed. Run: pip install"):
        run_batch(runs, tmp_path, jobs=2)


def test_one_job_needs_no_package_of_the_extra(tmp_path, fake, monkeypatch):
    for name in ("dask", "distributed", "optuna", "dask_jobqueue"):
        monkeypatch.setitem(sys.modules, name, None)

    assert run_batch([run_of(1), run_of(2)], tmp_path, jobs=1).exit_code == 0


def test_the_jobs_of_slurm_ask_for_what_the_runs_need(tmp_path):
    jobqueue = importlib.import_module("dask_jobqueue")
    runs = [run_of(1, cores=2, memory_bytes=3 * 2**30), run_of(2, gpus=2)]
    options = {"queue": "long", "walltime": "02:00:00", "account": "lab"}

    arguments = slurm_arguments(runs, tmp_path, options)
    of_cluster = ("scheduler_options", "security", "shared_temp_directory")
    script = jobqueue.slurm.SLURMJob(
        "tcp://head:8786",
        "dltlab-0",
        **{name: value for name, value in arguments.items() if name not in of_cluster},
    ).job_script()

    assert arguments["security"] is True
    lines = script.splitlines()
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        "#SBATCH -J dltlab",
        f"#SBATCH -e {tmp_path}/slurm/dltlab-%J.err",
        f"#SBATCH -o {tmp_path}/slurm/dltlab-%J.out",
        "#SBATCH -p long",
        "#SBATCH -A lab",
        "#SBATCH -n 1",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=3G",
        "#SBATCH -t 02:00:00",
        "#SBATCH --gpus=2",
    ]
    assert f"{sys.executable} -m distributed.cli.dask_worker tcp://head:8786" in lines[-1]


def test_options_that_slurm_does_not_have_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")

    with pytest.raises(Invalid, match="SLURMCluster has no argument partition"):
        slurm_cluster(1, [run_of(1)], tmp_path, {"partition": "long"}, str)


def test_without_slurm_its_option_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)

    with pytest.raises(Unavailable, match="sbatch is not installed"):
        run_batch([run_of(1)], tmp_path, jobs=1, slurm={})


# dask-jobqueue leaves the files with its keys to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_jobs_of_a_real_slurm_execute_runs(slurm, tmp_path):
    write_notebook(tmp_path / "train.ipynb", "import os\nprint(os.environ['SLURM_JOB_ID'])")
    run = read_run(tmp_path / "train.ipynb", memory_bytes=500_000_000)
    told: list[str] = []

    with light_kernels(tmp_path / "kernels"):
        result = run_batch([run], tmp_path / "runs", jobs=1, slurm={}, notify=told.append)

    assert result.exit_code == 0, [record.state for record in result.records]
    assert RunFolder(tmp_path / "runs" / run.id).log.read_text() == "1\n"
    assert any("1 jobs are submitted to Slurm" in sentence for sentence in told)
    wait_until(lambda: not subprocess.check_output(["squeue", "-h"]))
    gc.collect()
