"""Get a data set's files, from the nearest place that has them, and believe no byte unverified."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from urllib.parse import urlsplit

from dltlab.data.card import Card, File
from dltlab.errors import LabError
from dltlab.files import dataset_folder

_CONNECT_SECONDS, _STALL_SECONDS = 5, 15


def mirror() -> Path | None:
    """The folder in `DLTLAB_DATA_MIRROR`; None where it is not set."""
    named = os.environ.get("DLTLAB_DATA_MIRROR")
    return Path(named) if named else None


def is_near(card: Card, file: File) -> bool:
    """Whether the user's store or the mirror has a file of this name."""
    return any(path.is_file() for path in _near(card, file))


def content(card: Card, file: File) -> bytes:
    """The unpacked bytes of `file`, verified.

    They come from the user's store (`DLTLAB_DATA_DIR`, by default `datasets` in the user's data
    folder), else from the mirror (`DLTLAB_DATA_MIRROR`), else from the card's URLs into the store.
    In the store and the mirror, a file that was compressed anew serves as well as the original.

    Raises:
        LabError: No source has the right bytes, or the store cannot be written.
    """
    failures = []
    for path in _near(card, file):
        unpacked = _verified(path, file)
        if unpacked is not None:
            return unpacked
        failures.append(f"{path} is {'damaged' if path.is_file() else 'missing'}")
    for url in file.urls:
        failure = _download(url, _store(card), file)
        unpacked = _verified(_store(card) / file.name, file)
        if unpacked is not None:
            return unpacked
        failures.append(f"{url} {failure}")
    raise LabError(
        f"The file {file.name} of the data set '{card.name}' could not be had: "
        f"{'; '.join(failures)}. Connect to the network and try again, or name a folder that holds "
        "the file in DLTLAB_DATA_MIRROR."
    )


def _store(card: Card) -> Path:
    return dataset_folder() / card.name


def _near(card: Card, file: File) -> list[Path]:
    folder = mirror()
    return [_store(card) / file.name, *([folder / file.name] if folder else [])]


def _verified(path: Path, file: File) -> bytes | None:
    """The unpacked content of `path`; None where neither its hash nor its content's is right."""
    try:
        packed = path.read_bytes()
        unpacked = gzip.decompress(packed)
    except (OSError, EOFError, zlib.error):
        return None
    right = _sha256(packed) == file.sha256 or _sha256(unpacked) == file.unpacked_sha256
    return unpacked if right else None


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(url: str, folder: Path, file: File) -> str:
    """Fetch `url` into `folder` where it can be had; returns how it answered.

    Pooch writes beside the file, verifies, then renames, so that two processes may do it at once.
    """
    import pooch
    from requests.exceptions import ChunkedEncodingError, RequestException

    host = urlsplit(url).netloc
    print(f"Fetching {file.name} ({file.size / 1e6:.1f} MB) from {host} …")  # noqa: T201
    pooch.get_logger().setLevel("ERROR")  # what it would say is said by us
    patient = pooch.HTTPDownloader(
        progressbar=True, chunk_size=1 << 16, timeout=(_CONNECT_SECONDS, _STALL_SECONDS)
    )
    try:
        pooch.retrieve(url, f"sha256:{file.sha256}", file.name, folder, downloader=patient)
    except RequestException as error:
        if error.response is not None:
            return f"answered {error.response.status_code}"
        return "broke off" if isinstance(error, ChunkedEncodingError) else "gave no answer"
    except ValueError:
        return "sent other bytes than the card's SHA-256 says"
    except OSError as error:
        raise LabError(
            f"{file.name} cannot be kept in {folder} ({_reason(error)}); "
            "make room there, or set DLTLAB_DATA_DIR to a folder you may write to."
        ) from error
    return "sent a file that is not compressed with gzip"


def _reason(error: OSError) -> str:
    return error.strerror or ("no permission" if isinstance(error, PermissionError) else str(error))
