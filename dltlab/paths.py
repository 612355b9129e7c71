"""Every `DLTLAB_*` environment variable, and the user's folders and files."""

import os
from pathlib import Path

COURSE = "DLTLAB_COURSE"
DATA_DIR = "DLTLAB_DATA_DIR"
DATA_MIRROR = "DLTLAB_DATA_MIRROR"
OFFLINE = "DLTLAB_OFFLINE"
ENGINE_DIR = "DLTLAB_ENGINE_DIR"
PROGRESS = "DLTLAB_PROGRESS"
COLD_KERNELS = "DLTLAB_COLD_KERNELS"
TOKEN = "DLTLAB_TOKEN"  # noqa: S105 - the name of the variable, not a token
RANK = "DLTLAB_RANK"
WORLD_SIZE = "DLTLAB_WORLD_SIZE"
LOCAL_RANK = "DLTLAB_LOCAL_RANK"
LOCAL_WORLD_SIZE = "DLTLAB_LOCAL_WORLD_SIZE"
RENDEZVOUS = "DLTLAB_RENDEZVOUS"
ATTEMPT = "DLTLAB_ATTEMPT"
JOB_TOKEN = "DLTLAB_JOB_TOKEN"  # noqa: S105
LAUNCH_MARK = "DLTLAB_LAUNCH"
RUN_DIR = "DLTLAB_RUN_DIR"
RUN_MARK = "DLTLAB_RUN"
ROOM = "DLTLAB_ROOM"
LABS = "DLTLAB_LABS"


def own_course_dir() -> Path:
    """Return the folder of dltlab's own course, in an installed package or in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / "_course"
    return installed if installed.is_dir() else package.parent


def lock_file() -> Path | None:
    """Return `requirements.lock` of a clone, or None in an installed package."""
    path = Path(__file__).resolve().parents[1] / "requirements.lock"
    return path if path.is_file() else None


def course_dir() -> Path | None:
    """Return the course folder in `DLTLAB_COURSE`, or None where it is not set."""
    return _named(COURSE)


def data_dir() -> Path:
    """Return the user's data store: `DLTLAB_DATA_DIR`, by default under the XDG data home."""
    return _named(DATA_DIR) or _user_data_dir() / "datasets"


def mirror_dir() -> Path | None:
    """Return the mirror folder in `DLTLAB_DATA_MIRROR`, or None where it is not set."""
    return _named(DATA_MIRROR)


def offline() -> bool:
    """Return whether `DLTLAB_OFFLINE` forbids to contact other hosts."""
    return _is_on(OFFLINE)


def card_folders() -> list[Path]:
    """Return the folders with data sets' cards and their files: of dltlab, and of `course_dir`."""
    courses = filter(None, [own_course_dir(), course_dir()])
    return [course / "datasets" for course in courses]


def engine_dir() -> Path:
    """Return the cache of compiled engines: `DLTLAB_ENGINE_DIR`, by default the XDG cache home."""
    import platformdirs

    return _named(ENGINE_DIR) or platformdirs.user_cache_path("dltlab") / "engines"


def progress_file() -> Path:
    """Return the file of a learner's progress: `DLTLAB_PROGRESS`, by default in the data home."""
    return _named(PROGRESS) or _user_data_dir() / "progress.jsonl"


def run_dir() -> Path | None:
    """Return the folder of the batch's run whose notebook runs here, or None outside a batch."""
    return _named(RUN_DIR)


def room_dir() -> Path | None:
    """Return the runtime folder of the workshop that this process belongs to, or None."""
    return _named(ROOM)


def chosen_labs() -> list[str] | None:
    """Return the names of the course's labs that `DLTLAB_LABS` lists, or None for all."""
    return list(filter(None, os.environ.get(LABS, "").split(","))) or None


def cold_kernels() -> bool:
    """Return whether `DLTLAB_COLD_KERNELS` turns warm kernels off."""
    return _is_on(COLD_KERNELS)


def short_path(path: Path) -> str:
    """Return `path` as a person would type it: relative to the working folder if inside it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(os.path.expanduser(value)) if value else None


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() not in ("", "0", "false", "no", "off")


def _user_data_dir() -> Path:
    import platformdirs

    return platformdirs.user_data_path("dltlab")
