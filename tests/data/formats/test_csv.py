"""Tables in CSV files: features, labels and splits, and lines that cannot be read."""

from pathlib import Path

import numpy as np
import pytest

from dltlab import data
from dltlab.errors import Damaged, Invalid
from tests.course_cards import write_card

KEYS = """
features = ["length", "width"]
label = "species"
class_names = ["setosa", "virginica"]
{more}
[splits.train]
size = 6
[splits.test]
size = 4
"""
LINES = ["id,length,species,width"] + [
    f"{number},{number}.5,{'setosa' if number < 5 else 'virginica'},{number / 8}"
    for number in range(10)
]


def write_flowers(
    folder: Path, text: str = "\n".join(LINES), more: str = "", **changes: str
) -> None:
    """Write the data set `flowers`."""
    (folder / "flowers.csv").write_text(text)
    keys = KEYS.format(more=more)
    for old, new in changes.items():
        keys = keys.replace(old, new)
    write_card("flowers", "csv", folder / "flowers.csv", keys)


def test_rows_are_features_and_a_class(own_cards: Path) -> None:
    write_flowers(own_cards)
    features, labels = data.arrays("flowers", "train")
    assert (features.dtype, labels.dtype) == (np.float32, np.int64)
    assert features[2].tolist() == [2.5, 0.25]
    assert labels.tolist() == [0, 0, 0, 0, 0, 1]
    assert data.arrays("flowers", "test")[1].tolist() == [1, 1, 1, 1]
    assert data.info("flowers").contents == "10 rows of 2 numbers, 2 classes"
    assert ("features", "length, width") in list(data.describe("flowers"))


def test_a_seed_shuffles_before_the_rows_are_divided(own_cards: Path) -> None:
    write_flowers(own_cards, more="seed = 3")
    train, test = (data.arrays("flowers", split)[0][:, 0].tolist() for split in ("train", "test"))
    assert sorted([*train, *test]) == [number + 0.5 for number in range(10)]
    assert train != sorted(train)
    assert data.arrays("flowers", "train")[0][:, 0].tolist() == train


def test_without_class_names_the_label_is_a_number(own_cards: Path) -> None:
    write_flowers(own_cards, **{'class_names = ["setosa", "virginica"]': "", '"species"': '"id"'})
    labels = data.arrays("flowers", "test")[1]
    assert (labels.dtype, labels.tolist()) == (np.float32, [6, 7, 8, 9])


def test_a_table_is_a_pipeline_of_rows_with_labels(own_cards: Path) -> None:
    write_flowers(own_cards, "\n".join(LINES).replace(",", ";"), 'separator = ";"')
    features, labels = next(iter(data.load("flowers", "test", batch_size=3)))
    assert features.numpy()[:, 0].tolist() == [6.5, 7.5, 8.5]
    assert labels.numpy().tolist() == [1, 1, 1]
    orders = [[float(row[0][0]) for row in data.load("flowers", seed=seed)] for seed in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3.5", "", r"flowers\.csv, line 5: '' in 'length' is no number: correct the file"),
        ("3.5", "x", r"line 5: 'x' in 'length' is no number"),
        ("4,4.5,setosa", "4,4.5,rose", "line 6: 'rose' is not in the card's class_names"),
        (",length,", ",Length,", "has no column 'length' in its first line; correct the card"),
        ("\n9,9.5,virginica,1.125", "", "has 9 rows; the splits in the card .* have 10"),
    ],
)
def test_a_file_that_is_not_as_its_card_says_is_refused(
    own_cards: Path, old: str, new: str, message: str
) -> None:
    text = "\n".join(LINES)
    assert old in text
    write_flowers(own_cards, text.replace(old, new))
    with pytest.raises(Invalid, match=message):
        data.arrays("flowers", "train")


def test_the_label_is_no_feature(own_cards: Path) -> None:
    write_flowers(own_cards, **{'"species"': '"width"'})
    with pytest.raises(Invalid, match="the label 'width' is also one of 'features'"):
        data.info("flowers")


def test_other_bytes_are_damaged(own_cards: Path) -> None:
    write_flowers(own_cards)
    (own_cards / "flowers.csv").write_bytes(b"\xff\xfe")
    write_card("flowers", "csv", own_cards / "flowers.csv", KEYS.format(more=""))
    with pytest.raises(Damaged, match=r"flowers\.csv is not a CSV file in UTF-8"):
        data.arrays("flowers")
