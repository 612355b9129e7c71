"""The exercises and questions of every lab: each answer gets the message it should get."""

import pytest

from dltlab.authoring.verify import verify
from dltlab.course import Course, Lab

LABS = Course.own().read()


@pytest.mark.parametrize("lab", LABS, ids=[lab.name for lab in LABS])
def test_the_checks_of_the_lab_have_no_fault(lab: Lab) -> None:
    assert lab.exercise_module is not None
    assert verify(lab.exercise_module) == []
