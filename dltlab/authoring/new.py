"""Create the source and the checks of a new lab, and a new course."""

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from dltlab.authoring.convert import has_header, read_foreign, to_percent, topic_of
from dltlab.course import Course
from dltlab.errors import Invalid, Unavailable
from dltlab.files import cannot_write, write_atomically
from dltlab.paths import short_path

# What a new course begins with, and the template of each file.
_COURSE_FILES = {
    "README.md": "course_readme.md.txt",
    "LICENSE": "course_license.txt",
    ".gitignore": "course_gitignore.txt",
    ".github/workflows/test.yml": "course_workflow.yml.txt",
}


def new_lab(
    topic: str | None = None, folder: Path | None = None, notebook: Path | None = None
) -> list[Path]:
    """Write the source of the lab `topic`, with the next free number, and its checks.

    The new lab builds, passes lint, and its exercise passes verification. One that is made of a
    notebook has the notebook's cells, and no exercises yet.

    Args:
        topic: Lower-case words joined by `_`; by default the name of `notebook`.
        folder: The course, created if it does not exist; by default the current course.
        notebook: A notebook, or a script in percent format, to make a lab of. A script that lies in
            the place of a source becomes that source.

    Returns:
        The files written: the source, the checks, and those of a new course.

    Raises:
        Invalid: The topic is not such a name or is in use, or the notebook is not in Python.
        NotFound, Damaged: The notebook does not exist or cannot be read.
        Unavailable: The course cannot be written.
    """
    if topic is None:
        if notebook is None:
            raise Invalid("Name the topic of the lab, as in: dltlab new my_topic")
        topic = topic_of(notebook)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", topic) or keyword.iskeyword(topic):
        raise Invalid(
            f"'{topic}' cannot be a topic: use lower-case words joined by '_', as in my_topic."
        )
    content = read_foreign(notebook) if notebook else None
    course_files = _make_course(folder) if folder else []
    course = Course.find(folder)
    package, checks = _checks(course, topic)
    values = {"topic": topic, "title": topic.replace("_", " ").capitalize(), "package": package}
    if notebook and content:
        in_place = notebook.resolve() in course.sources() and not has_header(content)
        source = notebook.resolve() if in_place else _new_source(course, topic)
        _require_free(source.with_suffix(".ipynb"))
        write_atomically(source, _template("notebook.txt", values | to_percent(content)))
        return [source, *course_files]
    source = _new_source(course, topic)
    if checks.exists():
        raise Invalid(f"{short_path(checks)} already exists; rename it or choose another topic.")
    write_atomically(checks, _template("checks.py.txt", values))
    write_atomically(source, _template("lab.py.txt", values))
    return [source, checks, *course_files]


def _require_free(path: Path) -> None:
    if path.exists():
        raise Invalid(
            f"{short_path(path)} is where the build writes; move the notebook elsewhere, then make "
            "a lab of it."
        )


def _new_source(course: Course, topic: str) -> Path:
    """Return the path of a source with the next free number."""
    names = course.lab_names()
    if any(name.partition("_")[2] == topic for name in names):
        raise Invalid(f"There is already a lab '{topic}'; choose another topic.")
    number = max((int(name.partition("_")[0]) for name in names), default=0) + 1
    if number > 99:
        raise Invalid("99 is the last number of a lab; rename a lab to a number that is free.")
    return course.solutions / f"{number:02}_{topic}.py"


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


def _make_course(folder: Path) -> list[Path]:
    """Make a folder a course, and return the files written; a file that exists is not changed."""
    if (folder / "solutions").is_dir():
        return []
    for subfolder in ("solutions", "labs", "datasets"):
        try:
            (folder / subfolder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder / subfolder, error) from error
    title = folder.resolve().name.replace("_", " ").replace("-", " ").capitalize()
    new = {folder / name: template for name, template in _COURSE_FILES.items()}
    written = [path for path in new if not path.exists()]
    for path in written:
        write_atomically(path, _template(new[path], {"title": title}))
    return written


def _template(name: str, values: dict[str, str]) -> str:
    text = files("dltlab.authoring").joinpath("templates", name).read_text(encoding="utf-8")
    return Template(text).substitute(values)
