"""What a worker of the benchmark writes; here it is the only one."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab.distribute.benchmarking_worker import main
from dltlab.distribute.transports.ring import RingTransport


def measure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    output = folder / "times.json"
    options = {"transports": ["ring"], "sizes": [4, 4000], "output": str(output)}
    monkeypatch.setattr(sys, "argv", ["worker", json.dumps(options)])
    main()
    times: list[dict[str, Any]] = json.loads(output.read_text())["times"]
    return times


def test_every_size_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = measure(tmp_path, monkeypatch)

    assert (first["count"], second["count"]) == (1, 1000)
    assert first["num_wrong"] == second["num_wrong"] == 0
    assert min(second["seconds"], second["copy_seconds"]) > 0


def test_wrong_sums_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_one(self: RingTransport, array: np.ndarray) -> None:
        array[::2] += 1

    monkeypatch.setattr(RingTransport, "all_reduce", add_one)
    first, second = measure(tmp_path, monkeypatch)

    assert (first["num_wrong"], second["num_wrong"]) == (1, 500)
