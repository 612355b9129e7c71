"""The settings of an import: what is allowed, and the sentence for what is not."""

from dataclasses import replace
from typing import Any

import pytest

from dltlab.data.importing.settings import Settings
from dltlab.errors import Invalid

VALID = Settings(0.2, 0.1, 64, "crop", 5, None, 1, None, None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"validation": 0, "test": 1},
        {"validation": 0.5, "test": 0.5},
        {"size": 8},
        {"size": 2048},
        {"max_per_class": 5},
        {"seed": 0},
    ],
)
def test_limits_are_allowed(change: dict[str, Any]) -> None:
    assert replace(VALID, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"validation": -0.1}, "validation is -0.1; it must be a fraction in [0, 1], such as 0.2"),
        ({"validation": 20}, "validation is 20; it must be a fraction in [0, 1], such as 0.2 for"),
        ({"test": 1.5}, "test is 1.5; it must be a fraction in [0, 1], such as 0.2 for 20 %."),
        ({"test": float("nan")}, "test is nan; it must be a fraction in [0, 1]"),
        (
            {"validation": 0.6, "test": 0.5},
            "validation is 0.6 and test is 0.5; together they must be at most 1.",
        ),
        ({"size": 7}, "size is 7; it must be from 8 to 2048 pixels."),
        ({"size": 2049}, "size is 2049; it must be from 8 to 2048 pixels."),
        ({"resize": "zoom"}, "resize is zoom; it must be one of crop, squash, fit."),
        ({"layout": "tree"}, "layout is tree; it must be one of classes, splits/classes, classes/"),
        ({"min_per_class": 0}, "min_per_class is 0; it must be 1 or more."),
        ({"max_per_class": 4}, "max_per_class is 4; it must be at least min_per_class, which is 5"),
        ({"max_per_class": 0}, "max_per_class is 0; it must be at least min_per_class, which is 5"),
        ({"seed": -1}, "seed is -1; it must be 0 or more."),
    ],
)
def test_an_invalid_value_is_named_with_what_is_allowed(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(Invalid) as caught:
        replace(VALID, **change)
    assert str(caught.value).startswith(message)
