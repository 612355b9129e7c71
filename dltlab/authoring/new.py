"""Create the source and the checks of a new lab."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from dltlab.course import Course
from dltlab.errors import Invalid, Unavailable
from dltlab.files import cannot_write, write_atomically
from dltlab.paths import short_path


def new_lab(topic: str, folder: Path | None = None) -> list[Path]:
    """Write the source of the lab `topic`, with the next free number, and its checks.

    The new lab builds, passes lint, and its exercise passes verification.

    Args:
        topic: Lower-case words joined by `_`.
        folder: The course, created if it does not exist; by default the current course.

    Returns:
        The files written: the source and the checks.

    Raises:
        Invalid: The topic is not such a name or is in use.
        Unavailable: The course cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", topic) or keyword.iskeyword(topic):
        raise Invalid(
            f"'{topic}' cannot be a topic: use lower-case words joined by '_', as in my_topic."
        )
    if folder is not None:
        for subfolder in ("solutions", "labs", "datasets"):
            _make(folder / subfolder)
    course = Course.find(folder)
    names = course.lab_names()
    if any(name.partition("_")[2] == topic for name in names):
        raise Invalid(f"There is already a lab '{topic}'; choose another topic.")
    number = max((int(name.partition("_")[0]) for name in names), default=0) + 1
    if number > 99:
        raise Invalid("99 is the last number of a lab; rename a lab to a number that is free.")
    package, checks = _checks(course, topic)
    values = {"topic": topic, "title": topic.replace("_", " ").capitalize(), "package": package}
    source = course.solutions / f"{number:02}_{topic}.py"
    if checks.exists():
        raise Invalid(f"{short_path(checks)} already exists; rename it or choose another topic.")
    write_atomically(checks, _template("checks.py.txt", values))
    write_atomically(source, _template("lab.py.txt", values))
    return [source, checks]


def _checks(course: Course, topic: str) -> tuple[str, Path]:
    """Return the package that the lab imports its checks from, and the file of the checks."""
    if course.is_own:
        if course.root.name == "_course":
            raise Unavailable(
                "The course inside the installed package cannot be edited; start a course of "
                f"your own: dltlab new {topic} --course DIR"
            )
        return "dltlab.checks", course.root / "dltlab" / "checks" / f"{topic}.py"
    return "checks", course.root / "checks" / f"{topic}.py"


def _template(name: str, values: dict[str, str]) -> str:
    text = files("dltlab.authoring").joinpath("templates", name).read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
