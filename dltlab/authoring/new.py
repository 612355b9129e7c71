"""Start a lab: a source and its checks that already build, lint and pass."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from dltlab.course.catalog import Course
from dltlab.course.source import NAME
from dltlab.errors import LabError
from dltlab.files import write_atomically
from dltlab.paths import short_path


def new_lab(topic: str, folder: Path | None = None) -> list[Path]:
    """Write the lab `topic`, with the next free number, and the module of its checks.

    Args:
        topic: Lower-case words joined by `_`.
        folder: The course; made where it does not exist yet. By default the course of this session.

    Returns:
        The files written: the source and the checks.

    Raises:
        LabError: The topic is no such name or is taken, or the course cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", topic) or keyword.iskeyword(topic):
        raise LabError(
            f"'{topic}' is no topic: use lower-case words joined by '_', as in my_topic."
        )
    if folder is not None:
        for room in ("solutions", "labs", "datasets"):
            _make(folder / room)
    course = Course.find(folder)
    taken = [NAME.fullmatch(name) for name in course.lab_names()]
    if any(lab and lab["topic"] == topic for lab in taken):
        raise LabError(f"There is a lab '{topic}' already; choose another topic.")
    number = max((int(lab["number"]) for lab in taken if lab), default=0) + 1
    if number > 99:
        raise LabError("No number follows 99; copy a lab to a number that is free.")
    package, checks = _checks(course, topic)
    names = {"topic": topic, "title": topic.replace("_", " ").capitalize(), "package": package}
    source = course.solutions / f"{number:02}_{topic}.py"
    if checks.exists():
        raise LabError(f"{short_path(checks)} exists already; rename it or choose another topic.")
    write_atomically(checks, _template("checks.py.txt", names))
    write_atomically(source, _template("lab.py.txt", names))
    return [source, checks]


def _checks(course: Course, topic: str) -> tuple[str, Path]:
    """The package that the lab imports its checks from, and the file that holds them."""
    if course.is_own:
        if course.root.name == "_course":
            raise LabError(
                "The course inside the installed package is not for editing; start one of your "
                f"own: dltlab new {topic} --course DIR"
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
        raise LabError(f"{folder} cannot be made ({error.strerror}); choose another.") from error
