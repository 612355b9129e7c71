"""Lab 08 with images of one's own."""

import re
from pathlib import Path
from typing import Any

import pytest

from dltlab import data
from dltlab.course import Course
from tests.image_sources import image_files, write_files

FIRST_WITHOUT_CLASSES = "tensor = tf.constant(one)"
LATER_CELLS = ("def optimized(", "engines = {", "test_images, test_labels = ")
# Exercises are checked elsewhere, and devices are chosen before anything has run on them.
ELSEWHERE = re.compile(r"(?m)^(ex\.\w+\.(check|ask|answer)|tf\.config\.set_visible_devices)\(.*")


@pytest.mark.parametrize("num_classes", [2, 11])
def test_lab_08_runs_on_imported_images_with_any_number_of_classes(
    num_classes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cells that depend on the classes: the training, the engines, and the test at the end."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "engines"))
    monkeypatch.chdir(tmp_path)
    folders = [f"class number {number}" for number in range(num_classes)]
    data.import_images(write_files(tmp_path / "mine", image_files(*folders)), "mine", size=8)
    (lab,) = Course.own().read(["08"])
    cells = list(lab.code_cells())
    first = next(n for n, cell in enumerate(cells) if FIRST_WITHOUT_CLASSES in cell.solution)
    later = [next(c for c in cells if part in c.solution) for part in LATER_CELLS]
    values = {"DATASET": "mine", "STEPS": 1, "CALLS": 1}

    names: dict[str, Any] = {}
    for cell in [*cells[:first], *later]:
        if cell is later[-1]:
            names["fastest"] = names["engines"]["float32"]
        source = ELSEWHERE.sub("", cell.solution)
        exec(compile(source, f"{lab.path.name}:{cell.line}", "exec"), names)
        if "parameters" in cell.tags:
            names |= lab.front_matter.profiles.smoke | values

    assert folders[-1] in names["table"].index
    assert f"99 % of it on {num_classes} test images." in capsys.readouterr().out
