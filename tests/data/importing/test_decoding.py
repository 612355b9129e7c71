"""Decoding in chunks: order, digests and sums; several processes are in tests/faults."""

from pathlib import Path

import numpy as np
import pytest

from dltlab.data.importing.candidates import Candidate, Content
from dltlab.data.importing.decoding import decode, decode_all
from tests.image_sources import SIZE, image_files, pixels_of, png, write_files


def test_usable_images_are_packed_and_others_have_a_reason(tmp_path: Path) -> None:
    (path := tmp_path / "a.png").write_bytes(png(pixels_of("a")))
    contents: list[Content] = [path, None, b"", png(pixels_of("b"))]
    decoded = decode(contents, SIZE, "crop")
    assert decoded.reasons == [None, "is damaged in the archive", "is empty", None]
    assert np.array_equal(decoded.pixels, [pixels_of("a"), pixels_of("b")])


def test_equal_pixels_have_equal_digests() -> None:
    contents: list[Content] = [png(pixels_of(name)) for name in "aba"]
    first, other, same = decode(contents, SIZE, "crop").digests
    assert first == same != other


def test_sums_are_those_of_the_values_and_of_their_squares() -> None:
    pixels = [pixels_of(name).astype(float) for name in "ab"]
    sums = decode([png(pixels_of(name)) for name in "ab"], SIZE, "crop").sums
    expected = [[image.sum((0, 1)), (image**2).sum((0, 1))] for image in pixels]
    assert sums == pytest.approx(np.array(expected), rel=1e-6)


def test_files_are_decoded_in_their_order_and_in_chunks(tmp_path: Path) -> None:
    files = image_files("cat", count=150)
    write_files(tmp_path, files)
    contents = [(Candidate(name, "cat"), tmp_path / name) for name in files]
    chunks = list(decode_all(contents, SIZE, "crop"))
    assert len(chunks) > 1
    candidates = [candidate.name for chunk, _ in chunks for candidate in chunk]
    assert candidates == list(files)
    pixels = np.concatenate([decoded.pixels for _, decoded in chunks])
    assert np.array_equal(pixels, [pixels_of(name) for name in files])


def test_nothing_is_decoded_to_nothing() -> None:
    assert list(decode_all([], SIZE, "crop")) == []
