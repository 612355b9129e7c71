import pytest


def test_the_exit_code_is_that_of_the_failing_rank(dltlab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import sys; sys.exit(int(sys.argv[1]))")

    assert dltlab("launch", "-n", "2", "train.py", "0").code == 0
    assert dltlab("launch", "-n", "2", "--log-dir", "logs", "--", "train.py", "7").code == 7
    assert (tmp_path / "logs" / "rank0.log").exists()


def test_output_has_the_rank(dltlab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("import os; print('hello')")

    result = dltlab("launch", "-n", "2", "--", "train.py")

    assert sorted(result.out.splitlines()) == ["[rank 0] hello", "[rank 1] hello"]
    assert "[launch] Logs: runs/launch/" in result.err


def test_a_dry_run_prints_a_script_and_runs_nothing(dltlab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--nodes", "2", "-n", "4", "--max-restarts", "3", "--start-timeout", "60"]

    result = dltlab("launch", *options, "--dry-run", "slurm", "--cores", "2", "--", "train.py", "x")

    assert result.code == 0
    assert result.out.startswith("#!/bin/bash\n#SBATCH --job-name=dltlab-train\n")
    assert "dltlab launch -n 4 --max-restarts 3 --start-timeout 60 --log-dir" in result.out
    assert result.out.endswith("-- train.py x\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-n", "0", "--", "train.py"],
        ["--", "missing.py"],
        ["--", "-m"],
        ["--nodes", "2", "--node-rank", "5", "--", "train.py"],
        ["--max-restarts", "-1", "--", "train.py"],
        ["--cores", "2", "--", "train.py"],
        ["--dry-run", "moon", "--", "train.py"],
        ["--dry-run", "slurm", "--node-rank", "0", "--", "train.py"],
        ["--dry-run", "kubernetes", "--", "train.py"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(dltlab, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()

    assert dltlab("launch", *arguments).code == 2
    assert not (tmp_path / "runs").exists()
