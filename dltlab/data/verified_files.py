"""Get the files of a data set from the nearest place that has them, and verify their bytes."""

import gzip
import hashlib
import os
import re
import shutil
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dltlab.data.card import DatasetCard, File
from dltlab.errors import Invalid, Unavailable
from dltlab.files import lock_folder
from dltlab.paths import DATA_MIRROR, OFFLINE, card_folders, data_dir, mirror_dir, offline

CONNECT_SECONDS, STALL_SECONDS = 5.0, 15.0  # after which a server is given up
CHUNK_BYTES = 1 << 16  # an interrupted download loses less than this
_ATTEMPTS = 3  # at a URL whose download was interrupted after it had made progress


def stored_path(card: DatasetCard, file: File) -> Path:
    """Return the path of `file` in the user's store, whether it exists or not."""
    return data_dir() / card.name / file.name


def is_local(card: DatasetCard, file: File) -> bool:
    """Return whether a file of this name is beside the card, in the store or in the mirror."""
    return any(map(os.path.isfile, _local_paths(card, file)))


def is_intact(path: Path, file: File) -> bool:
    """Return whether `path` holds the bytes of `file`.

    Raises:
        Invalid: It does, but their number is not the card's `size`.
    """
    return _verified_content(path, file) is not None


def file_content(card: DatasetCard, file: File) -> bytes:
    """Return the verified bytes of `file`; those of a `.gz` file (not `.tar.gz`) unpacked.

    They come from the folder of the card, else from the user's store (`DLTLAB_DATA_DIR`, by default
    `datasets` in the user's data folder), else from the mirror (`DLTLAB_DATA_MIRROR`). Without a
    mirror, and without `DLTLAB_OFFLINE`, they are downloaded from the card's URLs into the store. A
    local file that was compressed again is as good as the original.

    Of two processes that need the same file, only one downloads it. An interrupted download is
    continued by the next one.

    Raises:
        Unavailable: No source has the expected bytes, or the store cannot be written.
        Invalid: The file's size is not that of the card.
    """
    return _verified_file(card, file)[1]


def verified_path(card: DatasetCard, file: File) -> Path:
    """Return the path of a local copy of `file` with verified bytes, as `file_content` finds it.

    Raises:
        LabError: As `file_content` does.
    """
    return _verified_file(card, file)[0]


def _verified_file(card: DatasetCard, file: File) -> tuple[Path, bytes]:
    local_paths = _local_paths(card, file)
    for path in local_paths:
        if (content := _verified_content(path, file)) is not None:
            return path, content
    if not file.urls or offline() or mirror_dir() is not None:
        raise _not_here(card, file)
    failures = [f"{path} {_fault(path)}" for path in local_paths]
    target = stored_path(card, file)
    try:
        with lock_folder(target.parent):
            # Another process may have downloaded it in the meantime.
            if (content := _verified_content(target, file)) is not None:
                return target, content
            for url in file.urls:
                failures.append(f"{url} {_download(url, target, file)}")
                if (content := _verified_content(target, file)) is not None:
                    return target, content
    except OSError as error:
        raise Unavailable(
            f"{file.name} cannot be written to {target.parent} ({_reason(error)}); free some space "
            "there, or set DLTLAB_DATA_DIR to a folder you may write to."
        ) from error
    raise Unavailable(
        f"The file {file.name} of the data set '{card.name}' is not available: "
        f"{'; '.join(failures)}. Connect to the network and try again, or set DLTLAB_DATA_MIRROR "
        "to a folder that holds the file."
    )


def is_beside_card(file: File) -> bool:
    """Return whether a file of this name is in a folder of cards."""
    return any((folder / file.name).is_file() for folder in card_folders())


def _local_paths(card: DatasetCard, file: File) -> list[Path]:
    beside_card = [folder / file.name for folder in card_folders()[::-1]]
    if not file.urls:
        return beside_card
    mirror = mirror_dir()
    in_mirror = [mirror / card.name / file.name, mirror / file.name] if mirror else []
    beside_card = [path for path in beside_card if path.is_file()]
    return [*beside_card, stored_path(card, file), *in_mirror]


def _not_here(card: DatasetCard, file: File) -> Unavailable:
    """Return the error for a file that is not on this machine and must not be downloaded."""
    failures = "; ".join(f"{path} {_fault(path)}" for path in _local_paths(card, file))
    if not file.urls:
        fix = "Put it beside its card, with the size and the SHA-256 hash that the card states."
    else:
        variable = OFFLINE if offline() else DATA_MIRROR
        fix = (
            f"Nothing is downloaded because {variable} is set: unset it, or put the file into one "
            "of these places."
        )
    return Unavailable(
        f"The file {file.name} of the data set '{card.name}' is not available: {failures}. {fix}"
    )


def _verified_content(path: Path, file: File) -> bytes | None:
    """Return the content of `path`; None where neither its hash nor its content's is correct.

    Raises:
        Invalid: The hash is correct, but the size is not that of the card.
    """
    try:
        packed = path.read_bytes()
        is_gzip = file.name.endswith(".gz") and not file.name.endswith(".tar.gz")
        unpacked = gzip.decompress(packed) if is_gzip else packed
    except (OSError, EOFError, zlib.error):
        return None
    if _sha256(packed) == file.sha256:
        if len(packed) != file.size:
            raise Invalid(
                f"{file.name} has {len(packed)} bytes; its card says {file.size}: correct 'size' "
                "in the card."
            )
        return unpacked
    return unpacked if _sha256(unpacked) == file.unpacked_sha256 else None


def _fault(path: Path) -> str:
    """Return why a path where a file was looked up does not have it."""
    try:
        return f"is damaged or another file, with the SHA-256 {_sha256(path.read_bytes())}"
    except OSError:
        return "cannot be read" if os.path.isfile(path) else "is missing"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _download(url: str, target: Path, file: File) -> str:
    """Try to download `url` to `target`; return what went wrong, if `target` is not correct then.

    Raises:
        OSError: `target` cannot be written.
    """
    import pooch
    from requests.exceptions import ChunkedEncodingError, RequestException

    host = urlsplit(url).netloc
    print(f"Downloading {file.name} ({file.size / 1e6:.1f} MB) from {host} …")  # noqa: T201
    pooch.get_logger().setLevel("ERROR")  # we report its warnings ourselves
    folder = target.with_name(".fetching")
    part = folder / f"{target.name}.part"
    for _ in range(_ATTEMPTS):
        size_before = _size(part)
        try:
            downloaded = pooch.retrieve(
                url, f"sha256:{file.sha256}", target.name, folder, downloader=_Resuming(part)
            )
        except RequestException as error:
            if error.response is not None:
                return f"answered {error.response.status_code}"
            if _size(part) == size_before:
                was_interrupted = isinstance(error, ChunkedEncodingError)
                return "broke off" if was_interrupted else "did not answer"
        except ValueError as error:
            if not size_before:  # otherwise the part was that of another file
                found = re.search(r"but got ['\"]?(\w+)", str(error))  # in pooch's message
                instead = f" but {found[1]}" if found else ""
                return f"sent bytes that do not have the card's SHA-256{instead}"
        else:
            Path(downloaded).replace(target)
            shutil.rmtree(folder)
            return "sent a file that is not compressed with gzip"
    return "broke off repeatedly"


class _Resuming:
    """A downloader for pooch that keeps what it has on interruption and continues from there."""

    def __init__(self, part: Path) -> None:
        self._part = part

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download `url` to `output_file`, which pooch then verifies and renames."""
        import requests
        from tqdm import tqdm

        start = _size(self._part)
        headers = {"Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        with requests.get(
            url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, STALL_SECONDS)
        ) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._part.unlink()  # it is not the beginning of what the server has now
                raise requests.ConnectionError
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                start = 0
            total = start + int(response.headers.get("Content-Length", 0))
            with (
                self._part.open("ab" if start else "wb") as file,
                tqdm(total=total, initial=start, unit="B", unit_scale=True, leave=False) as bar,
            ):
                for chunk in response.iter_content(CHUNK_BYTES):
                    file.write(chunk)
                    bar.update(len(chunk))
        self._part.replace(output_file)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: OSError) -> str:
    return error.strerror or ("no permission" if isinstance(error, PermissionError) else str(error))
