# A draft of additions to dltlab/data/card.py, dltlab/data/load.py and dltlab/data/catalog.py. It
# was executed in a copy of the repository; mypy has not seen it.
# In card.py: `Kind` gets "signals", and the class below follows `TableCard`.
# In load.py, `isinstance(dataset, TableCard)` becomes `isinstance(dataset, TableCard | SignalCard)`
# in `load` (training windows are shuffled), `arrays` and `_columns`; the docstrings of `load` and
# `arrays` name "a window of a signal, float32 `(samples,)`". In catalog.py, `_describe_card` yields
# ("sampling rate", f"{card.sampling_rate:,} Hz") for a SignalCard, and its class names.
# `SeriesCard.read` and `data.series` promise "float32 `(n,)`, or `(n, channels)`". In
# tests/data/test_card_files.py, KINDS gets "gravitational_waves": "signals", "gw150914": "series"
# and "gw150914_4khz": "series".
"""Windows of a signal, each with a label."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt

from dltlab.data.card import DatasetCard, Sentence, SizedSplit, SplitName


class SignalCard(DatasetCard):
    """Windows of a signal, each with a label.

    Attributes:
        sampling_rate: In Hz.
        seconds: The length of a window.
        dtype: The dtype of the windows that `load` returns.
        class_names: The names of the classes; a label is an index into this list.
    """

    kind = "signals"

    splits: Mapping[SplitName, SizedSplit]
    sampling_rate: PositiveInt
    seconds: Annotated[float, Field(gt=0)]
    dtype: Literal["float32"]
    class_names: Annotated[list[Sentence], Field(min_length=2)]

    @property
    def samples(self) -> int:
        """The number of samples in a window."""
        return round(self.seconds * self.sampling_rate)

    @property
    def contents(self) -> str:
        """The number of windows, their length, and the number of classes."""
        return (
            f"{self.total_size:,} windows of {self.samples:,} samples, "
            f"{len(self.class_names)} classes"
        )

    @abstractmethod
    def read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the windows of a split, or of "all".

        Returns:
            The windows, float32 `(n, samples)`; the labels, int64 `(n,)`.

        Raises:
            LabError: The files are not available or damaged.
        """
