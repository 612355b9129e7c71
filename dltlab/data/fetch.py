"""Get a data set's files, from the nearest place that has them, and believe no byte unverified."""

import gzip
import hashlib
import shutil
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dltlab.data.card import Card, File
from dltlab.errors import LabError
from dltlab.files import lock_folder
from dltlab.paths import data_dir, mirror_dir

_CONNECT_SECONDS, _STALL_SECONDS = 5, 15
_CHUNK = 1 << 16  # bytes; what is less than one of them is lost when a download breaks off
_TRIES = 3  # of an address that broke off after it had sent something


def is_near(card: Card, file: File) -> bool:
    """Whether the user's store or the mirror has a file of this name."""
    return any(path.is_file() for path in _near(card, file))


def stored(card: Card, file: File) -> Path:
    """Where the user's store has `file`, or would have it."""
    return data_dir() / card.name / file.name


def is_right(path: Path, file: File) -> bool:
    """Whether `path` holds the bytes of `file`."""
    return _verified(path, file) is not None


def content(card: Card, file: File) -> bytes:
    """The bytes of `file`, verified; those of a .gz file that is no .tar.gz, unpacked.

    They come from the user's store (`DLTLAB_DATA_DIR`, by default `datasets` in the user's data
    folder), else from the mirror (`DLTLAB_DATA_MIRROR`), else from the card's URLs into the store.
    In the store and the mirror, a file that was compressed anew serves as well as the original.

    Of two processes that want the same file, one fetches it. What an interrupted download has got
    is kept, and the next one goes on from there.

    Raises:
        LabError: No source has the right bytes, or the store cannot be written.
    """
    for path in _near(card, file):
        if (found := _verified(path, file)) is not None:
            return found
    failures = [
        f"{path} is {'damaged or another file' if path.is_file() else 'missing'}"
        for path in _near(card, file)
    ]
    here = stored(card, file)
    try:
        with lock_folder(here.parent):
            if (found := _verified(here, file)) is not None:  # another process has fetched it
                return found
            for url in file.urls:
                failures.append(f"{url} {_download(url, here, file)}")
                if (found := _verified(here, file)) is not None:
                    return found
    except OSError as error:
        raise LabError(
            f"{file.name} cannot be kept in {here.parent} ({_reason(error)}); "
            "make room there, or set DLTLAB_DATA_DIR to a folder you may write to."
        ) from error
    raise LabError(
        f"The file {file.name} of the data set '{card.name}' could not be had: "
        f"{'; '.join(failures)}. Connect to the network and try again, or name a folder that holds "
        "the file in DLTLAB_DATA_MIRROR."
    )


def _near(card: Card, file: File) -> list[Path]:
    folder = mirror_dir()
    shared = [folder / card.name / file.name, folder / file.name] if folder else []
    return [stored(card, file), *shared]


def _verified(path: Path, file: File) -> bytes | None:
    """The content of `path`; None where neither its hash nor its content's is right."""
    try:
        packed = path.read_bytes()
        is_gzip = file.name.endswith(".gz") and not file.name.endswith(".tar.gz")
        unpacked = gzip.decompress(packed) if is_gzip else packed
    except (OSError, EOFError, zlib.error):
        return None
    right = _sha256(packed) == file.sha256 or _sha256(unpacked) == file.unpacked_sha256
    return unpacked if right else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(url: str, path: Path, file: File) -> str:
    """Fetch `url` to `path` where it can be had; returns how it answered.

    Raises:
        OSError: `path` cannot be written.
    """
    import pooch
    from requests.exceptions import ChunkedEncodingError, RequestException

    host = urlsplit(url).netloc
    print(f"Fetching {file.name} ({file.size / 1e6:.1f} MB) from {host} …")  # noqa: T201
    pooch.get_logger().setLevel("ERROR")  # what it would say is said by us
    hidden = path.with_name(".fetching")
    part = hidden / f"{path.name}.part"
    for _ in range(_TRIES):
        before = _size(part)
        try:
            fetched = pooch.retrieve(
                url, f"sha256:{file.sha256}", path.name, hidden, downloader=_Resuming(part)
            )
        except RequestException as error:
            if error.response is not None:
                return f"answered {error.response.status_code}"
            if _size(part) == before:
                broke_off = isinstance(error, ChunkedEncodingError)
                return "broke off" if broke_off else "gave no answer"
        except ValueError:
            if not before:  # else the part was of another file
                return "sent other bytes than the card's SHA-256 says"
        else:
            Path(fetched).replace(path)
            shutil.rmtree(hidden)
            return "sent a file that is not compressed with gzip"
    return "broke off again and again"


class _Resuming:
    """Downloads for pooch into a file that outlives an interruption, and goes on from its end."""

    def __init__(self, part: Path) -> None:
        self._part = part

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download `url` to `output_file`, which pooch then verifies and renames."""
        import requests
        from tqdm import tqdm

        have = _size(self._part)
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={have}-"}
        with requests.get(
            url,
            headers=headers if have else {"Accept-Encoding": "identity"},
            stream=True,
            timeout=(_CONNECT_SECONDS, _STALL_SECONDS),
        ) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._part.unlink()  # it is no beginning of what is there now
                raise requests.ConnectionError
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = 0
            total = have + int(response.headers.get("Content-Length", 0))
            with (
                self._part.open("ab" if have else "wb") as file,
                tqdm(total=total, initial=have, unit="B", unit_scale=True, leave=False) as bar,
            ):
                for some in response.iter_content(_CHUNK):
                    file.write(some)
                    bar.update(len(some))
        self._part.replace(output_file)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: OSError) -> str:
    return error.strerror or ("no permission" if isinstance(error, PermissionError) else str(error))
