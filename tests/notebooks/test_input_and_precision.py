"""Lab 07 on images of one's own, with few classes and with many."""

import re
from pathlib import Path

import pytest

from tests.notebooks.own_images import run_on_own_images

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
    names = run_on_own_images("07", num_classes, 16, ELSEWHERE, tmp_path, monkeypatch)

    assert names["network"].output_shape == (None, num_classes)
    assert set(names["journey"].index) == {*names["pipelines"], "step alone"}
    assert len(names["dynamic"]) == len(names["SEEDS"])
