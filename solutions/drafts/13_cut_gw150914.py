# A draft of datasets/make/gw150914.py. It was executed once, in a copy of the
# repository with the drafts in their places.
"""Make the small files of the card `gw150914` from the two files of `gw150914_4khz`.

    python datasets/make/gw150914.py

It reads the 32 seconds of strain of both detectors, at 4,096 Hz, as `dltlab data fetch
gw150914_4khz` gets them. It halves the sampling rate with a low-pass filter that does not shift the
signal in time, rounds to float32, and writes one file for each detector beside the cards, in the
same layout. The rounding adds noise with a density of about 1e-27 per square root of Hz, four
orders of magnitude below that of the detectors. It prints the lines for the card.
"""

import hashlib
import os
from pathlib import Path

import h5py
import numpy as np
from scipy.signal import decimate

from dltlab import data

SOURCE, FACTOR, TAPS = "gw150914_4khz", 2, 200


def main() -> None:
    """Write both files."""
    card = data.info(SOURCE)
    strain = data.series(SOURCE).astype(np.float64)
    folder = Path(__file__).parents[1]
    for number, detector in enumerate(card.detectors):
        values = decimate(strain[:, number], FACTOR, TAPS, "fir").astype(np.float32)
        path = folder / f"gw150914-{detector}.hdf5"
        part = path.with_suffix(".part")
        with h5py.File(part, "w", libver="latest") as file:
            file["meta/Detector"] = detector.encode()
            file["meta/GPSstart"] = card.gps_start
            file["meta/Duration"] = len(values) * FACTOR // card.sampling_rate
            file["meta/DescriptionURL"] = b"https://doi.org/10.7935/K5MW2F23"
            column = file.create_dataset(
                "strain/Strain", data=values, compression="gzip", compression_opts=9, shuffle=True
            )
            column.attrs["Xspacing"] = FACTOR / card.sampling_rate
            column.attrs["Xstart"] = card.gps_start
        os.replace(part, path)
        content = path.read_bytes()
        print(f'[[files]]\nname = "{path.name}"\nsize = {len(content)}')  # noqa: T201
        print(f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n')  # noqa: T201


if __name__ == "__main__":
    main()
