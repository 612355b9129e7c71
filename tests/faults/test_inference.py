"""Engines built by several processes at once, and by one that is killed."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.inference import optimize

BUILD = """
import os, signal, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from dltlab.inference import optimize
from dltlab.inference.backends import openvino_runtime

real = openvino_runtime.build

def build(*arguments):
    real(*arguments)
    print("built", flush=True)
    if "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)

openvino_runtime.build = build
print("ready", flush=True)
sys.stdin.readline()
engine = optimize(sys.argv[1], backend="openvino", precision="float32")
print(engine(np.ones((1, 4), np.float32)).tolist(), flush=True)
"""


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "engines"))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="small")
    model.save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


def started(*arguments: object) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, *map(str, arguments)], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_build_an_engine_once_and_a_killed_one_leaves_nothing(saved, tmp_path):
    killed = started(saved, "kill")
    assert killed.communicate("go\n")[0] == "built\n"
    (home,) = (tmp_path / "engines").iterdir()
    assert not (home / "engine").exists()

    both = [started(saved), started(saved)]
    for each in both:
        each.stdin.write("go\n")
        each.stdin.flush()
    said = [each.communicate()[0].splitlines() for each in both]
    assert sorted(len(each) for each in said) == [1, 2]  # one of them has built
    assert len({each[-1] for each in said}) == 1
    assert sorted(path.name for path in home.iterdir()) == [".lock", "engine"]
    assert optimize(saved, backend="openvino", precision="float32")(
        np.ones((1, 4), np.float32)
    ).tolist() == eval(said[0][-1])
