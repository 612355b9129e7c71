"""The IDX format of MNIST and its relatives.

A file is two zero bytes, a byte for the type (8: unsigned bytes), a byte for the number of
dimensions, each dimension as a big-endian 32-bit integer, then the values in row-major order
(http://yann.lecun.com/exdb/mnist, "The IDX file format").
"""

import math
import struct

import numpy as np

from dltlab.errors import LabError

_UNSIGNED_BYTES = 0x08


def read_idx(content: bytes, name: str) -> np.ndarray:
    """The array in an IDX file of unsigned bytes.

    Args:
        content: The unpacked bytes of the file.
        name: The file's name, for messages.

    Returns:
        A read-only uint8 array with the dimensions that the file states.

    Raises:
        LabError: `content` is no IDX file of unsigned bytes, or is too short or too long.
    """
    if len(content) < 4 or content[:2] != b"\0\0":
        raise LabError(f"{name} is no IDX file: it does not begin with two zero bytes.")
    kind, num_dimensions = content[2:4]
    if kind != _UNSIGNED_BYTES:
        raise LabError(
            f"{name} holds IDX values of type 0x{kind:02x}; only unsigned bytes (0x08) are read."
        )
    header = 4 + 4 * num_dimensions
    if num_dimensions == 0 or len(content) < header:
        raise LabError(f"{name} ends before its {num_dimensions} dimensions are stated.")
    shape = struct.unpack(f">{num_dimensions}I", content[4:header])
    if len(content) != header + math.prod(shape):
        raise LabError(
            f"{name} states the shape {shape}, which takes {math.prod(shape)} bytes; "
            f"it holds {len(content) - header}."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
