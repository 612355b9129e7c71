"""Lab 02 on images of one's own, with few classes and with many."""

import re
from pathlib import Path
from typing import Any

import pytest

from dltlab.course import Course
from dltlab.data import import_images
from tests.image_sources import image_files, write_files

# Cells that do not depend on the data set, or train for nothing: the classic networks, the digits
# and what is compared on them, the photographs, and the challenge.
ELSEWHERE = re.compile(
    r"classic|(?<!def )train_digits\(|chain\(|with_all|photos, files|prepare\(photos\)"
    r"|RUN_CHALLENGE:|\.(ask|answer)\("
)


@pytest.mark.parametrize("num_classes", [2, 3, 11])
def test_lab_02_runs_on_images_of_ones_own(
    num_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    folders = [f"class {number}" for number in range(num_classes)]
    import_images(write_files(tmp_path / "mine", image_files(*folders)), "mine", size=32)
    (lab,) = Course.own().read(["02"])
    values = lab.front_matter.profiles.smoke | {"DATASET": "mine"}

    names: dict[str, Any] = {}
    for cell in lab.code_cells():
        source = re.sub(r"(?m)^ex\.\w+\.check\(.*", "", cell.solution)
        if not ELSEWHERE.search(source):
            exec(compile(source, f"{lab.path.name}:{cell.line}", "exec"), names)
        if "parameters" in cell.tags:
            names |= values

    assert names["num_classes"] == num_classes
    assert set(names["finals"]) > {"new head, 25 a class", "then the tail, 25 a class"}
