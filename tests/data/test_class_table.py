"""The table of classes: columns in line, bars in proportion."""

import pytest
from rich.cells import cell_len

from dltlab.data.class_table import class_table_lines
from dltlab.data.imported import ImportedDataset


@pytest.fixture
def dataset() -> ImportedDataset:
    return ImportedDataset(
        name="pets",
        version=1,
        content_hash="",
        source="pets",
        imported="2026-01-01",
        size=8,
        resize="crop",
        seed=1,
        class_names=["cat\x1b", "猫猫", "empty"],
        counts={"train": [1200, 250, 0], "validation": [200, 100, 0], "test": [100, 150, 0]},
        mean=[0.5] * 3,
        std=[0.1] * 3,
        files={},
    )


def test_columns_are_in_line_and_bars_in_proportion(dataset: ImportedDataset) -> None:
    head, *rows = class_table_lines(dataset)
    assert head.split() == ["class", "train", "validation", "test"]
    assert [row.split()[1:4] for row in rows] == [
        ["1,200", "200", "100"], ["250", "100", "150"], ["0", "0", "0"]
    ]  # fmt: skip
    assert [row.count("█") for row in rows] == [30, 10, 1]
    assert {cell_len(row.rstrip("█")) for row in rows} == {cell_len(head) + 2}


def test_class_names_are_printable(dataset: ImportedDataset) -> None:
    assert all(line.isprintable() for line in class_table_lines(dataset))
