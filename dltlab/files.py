"""Write files and folders atomically, and lock folders between processes."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dltlab.errors import Unavailable


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content` to a temporary file next to `path`, then rename it to `path`.

    After any interruption (a full disk, Ctrl-C, a killed process), `path` holds either its old
    content or the new one. Text is encoded as UTF-8.

    Raises:
        Unavailable: The folder or the disk cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a new empty folder next to `path`, and rename it to `path` when the block succeeds.

    An older folder at `path` is replaced. When the block raises or removes the new folder, `path`
    stays as it was. A killed process leaves a folder `.NAME.*`: see `remove_unfinished`.

    Raises:
        Unavailable: The parent folder or the disk cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parent = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        new = parent / "new"
        new.mkdir()
        yield new
        if new.exists():
            _replace_folder(new, path, parent / "old")
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        shutil.rmtree(parent, ignore_errors=True)


def remove_unfinished(path: Path) -> None:
    """Remove what killed processes have left of `atomic_folder(path)`; hold a lock meanwhile.

    An older folder that was moved away and not replaced yet is put back.
    """
    for folder in path.parent.glob(f".{path.name}.*/"):
        if not path.exists():
            with suppress(FileNotFoundError):
                (folder / "old").replace(path)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the lock file `.lock` in `folder`, creating the folder if it is missing.

    Other processes wait. A process that ends, however it ends, releases the lock.

    Raises:
        OSError: The folder cannot be created or written.
    """
    import filelock

    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        yield


def is_writable(folder: Path) -> bool:
    """Return whether files can be written in `folder`, which need not exist yet."""
    # `Path.exists` would raise for a folder inside one that this user may not enter.
    existing = next(filter(os.path.exists, (folder, *folder.absolute().parents)))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 hash of a file as 64 hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cannot_write(path: Path, error: OSError) -> Unavailable:
    """Return the error for a file or folder that could not be written."""
    fix = "Free some space or choose a folder you may write to, then run the command again."
    if isinstance(error, FileExistsError | NotADirectoryError):
        fix = "There is a file where a folder must be: choose another place, or move the file."
    return Unavailable(
        f"{path} cannot be written ({error.strerror or error}); nothing was changed. {fix}"
    )


def _replace_folder(new: Path, path: Path, old: Path) -> None:
    """Rename `new` to `path`; move an existing folder to `old`, or back if that fails."""
    if path.exists():
        path.replace(old)
    try:
        new.replace(path)
    except OSError:
        with suppress(FileNotFoundError):
            old.replace(path)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
