"""Lab 13 with strain of one's own: a detector is missing, or the rate is another one."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab.course import Course
from dltlab.errors import Invalid

CARD = """\
name = "mine"
title = "Five seconds of strain."
format = "strain"
license = "CC0-1.0"
citation = "Made by a test."
version = "1"
sampling_rate = {rate}
gps_start = 100
detectors = {{ {detectors} }}
splits = {{ train = {{ size = {rate} }}, test = {{ size = {later} }} }}
"""


def run_until_the_strain_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], rate: int
) -> None:
    """Run the lab's first cells with five seconds of strain of the named detectors."""
    monkeypatch.setenv("DLTLAB_COURSE", str(folder))
    (folder / "datasets").mkdir()
    detectors = ", ".join(f'{name} = "{name}.npz"' for name in names)
    lines = [CARD.format(rate=rate, later=4 * rate, detectors=detectors)]
    for name in names:
        values = np.random.default_rng(1).normal(0, 1e-21, 5 * rate)
        content = io.BytesIO()
        np.savez(content, strain=values, detector=name, gps_start=100, sampling_rate=rate)
        file = content.getvalue()
        (folder / "datasets" / f"{name}.npz").write_bytes(file)
        digest = hashlib.sha256(file).hexdigest()
        lines.append(f'[[files]]\nname = "{name}.npz"\nsize = {len(file)}\nsha256 = "{digest}"\n')
    (folder / "datasets" / "mine.toml").write_text("\n".join(lines))
    (lab,) = Course.own().read(["13"])
    variables: dict[str, Any] = {}
    for cell in lab.code_cells():
        exec(compile(cell.solution, f"{lab.path.name}:{cell.line}", "exec"), variables)
        if "parameters" in cell.tags:
            variables |= {"EVENT": "mine"}
        if "strain" in variables:
            break


@pytest.mark.parametrize(
    ("detectors", "rate", "message"),
    [
        (["H1"], 2048, "mine has the detectors H1; this lab needs two"),
        (["H1", "L1", "V1"], 2048, "mine has the detectors H1, L1, V1; this lab needs two"),
        (["H1", "L1"], 1500, "mine has 1500 samples a second, gravitational_waves 1024"),
    ],
)
def test_strain_that_does_not_fit_the_lab_is_refused(
    detectors: list[str],
    rate: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(Invalid, match=message):
        run_until_the_strain_is_read(tmp_path, monkeypatch, detectors, rate)
