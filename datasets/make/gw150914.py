"""Make the small files of the card `gw150914` from the two files of `gw150914_4khz`.

    python datasets/make/gw150914.py

It reads the 32 seconds of strain of both detectors, at 4,096 Hz, as `dltlab data fetch
gw150914_4khz` gets them, with h5py (extra `science`). It halves the sampling rate with a low-pass
filter that does not shift the signal in time, rounds to float32, and writes one file for each
detector beside the cards, which NumPy alone can read. The rounding adds noise with a density of
about 1e-27 per square root of Hz, four orders of magnitude below that of the detectors. It prints
the lines for the card.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from scipy.signal import decimate

from dltlab import data
from dltlab.files import write_atomically

SOURCE, FACTOR, TAPS = "gw150914_4khz", 2, 200


def main() -> None:
    """Write both files."""
    card = data.info(SOURCE)
    strain = data.series(SOURCE).astype(np.float64)
    folder = Path(__file__).parents[1]
    for number, detector in enumerate(card.detectors):
        values = decimate(strain[:, number], FACTOR, TAPS, "fir").astype(np.float32)
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            strain=values,
            detector=detector,
            gps_start=card.gps_start,
            sampling_rate=card.sampling_rate // FACTOR,
        )
        path = folder / f"gw150914-{detector}.npz"
        content = buffer.getvalue()
        write_atomically(path, content)
        print(f'[[files]]\nname = "{path.name}"\nsize = {len(content)}')
        print(f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n')


if __name__ == "__main__":
    main()
