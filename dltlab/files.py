"""Where data sets are kept, and files written so that a reader never meets half of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dltlab.errors import LabError


def dataset_folder() -> Path:
    """The user's store: `DLTLAB_DATA_DIR`, by default `datasets` in the user's data folder."""
    import platformdirs

    named = os.environ.get("DLTLAB_DATA_DIR")
    return Path(named) if named else platformdirs.user_data_path("dltlab") / "datasets"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` beside `path`, then rename it into place.

    Whatever happens half way (a full disk, Ctrl-C, a killed process), `path` holds either its old
    content or the new one. Text is written as UTF-8.

    Raises:
        LabError: The folder or the disk does not take the file.
    """
    data = content.encode() if isinstance(content, str) else content
    beside: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        beside = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`, which is made where it is missing; others wait for it.

    The lock is that of the file `.lock`. A process that ends, however it ends, releases it.

    Raises:
        OSError: The folder cannot be made or written.
    """
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        yield


def cannot_write(path: Path, error: OSError) -> LabError:
    """The sentence for a file that could not be written."""
    mend = "Free some space or choose a folder you may write to, then run the command again."
    if isinstance(error, FileExistsError | NotADirectoryError):
        mend = "A file is where a folder should be: choose another place, or move the file."
    return LabError(
        f"{path} cannot be written ({error.strerror or error}); nothing was changed. {mend}"
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
