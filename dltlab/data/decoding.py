"""Decode many images: alone at first, then with as many processes as there are cores."""

import hashlib
import itertools
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from dltlab.data.images import Resize, Unusable, read_image
from dltlab.data.sources import LARGEST_FILE, Candidate, Content
from dltlab.errors import LabError

_CHUNK_FILES, _CHUNK_BYTES = 64, 1 << 23
_ALONE_SECONDS = 1.0  # about as long as other processes take to start
_IDLE_SECONDS = 10  # after which a process without work ends


@dataclass(frozen=True)
class Decoded:
    """What became of some files.

    Attributes:
        reasons: For each file why it cannot serve as an image, or None.
        pixels: Of the others: uint8 `(k, size, size, 3)`.
        digests: A hash of the pixels of each.
        sums: Of the values of each of its colors, and of their squares: float64 `(k, 2, 3)`.
    """

    reasons: list[str | None]
    pixels: np.ndarray
    digests: list[str]
    sums: np.ndarray


Chunk = list[tuple[Candidate, Content]]


def decode_all(
    files: Iterable[tuple[Candidate, Content]], size: int, resize: Resize
) -> Iterator[tuple[list[Candidate], Decoded]]:
    """Decode `files`, in their order, some at a time.

    Raises:
        LabError: `files` raised it, or a process was killed.
    """
    chunks = _chunks(files)
    end = perf_counter() + _ALONE_SECONDS
    for chunk in chunks:
        yield _candidates(chunk), _decode(_contents(chunk), size, resize)
        if perf_counter() > end:
            break
    yield from _together(chunks, size, resize)


def _together(
    chunks: Iterator[Chunk], size: int, resize: Resize
) -> Iterator[tuple[list[Candidate], Decoded]]:
    """With a process for each core, and no more chunks on their way than keep these busy."""
    first = next(chunks, None)
    if first is None:
        return
    from joblib import cpu_count
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    processes = cpu_count()
    executor = get_reusable_executor(max_workers=processes, timeout=_IDLE_SECONDS)
    sent: deque[tuple[list[Candidate], Any]] = deque()
    try:
        for chunk in itertools.chain([first], chunks):
            sent.append(
                (_candidates(chunk), executor.submit(_decode, _contents(chunk), size, resize))
            )
            if len(sent) > 3 * processes:
                candidates, decoded = sent.popleft()
                yield candidates, decoded.result()
        while sent:
            candidates, decoded = sent.popleft()
            yield candidates, decoded.result()
    except TerminatedWorkerError as error:
        raise LabError(
            "A process that decoded images was killed, as it happens when memory runs out. Close "
            "other programs and import again."
        ) from error


def _chunks(files: Iterable[tuple[Candidate, Content]]) -> Iterator[Chunk]:
    chunk: Chunk = []
    size = 0
    for candidate, content in files:
        chunk.append((candidate, content))
        size += len(content) if isinstance(content, bytes) else 0
        if len(chunk) == _CHUNK_FILES or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _candidates(chunk: Chunk) -> list[Candidate]:
    return [candidate for candidate, _ in chunk]


def _contents(chunk: Chunk) -> list[Content]:
    return [content for _, content in chunk]


def _decode(contents: list[Content], size: int, resize: Resize) -> Decoded:
    reasons: list[str | None] = []
    pixels = np.empty((len(contents), size, size, 3), np.uint8)
    usable = 0
    for content in contents:
        try:
            pixels[usable] = read_image(_bytes_of(content), size, resize)
        except Unusable as error:
            reasons.append(str(error))
        else:
            reasons.append(None)
            usable += 1
    pixels = pixels[:usable]
    digests = [hashlib.blake2b(each.data, digest_size=16).hexdigest() for each in pixels]
    return Decoded(reasons, pixels, digests, _sums(pixels))


def _bytes_of(content: Content) -> bytes:
    if content is None:
        raise Unusable("is damaged in the archive")
    if isinstance(content, bytes):
        return content
    try:
        about = content.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device might have no end
            raise Unusable("is no file")
        if about.st_size > LARGEST_FILE:
            raise Unusable(f"is too large: {about.st_size / 1e6:,.0f} MB")
        return content.read_bytes()
    except OSError as error:
        raise Unusable(f"cannot be read ({error.strerror})") from error


def _sums(pixels: np.ndarray) -> np.ndarray:
    """Of each image's colors and of their squares, float64 `(k, 2, 3)`."""
    count, height, width, _ = pixels.shape
    values = pixels.reshape(count, height * width, 3).astype(np.float32)
    products = values.transpose(0, 2, 1) @ values  # by BLAS, several times faster than `sum`
    ones = np.ones((1, values.shape[1]), np.float32)
    squares = np.diagonal(products, axis1=1, axis2=2)[:, np.newaxis]
    return np.concatenate([ones @ values, squares], axis=1).astype(np.float64)
