"""The exercises and questions of every lab: each answer gets the message it should get."""

import pytest

from dltlab.authoring.verify import verify
from dltlab.course import Course


@pytest.mark.parametrize("name", Course.own().lab_names())
def test_the_checks_of_the_lab_have_no_fault(name: str) -> None:
    (lab,) = Course.own().read([name])

    assert lab.exercise_module is not None
    assert verify(lab.exercise_module) == []
