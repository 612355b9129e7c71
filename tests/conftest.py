"""Fixtures that tests share: the repository, a course of one lab, and the command line."""

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import pytest

pytest_plugins = [
    "tests.batch.fake_execution",
    "tests.coverage_pause",
    "tests.device_fixtures",
    "tests.docs.site",
    "tests.iterators",
    "tests.kernel_fixtures",
    "tests.slurm_fixtures",
    "tests.stopped_run",
    "tests.workshop.namespace",
]

# Tests share the cores, and TensorFlow's threads take more time together than one takes alone.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]

LONG_MODULES = (
    *("test_guide.py", "test_prepare.py", "test_replicas.py", "test_supervisor.py"),
    *("test_batch_kills.py", "test_fitting.py", "test_site.py"),
)
LONG_FOLDERS = ("browser", "checks", "notebooks")  # each of their tests is a whole lab


@dataclass(frozen=True)
class CommandResult:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each worker begin with long tests: the last of them would run alone for minutes.

    Each worker gets an equal part of the list. The tests of a module that share a long fixture stay
    together.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long = [[item for item in items if item.path.name == name] for name in LONG_MODULES]
    long += [[item] for item in items if item.path.parent.name in LONG_FOLDERS]
    rest = iter([item for item in items if item not in chain(*long)])
    share = math.ceil(len(items) / workers)
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        queue = [*chain(*long[worker::workers])]
        ordered += [*queue, *islice(rest, max(share - len(queue), 0))]
    items[:] = [*ordered, *rest]


@pytest.fixture(autouse=True)
def _state_of_process() -> Iterator[None]:
    """Leave environment variables and TensorFlow's global seed as they were before the test."""
    variables = dict(os.environ)
    yield
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)
    if tensorflow := sys.modules.get("tensorflow"):
        tensorflow.random.set_seed(None)


@pytest.fixture(autouse=True)
def progress_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _state_of_process: None) -> Path:
    """Use a new progress file and no course of the user in every test."""
    path = tmp_path / "progress" / "progress.jsonl"
    monkeypatch.setenv("DLTLAB_PROGRESS", str(path))
    monkeypatch.delenv("DLTLAB_COURSE", raising=False)
    return path


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Make the modules in a folder importable, until the end of the test."""
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
    from dltlab.authoring import new_lab
    from dltlab.course import Course

    folder = tmp_path / "course"
    new_lab("my_topic", folder)
    importable(folder)
    return Course(folder)


@pytest.fixture
def source(course) -> Path:
    """The source of the course's lab."""
    return course.solutions / "01_my_topic.py"


@pytest.fixture(scope="session")
def _built_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dltlab.authoring import build, new_lab
    from dltlab.course import Course

    folder = tmp_path_factory.mktemp("built") / "course"
    new_lab("my_topic", folder)
    course = Course(folder)
    build(course, course.read())
    return folder


@pytest.fixture
def built(_built_once: Path, course):
    """The course of one lab, built."""
    for folder in ("labs", "solutions"):
        shutil.copytree(_built_once / folder, course.root / folder, dirs_exist_ok=True)
    return course


@pytest.fixture
def workspace(built, tmp_path):
    """A learner's folder, with the lab of the built course."""
    from dltlab.course import Workspace

    workspace = Workspace(tmp_path / "workspace", built)
    workspace.update()
    return workspace


@pytest.fixture
def edit() -> Callable[..., None]:
    """Replace a text in a file."""

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
) -> Callable[..., CommandResult]:
    """Run a command of dltlab in this process."""
    from dltlab.cli import main

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["dltlab", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        return CommandResult(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def script() -> str:
    """The path of the console script, for tests that need a process of their own."""
    return str(Path(sys.executable).with_name("dltlab"))
