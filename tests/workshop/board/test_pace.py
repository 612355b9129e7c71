"""The plan of a day, and how a class stands in it."""

import datetime

import pytest

from dltlab.course import Course
from dltlab.workshop.board.pace import PlannedLab, median_share, pace_sentence, plan_of_day

DAY = datetime.date(2026, 1, 5)
FIRST, SECOND = "01_first_network", "02_image_classification"


def at(hour: int, minute: int = 0) -> float:
    return datetime.datetime(2026, 1, 5, hour, minute).timestamp()


@pytest.fixture(scope="module")
def labs():
    return Course.own().read([FIRST, SECOND])


def test_a_lab_ends_with_the_next_and_the_last_after_its_minutes(labs):
    starts = {SECOND: datetime.time(10, 30), FIRST: datetime.time(9), "99": datetime.time(8)}
    minutes = sum(labs[1].front_matter.minutes.model_dump().values())

    assert plan_of_day(labs, starts, DAY) == [
        PlannedLab(FIRST, at(9), at(10, 30)),
        PlannedLab(SECOND, at(10, 30), at(10, 30) + 60 * minutes),
    ]
    assert plan_of_day(labs, {}, DAY) == []


def test_two_labs_at_the_same_time_are_one(labs):
    starts = {FIRST: datetime.time(9), SECOND: datetime.time(9)}

    assert [planned.lab for planned in plan_of_day(labs, starts, DAY)] == [SECOND]


@pytest.mark.parametrize(("now", "share"), [(at(8), 0), (at(9), 0), (at(9, 30), 0.5), (at(11), 1)])
def test_the_share_of_time_that_is_over(now, share):
    assert PlannedLab(FIRST, at(9), at(10)).share(now) == share


@pytest.mark.parametrize(
    ("passed", "count", "share"),
    [([], 4, 0.0), ([1], 0, 0.0), ([0, 2, 4], 4, 0.5), ([1, 2], 4, 0.375)],
)
def test_the_class_has_passed_what_half_of_the_learners_have(passed, count, share):
    assert median_share(passed, count) == share


@pytest.mark.parametrize(
    ("now", "reached", "end"),
    [
        (
            at(9, 30),
            0.5,
            "50% of its time is over, and the class has passed 50% of it, as planned.",
        ),
        (at(9, 30), 0.25, "passed 25% of it, 15 min behind the plan."),
        (at(9, 30), 0.75, "passed 75% of it, 15 min ahead of the plan."),
    ],
)
def test_the_sentence_compares_the_class_with_the_plan(now, reached, end):
    sentence = pace_sentence([PlannedLab(FIRST, at(9), at(10))], {FIRST: reached}, now)

    assert sentence.startswith("Lab 01 ends at 10:00: 50% of its time is over")
    assert sentence.endswith(end)


def test_before_the_first_lab_and_without_a_plan_it_says_so():
    plan = [PlannedLab(FIRST, at(9), at(10))]

    assert pace_sentence(plan, {}, at(8)) == "By the plan, lab 01 begins at 09:00."
    assert pace_sentence([], {}, at(8)).startswith("There is no plan: the table [starts] in ")
