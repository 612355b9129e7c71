"""A course on disk: a folder with `solutions/`, `labs/` and `datasets/`."""

import os
from dataclasses import dataclass
from pathlib import Path

from dltlab.course.front_matter import SourceError
from dltlab.course.source import NAME, Lab, read_lab
from dltlab.errors import LabError
from dltlab.paths import COURSE, course_dir, own_course_dir, short_path


@dataclass(frozen=True)
class Course:
    """A course by its folder."""

    root: Path

    @classmethod
    def find(cls, folder: Path | None = None) -> "Course":
        """The course in `folder`, else in `DLTLAB_COURSE`, else dltlab's own.

        Raises:
            LabError: The folder holds no `solutions/`.
        """
        named = folder or course_dir() or own_course_dir()
        if not (named / "solutions").is_dir():
            raise LabError(
                f"{named} is not a course: it has no folder 'solutions'. "
                "Start one with: dltlab new TOPIC --course DIR"
            )
        return cls(named.resolve())

    @classmethod
    def own(cls) -> "Course":
        """The course that comes with dltlab: inside an installed package, in a clone beside it."""
        return cls(own_course_dir())

    @property
    def solutions(self) -> Path:
        """What an author edits, and its executed twins."""
        return self.root / "solutions"

    @property
    def labs(self) -> Path:
        """What a learner opens."""
        return self.root / "labs"

    @property
    def datasets(self) -> Path:
        """One card a data set."""
        return self.root / "datasets"

    @property
    def is_own(self) -> bool:
        """Whether this is the course that comes with dltlab."""
        return self == Course.own()

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables with which a kernel finds this course and its checks."""
        if self.is_own:
            return {}
        paths = [str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {COURSE: str(self.root), "PYTHONPATH": os.pathsep.join(paths)}

    def sources(self) -> list[Path]:
        """The sources, by number.

        Raises:
            LabError: A file is not named `NN_topic.py`, or two labs have one number.
        """
        by_number: dict[str, Path] = {}
        for path in sorted(self.solutions.glob("*.py")):
            name = NAME.fullmatch(path.stem)
            if not name:
                raise LabError(
                    f"{short_path(path)}: a lab's source is named NN_topic.py; rename it."
                )
            if name["number"] in by_number:
                other = by_number[name["number"]].name
                raise LabError(
                    f"{short_path(path)} and {other} have the same number; give the newer lab "
                    "another one."
                )
            by_number[name["number"]] = path
        return list(by_number.values())

    def lab_names(self) -> list[str]:
        """`NN_topic` of every lab."""
        return [path.stem for path in self.sources()]

    def resolve(self, name: str) -> Path:
        """The source of the lab called `name`: `1`, `01`, `first_network` or `01_first_network`.

        Raises:
            LabError: There is no such lab.
        """
        wanted = name.removesuffix(".ipynb").removesuffix(".py")
        for path in self.sources():
            number, _, topic = path.stem.partition("_")
            if wanted in (path.stem, topic, number, str(int(number))):
                return path
        known = ", ".join(self.lab_names()) or "none yet"
        raise LabError(f"There is no lab '{name}'. The labs are: {known}.")

    def read(self, names: list[str] | None = None) -> list[Lab]:
        """The labs called `names`, or all of them, each validated on its own and in the course.

        Raises:
            SourceError: A lab is wrong; names the file and the line.
        """
        paths = [self.resolve(name) for name in names] if names else self.sources()
        labs = [read_lab(path) for path in paths]
        for lab in labs:
            self._require_known(lab)
        return labs

    def _require_known(self, lab: Lab) -> None:
        """Raise for a required lab that does not come earlier, or a data set without a card."""
        known = self.lab_names()
        earlier = known[: known.index(lab.name)]
        for number, required in enumerate(lab.front_matter.requires):
            if required not in earlier:
                line = lab.block.line("requires", number)
                raise SourceError(lab.path, line, f"requires '{required}', which is no earlier lab")
        for number, dataset in enumerate(lab.front_matter.datasets):
            if not (self.datasets / f"{dataset}.toml").is_file():
                line = lab.block.line("datasets", number)
                raise SourceError(lab.path, line, f"data set '{dataset}' has no card in datasets/")
