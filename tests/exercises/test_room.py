"""Solutions in a workshop, which the instructor releases."""

import json

import pytest

from dltlab.exercises import exercise, require
from dltlab.exercises.room import solutions_are_hidden

LAB, NAME = "01_my_topic", "mean_squared_error"
HIDDEN = json.dumps({"hidden_solutions": [LAB]})


@pytest.fixture
def room(tmp_path, monkeypatch):
    monkeypatch.setenv("DLTLAB_ROOM", str(tmp_path))
    return tmp_path / "room.json"


def test_outside_a_workshop_nothing_is_hidden(monkeypatch):
    monkeypatch.delenv("DLTLAB_ROOM", raising=False)

    assert not solutions_are_hidden(LAB)


@pytest.mark.parametrize("content", [None, "", "[]", "null", "{}", '{"hidden_solutions": 1}'])
def test_a_room_that_says_nothing_hides_nothing(room, content):
    if content is not None:
        room.write_text(content)

    assert not solutions_are_hidden(LAB)


def test_a_hidden_solution_is_shown_nowhere_until_it_is_released(room, ex, capsys):
    def shown():
        exercise = getattr(ex, NAME)
        exercise.solution()
        exercise.check(lambda predictions, truth: 0.0)
        while "You have seen every hint" not in (hints := printed()):
            exercise.hint()
            outputs.append(hints)
        outputs.append(hints)
        return "\n".join(outputs)

    def printed():
        return capsys.readouterr().out

    outputs: list[str] = []
    room.write_text(HIDDEN)
    assert "solution. Your instructor releases the solutions of this lab later." in shown()
    assert f"{NAME}.solution()" not in "\n".join(outputs)

    room.write_text('{"hidden_solutions": []}')
    outputs.clear()
    assert "return" in shown()
    assert f"{NAME}.solution()" in "\n".join(outputs)


@pytest.fixture
def assessed(ex):
    def check(answer):
        require(answer() == 1, "Not 1.")

    check.__name__, check.__module__ = NAME, ex.__name__
    return exercise(solution_after_passing=True)(check)


def test_the_solution_of_an_assessed_task_is_shown_once_it_is_passed(assessed, monkeypatch, capsys):
    monkeypatch.delenv("DLTLAB_ROOM", raising=False)
    assessed.check(lambda: 0)
    assessed.solution()
    assert "solution. The solution is shown once you have passed." in capsys.readouterr().out
    assessed.check(lambda: 1)
    assessed.solution()
    assert f"def {NAME}" in capsys.readouterr().out


def test_in_a_workshop_only_the_instructor_decides(assessed, room, capsys):
    room.write_text(HIDDEN)
    assessed.check(lambda: 1)
    assessed.solution()
    assert "Your instructor releases" in capsys.readouterr().out
    room.write_text('{"hidden_solutions": []}')
    assessed.solution()
    assert f"def {NAME}" in capsys.readouterr().out
