"""Decode many images: at first in this process, then in one process for each core."""

import hashlib
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from dltlab.data.image_file import MAX_GRAY, Resize, UnusableImage, read_image_and_peak
from dltlab.data.importing.candidates import Candidate, Content
from dltlab.errors import Unavailable

SINGLE_PROCESS_SECONDS = 1.0  # about as long as other processes take to start
_CHUNK_FILES, _CHUNK_BYTES = 64, 1 << 23
_IDLE_SECONDS = 10  # after which a process without work ends


@dataclass(frozen=True)
class Decoded:
    """The decoded images of some files.

    Attributes:
        reasons: For each file why it is not usable as an image, or None.
        pixels: The usable images: uint8 `(k, size, size, 3)`.
        digests: A hash of the pixels of each.
        sums: The sums of each image's color values and of their squares: float64 `(k, 2, 3)`.
        peak: The largest value in images of 16 bits of gray; 0 where there is none.
    """

    reasons: list[str | None]
    pixels: np.ndarray
    digests: list[str]
    sums: np.ndarray
    peak: int


Chunk = list[tuple[Candidate, Content]]


def decode_all(
    files: Iterable[tuple[Candidate, Content]], size: int, resize: Resize, white: int = MAX_GRAY
) -> Iterator[tuple[list[Candidate], Decoded]]:
    """Decode `files` in their order, a chunk at a time.

    Raises:
        Unavailable: A process was killed.
        LabError: `files` raised it.
    """
    chunks = _chunks(files)
    end = perf_counter() + SINGLE_PROCESS_SECONDS
    for chunk in chunks:
        yield _candidates(chunk), decode(_contents(chunk), size, resize, white)
        if perf_counter() > end:
            break
    yield from _decode_in_processes(chunks, size, resize, white)


def decode(
    contents: Sequence[Content], size: int, resize: Resize, white: int = MAX_GRAY
) -> Decoded:
    """Decode the images in `contents`, the paths or bytes of files, as `read_image` does."""
    reasons: list[str | None] = []
    pixels = np.empty((len(contents), size, size, 3), np.uint8)
    num_usable = peak = 0
    for content in contents:
        try:
            if content is None:
                raise UnusableImage("is damaged in the archive")
            pixels[num_usable], image_peak = read_image_and_peak(content, size, resize, white)
            peak = max(peak, image_peak)
        except UnusableImage as error:
            reasons.append(str(error))
        else:
            reasons.append(None)
            num_usable += 1
    pixels = pixels[:num_usable]
    digests = [hashlib.blake2b(image.data, digest_size=16).hexdigest() for image in pixels]
    return Decoded(reasons, pixels, digests, _sums(pixels), peak)


def _decode_in_processes(
    chunks: Iterator[Chunk], size: int, resize: Resize, white: int
) -> Iterator[tuple[list[Candidate], Decoded]]:
    """Decode with a process for each core; submit only as many chunks as keep these busy."""
    first = next(chunks, None)
    if first is None:
        return
    from joblib import cpu_count
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    num_processes = cpu_count()
    executor = get_reusable_executor(max_workers=num_processes, timeout=_IDLE_SECONDS)
    submitted: deque[tuple[list[Candidate], Any]] = deque()
    try:
        for chunk in itertools.chain([first], chunks):
            future = executor.submit(decode, _contents(chunk), size, resize, white)
            submitted.append((_candidates(chunk), future))
            if len(submitted) > 3 * num_processes:
                candidates, future = submitted.popleft()
                yield candidates, future.result()
        while submitted:
            candidates, future = submitted.popleft()
            yield candidates, future.result()
    except TerminatedWorkerError as error:
        raise Unavailable(
            "A process that decoded images was killed, as happens when memory runs out. Close "
            "other programs and import again."
        ) from error


def _chunks(files: Iterable[tuple[Candidate, Content]]) -> Iterator[Chunk]:
    chunk: Chunk = []
    num_bytes = 0
    for candidate, content in files:
        chunk.append((candidate, content))
        num_bytes += len(content) if isinstance(content, bytes) else 0
        if len(chunk) == _CHUNK_FILES or num_bytes >= _CHUNK_BYTES:
            yield chunk
            chunk, num_bytes = [], 0
    if chunk:
        yield chunk


def _candidates(chunk: Chunk) -> list[Candidate]:
    return [candidate for candidate, _ in chunk]


def _contents(chunk: Chunk) -> list[Content]:
    return [content for _, content in chunk]


def _sums(pixels: np.ndarray) -> np.ndarray:
    """Return the sums of each image's colors and of their squares, float64 `(k, 2, 3)`."""
    count, height, width, _ = pixels.shape
    values = pixels.reshape(count, height * width, 3).astype(np.float32)
    products = values.transpose(0, 2, 1) @ values  # by BLAS, several times faster than `sum`
    ones = np.ones((1, values.shape[1]), np.float32)
    squares = np.diagonal(products, axis1=1, axis2=2)[:, np.newaxis]
    return np.concatenate([ones @ values, squares], axis=1).astype(np.float64)
