"""Run a lab on imported images of one's own."""

import re
from pathlib import Path
from typing import Any

import pytest

from dltlab.course import Course
from dltlab.data import import_images
from tests.image_sources import image_files, write_files


def run_on_own_images(
    number: str,
    num_classes: int,
    size: int,
    skipped: re.Pattern[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """Run the solutions of a lab's cells in the smoke profile, and return their variables.

    Args:
        number: Of the lab, such as "02".
        num_classes: Of the images.
        size: Side of the imported images in pixels.
        skipped: Found in cells that are not run.
        tmp_path: Where the images and the data store are.
        monkeypatch: Sets the data store and the working directory.
    """
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    folders = [f"class {place}" for place in range(num_classes)]
    import_images(write_files(tmp_path / "mine", image_files(*folders)), "mine", size=size)
    (lab,) = Course.own().read([number])
    names: dict[str, Any] = {}
    for cell in lab.code_cells():
        source = re.sub(r"(?m)^ex\.\w+\.check\(.*", "", cell.solution)
        if not skipped.search(source):
            exec(compile(source, f"{lab.path.name}:{cell.line}", "exec"), names)
        if "parameters" in cell.tags:
            names |= lab.front_matter.profiles.smoke | {"DATASET": "mine"}
    return names
