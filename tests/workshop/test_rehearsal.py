import json

from dltlab.workshop.rehearsal import LearnerTimes, Rehearsal

REHEARSAL = Rehearsal(
    (
        LearnerTimes("learner01", 0.5, 1.0, 2.0, 3.0),
        LearnerTimes("learner02", 1.5, 2.0, 4.0, 5.0),
        LearnerTimes("learner03", 2.5, error="The sign-in page answers 500."),
    ),
    start_seconds=12.0,
)


def test_a_rehearsal_tells_how_long_learners_waited_and_who_failed():
    table = REHEARSAL.table.set_index("seconds until")

    assert table.loc["signed in", "median"] == 1.5
    assert table.loc["TensorFlow imported", "longest"] == 5.0
    assert [learner.account for learner in REHEARSAL.failures] == ["learner03"]
    assert REHEARSAL.summary == (
        "2 of 3 simulated learners have imported TensorFlow, all starting at once; their servers "
        "were ready after 12 s. learner03: The sign-in page answers 500."
    )
    assert json.dumps(REHEARSAL.as_dict())


def test_a_rehearsal_in_which_nobody_signed_in_has_a_table():
    rehearsal = Rehearsal((LearnerTimes("learner01", error="no"),), start_seconds=1.0)

    assert "–" in repr(rehearsal)
