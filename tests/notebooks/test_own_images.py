"""Lab 02 on images of one's own, with few classes and with many."""

import re
from pathlib import Path

import pytest

from tests.notebooks.own_images import run_on_own_images

# Cells that do not depend on the data set, or train for nothing: the classic networks, the digits
# and what is compared on them, the photographs, and the challenge.
ELSEWHERE = re.compile(
    r"classic|(?<!def )train_digits\(|chain\(|with_all|photos, files|prepare\(photos\)"
    r"|RUN_CHALLENGE:|\.(ask|answer)\("
)


@pytest.mark.parametrize("num_classes", [2, 11])
def test_lab_02_runs_on_images_of_ones_own(
    num_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = run_on_own_images("02", num_classes, 32, ELSEWHERE, tmp_path, monkeypatch)

    assert names["num_classes"] == num_classes
    assert set(names["finals"]) > {"new head, 25 a class", "then the tail, 25 a class"}
