"""`dltlab launch`, with real processes on this host."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.deadlines import HANG_SECONDS, drop_root_permissions, spawn, wait_until

TOKEN = "0123456789abcdef" * 2
REPORT = """
import json, os, sys
from pathlib import Path
cores = sorted(os.sched_getaffinity(0))
values = dict(os.environ, cores=cores, argv=sys.argv, name=__name__, path=sys.path[0])
Path(f"report{os.environ['DLTLAB_RANK']}.json").write_text(json.dumps(values))
"""
# Each worker and its child in a session of its own tell their process IDs, then wait.
WAIT = """
import os, subprocess, sys, time
from pathlib import Path
rank = os.environ["DLTLAB_RANK"]
child = subprocess.Popen(
    [sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True
)
Path(f"pids{rank}.tmp").write_text(f"{os.getpid()} {child.pid}")
Path(f"pids{rank}.tmp").rename(f"pids{rank}")
"""
SLEEP = WAIT + "time.sleep(1000)\n"


class Launch:
    """A launcher in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self.process, self.folder = process, folder

    def wait(self) -> tuple[int, str, str]:
        """Return the exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=HANG_SECONDS)
        return self.process.returncode, out, err

    def pids(self, *ranks: int) -> list[int]:
        """Return the processes of workers that run `WAIT`, once they have started."""
        files = [self.folder / f"pids{rank}" for rank in ranks]
        wait_until(lambda: all(file.exists() for file in files))
        return [int(pid) for file in files for pid in file.read_text().split()]


Start = Callable[..., Launch]


@pytest.fixture
def start(tmp_path, script) -> Iterator[Start]:
    """Start `dltlab launch` with a script that has this text."""
    launches = []

    def run(
        text: str, *options: object, name: str = "train.py", folder: Path = tmp_path, **more: object
    ) -> Launch:
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))
        arguments = more.pop("arguments", [name])
        variables = {k: v for k, v in os.environ.items() if k not in ("TF_CONFIG", "NO_COLOR")}
        variables |= {"DLTLAB_JOB_TOKEN": TOKEN, **more.pop("env", {})}  # type: ignore[dict-item]
        process = spawn(
            [script, "launch", *map(str, options), "--", *arguments],  # type: ignore[misc]
            cwd=folder,
            env=variables,
            stdout=more.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
            **more,  # type: ignore[arg-type]
        )
        launches.append(Launch(process, folder))
        return launches[-1]

    yield run
    for launch in launches:
        with suppress(ProcessLookupError):
            launch.process.kill()
        launch.process.communicate()


@pytest.fixture
def rendezvous() -> Iterator[str]:
    """An address where nobody else listens."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def reports(folder: Path, *ranks: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"report{rank}.json").read_text()) for rank in ranks]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def handles(pid: int, number: int) -> bool:
    """Return whether a process handles a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1)


def node(rank: int, rendezvous: str, nodes: int = 2) -> list[object]:
    return ["--nodes", nodes, "--node-rank", rank, "--rendezvous", rendezvous]


def test_workers_get_their_places_and_their_shares_of_the_host(start, tmp_path):
    cores = sorted(os.sched_getaffinity(0))
    env = {"CUDA_VISIBLE_DEVICES": "2,3", "TF_NUM_INTEROP_THREADS": "7"}

    code, _, err = start(REPORT, "-n", 2, env=env, arguments=["train.py", "--x", "1"]).wait()

    assert code == 0, err
    first, second = reports(tmp_path, 0, 1)
    assert first["argv"] == ["train.py", "--x", "1"]
    assert (first["name"], first["path"]) == ("__main__", str(tmp_path))
    assert [first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]] == ["2", "3"]
    assert len(first["cores"]) == len(second["cores"]) == max(1, len(cores) // 2)
    assert first["OMP_NUM_THREADS"] == first["TF_NUM_INTRAOP_THREADS"] == str(len(first["cores"]))
    assert first["TF_NUM_INTEROP_THREADS"] == "7"
    if len(cores) > 1:
        assert not set(first["cores"]) & set(second["cores"])
    config = json.loads(second["TF_CONFIG"])
    assert config["task"] == {"type": "worker", "index": 1}
    assert len(set(config["cluster"]["worker"]) | {second["DLTLAB_RENDEZVOUS"]}) == 3


def test_a_worker_can_listen_at_its_port_and_others_cannot(start, tmp_path):
    code, _, err = start(
        """
        import json, os, socket
        own = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"][0].split(":")
        with socket.socket() as other:
            try:
                other.bind(("127.0.0.1", int(own[1])))
            except OSError:
                print("taken")
        with socket.create_server(("127.0.0.1", int(own[1]))):
            print("listening")
        """
    ).wait()

    assert code == 0, err


def test_a_module_is_run_as_python_does(start, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("from . import train\n" + REPORT)
    (package / "train.py").write_text(REPORT + "from . import __name__ as parent\n")

    assert start("", arguments=["-m", "package", "--x"]).wait()[0] == 0
    (report,) = reports(tmp_path, 0)
    assert report["argv"] == [str(package / "__main__.py"), "--x"]
    assert start("", arguments=["-m", "package.train"]).wait()[0] == 0
    assert start("", arguments=["-m", "package.missing"]).wait()[0] == 2


def test_processes_of_a_script_can_use_its_functions(start):
    text = """
    import multiprocessing

    def double(value):
        return 2 * value

    if __name__ == "__main__":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.map(double, [21]))
    """
    assert start(text).wait()[:2] == (0, "[rank 0] [42]\n")


def test_a_notebook_is_executed_by_each_worker(start, tmp_path):
    import nbformat

    notebook = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell("epochs = 1", metadata={"tags": ["parameters"]})
    code = "import os; print('epochs', epochs, 'on', os.environ['DLTLAB_RANK'])"
    notebook.cells = [parameters, nbformat.v4.new_code_cell(code)]
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }

    code, _, err = start(
        nbformat.writes(notebook),
        *("-n", 2, "--log-dir", "logs"),
        name="train.ipynb",
        arguments=["train.ipynb", "-p", "epochs", "3"],
    ).wait()

    assert code == 0, err
    for rank in range(2):
        executed = nbformat.read(tmp_path / "logs" / f"train.rank{rank}.ipynb", 4)
        assert executed.cells[-1].outputs[0].text == f"epochs 3 on {rank}\n"


def test_the_failure_of_one_rank_ends_all_and_is_shown_once(start, tmp_path):
    text = WAIT + "if rank == '1': raise ValueError('no such layer')\ntime.sleep(1000)\n"
    launch = start(text, "-n", 3, "--log-dir", "logs")

    code, _, err = launch.wait()

    assert code == 1
    assert err.count("Traceback") == 1
    assert "[rank 1] ValueError: no such layer\n" in err
    assert "[launch] Rank 1 failed with exit code 1: ValueError: no such layer" in err
    assert "launching" not in err
    assert "ValueError: no such layer" in (tmp_path / "logs" / "rank1.log").read_text()
    assert not any(map(is_running, launch.pids(1)))


def test_the_exit_code_of_the_failing_rank_is_kept(start):
    assert start("import sys; sys.exit(42)", "-n", 2).wait()[0] == 42
    code, _, err = start("import sys; sys.exit('no data')").wait()
    assert (code, "[rank 0] no data\n" in err, "Traceback" in err) == (1, True, False)


def test_a_failed_rank_can_clean_up(start, tmp_path):
    text = "import atexit\nfrom pathlib import Path\natexit.register(Path('clean').touch)\n1 / 0\n"

    assert start(text).wait()[0] == 1
    assert (tmp_path / "clean").exists()


def test_a_failed_rank_that_does_not_come_to_its_end_ends_all(start):
    text = """
    import os, threading, time
    if os.environ["DLTLAB_RANK"] == "0":
        threading.Thread(target=time.sleep, args=[1000]).start()
        raise OSError("disk")
    time.sleep(1000)
    """
    code, _, err = start(text, "-n", 2).wait()

    assert code == 1
    assert "Rank 0 failed with exit code 1: OSError: disk" in err


def test_a_killed_rank_is_named(start):
    launch = start(SLEEP, "-n", 2)
    pids = launch.pids(0, 1)
    os.kill(pids[2], signal.SIGKILL)

    code, _, err = launch.wait()

    assert code == 128 + signal.SIGKILL
    assert "Rank 1 was killed by signal 9 (SIGKILL)" in err
    assert not any(map(is_running, pids))


def test_a_rank_that_lost_its_peer_is_not_the_cause(start):
    text = """
    import os, signal, time
    from pathlib import Path
    if os.environ["DLTLAB_RANK"] == "0":
        Path("gone").touch()
        os._exit(75)
    while not Path("gone").exists():
        time.sleep(0.01)
    os._exit(9)
    """
    code, _, err = start(text, "-n", 2).wait()

    assert (code, "Rank 1 failed with exit code 9" in err) == (9, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_ends_all(start, number):
    launch = start(SLEEP, "-n", 2)
    pids = launch.pids(0, 1)
    launch.process.send_signal(number)

    assert launch.wait()[0] == 128 + number
    assert not any(map(is_running, pids))


def test_a_script_can_finish_its_work_after_ctrl_c(start, tmp_path):
    save = "except KeyboardInterrupt:\n    Path('saved').touch()\n"
    text = f"try:\n{textwrap.indent(SLEEP, '    ')}{save}"
    launch = start(text)
    launch.pids(0)
    launch.process.send_signal(signal.SIGINT)

    assert launch.wait()[0] == 128 + signal.SIGINT
    assert (tmp_path / "saved").exists()


def test_a_second_ctrl_c_does_not_wait(start):
    launch = start("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + SLEEP, "-n", 2)
    pids = launch.pids(0, 1)
    launch.process.send_signal(signal.SIGINT)
    launch.process.send_signal(signal.SIGINT)

    assert launch.wait()[0] == 128 + signal.SIGINT
    assert not any(map(is_running, pids))


def test_a_worker_that_ignores_sigterm_ends(start):
    text = """
    import os, signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    """
    fail = (
        "if rank == '0':\n    while not Path('pids1').exists(): time.sleep(0.01)\n    os._exit(5)\n"
    )
    launch = start(textwrap.dedent(text) + WAIT + fail + "time.sleep(1000)\n", "-n", 2)

    assert launch.wait()[0] == 5
    assert not any(map(is_running, launch.pids(0, 1)))


def test_a_killed_launcher_leaves_no_process(start):
    launch = start(SLEEP, "-n", 2)
    pids = launch.pids(0, 1)
    descendants = [child.pid for child in psutil.Process(launch.process.pid).children(True)]
    launch.process.kill()

    wait_until(lambda: not any(map(is_running, {*pids, *descendants})))


def test_what_a_worker_leaves_is_ended(start):
    launch = start(WAIT)

    assert launch.wait()[0] == 0
    assert not any(map(is_running, launch.pids(0)))


def test_all_ranks_are_restarted_after_a_failure(start, tmp_path):
    text = """
    import os, sys
    attempt, rank = os.environ["DLTLAB_ATTEMPT"], os.environ["DLTLAB_RANK"]
    print("attempt", attempt)
    sys.exit(attempt == "0" and rank == "1")
    """
    code, _, err = start(text, "-n", 2, "--max-restarts", 2, "--log-dir", "logs").wait()

    assert code == 0
    assert "[launch] Restarting all ranks: restart 1 of 2.\n" in err
    assert (tmp_path / "logs" / "rank1.log").read_text() == "attempt 0\nattempt 1\n"

    code, _, err = start("import sys; sys.exit(4)", "--max-restarts", 1).wait()
    assert (code, err.count("failed with exit code 4")) == (4, 2)


def test_a_job_that_is_stopped_is_not_restarted(start):
    launch = start(SLEEP, "-n", 2, "--max-restarts", 3)
    launch.pids(0, 1)
    launch.process.send_signal(signal.SIGTERM)

    code, _, err = launch.wait()
    assert (code, "Restarting" in err) == (128 + signal.SIGTERM, False)


def test_lines_are_never_torn(start):
    text = """
    import os, sys
    for _ in range(300):
        for part in ("a" * 50, "b" * 50, "c\\n"):
            os.write(1, part.encode())
            os.write(2, part.encode())
    """
    code, out, err = start(text, "-n", 2).wait()

    assert code == 0
    line = f"{'a' * 50}{'b' * 50}c"
    lines = {f"[rank {rank}] {line}": 300 for rank in range(2)}
    assert Counter(out.splitlines()) == lines
    assert Counter(line for line in err.splitlines() if "[launch]" not in line) == lines


def test_huge_output_without_a_line_is_shown_in_parts(start):
    text = "import sys; sys.stdout.write('x' * 5_000_000); sys.stdout.flush()"
    code, out, _ = start(text).wait()

    assert code == 0
    assert all(len(line) <= 1 << 17 for line in out.splitlines())
    assert out.count("x") == 5_000_000


def test_of_a_progress_bar_the_last_state_is_shown(start):
    assert start("print('1/2\\r2/2')").wait()[1] == "[rank 0] 2/2\n"


def test_without_permission_to_write_logs_the_job_goes_on(start, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    code, out, err = start(
        "print('done')", "--log-dir", closed / "logs", preexec_fn=drop_root_permissions
    ).wait()

    assert (code, out) == (0, "[rank 0] done\n")
    assert err.count("cannot be written (Permission denied)") == 1


def test_with_a_full_disk_the_job_goes_on(start, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "rank1.log").symlink_to("/dev/full")
    text = "for number in range(100): print(number)"
    code, out, err = start(text, "-n", 2, "--log-dir", "logs").wait()

    assert (code, len(out.splitlines())) == (0, 200)
    assert err.count("logs cannot be written (No space left on device)") == 1


def test_when_nobody_reads_the_output_the_job_goes_on(start, tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)
    text = "print('x')\nfrom pathlib import Path\nPath('done').touch()\n"
    assert start(text, "-n", 2, stdout=write_end).wait()[0] == 0
    os.close(write_end)
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize(("env", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_prefixes_are_colored_on_a_terminal(start, env, colored):
    master, terminal = pty.openpty()
    env = {"TERM": "xterm", **env}
    assert start("print('x')", env=env, stdout=terminal).wait()[0] == 0
    os.close(terminal)
    output = os.read(master, 1000).decode()
    os.close(master)

    assert ("\033[" in output) is colored
    assert re.sub(r"\033\[\d*m", "", output) == "[rank 0] x\r\n"


def test_two_launchers_make_one_job(start, tmp_path, rendezvous):
    folders = [tmp_path / "a", tmp_path / "b"]
    launches = [
        start(REPORT, "-n", number + 1, *node(number, rendezvous), folder=folder)
        for number, folder in enumerate(folders)
    ]

    assert [launch.wait()[0] for launch in launches] == [0, 0]
    workers = [*reports(folders[0], 0), *reports(folders[1], 1, 2)]
    assert {worker["DLTLAB_WORLD_SIZE"] for worker in workers} == {"3"}
    assert [worker["DLTLAB_LOCAL_RANK"] for worker in workers] == ["0", "1", "2"]
    assert len({worker["DLTLAB_RENDEZVOUS"] for worker in workers}) == 1


def test_a_failure_on_one_node_ends_the_others(start, tmp_path, rendezvous):
    fail = """
if rank == "1":
    while not Path("../0/pids0").exists():
        time.sleep(0.01)
    raise ValueError("here")
"""
    text = WAIT + fail + "time.sleep(1000)\n"
    first, second = [
        start(text, *node(number, rendezvous), folder=tmp_path / str(number)) for number in (0, 1)
    ]

    first_code, _, first_err = first.wait()
    second_code, _, second_err = second.wait()
    assert (first_code, second_code) == (1, 1)
    assert "failed with exit code 1: ValueError: here" in first_err
    assert (first_err.count("Traceback"), second_err.count("Traceback")) == (0, 1)
    assert not any(map(is_running, [*first.pids(0), *second.pids(1)]))


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_launcher_ends_the_other_nodes(start, tmp_path, rendezvous, killed):
    launches = [
        start(SLEEP, *node(number, rendezvous), folder=tmp_path / str(number)) for number in (0, 1)
    ]
    pids = [*launches[0].pids(0), *launches[1].pids(1)]
    launches[killed].process.kill()

    code, _, err = launches[1 - killed].wait()
    assert code == (1 if killed else 2), err
    assert re.search(rf"Node {killed} .*is lost", err)
    wait_until(lambda: not any(map(is_running, pids)))


def test_a_node_that_does_not_come_is_named(start, rendezvous):
    launch = start("", *node(0, rendezvous, 3), "--start-timeout", 0.5)
    code, _, err = launch.wait()

    assert code == 2
    assert f"Nodes 1, 2 of 3 did not come to {rendezvous} within 0.5 s" in err

    code, _, err = start("", *node(1, rendezvous), "--start-timeout", 0.5).wait()
    assert code == 2
    assert f"Node 0 was not at {rendezvous} within 0.5 s" in err


@pytest.mark.parametrize("number", [0, 1])
def test_a_launcher_that_waits_for_others_can_be_stopped(start, rendezvous, number):
    launch = start("", *node(number, rendezvous))
    wait_until(lambda: handles(launch.process.pid, signal.SIGTERM))
    launch.process.send_signal(signal.SIGTERM)

    assert launch.wait()[0] == 128 + signal.SIGTERM


def test_a_taken_port_is_an_error(start):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        code, _, err = start("", *node(0, address)).wait()

    assert code == 2
    assert f"Node 0 cannot listen at {address} (Address already in use)" in err


def test_launchers_that_do_not_match_are_refused(start, tmp_path, rendezvous):
    launches = [
        start(f"print({number})", *node(number, rendezvous), folder=tmp_path / str(number))
        for number in (0, 1)
    ]

    for launch in launches:
        code, out, err = launch.wait()
        assert (code, out) == (2, "")
        assert "was started with another train.py than node" in err


def test_another_token_is_refused(start, tmp_path, rendezvous):
    first = start("", *node(0, rendezvous), folder=tmp_path / "0")
    other = {"DLTLAB_JOB_TOKEN": TOKEN[::-1]}
    code, _, err = start("", *node(1, rendezvous), env=other, folder=tmp_path / "1").wait()

    assert code == 2
    assert "has another DLTLAB_JOB_TOKEN" in err
    assert first.process.poll() is None
    start("", *node(1, rendezvous), folder=tmp_path / "1")
    assert first.wait()[0] == 0


def test_a_job_on_several_hosts_needs_a_token(start, rendezvous):
    code, _, err = start("", *node(1, rendezvous), env={"DLTLAB_JOB_TOKEN": ""}).wait()
    assert (code, "Set DLTLAB_JOB_TOKEN to the same secret" in err) == (2, True)

    launch = start("", *node(0, rendezvous), env={"DLTLAB_JOB_TOKEN": ""})
    assert launch.process.stderr is not None
    launch.process.stderr.readline()
    command = launch.process.stderr.readline()
    token = command.partition("=")[2].split()[0]
    assert "--nodes 2 --node-rank R" in command
    assert start("", *node(1, rendezvous), env={"DLTLAB_JOB_TOKEN": token}).wait()[0] == 0
    assert launch.wait()[0] == 0


def test_launchers_take_their_places_in_a_cluster(start, tmp_path, rendezvous):
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}
    launches = [
        start(
            REPORT,
            *("--rendezvous", rendezvous),
            env={**slurm, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            folder=tmp_path / str(rank),
        )
        for rank in (0, 1)
    ]

    assert [launch.wait()[0] for launch in launches] == [0, 0]
    assert reports(tmp_path / "1", 1)[0]["DLTLAB_WORLD_SIZE"] == "2"


def test_a_launch_by_a_worker_is_a_job_of_its_own(start, tmp_path, script):
    (tmp_path / "inner.py").write_text(REPORT)
    text = (
        f"import subprocess; subprocess.run([{script!r}, 'launch', '--', 'inner.py'], check=True)"
    )

    assert start(text, "-n", 2).wait()[0] == 0
    assert reports(tmp_path, 0)[0]["DLTLAB_WORLD_SIZE"] == "1"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nodes", "2", "--node-rank", "2", "--rendezvous", "h:1"], "from 0 to 1, not 2"),
        (["--nodes", "2", "--node-rank", "1"], "need an address to meet"),
        (["--nodes", "2", "--rendezvous", "host"], "need an address to meet"),
        (["--nodes", "2", "--rendezvous", "host:99999"], "need an address to meet"),
    ],
)
def test_wrong_options_are_one_sentence(start, options, message):
    code, _, err = start("", *options).wait()

    assert (code, err.count("\n")) == (2, 1)
    assert message in err


def test_a_missing_script_is_an_error(start):
    code, _, err = start("", arguments=["missing.py"]).wait()
    assert (code, "There is no file missing.py" in err) == (2, True)
