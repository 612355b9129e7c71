"""The strain that gravitational-wave detectors recorded, as GWOSC publishes it, or in `.npz`."""

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field, PositiveInt

from dltlab.data.card import ALL, FileName, Sentence, SeriesCard
from dltlab.data.formats.registry import register
from dltlab.data.verified_files import file_content
from dltlab.errors import Damaged, Invalid, Unavailable


@register("strain")
class StrainCard(SeriesCard):
    """The strain of detectors, one file each; the splits follow each other in time.

    Attributes:
        sampling_rate: In Hz.
        gps_start: The GPS time of the first sample, in seconds.
        detectors: The name of the file of each detector, such as "H1"; they are the columns of the
            values, in this order.
    """

    sampling_rate: PositiveInt
    gps_start: int
    detectors: Annotated[Mapping[Sentence, FileName], Field(min_length=1)]

    @property
    def contents(self) -> str:
        """The length and the detectors."""
        seconds = self.total_size / self.sampling_rate
        return f"{seconds:g} s at {self.sampling_rate:,} Hz of {', '.join(self.detectors)}"

    def read(self, split: str) -> np.ndarray:
        """Return the strain of a split, or of "all", float32 `(n, detectors)`.

        Raises:
            LabError: A file is not available or damaged.
            Invalid: A file is of another detector, time or sampling rate, or has a gap.
        """
        columns = [self._column(detector) for detector in self.detectors]
        values = np.stack(columns, axis=1)
        return values if split == ALL else self.consecutive_part(values, split)

    def _column(self, detector: str) -> np.ndarray:
        file = self.file(self.detectors[detector])
        strain = read_strain(file_content(self, file), file.name)
        found = (strain.detector, strain.gps_start, strain.sampling_rate, len(strain.values))
        expected = (detector, self.gps_start, self.sampling_rate, self.total_size)
        names = ("detector", "start (GPS)", "sampling rate (Hz)", "number of samples")
        for name, value, of_card in zip(names, found, expected, strict=True):
            if value != of_card:
                raise Invalid(
                    f"{file.name}: the {name} is {value}; the card of '{self.name}' says "
                    f"{of_card}: correct the card, or name the file that belongs to it."
                )
        missing = np.flatnonzero(~np.isfinite(strain.values))
        if missing.size:
            first = missing[0] / self.sampling_rate
            raise Invalid(
                f"{file.name} has no data for {missing.size / self.sampling_rate:.3g} s, the first "
                f"time {first:.3g} s after its start: choose a time when {detector} was observing."
            )
        return strain.values.astype(np.float32)


@dataclass(frozen=True)
class Strain:
    """What one detector recorded.

    Attributes:
        detector: Its name, as "H1" (Hanford) and "L1" (Livingston).
        gps_start: The GPS time of the first value, in seconds.
        sampling_rate: In Hz.
        values: The strain, float64 `(n,)`; nan where there is no data.
    """

    detector: str
    gps_start: int
    sampling_rate: int
    values: np.ndarray


def read_strain(content: bytes, name: str) -> Strain:
    """Read the strain of one detector.

    An HDF5 file is one of the Gravitational Wave Open Science Center. An `.npz` file has the arrays
    `strain` `(n,)`, and as scalars `detector`, `gps_start` and `sampling_rate`.

    Args:
        content: The bytes of the file.
        name: Its name; one that ends in `.npz` is read with NumPy, any other with h5py.

    Raises:
        Damaged: It does not hold the expected arrays.
        Unavailable: h5py is not installed.
    """
    is_npz = name.endswith(".npz")
    try:
        return _read_npz(content) if is_npz else _read_hdf5(content)
    except (
        *(OSError, EOFError, KeyError, ValueError, TypeError, AttributeError),
        *(ZeroDivisionError, zipfile.BadZipFile, zlib.error),
    ) as error:
        layout, fix = (
            ("with the arrays of the format 'strain'", "replace it")
            if is_npz
            else ("as GWOSC writes it", "download it again, in the format HDF5")
        )
        raise Damaged(f"{name} is not a file of strain {layout} ({error}): {fix}.") from error


def _read_npz(content: bytes) -> Strain:
    with np.load(io.BytesIO(content)) as arrays:
        return Strain(
            str(arrays["detector"]),
            int(arrays["gps_start"]),
            int(arrays["sampling_rate"]),
            arrays["strain"].astype(np.float64),
        )


def _read_hdf5(content: bytes) -> Strain:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise Unavailable(
            "Strain in HDF5 needs h5py, which is not installed. Run: pip install 'dltlab[science]'"
        ) from error

    with h5py.File(io.BytesIO(content), "r") as file:
        strain = file["strain/Strain"]
        return Strain(
            file["meta/Detector"][()].decode(),
            int(file["meta/GPSstart"][()]),
            round(1 / float(strain.attrs["Xspacing"])),
            np.asarray(strain[:], np.float64),
        )
