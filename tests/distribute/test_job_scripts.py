"""What `dltlab launch --dry-run` prints: a job script for Slurm, a manifest for Kubernetes."""

import json
import os
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from dltlab.distribute.job_scripts import job_script
from dltlab.errors import Invalid
from tests.deadlines import HANG_SECONDS, spawn

ARGUMENTS = [
    "--name",
    "a 'b' \"c\"",
    "$HOME $(JOB_COMPLETION_INDEX) `id`",
    "; exit 3",
    "line\nline",
]
REPORT = """
import json, os, sys
from pathlib import Path
values = {"arguments": sys.argv[1:], "variables": dict(os.environ)}
Path(f"report{os.environ['DLTLAB_RANK']}.json").write_text(json.dumps(values))
"""
MEET = """
from dltlab.distribute import join
group = join()
assert group.exchange(group.rank) == [0, 1]
"""
# Starts two tasks as Slurm's own srun does, without Slurm.
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=2 SLURM_STEP_NODELIST=localhost
export SLURM_STEP_ID=0 SLURM_JOB_ID=$$
for rank in 0 1; do SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" & tasks+=($!); done
for task in "${tasks[@]}"; do wait "$task" || exit; done
"""


@pytest.fixture
def folder(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a program; `dltlab` and srun are found."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "srun").write_text(SRUN)
    (programs / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{Path(script).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my train.py").write_text(REPORT)
    return tmp_path


def reports(folder: Path, num_workers: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"report{rank}.json").read_text()) for rank in range(num_workers)]


def directives(text: str) -> dict[str, str]:
    """Return what sbatch reads: the options in the comments before the first command."""
    head = text[: text.index("\n\n")].splitlines()
    assert head[0] == "#!/bin/bash"
    parts = [line.removeprefix("#SBATCH --").partition("=") for line in head[1:]]
    return {name: value for name, _, value in parts}


def test_the_script_of_slurm_asks_for_the_nodes_and_their_resources() -> None:
    text = job_script("slurm", ["src/My_Net.py"], num_workers=4, nodes=3, cores=6, gpus=1)

    assert directives(text) == {
        "job-name": "dltlab-my-net",
        "nodes": "3",
        "ntasks-per-node": "1",
        "cpus-per-task": "24",
        "gpus-per-node": "4",
        "output": "slurm-%j.out",
        "open-mode": "append",
        "requeue": "",
    }
    assert "gpus-per-node" not in directives(job_script("slurm", ["train.py"], gpus=0))
    subprocess.run(["bash", "-n", "-c", text], check=True)


def test_by_default_a_worker_has_its_share_of_this_machine(monkeypatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))

    options = directives(job_script("slurm", ["train.py"], num_workers=4))
    assert (options["cpus-per-task"], options["gpus-per-node"]) == ("8", "4")


def test_the_script_of_slurm_runs_the_program_with_its_arguments(folder: Path) -> None:
    text = job_script(
        "slurm", ["my train.py", *ARGUMENTS], nodes=2, cores=1, log_dir=Path("the 'logs'")
    )
    (folder / "job.sh").write_text(text)
    done = subprocess.run(
        ["bash", "job.sh"], env=os.environ | {"SLURM_CPUS_PER_TASK": "1"}, timeout=HANG_SECONDS
    )

    assert done.returncode == 0
    workers = reports(folder, 2)
    assert [worker["arguments"] for worker in workers] == [ARGUMENTS] * 2
    assert {worker["variables"]["DLTLAB_WORLD_SIZE"] for worker in workers} == {"2"}
    assert len({worker["variables"]["DLTLAB_JOB_TOKEN"] for worker in workers}) == 1
    assert len(workers[0]["variables"]["DLTLAB_JOB_TOKEN"]) == 32
    assert sorted(path.name for path in (folder / "the 'logs'").iterdir()) == [
        "rank0.log",
        "rank1.log",
    ]


def test_two_tasks_of_a_real_slurm_are_one_job(folder: Path, slurm: Path) -> None:
    (folder / "programs" / "srun").unlink()
    (slurm / "my train.py").write_text(REPORT + MEET)
    text = job_script("slurm", ["my train.py", *ARGUMENTS], nodes=2, cores=1, gpus=0)
    (slurm / "job.sh").write_text(text)
    one_node = ["--nodes=1", "--ntasks-per-node=2"]  # there are no two
    done = subprocess.run(
        ["sbatch", "--wait", *one_node, "job.sh"], capture_output=True, timeout=HANG_SECONDS
    )

    output = "".join(path.read_text() for path in slurm.glob("slurm-*.out"))
    assert done.returncode == 0, output
    workers = reports(slurm, 2)
    assert [worker["arguments"] for worker in workers] == [ARGUMENTS] * 2
    assert {worker["variables"]["DLTLAB_WORLD_SIZE"] for worker in workers} == {"2"}
    assert [worker["variables"]["DLTLAB_LOCAL_RANK"] for worker in workers] == ["0", "1"]
    (logs,) = (slurm / "runs" / "launch").iterdir()
    assert re.fullmatch(r"dltlab-my-train-\d+", logs.name)


def manifest(*command: str, **options: Any) -> list[dict[str, Any]]:
    options = {"image": "registry/dltlab:1", "nodes": 2, "cores": 3, **options}
    return list(yaml.safe_load_all(job_script("kubernetes", command, **options)))


def test_the_manifest_of_kubernetes_fits_the_schema() -> None:
    schema = json.loads(Path(__file__).with_name("kubernetes_schema.json").read_text())

    for options in ({}, {"gpus": 2, "num_workers": 2, "log_dir": Path("logs"), "max_restarts": 3}):
        documents = manifest("train.py", **options)
        assert [document["kind"] for document in documents] == ["Secret", "Service", "Job"]
        for document in documents:
            jsonschema.validate(document, schema)
            assert re.fullmatch(r"[a-z]([-a-z0-9]{0,50}[a-z0-9])?", document["metadata"]["name"])


def test_no_text_of_a_manifest_can_be_taken_for_something_else() -> None:
    text = job_script("kubernetes", ["train.py", "1e-3", "0o17", "5", "y"], image="i", cores=1)

    assert all(f'- "{word}"\n' in text for word in ("1e-3", "0o17", "5", "y"))


def test_the_pods_of_kubernetes_get_their_resources_and_find_each_other() -> None:
    secret, service, job = manifest("train.py", num_workers=2, gpus=1, max_restarts=3)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)
    assert job["spec"]["backoffLimit"] == 6
    assert container["resources"] == {
        "requests": {"cpu": "6"},
        "limits": {"nvidia.com/gpu": "2"},
    }
    assert secret["stringData"]["token"] != manifest("train.py")[0]["stringData"]["token"]


def expanded(text: str, variables: dict[str, str]) -> str:
    """Replace variables as Kubernetes does: `$(NAME)`, and `$$` by `$`."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\((\w+)\)", value, text)


def test_the_containers_of_kubernetes_run_the_program_with_its_arguments(folder: Path) -> None:
    secret, _, job = manifest("my train.py", *ARGUMENTS)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    tokens = {
        variable["name"]: secret["stringData"][variable["valueFrom"]["secretKeyRef"]["key"]]
        for variable in container["env"]
        if "valueFrom" in variable
    }
    values = {variable["name"]: variable.get("value", "") for variable in container["env"]} | tokens
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    name = job["metadata"]["name"]
    launchers = []
    for index in range(2):
        variables = {**values, "JOB_COMPLETION_INDEX": str(index)}
        command = [
            expanded(word, variables).replace(f"{name}-0.{name}:29400", address)
            for word in container["command"] + container["args"]
        ]
        launchers.append(spawn(command, env=os.environ | variables))

    assert [launcher.wait(HANG_SECONDS) for launcher in launchers] == [0, 0]
    workers = reports(folder, 2)
    assert [worker["arguments"] for worker in workers] == [ARGUMENTS] * 2
    assert {worker["variables"]["OMP_NUM_THREADS"] for worker in workers} == {"3"}


@pytest.mark.parametrize(
    ("program", "name"),
    [
        (["-m", "package.Train_it"], "dltlab-train-it"),
        (["../Über mich.ipynb"], "dltlab-ber-mich"),
        (["x" * 100 + ".py"], f"dltlab-{'x' * 43}"),
        (["---.py"], "dltlab"),
    ],
    ids=str,
)
def test_the_name_of_the_job_is_made_of_the_program(program: list[str], name: str) -> None:
    assert directives(job_script("slurm", program))["job-name"] == name
    assert manifest(*program)[2]["metadata"]["name"] == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("moon", ["train.py"]), "'moon'; it must be one of slurm, kubernetes"),
        (("slurm", ["-m"]), "Name a script, a notebook, or -m and a module"),
        (("kubernetes", ["train.py"]), "Name the container image"),
    ],
    ids=str,
)
def test_wrong_arguments_are_errors(arguments: tuple[str, list[str]], message: str) -> None:
    with pytest.raises(Invalid, match=message):
        job_script(*arguments)
