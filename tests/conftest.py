"""What tests share: the checkout, a course of one lab, and the command line."""

import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest_plugins = ["device_fixtures", "kernel_fixtures"]

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whole labs first, dealt out to the workers: one that is last runs alone for minutes."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    labs = [item for item in items if item.path.parent.name in ("notebooks", "browser")]
    rest = [item for item in items if item not in labs]
    share = math.ceil(len(rest) / workers)
    items[:] = [
        item
        for worker in range(workers)
        for item in (*labs[worker::workers], *rest[worker * share : (worker + 1) * share])
    ]


@pytest.fixture(autouse=True)
def progress_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test touches anybody's progress or course."""
    path = tmp_path / "progress" / "progress.jsonl"
    monkeypatch.setenv("DLTLAB_PROGRESS", str(path))
    monkeypatch.delenv("DLTLAB_COURSE", raising=False)
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Make the modules in a folder importable, and forget them after the test."""
    from dltlab.exercises import lab_of

    def forget() -> None:
        lab_of.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] == "checks"]:
            del sys.modules[name]

    monkeypatch.setattr(sys, "path", list(sys.path))
    forget()
    yield lambda folder: monkeypatch.syspath_prepend(str(folder))
    forget()


@pytest.fixture
def course(tmp_path: Path, importable: Callable[[Path], None]):
    """A course of one lab, 01_my_topic, as `dltlab new` writes it."""
    from dltlab.authoring.new import new_lab
    from dltlab.course.catalog import Course

    folder = tmp_path / "course"
    new_lab("my_topic", folder)
    importable(folder)
    return Course(folder)


@pytest.fixture
def source(course) -> Path:
    """The source of the course's one lab."""
    return course.solutions / "01_my_topic.py"


@pytest.fixture(scope="session")
def _built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dltlab.authoring.build import execute_solutions, write_without_executing
    from dltlab.authoring.new import new_lab
    from dltlab.course.catalog import Course

    folder = tmp_path_factory.mktemp("built") / "course"
    new_lab("my_topic", folder)
    course = Course(folder)
    (lab,) = course.read()
    execute_solutions(course, lab)
    write_without_executing(course, lab)
    return folder


@pytest.fixture
def built(_built_once: Path, course):
    """The course of one lab, built."""
    for folder in ("labs", "solutions"):
        shutil.copytree(_built_once / folder, course.root / folder, dirs_exist_ok=True)
    return course


@pytest.fixture
def edit() -> Callable[..., None]:
    """Replace a text that a file holds."""

    def replace(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return replace


@pytest.fixture
def dltlab(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    importable: Callable[[Path], None],
) -> Callable[..., Answer]:
    """Run a command of dltlab in this process."""
    from dltlab.cli import main

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["dltlab", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def script() -> str:
    """The console script, for tests in which the process matters."""
    return str(Path(sys.executable).with_name("dltlab"))
