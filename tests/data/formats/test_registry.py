"""The registry: what a new format needs, and how a card names its format."""

import subprocess
import sys
from pathlib import Path

import pytest

from dltlab.data.formats.registry import card_class, format_names

FORMAT = """
import numpy as np

from dltlab.data.card import ALL, SeriesCard
from dltlab.data.formats.registry import register


@register("ramp")
class RampCard(SeriesCard):
    slope: float

    def read(self, split):
        values = np.float32(self.slope * np.arange(self.total_size))
        return values if split == ALL else self.consecutive_part(values, split)
"""
CARD = """
name = "ramp"
title = "A ramp."
format = "ramp"
license = "CC0-1.0"
citation = "None."
version = "1"
files = []
slope = 0.5
[splits.train]
size = 3
[splits.test]
size = 2
"""


def test_every_module_registers_a_format() -> None:
    folder = Path(sys.modules["dltlab.data.formats"].__path__[0])
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "registry"}
    assert set(format_names()) == modules
    assert all(card_class(name).__module__.endswith(name) for name in modules)


def test_a_new_format_is_one_new_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "ramp.py").write_text(FORMAT)
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "ramp.toml").write_text(CARD)
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path))
    code = (
        "import sys, dltlab.data.formats as formats\n"
        "formats.__path__.append(sys.argv[1])\n"
        "from dltlab import data\n"
        "print(data.series('ramp', 'test').tolist(), len(data.load('ramp')))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "formats")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout == "[1.5, 2.0] 3\n"
