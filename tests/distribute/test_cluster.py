import json

import pytest

from dltlab.distribute.cluster import Worker, worker
from dltlab.errors import Invalid


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    """Remove the variables of a cluster in which the tests may run."""
    for name in (
        *("TF_CONFIG", "PET_NNODES", "OMPI_COMM_WORLD_RANK", "SLURM_STEP_NUM_TASKS"),
        *("DLTLAB_RANK", "DLTLAB_JOB_TOKEN"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def set_variables(monkeypatch):
    def set_all(**variables: object) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))

    return set_all


def tf_config(kind: str, index: object, **cluster: list[str]) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


SLURM = {
    "SLURM_STEP_NUM_TASKS": 5,
    "SLURM_PROCID": 3,
    "SLURM_LOCALID": 0,
    "SLURM_NODEID": 1,
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
    "SLURM_STEP_NODELIST": "gpu[03-05,9],login",
    "SLURM_JOB_ID": 12345,
    "SLURM_STEP_ID": 2,
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": 1,
    "OMPI_COMM_WORLD_SIZE": 4,
    "OMPI_COMM_WORLD_LOCAL_RANK": 1,
    "OMPI_COMM_WORLD_LOCAL_SIZE": 2,
}


def test_without_variables_there_is_one_worker():
    assert worker() == Worker(rank=0, world_size=1, local_rank=0, local_world_size=1)


def test_the_launcher_sets_the_place(set_variables):
    set_variables(
        DLTLAB_RANK=3,
        DLTLAB_WORLD_SIZE=4,
        DLTLAB_LOCAL_RANK=1,
        DLTLAB_LOCAL_WORLD_SIZE=2,
        DLTLAB_RENDEZVOUS="host:1",
        DLTLAB_ATTEMPT=2,
        DLTLAB_JOB_TOKEN="secret",
    )

    assert worker() == Worker(3, 4, 1, 2, "host:1", 2, "secret")
    assert "secret" not in repr(worker())


def test_the_launcher_comes_before_the_cluster(set_variables):
    set_variables(**SLURM, DLTLAB_RANK=0, DLTLAB_WORLD_SIZE=1)
    set_variables(DLTLAB_LOCAL_RANK=0, DLTLAB_LOCAL_WORLD_SIZE=1, DLTLAB_ATTEMPT=0)

    assert worker() == Worker()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            tf_config("worker", 1, worker=["a:1", "b:2"]),
            Worker(1, 2, rendezvous="a:29400"),
        ),
        (
            tf_config("worker", "0", chief=["c:1"], worker=["a:1"]),
            Worker(1, 2, rendezvous="c:29400"),
        ),
        (
            tf_config("chief", 0, chief=["c:1"], worker=["a:1"]),
            Worker(0, 2, rendezvous="c:29400"),
        ),
    ],
)
def test_tf_config_sets_the_place(set_variables, config, expected):
    set_variables(TF_CONFIG=config)
    assert worker() == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "must be JSON"),
        ("[]", "must be JSON"),
        (tf_config("worker", 0), "must be JSON"),
        (tf_config("worker", 2, worker=["a:1", "b:2"]), "worker 2 of 2"),
        (tf_config("ps", 0, worker=["a:1"], ps=["p:1"]), "a task of type 'ps'"),
    ],
)
def test_a_wrong_tf_config_is_an_error(set_variables, config, message):
    set_variables(TF_CONFIG=config)
    with pytest.raises(Invalid, match=message):
        worker()


def test_kubeflow_sets_the_place(set_variables):
    set_variables(PET_NNODES=3, PET_NODE_RANK=2, PET_MASTER_ADDR="job-0", PET_MASTER_PORT=1234)
    assert worker() == Worker(2, 3, rendezvous="job-0:1234")


def test_open_mpi_sets_the_place(set_variables, monkeypatch):
    set_variables(**OPEN_MPI)
    assert worker() == Worker(1, 4, 1, 2)

    set_variables(OMPI_COMM_WORLD_LOCAL_SIZE=4, PMIX_NAMESPACE="job1")
    host, port = worker().rendezvous.split(":")
    assert (host, 20000 <= int(port) < 30000) == ("127.0.0.1", True)
    set_variables(PMIX_NAMESPACE="job2")
    assert worker().rendezvous != f"{host}:{port}"


def test_slurm_sets_the_place(set_variables, monkeypatch):
    set_variables(**SLURM)
    assert worker() == Worker(3, 5, 0, 2, rendezvous="gpu03:22347")

    set_variables(SLURM_STEP_NODELIST="login,gpu[1-2]", SLURM_STEP_TASKS_PER_NODE="1(x3)")
    assert worker() == Worker(3, 5, 0, 1, rendezvous="login:22347")


def test_the_script_of_sbatch_is_no_task(set_variables):
    set_variables(SLURM_PROCID=0, SLURM_NTASKS=4, SLURM_JOB_ID=1)
    assert worker() == Worker()


def test_mpirun_in_an_allocation_of_slurm_numbers_the_workers(set_variables):
    set_variables(**SLURM, **OPEN_MPI)
    assert worker().world_size == 4


def test_a_value_that_is_no_number_is_an_error(set_variables):
    set_variables(**OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "many"})
    with pytest.raises(Invalid, match="OMPI_COMM_WORLD_SIZE must be a whole number, not 'many'"):
        worker()
