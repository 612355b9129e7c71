"""Lab 01 on images of one's own, with few classes and with many."""

import re
from pathlib import Path
from typing import Any

import pytest

from dltlab.course import Course
from dltlab.data import import_images
from tests.image_sources import image_files, write_files

# Cells that do not depend on the data set: the gallery's example, the challenge, and what is
# painted, shown in TensorBoard or asked.
ELSEWHERE = re.compile(r"halves = |RUN_CHALLENGE:|pad_images|tensorboard\(\"|\.(ask|answer)\(")


@pytest.mark.parametrize("num_classes", [2, 11])
def test_lab_01_runs_on_images_of_ones_own(
    num_classes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Color images, fewer than a batch, of classes with long names."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    folders = [f"class number {number}" for number in range(num_classes)]
    import_images(write_files(tmp_path / "mine", image_files(*folders)), "mine", size=12)
    (lab,) = Course.own().read(["01"])
    values = lab.front_matter.profiles.smoke | {"DATASET": "mine", "STEPS": 10}

    names: dict[str, Any] = {}
    for cell in lab.code_cells():
        source = re.sub(r"(?m)^ex\.\w+\.check\(.*", "", cell.solution)
        if not ELSEWHERE.search(source):
            exec(compile(source, f"{lab.path.name}:{cell.line}", "exec"), names)
        if "parameters" in cell.tags:
            names |= values

    assert f"{num_classes} equal probabilities" in capsys.readouterr().out
    assert {*names["few"][1]} == {*range(num_classes)}  # imported images are sorted by class
    assert names["confusion"].shape == (num_classes, num_classes)
