"""Lab 07 on images of one's own, with few classes and with many."""

import re
from pathlib import Path
from typing import Any

import pytest

from dltlab.course import Course
from dltlab.data import import_images
from tests.image_sources import image_files, write_files

# Cells that do not depend on the data set: the trace, the steps in other formats and their bars,
# the memory of a deep network, and the challenge.
ELSEWHERE = re.compile(
    r"training\.read_trace|widgets\.|steps = \{|in steps|bars\b|combine\b|ways\b|memory\b"
    r"|first_epoch|\.(ask|answer)\("
)


@pytest.mark.parametrize("num_classes", [2, 3, 11])
def test_lab_07_runs_on_images_of_ones_own(
    num_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    folders = [f"class {number}" for number in range(num_classes)]
    import_images(write_files(tmp_path / "mine", image_files(*folders)), "mine", size=16)
    (lab,) = Course.own().read(["07"])
    values = lab.front_matter.profiles.smoke | {"DATASET": "mine"}

    names: dict[str, Any] = {}
    for cell in lab.code_cells():
        source = re.sub(r"(?m)^ex\.\w+\.check\(.*", "", cell.solution)
        if not ELSEWHERE.search(source):
            exec(compile(source, f"{lab.path.name}:{cell.line}", "exec"), names)
        if "parameters" in cell.tags:
            names |= values

    assert names["network"].output_shape == (None, num_classes)
    assert set(names["journey"].index) == {*names["pipelines"], "step alone"}
    assert len(names["dynamic"]) == len(values["SEEDS"])
