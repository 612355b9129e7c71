"""Engines built by several processes at once, and by one that is killed."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.inference import optimize
from tests.deadlines import HANG_SECONDS

# Prints "ready", waits for a line, then builds: prints "built" if it did, and its outputs.
BUILD = """
import json, os, signal, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
from dltlab.inference import optimize
from dltlab.inference.backends.openvino_runtime import OpenVino

build = OpenVino.build

def report_build(*arguments):
    build(*arguments)
    print("built", flush=True)
    if "kill" in sys.argv:
        os.kill(os.getpid(), signal.SIGKILL)

OpenVino.build = report_build
print("ready", flush=True)
sys.stdin.readline()
engine = optimize(sys.argv[1], backend="openvino", precision="float32")
print(json.dumps(engine(np.ones((1, 4), np.float32)).tolist()), flush=True)
"""


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small model in a file."""
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "engines"))
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="small")
    model.save(tmp_path / "small.keras")
    return tmp_path / "small.keras"


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Start a process that is ready to build."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD, *map(str, arguments)],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_build_an_engine_once_and_a_killed_build_leaves_nothing(saved, tmp_path):
    killed = start(saved, "kill")
    assert killed.communicate("go\n", timeout=HANG_SECONDS)[0] == "built\n"
    (home,) = (tmp_path / "engines").iterdir()
    assert not (home / "engine").exists()

    processes = [start(saved), start(saved)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    lines = [process.communicate(timeout=HANG_SECONDS)[0].splitlines() for process in processes]
    assert sorted(len(output) for output in lines) == [1, 2]  # one of them has built
    assert len({output[-1] for output in lines}) == 1
    assert sorted(path.name for path in home.iterdir()) == [".lock", "engine"]
    engine = optimize(saved, backend="openvino", precision="float32")
    assert engine(np.ones((1, 4), np.float32)).tolist() == json.loads(lines[0][-1])


def test_signals_are_handled_after_another_thread_released_the_engines(saved):
    script = """
import gc, os, signal, sys, threading
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from dltlab.inference import optimize

engines = [optimize(sys.argv[1], backend="openvino", precision="float32")]
release = threading.Thread(target=lambda: (engines.clear(), gc.collect()))
release.start()
release.join()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, saved], capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
