"""The IDX format of MNIST and similar data sets.

A file is two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of
dimensions, each dimension as a big-endian 32-bit integer, then the values in row-major order
(http://yann.lecun.com/exdb/mnist, "The IDX file format").
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from functools import cache
from typing import Self

import numpy as np
from pydantic import model_validator

from dltlab.data.card import File, HoldOut, ImageCard, SizedSplit, SplitName
from dltlab.data.formats.registry import register
from dltlab.data.packed_images import PackedImages
from dltlab.data.verified_files import file_content, is_local
from dltlab.errors import Damaged
from dltlab.paths import mirror_dir

_UNSIGNED_BYTES = 0x08


class IdxSplit(SizedSplit):
    """A split with the names of its two files."""

    images: str
    labels: str


@register("idx")
class IdxCard(ImageCard):
    """Images and labels in IDX files, two for each split.

    Attributes:
        hold_out: Where the mirror folder holds only the test files, how to divide their images
            into training and test images.
    """

    splits: Mapping[SplitName, IdxSplit]
    hold_out: HoldOut | None = None

    @model_validator(mode="after")
    def _has_entries_for_its_files(self) -> Self:
        names = [file.name for file in self.files]
        for split_name, split in self.splits.items():
            for file_name in (split.images, split.labels):
                if file_name not in names:
                    raise ValueError(
                        f"split '{split_name}' names the file {file_name}, which has no entry"
                    )
        return self

    @property
    def content_hash(self) -> str:
        """The SHA-256 hash of the card, and of whether the test images are divided."""
        if self._test_rule() is None:
            return super().content_hash
        return hashlib.sha256(f"{super().content_hash} test images only".encode()).hexdigest()

    def read_all(self) -> PackedImages:
        """Return the images of all splits, one after the other."""
        return super().read_all() if self._test_rule() is None else self._read_files("test")

    def read_split(self, split: SplitName) -> PackedImages:
        """Return the images of one split."""
        rule = self._test_rule()
        if rule is None:
            return self._read_files(split)
        images = self._read_files("test")
        train, test = (len(rule.part(images, name).labels) for name in ("train", "test"))
        _print_once(
            f"{self.name}: the mirror folder holds only the {train + test:,} test images, so "
            f"{train:,} of them train and {test:,} test."
        )
        return rule.part(images, split)

    def _test_rule(self) -> HoldOut | None:
        """How to divide the test images, where only these are available without a network."""
        if self.hold_out is None or mirror_dir() is None:
            return None
        has_train, has_test = self._is_local("train"), self._is_local("test")
        return self.hold_out if has_test and not has_train else None

    def _is_local(self, split: SplitName) -> bool:
        return all(is_local(self, file) for file in self._files_of(split))

    def _files_of(self, split: SplitName) -> list[File]:
        """Return the entries of a split's two files, of the images and of the labels."""
        names = self.splits[split]
        return [self.file(names.images), self.file(names.labels)]

    def _read_files(self, split: SplitName) -> PackedImages:
        images, labels = (
            read_idx(file_content(self, file), f"{file.name} of the data set '{self.name}'")
            for file in self._files_of(split)
        )
        return self.pack(split, images[..., np.newaxis], labels)


def read_idx(content: bytes, name: str) -> np.ndarray:
    """Read the array in an IDX file of unsigned bytes.

    Args:
        content: The unpacked bytes of the file.
        name: The file's name, for messages.

    Returns:
        A read-only uint8 array with the dimensions that the file states.

    Raises:
        Damaged: `content` is not an IDX file of unsigned bytes, or is too short or too long.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise Damaged(f"{name} is not an IDX file: it does not begin with two zero bytes.")
    value_type, num_dimensions = content[2:4]
    if value_type != _UNSIGNED_BYTES:
        raise Damaged(
            f"{name} holds IDX values of type 0x{value_type:02x}; only unsigned bytes (0x08) can "
            "be read."
        )
    header_bytes = 4 + 4 * num_dimensions
    if num_dimensions == 0 or len(content) < header_bytes:
        raise Damaged(f"{name} ends before its {num_dimensions} dimensions are stated.")
    shape = struct.unpack(f">{num_dimensions}I", content[4:header_bytes])
    if len(content) != header_bytes + math.prod(shape):
        raise Damaged(
            f"{name} states the shape {shape}, which takes {math.prod(shape)} bytes; "
            f"it holds {len(content) - header_bytes}."
        )
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)


@cache
def _print_once(sentence: str) -> None:
    print(sentence)  # noqa: T201
