import nbformat
import pytest

from dltlab.checks import assessment as checks
from dltlab.errors import NotFound
from dltlab.workshop.assessment import LAB, HandedInAnswer, assess
from dltlab.workshop.certificate import verify_certificate
from dltlab.workshop.hand_in import store
from dltlab.workshop.roster import Person, enroll


@pytest.fixture
def workshop(folder):
    enroll(folder, [Person("Ada"), Person("Eve")], [])
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    store(folder.handed_in, "learner01", LAB, nbformat.writes(notebook).encode())
    return folder


def test_an_answer_sees_what_stands_above_it_and_nothing_below():
    cells = (
        "import math\nfactor = 2",
        "def helper(x):\n    return factor * x",
        "def answer(x):\n    return helper(x) + math.floor(1.5)\n\n\nex.answer.check(answer)",
        "factor = 100",
    )

    assert HandedInAnswer(cells, "answer")(5) == 11


def test_cells_are_defined_not_run_and_broken_ones_are_left_out(tmp_path):
    cells = (
        "this is no Python",
        f"open({str(tmp_path / 'written')!r}, 'w')",
        "for _ in range(10):\n    raise ValueError",
        "value = undefined",
        "%matplotlib inline\ndef answer():\n    return 1",
        "def answer():\n    return 2",
        "def other():\n    return answer()",
    )

    assert HandedInAnswer(cells, "answer")() == 2
    assert not (tmp_path / "written").exists()


def test_a_function_that_was_deleted_is_missing():
    with pytest.raises(KeyError, match="answer"):
        HandedInAnswer(("x = 1",), "answer")()


def test_who_passes_gets_a_certificate_of_the_workshop(workshop, monkeypatch):
    monkeypatch.setattr(checks, "TASKS", ())  # nothing is asked, so everybody passes

    assessed = assess(workshop, "learner01")

    assert assessed.passed
    assert assessed.certificate is not None
    certified = verify_certificate(assessed.certificate)
    assert certified.name == "Ada"
    assert certified.evaluated.startswith("by the instructor of the workshop")
    assert certified.key in (workshop.path / "certificates" / "verify.html").read_text()


def test_only_what_was_handed_in_is_assessed(workshop):
    with pytest.raises(NotFound, match="learner02 has not handed in"):
        assess(workshop, "learner02")
    with pytest.raises(NotFound, match="Nobody has the account learner99"):
        assess(workshop, "learner99")
