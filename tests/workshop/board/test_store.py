"""The database of the board."""

from contextlib import closing

import pytest

from dltlab.errors import Damaged, Unavailable
from dltlab.exercises import ALL_EXERCISES, Outcome
from dltlab.workshop.board.store import (
    Announcement,
    BoardStore,
    CheckedAnswer,
    ExerciseResult,
    Hand,
    WrongAnswer,
)

LAB, NAME = "01_first_network", "softmax"


@pytest.fixture
def store(tmp_path):
    with closing(BoardStore(tmp_path / "board.sqlite")) as store:
        yield store


def answers(*outcomes, name=NAME, message="", start=0):
    return [
        CheckedAnswer(LAB, name, outcome, message, at=float(second), place=100 * second)
        for second, outcome in enumerate(outcomes, start)
    ]


def test_attempts_are_counted_up_to_the_first_answer_that_passed(store):
    store.record("ada", answers(Outcome.UNATTEMPTED, Outcome.NOT_YET))
    store.record("bob", answers(Outcome.ERROR))
    assert store.outcomes() == [
        ExerciseResult("ada", LAB, NAME, Outcome.NOT_YET, 1, 1.0, None),
        ExerciseResult("bob", LAB, NAME, Outcome.ERROR, 1, 0.0, None),
    ]

    store.record("ada", answers(Outcome.PASSED, Outcome.ERROR, start=2))
    assert store.outcomes()[0] == ExerciseResult("ada", LAB, NAME, Outcome.PASSED, 2, 3.0, 2.0)


def test_a_lab_that_was_started_over_begins_again_for_this_learner_only(store):
    for account in ("ada", "bob"):
        store.record(account, answers(Outcome.PASSED))
    restart = CheckedAnswer(LAB, ALL_EXERCISES, Outcome.UNATTEMPTED, at=1.0, place=1)
    other_lab = CheckedAnswer("02_other", ALL_EXERCISES, Outcome.UNATTEMPTED, at=1.0, place=2)
    store.record("ada", [restart])
    store.record("bob", [other_lab])

    assert [result.account for result in store.outcomes()] == ["bob"]


def test_what_is_sent_twice_is_recorded_once(store):
    for _ in range(2):
        store.record("ada", answers(Outcome.NOT_YET, Outcome.NOT_YET))

    assert [result.attempts for result in store.outcomes()] == [2]


def test_a_file_that_was_begun_anew_is_recorded_again(store):
    store.record("ada", answers(Outcome.NOT_YET, Outcome.NOT_YET, start=5))
    store.record("ada", [CheckedAnswer(LAB, NAME, Outcome.NOT_YET, at=20.0, place=0)])

    assert [result.attempts for result in store.outcomes()] == [3]


def test_a_flood_of_one_account_ends_after_20000_answers(store):
    store.record("eve", answers(*[Outcome.NOT_YET] * 20_500))
    store.record("eve", answers(Outcome.PASSED, start=30_000))
    store.record("ada", answers(Outcome.PASSED))

    assert [(result.account, result.attempts) for result in store.outcomes()] == [
        ("ada", 1),
        ("eve", 20_000),
    ]


def test_wrong_answers_are_counted_by_learner_the_commonest_first(store):
    store.record("ada", answers(Outcome.NOT_YET, Outcome.NOT_YET, message="The sum is 2.5, not 1."))
    store.record("bob", answers(Outcome.NOT_YET, message="The sum is 0.25, not 1."))
    store.record("bob", answers(Outcome.PASSED, start=1))
    for number, account in enumerate(("ada", "bob", "cyd")):
        code = f"Line {number} of your function (`x = {account}`) raised `NameError`: no x"
        store.record(account, answers(Outcome.ERROR, message=code, start=10))
    store.record("cyd", answers(Outcome.NOT_YET, message="A third one.", start=20))
    store.record("cyd", answers(Outcome.NOT_YET, start=30))
    store.record("cyd", answers(Outcome.NOT_YET, name="other", message="Elsewhere.", start=40))

    raised = "Line 0 of your function (`x = ada`) raised `NameError`: no x"
    assert store.wrong_answers(2) == [
        WrongAnswer(LAB, "other", "Elsewhere.", 1, 1),
        WrongAnswer(LAB, NAME, raised, 3, 2),
        WrongAnswer(LAB, NAME, "The sum is 2.5, not 1.", 2, 1),
    ]


def test_hands_stay_in_the_order_in_which_they_were_raised(store):
    store.raise_hand("ada", LAB, 1.0)
    store.raise_hand("bob", LAB, 2.0)
    store.raise_hand("ada", "02_other", 3.0)
    assert store.hands() == [Hand("ada", LAB, 1.0), Hand("bob", LAB, 2.0)]

    store.lower_hand("ada")
    store.lower_hand("ada")
    assert store.hands() == [Hand("bob", LAB, 2.0)]


def test_announcements_are_kept_and_their_readers_noted(store):
    store.announce("Lunch at <b>12:30</b>", 1.0)
    store.announce("Back at 13:30", 2.0)
    store.note_reader("ada", 2)
    store.note_reader("ada", 1)

    assert store.announcements() == [
        Announcement(1, "Lunch at <b>12:30</b>", 1.0),
        Announcement(2, "Back at 13:30", 2.0),
    ]
    assert store.readers() == {"ada": 2}


def test_solutions_are_released_and_withdrawn(store):
    store.release(LAB, 1.0)
    store.release(LAB, 2.0)
    assert store.releases() == {LAB: 1.0}

    store.withdraw(LAB)
    assert store.releases() == {}


def test_everything_is_kept_when_it_is_opened_again(store, tmp_path):
    store.record("ada", answers(Outcome.PASSED))
    store.announce("Lunch", 1.0)
    identifier = store.identifier
    store.close()

    with closing(BoardStore(tmp_path / "board.sqlite")) as reopened:
        assert reopened.identifier == identifier
        assert [result.outcome for result in reopened.outcomes()] == [Outcome.PASSED]
        assert [announcement.number for announcement in reopened.announcements()] == [1]
    with closing(BoardStore(tmp_path / "other.sqlite")) as other:
        assert other.identifier not in (0, identifier)


def test_an_erased_account_leaves_nothing_in_the_file(store, tmp_path):
    for account in ("ada", "learner-to-erase"):
        store.record(account, answers(Outcome.NOT_YET, message=f"A word of {account}."))
        store.raise_hand(account, LAB, 1.0)
        store.note_reader(account, 1)

    store.erase("learner-to-erase")

    assert [result.account for result in store.outcomes()] == ["ada"]
    assert [hand.account for hand in store.hands()] == ["ada"]
    assert store.readers() == {"ada": 1}
    store.close()
    for path in tmp_path.glob("board.sqlite*"):
        assert b"learner-to-erase" not in path.read_bytes()


def test_what_another_process_records_and_erases_is_noticed(store, tmp_path):
    store.record("ada", answers(Outcome.NOT_YET, message="A sum."))
    assert len(store.outcomes()) == len(store.wrong_answers()) == 1

    with closing(BoardStore(tmp_path / "board.sqlite")) as other:
        other.record("bob", answers(Outcome.NOT_YET, message="A sum."))
        assert [answer.num_learners for answer in store.wrong_answers()] == [2]
        assert [result.account for result in store.outcomes()] == ["ada", "bob"]
        other.erase("ada")
        assert [answer.num_learners for answer in store.wrong_answers()] == [1]
        assert [result.account for result in store.outcomes()] == ["bob"]


def test_another_file_is_an_error_with_its_fix(tmp_path):
    path = tmp_path / "board.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(Damaged, match="is not a database of the board"):
        BoardStore(path)
    with pytest.raises(Unavailable, match="cannot be opened"):
        BoardStore(tmp_path / "missing" / "board.sqlite")
