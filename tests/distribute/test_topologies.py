import math

import numpy as np
import pytest

from dltlab import distribute
from dltlab.distribute import CubeMesh, FatTree, Link, Ring, Tree
from dltlab.distribute.topologies import CUBE_MESH_RINGS
from dltlab.errors import Invalid

LINK = Link(alpha=3e-6, bandwidth=2e9)
NETWORK = Link(alpha=20e-6, bandwidth=1e9)
NUM_BYTES = 64_000


def seconds(topology, num_bytes=NUM_BYTES):
    """Return the time of an all-reduce that all devices start at the same time."""
    ends = topology.all_reduce(np.zeros(topology.num_devices), num_bytes)
    assert ends.shape == (topology.num_devices,)
    return ends.max()


@pytest.mark.parametrize("num_devices", [1, 2, 5, 8])
@pytest.mark.parametrize(("kind", "algorithm"), [(Ring, "ring"), (Tree, "tree")])
def test_the_time_is_that_of_the_messages_of_the_collective(kind, algorithm, num_devices):
    arrays = [np.zeros(NUM_BYTES // 8 // num_devices * num_devices)] * num_devices
    run = distribute.all_reduce(arrays, algorithm=algorithm)

    expected = run.seconds(LINK.alpha, 1 / LINK.bandwidth)
    assert seconds(kind(num_devices, LINK), run.num_bytes) == pytest.approx(expected)


def test_the_slowest_link_of_a_ring_determines_its_time():
    ring = Ring(8, LINK, NETWORK, devices_per_node=4)

    assert seconds(ring) == pytest.approx(14 * NETWORK.seconds(NUM_BYTES / 8))
    assert seconds(Ring(4, LINK, NETWORK, devices_per_node=4)) == seconds(Ring(4, LINK))


def test_the_rings_of_the_cube_mesh_use_each_of_its_16_links_once():
    used = [
        frozenset(pair)
        for ring in CUBE_MESH_RINGS
        for pair in zip(ring, (*ring[1:], ring[0]), strict=True)
    ]
    links = {frozenset((i, j)) for i in range(8) for j in range(i) if i // 4 == j // 4}
    links |= {frozenset((i, i + 4)) for i in range(4)}

    assert len(used) == 16
    assert set(used) == links


def test_a_cube_mesh_divides_the_array_by_its_four_rings():
    assert seconds(CubeMesh(LINK)) == pytest.approx(14 * LINK.seconds(NUM_BYTES / 4 / 8))


@pytest.mark.parametrize(
    ("algorithm", "num_nodes", "steps", "bytes_sent"),
    [
        ("ring", 16, 30, 2 * 15 / 16),
        ("halving_doubling", 16, 8, 2 * 15 / 16),
        ("recursive_doubling", 16, 4, 4),
        ("tree", 16, 8, 8),
        ("ring", 124, 246, 2 * 123 / 124),
        ("ring", 1, 0, 0),
    ],
)
def test_nodes_share_the_array_over_their_link_to_the_network(
    algorithm, num_nodes, steps, bytes_sent
):
    tree = FatTree(num_nodes, NETWORK, algorithm, CubeMesh(LINK))

    between = steps * NETWORK.alpha + bytes_sent * NUM_BYTES / NETWORK.bandwidth
    assert tree.num_devices == 8 * num_nodes
    assert seconds(tree) == pytest.approx(seconds(CubeMesh(LINK)) + between)


@pytest.mark.parametrize(
    "topology",
    [Ring(6, LINK), Tree(6, LINK), CubeMesh(LINK), FatTree(3, NETWORK, "halving_doubling")],
    ids=lambda topology: type(topology).__name__,
)
@pytest.mark.parametrize("late", [0, 3])
def test_all_devices_wait_for_one_that_is_late(topology, late):
    clocks = np.zeros(topology.num_devices)
    clocks[late] = 1.0
    ends = topology.all_reduce(clocks, NUM_BYTES)

    assert ends.min() > 1.0
    assert ends.max() <= 1.0 + seconds(topology) + 1e-12
    assert clocks.sum() == 1.0


def test_values_out_of_their_range_are_refused():
    for alpha, bandwidth in ((-1, 1), (0, 0), (math.nan, 1)):
        with pytest.raises(Invalid, match="latency of a link"):
            Link(alpha, bandwidth)
    for make in (lambda: Ring(0, LINK), lambda: Tree(0, LINK)):
        with pytest.raises(Invalid, match="num_devices is 0; it must be an integer of at least 1"):
            make()
    with pytest.raises(Invalid, match="devices_per_node is 0"):
        Ring(2, LINK, NETWORK, 0)
    with pytest.raises(Invalid, match="num_nodes is 0"):
        FatTree(0, NETWORK)
    with pytest.raises(Invalid, match=r"num_nodes is 2\.5; it must be an integer"):
        FatTree(2.5, NETWORK)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="algorithm 'nccl'; it is one of ring, tree"):
        FatTree(2, NETWORK, "nccl")
