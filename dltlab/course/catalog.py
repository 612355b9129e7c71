"""A course on disk: a folder with `solutions/`, `labs/` and `datasets/`."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dltlab.course.front_matter import SourceError
from dltlab.course.source import NAME, Lab, read_lab
from dltlab.errors import Invalid, NotFound
from dltlab.paths import COURSE, course_dir, own_course_dir, short_path


@dataclass(frozen=True)
class Course:
    """A course, identified by its folder."""

    root: Path

    @classmethod
    def find(cls, folder: Path | None = None) -> "Course":
        """Return the course in `folder`, else in `DLTLAB_COURSE`, else dltlab's own.

        Raises:
            NotFound: The folder has no subfolder `solutions`.
        """
        root = folder or course_dir() or own_course_dir()
        if not (root / "solutions").is_dir():
            raise NotFound(
                f"{root} is not a course: it has no folder 'solutions'. "
                "Start one with: dltlab new TOPIC --course DIR"
            )
        return cls(root.resolve())

    @classmethod
    def own(cls) -> "Course":
        """Return the course that comes with dltlab, in the installed package or in a clone."""
        return cls(own_course_dir())

    @property
    def solutions(self) -> Path:
        """The folder of the sources and their executed notebooks."""
        return self.root / "solutions"

    @property
    def labs(self) -> Path:
        """The folder of the learner's notebooks."""
        return self.root / "labs"

    @property
    def datasets(self) -> Path:
        """The folder of the data sets' cards."""
        return self.root / "datasets"

    @property
    def is_own(self) -> bool:
        """Whether this is the course that comes with dltlab."""
        return self == Course.own()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables with which a kernel finds this course and its checks."""
        if self.is_own:
            return {}
        paths = [str(self.root), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {COURSE: str(self.root), "PYTHONPATH": os.pathsep.join(paths)}

    @contextmanager
    def import_path(self) -> Iterator[None]:
        """Find the course's checks when modules are imported in the block."""
        sys.path.insert(0, str(self.root))
        try:
            yield
        finally:
            sys.path.remove(str(self.root))

    def sources(self) -> list[Path]:
        """Return the paths of the sources, sorted by number.

        Raises:
            Invalid: A file is not named `NN_topic.py`, or two labs have the same number.
        """
        by_number: dict[str, Path] = {}
        for path in sorted(self.solutions.glob("*.py")):
            name = NAME.fullmatch(path.stem)
            if not name:
                raise Invalid(
                    f"{short_path(path)}: a lab's source is named NN_topic.py; rename it."
                )
            if name["number"] in by_number:
                other = by_number[name["number"]].name
                raise Invalid(
                    f"{short_path(path)} and {other} have the same number; give the newer lab "
                    "another one."
                )
            by_number[name["number"]] = path
        return list(by_number.values())

    def lab_names(self) -> list[str]:
        """Return the name of each lab (`NN_topic`), sorted by number."""
        return [path.stem for path in self.sources()]

    def resolve(self, name: str) -> Path:
        """Return the source of a lab: of `1`, `01`, `first_network` or `01_first_network`.

        Raises:
            NotFound: There is no such lab.
        """
        stem = name.removesuffix(".ipynb").removesuffix(".py")
        for path in self.sources():
            number, _, topic = path.stem.partition("_")
            if stem in (path.stem, topic, number, str(int(number))):
                return path
        known = ", ".join(self.lab_names()) or "none yet"
        raise NotFound(f"There is no lab '{name}'. The labs are: {known}.")

    def read(self, names: list[str] | None = None) -> list[Lab]:
        """Read and validate the labs called `names`, by default all of them.

        Raises:
            SourceError: A lab is not valid; names the file and the line.
            NotFound: There is no lab of that name.
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
                raise SourceError(lab.path, line, f"'requires' names '{required}', no earlier lab")
        for number, dataset in enumerate(lab.front_matter.datasets):
            if not (self.datasets / f"{dataset}.toml").is_file():
                line = lab.block.line("datasets", number)
                raise SourceError(lab.path, line, f"data set '{dataset}' has no card in datasets/")
