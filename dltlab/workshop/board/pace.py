"""The pace of a class: what it has passed of each lab, beside the plan."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from dltlab.course import Lab


@dataclass(frozen=True)
class PlannedLab:
    """When a lab begins and ends by the plan, in seconds since 1970."""

    lab: str
    start: float
    end: float

    def share(self, now: float) -> float:
        """Return which part of the lab's time is over."""
        return min(max((now - self.start) / (self.end - self.start), 0.0), 1.0)


def plan_of_day(
    labs: Sequence[Lab], starts: Mapping[str, datetime.time], day: datetime.date
) -> list[PlannedLab]:
    """Return the plan of a day; a lab ends with the next one, the last one after its minutes.

    Args:
        labs: Of the workshop.
        starts: When labs begin in local time, by their names.
        day: The day.
    """
    minutes = {lab.name: sum(lab.front_matter.minutes.model_dump().values()) for lab in labs}
    begins = sorted(
        (datetime.datetime.combine(day, start).timestamp(), lab)
        for lab, start in starts.items()
        if lab in minutes
    )
    ends = [begin for begin, _ in begins[1:]]
    ends += [begin + 60 * minutes[lab] for begin, lab in begins[-1:]]
    return [
        PlannedLab(lab, begin, end)
        for (begin, lab), end in zip(begins, ends, strict=True)
        if end > begin
    ]


def median_share(passed: Sequence[int], count: int) -> float:
    """Return which part of a lab's exercises the class has passed: the median of the learners."""
    return median(passed) / count if passed and count else 0.0


def pace_sentence(plan: Sequence[PlannedLab], reached: Mapping[str, float], now: float) -> str:
    """Return in a sentence how the class stands in the lab that the plan has now.

    Args:
        plan: The plan of the day.
        reached: Which part of each lab's exercises the class has passed.
        now: In seconds since 1970.
    """
    if not plan:
        return "There is no plan: the table [starts] in workshop.toml says when each lab begins."
    begun = [planned for planned in plan if planned.start <= now]
    if not begun:
        return f"By the plan, lab {plan[0].lab[:2]} begins at {_clock(plan[0].start)}."
    current = begun[-1]
    planned, passed = current.share(now), reached.get(current.lab, 0.0)
    minutes = round(abs(passed - planned) * (current.end - current.start) / 60)
    compared = "as planned"
    if minutes:
        compared = f"{minutes} min {'ahead of' if passed > planned else 'behind'} the plan"
    return (
        f"Lab {current.lab[:2]} ends at {_clock(current.end)}: {planned:.0%} of its time is over, "
        f"and the class has passed {passed:.0%} of it, {compared}."
    )


def _clock(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds):%H:%M}"
