"""The columns of a list: which hold the path, the class and the split."""

import pytest

from dltlab.data.importing.list_columns import columns_of, field_in, names_image
from dltlab.errors import Invalid


@pytest.mark.parametrize(
    ("lines", "image", "label", "split", "heading"),
    [
        (["a.png,cat", "b.png,dog"], 0, 1, None, None),
        (["cat,a.png", "dog,b.png"], 1, 0, None, None),
        (["x,y", "a.png,cat", "b.png,dog"], 0, 1, None, 0),
        (["0,a.png,cat", "1,b.png,cat", "2,c.png,dog"], 1, 2, None, None),
        ([",f,l", "0,a.png,cat", "0,b.png,cat", "1,c.png,dog"], 1, 2, None, 0),
        (["f,l,s", "a.png,cat,train", "b.png,cat,test", "c.png,dog,val"], 0, 1, 2, 0),
        (["f,w,target", "a.png,8,cat", "b.png,8,cat", "c.png,9,dog"], 0, 2, None, 0),
        (["a.png,a_mask.png,cat", "b.png,b_mask.png,dog"], 0, 2, None, None),
        (["a.png,0,cat", "b.png,0,cat", "c.png,1,dog"], 0, 2, None, None),
        (["a.png,cat", "b.png", "only"], 0, 1, None, None),
        (["My list", "", "f,l", "a.png,cat", "b.png,dog"], 0, 1, None, 2),
        (["f,l", "1,a.png,cat", "2,b.png,cat", "3,c.png,dog"], 1, 2, None, 0),
        (["f,l", ",cat", "a.png,cat", "b.png,dog"], 0, 1, None, 0),
    ],
)
def test_columns_are_found_by_their_contents_and_heading(
    lines: list[str], image: int, label: int, split: int | None, heading: int | None
) -> None:
    columns = columns_of([line.split(",") for line in lines])
    assert (columns.image, columns.label, columns.split) == (image, label, split)
    assert columns.heading == heading


def test_columns_that_might_all_hold_the_class_are_refused() -> None:
    rows = [row.split(",") for row in ("a.png,8,cat", "b.png,8,dog", "c.png,9,dog")]
    with pytest.raises(Invalid, match="each of 'column 2', 'column 3' might hold the class"):
        columns_of(rows)


def test_columns_that_are_different_in_each_line_hold_no_class() -> None:
    rows = [row.split(",") for row in ("0,a.png,x", "1,b.png,y", "2,c.png,z")]
    with pytest.raises(Invalid, match="no column holds a class for several images"):
        columns_of(rows)


def test_a_field_that_a_line_lacks_is_empty() -> None:
    assert field_in(["a"], 0) == "a"
    assert field_in(["a"], 1) == field_in(["a"], None) == ""


@pytest.mark.parametrize(("field", "is_image"), [("a.JPG", True), ("a.jpg ", False), ("", False)])
def test_an_image_is_known_by_its_suffix(field: str, is_image: bool) -> None:
    assert names_image(field) is is_image
