"""The ring of sockets, which works everywhere."""

import numpy as np

from dltlab.distribute.transports.base import Transport


class RingTransport(Transport):
    """Sums over the ring that connects the workers anyway."""

    name = "ring"
    priority = 3

    def all_reduce(self, array: np.ndarray) -> None:
        """Add over the sockets."""
        self.ring.all_reduce(array)
