"""Networks of devices, and how long an all-reduce takes on them.

The time of every message is computed: it starts when the sender and the receiver are ready, and
takes the latency of its link plus its bytes divided by the bandwidth. So a device that is late
delays those that wait for its data.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dltlab.distribute.schedules import ALGORITHMS
from dltlab.errors import Invalid

# The 16 links of the cube mesh of a DGX-1 with P100 form two rings that share no link, each used in
# both directions. Devices 0 to 3 and 4 to 7 are fully connected, and i is connected with i + 4
# (NVIDIA DGX-1 system architecture, white paper WP-08437-001, 2017).
CUBE_MESH_RINGS = ((0, 1, 2, 3, 7, 6, 5, 4), (0, 2, 6, 4, 7, 5, 1, 3))


@dataclass(frozen=True)
class Link:
    """A link between devices, or between a node and the network.

    Attributes:
        alpha: The latency of a message in seconds.
        bandwidth: Bytes per second in each direction, as reached by large messages.
    """

    alpha: float
    bandwidth: float

    def __post_init__(self) -> None:
        """Refuse values out of their range."""
        if not self.alpha >= 0 or not self.bandwidth > 0:
            raise Invalid(
                f"The latency of a link is {self.alpha} and its bandwidth {self.bandwidth}; the "
                "latency must not be negative, and the bandwidth must be positive."
            )

    def seconds(self, num_bytes: float) -> float:
        """Return the time of a message."""
        return self.alpha + num_bytes / self.bandwidth


NVLINK_1 = Link(alpha=5e-6, bandwidth=20e9)  # one link of a P100; the latency is an estimate


class Topology(ABC):
    """Base class of the networks."""

    num_devices: int

    @abstractmethod
    def all_reduce(self, clocks: np.ndarray, num_bytes: float) -> np.ndarray:
        """Return when each device has the result of an all-reduce.

        Args:
            clocks: When each device is ready, in seconds, `(num_devices,)`.
            num_bytes: The size of the array.
        """


@dataclass(frozen=True)
class Ring(Topology):
    """Devices in one ring, which run a ring all-reduce.

    Attributes:
        num_devices: The number of devices.
        link: The link between neighbors.
        network: The link between neighbors in different nodes, if there are nodes.
        devices_per_node: The number of devices in a node; neighbors are in the same node as far as
            possible.
    """

    num_devices: int
    link: Link
    network: Link | None = None
    devices_per_node: int = 1

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        _require_positive("num_devices", self.num_devices)
        _require_positive("devices_per_node", self.devices_per_node)

    def all_reduce(self, clocks: np.ndarray, num_bytes: float) -> np.ndarray:
        """Return when each device has the result."""
        piece = num_bytes / self.num_devices
        seconds = np.full(self.num_devices, self.link.seconds(piece))
        if self.network is not None:
            ranks = np.arange(self.num_devices)
            nodes = ranks // self.devices_per_node
            seconds[nodes != np.roll(nodes, -1)] = self.network.seconds(piece)
        for sources, targets, _ in _rounds("ring", self.num_devices):
            clocks = _sent(clocks, sources, targets, seconds)
        return clocks


@dataclass(frozen=True)
class Tree(Topology):
    """Devices that reduce along a binomial tree and broadcast along it, without a pipeline.

    Attributes:
        num_devices: The number of devices.
        link: The link between any two devices.
    """

    num_devices: int
    link: Link

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        _require_positive("num_devices", self.num_devices)

    def all_reduce(self, clocks: np.ndarray, num_bytes: float) -> np.ndarray:
        """Return when each device has the result."""
        for sources, targets, share in _rounds("tree", int(self.num_devices)):
            clocks = _sent(clocks, sources, targets, self.link.seconds(share * num_bytes))
        return clocks


@dataclass(frozen=True)
class CubeMesh(Topology):
    """The eight GPUs of a DGX-1, connected by a hybrid cube mesh of NVLink.

    They run four ring all-reduces at the same time, each of a quarter of the array and over links
    of its own, as NCCL does.

    Attributes:
        link: One link; each GPU has four.
    """

    link: Link = NVLINK_1

    num_devices = 8

    def all_reduce(self, clocks: np.ndarray, num_bytes: float) -> np.ndarray:
        """Return when each device has the result."""
        return self.half_all_reduce(self.half_all_reduce(clocks, num_bytes), num_bytes)

    def half_all_reduce(self, clocks: np.ndarray, num_bytes: float) -> np.ndarray:
        """Return when each device has done a reduce-scatter, or an all-gather.

        Args:
            clocks: When each device of one or more meshes is ready, `(num_meshes · 8,)`.
            num_bytes: The size of the array.
        """
        rings = [ring[::step] for ring in CUBE_MESH_RINGS for step in (1, -1)]
        seconds = self.link.seconds(num_bytes / len(rings) / self.num_devices)
        meshes = np.arange(0, len(clocks), self.num_devices)[:, None]
        finished = np.array(clocks)
        for ring in rings:
            sources = (meshes + np.array(ring)).ravel()
            targets = (meshes + np.roll(ring, -1)).ravel()
            in_ring = clocks
            for _ in range(self.num_devices - 1):
                in_ring = _sent(in_ring, sources, targets, seconds)
            finished = np.maximum(finished, in_ring)
        return finished


@dataclass(frozen=True)
class FatTree(Topology):
    """Nodes with a cube mesh of eight GPUs each, connected by a network.

    An all-reduce is a reduce-scatter in each node, eight all-reduces between the nodes at the same
    time, each of an eighth of the array, and an all-gather in each node. The eight share the links
    of their node; between the nodes, the network does not block.

    Attributes:
        num_nodes: The number of nodes.
        network: All links of a node to the network together.
        algorithm: The all-reduce between the nodes, such as "ring" or "halving_doubling".
        node: The devices in a node.
    """

    num_nodes: int
    network: Link
    algorithm: str = "ring"
    node: CubeMesh = CubeMesh()

    def __post_init__(self) -> None:
        """Refuse numbers out of their range and unknown algorithms."""
        _require_positive("num_nodes", self.num_nodes)
        if self.algorithm not in ALGORITHMS["all_reduce"]:
            raise Invalid(
                f"There is no algorithm {self.algorithm!r}; it is one of "
                f"{', '.join(ALGORITHMS['all_reduce'])}."
            )

    @property
    def num_devices(self) -> int:  # type: ignore[override]
        """The number of devices in all nodes."""
        return self.num_nodes * self.node.num_devices

    def all_reduce(self, clocks: np.ndarray, num_bytes: float) -> np.ndarray:
        """Return when each device has the result."""
        clocks = self.node.half_all_reduce(clocks, num_bytes)
        by_node = clocks.reshape(self.num_nodes, -1)
        for sources, targets, share in _rounds(self.algorithm, int(self.num_nodes)):
            # All devices of a node send at the same time, each its part of the array.
            by_node = _sent(by_node, sources, targets, self.network.seconds(share * num_bytes))
        return self.node.half_all_reduce(by_node.ravel(), num_bytes)


Round = tuple[np.ndarray, np.ndarray, float]


@lru_cache(maxsize=16)
def _rounds(algorithm: str, num_ranks: int) -> tuple[Round, ...]:
    """Return the sources, targets and shares of the array of all messages of each step.

    All steps of a ring are equal: they are made without the messages of hundreds of ranks.
    """
    if algorithm == "ring":
        ranks = np.arange(num_ranks)
        return ((ranks, np.roll(ranks, -1), 1 / num_ranks),) * (2 * num_ranks - 2)
    make_steps, count_pieces = ALGORITHMS["all_reduce"][algorithm]
    return tuple(
        (
            np.array([message.source for message in step]),
            np.array([message.target for message in step]),
            len(step[0].pieces) / count_pieces(num_ranks),
        )
        for step in make_steps(num_ranks)
    )


def _sent(
    clocks: np.ndarray,
    sources: np.ndarray,
    targets: np.ndarray,
    seconds: np.ndarray | float,
) -> np.ndarray:
    """Return the clocks after a step, in which ranks send and receive at the same time."""
    done = np.maximum(clocks[sources], clocks[targets]) + seconds
    after = clocks.copy()
    after[sources] = done
    after[targets] = np.maximum(after[targets], done)
    return after


def _require_positive(name: str, number: int) -> None:
    if not isinstance(number, int | np.integer) or number < 1:
        raise Invalid(f"{name} is {number!r}; it must be an integer of at least 1.")
