"""A course on disk: a folder with `solutions/`, `labs/` and `datasets/`."""

import importlib.util
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dltlab.course.extras import how_to_install, missing_modules
from dltlab.course.front_matter import SourceError
from dltlab.course.source import NAME, Lab, read_lab, read_outline
from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.paths import COURSE, chosen_labs, course_dir, own_course_dir, short_path


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

    def command(self, *words: str) -> str:
        """Return a dltlab command for this course, quoted for a shell."""
        option = [] if self.is_own else ["--course", short_path(self.root)]
        return shlex.join(["dltlab", *words, *option])

    def sources(self) -> list[Path]:
        """Return the paths of the sources, sorted by number; see also `misnamed`."""
        by_number: dict[str, Path] = {}
        for path in sorted(self.solutions.glob("*.py")):
            if name := NAME.fullmatch(path.stem):
                by_number.setdefault(name["number"], path)
        return list(by_number.values())

    def misnamed(self) -> dict[Path, str]:
        """Return what is wrong with each file in `solutions/` that `sources` leaves out."""
        sources = self.sources()
        faults = {}
        for path in sorted(self.solutions.glob("*.py")):
            if not NAME.fullmatch(path.stem):
                faults[path] = "a lab's source is named NN_topic.py; rename it"
            elif path not in sources:
                (other,) = (source for source in sources if source.name[:2] == path.name[:2])
                faults[path] = f"{other.name} has the same number; give the newer lab another one"
        return faults

    def without_source(self) -> dict[Path, str]:
        """Return what to do about each notebook of the course that has no source."""
        names = self.lab_names()
        convert = self.command("new", "--from", "NOTEBOOK")
        advice = {
            self.labs: "delete it, or write a source",
            self.solutions: f"move it elsewhere, and make it a lab with: {convert}",
        }
        return {
            path: f"has no source in solutions/; {advice[folder]}"
            for folder in advice
            for path in sorted(folder.glob("*.ipynb"))
            if path.stem not in names
        }

    def lab_names(self) -> list[str]:
        """Return the name of each lab (`NN_topic`), sorted by number.

        `DLTLAB_LABS`, where it is set, chooses some, as for a workshop.
        """
        names, chosen = [path.stem for path in self.sources()], chosen_labs()
        return [name for name in names if chosen is None or name in chosen]

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
            Invalid: Without `names`, if a source is not named `NN_topic.py` or two labs have the
                same number.
        """
        for path, fault in {} if names else self.misnamed().items():
            raise Invalid(f"{short_path(path)}: {fault}.")
        paths = [self.resolve(name) for name in names] if names else self.sources()
        labs = [read_lab(path) for path in paths]
        for lab in labs:
            self._require_known(lab)
        return labs

    def outlines(self) -> tuple[list[Lab], list[str]]:
        """Read the outlines of the labs: those whose front matter and syntax are valid.

        Returns:
            The labs, and a sentence for each source that is left out.
        """
        labs = []
        left_out = [
            f"{short_path(path)} is left out: {why}." for path, why in self.misnamed().items()
        ]
        for name in self.lab_names():
            try:
                lab = read_outline(self.resolve(name))
                self._require_known(lab)
                labs.append(lab)
            except (SourceError, Damaged) as error:
                left_out.append(f"{name} is left out: {error}")
        return labs, left_out

    def missing_modules(self) -> list[str]:
        """Return a sentence for each lab that imports modules that are not installed."""
        sentences = []
        with self.import_path():
            for path in self.sources():
                with suppress(OSError, ValueError, SyntaxError):  # `outlines` says what is wrong
                    if modules := missing_modules(path.read_text(encoding="utf-8-sig")):
                        sentences.append(
                            f"{path.stem} needs packages that are not installed: "
                            f"{', '.join(modules)}. "
                            f"{how_to_install(modules)}"
                        )
        return sentences

    def _require_known(self, lab: Lab) -> None:
        """Raise for a required lab that does not come earlier, or a data set without a card."""
        known = [path.stem for path in self.sources()]
        earlier = known[: known.index(lab.name)]
        for number, required in enumerate(lab.front_matter.requires):
            if required not in earlier:
                line = lab.block.line("requires", number)
                raise SourceError(lab.path, line, f"'requires' names '{required}', no earlier lab")
        for number, dataset in enumerate(lab.front_matter.datasets):
            folders = (self.datasets, Course.own().datasets)
            if not any((folder / f"{dataset}.toml").is_file() for folder in folders):
                line = lab.block.line("datasets", number)
                raise SourceError(lab.path, line, f"data set '{dataset}' has no card in datasets/")


def enter_course() -> None:
    """Use the course in or above the working folder: a notebook can import its checks.

    `DLTLAB_COURSE`, where it is set, names the course.

    Raises:
        NotFound: There is no such course, and no package `checks` to import.
    """
    here = Path.cwd()
    for folder in filter(None, (course_dir(), here, *here.parents)):
        if (folder / "solutions").is_dir():
            os.environ[COURSE] = str(folder)
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            return
    if not importlib.util.find_spec("checks"):
        raise NotFound(
            f"{here} is in no course: start the notebook in the folder of its course, or set "
            f"{COURSE} to that folder."
        )
