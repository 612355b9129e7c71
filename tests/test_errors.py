import pytest

from dltlab import errors


@pytest.mark.parametrize("name", ["NotFound", "Unavailable", "Damaged", "Invalid"])
def test_every_error_that_a_user_can_fix_is_a_lab_error(name):
    error = getattr(errors, name)("The message.")

    assert isinstance(error, errors.LabError)
    assert str(error) == "The message."


def test_no_lab_error_is_caught_as_another():
    kinds = errors.LabError.__subclasses__()

    assert not any(issubclass(a, b) for a in kinds for b in kinds if a is not b)
