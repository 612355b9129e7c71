"""Compare the simulated efficiency of scaling with published efficiencies.

Each point has the network, the rate of one device, the bandwidths and the algorithm of its
publication. Latencies are not published. The one of the network, 30 µs for a message, was chosen so
that the four points of Horovod fit; it is the same for all points. None of them reports how much
the time of a device varies; the last column shows what a standard deviation of 5 % changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from turns import parse_arguments

from dltlab.distribute import CubeMesh, FatTree, LayerTime, Link, Ring, simulate

ETHERNET_50G = Link(alpha=30e-6, bandwidth=50e9 / 8)
ROCE_25G = Link(alpha=30e-6, bandwidth=25e9 / 8)
PCIE_3 = Link(alpha=5e-6, bandwidth=10e9)  # 16 lanes, an estimate

Costs = list[tuple[float, float]]  # multiply-adds and parameters of each layer


def convolution(kernel: int, channels: int, filters: int, size: int) -> tuple[float, float]:
    """Return the multiply-adds and parameters of a convolution with `size` × `size` outputs."""
    weights = kernel * kernel * channels * filters
    return weights * size * size, weights + 2 * filters


def dense(inputs: int, units: int) -> tuple[float, float]:
    """Return the multiply-adds and parameters of a dense layer."""
    return inputs * units, (inputs + 1) * units


def resnet(blocks: Sequence[int]) -> Costs:
    """Return the costs of a ResNet with bottleneck blocks (arXiv:1512.03385, table 1)."""
    layers, channels = [convolution(7, 3, 64, 112)], 64
    for stage, count in enumerate(blocks):
        width, size = 64 << stage, 56 >> stage
        for block in range(count):
            if block == 0:
                layers.append(convolution(1, channels, 4 * width, size))
            layers.append(convolution(1, channels, width, size))
            layers.append(convolution(3, width, width, size))
            layers.append(convolution(1, width, 4 * width, size))
            channels = 4 * width
    return [*layers, dense(2048, 1000)]


def vgg16() -> Costs:
    """Return the costs of VGG-16 (arXiv:1409.1556, configuration D)."""
    layers, channels = [], 3
    for size, count, filters in (
        *((224, 2, 64), (112, 2, 128)),
        *((56, 3, 256), (28, 3, 512), (14, 3, 512)),
    ):
        for _ in range(count):
            layers.append(convolution(3, channels, filters, size))
            channels = filters
    return [*layers, dense(25088, 4096), dense(4096, 4096), dense(4096, 1000)]


def layer_times(costs: Costs, batch_size: int, images_per_second: float) -> list[LayerTime]:
    """Distribute the measured time of a step over the layers by their multiply-adds."""
    per_mac = batch_size / images_per_second / sum(macs for macs, _ in costs)
    return [
        LayerTime(f"layer {i}", macs * per_mac / 3, macs * per_mac * 2 / 3, 4 * params)
        for i, (macs, params) in enumerate(costs)
    ]


@dataclass(frozen=True)
class Point:
    """A published efficiency of weak scaling, and how it is simulated."""

    source: str
    network: str
    devices: int
    published: float
    simulated: float


RESNET_50, RESNET_101 = resnet((3, 4, 6, 3)), resnet((3, 4, 23, 3))


def points(jitter: float = 0.0) -> Iterator[Point]:
    """Simulate all points."""
    # P. Goyal and others, arXiv:1706.02677: 8 to 256 P100 in Big Basin servers, batches of 32. The
    # rate of one P100 is that of the TensorFlow benchmarks (tensorflow.org/performance, 2017).
    layers = layer_times(RESNET_50, 32, 219)
    one, all_servers = (
        simulate(
            layers,
            FatTree(servers, ETHERNET_50G, "halving_doubling"),
            bucket_bytes=4e6,
            jitter=jitter,
        ).efficiency
        for servers in (1, 32)
    )
    yield Point("Goyal 2017, 256 against 8", "ResNet-50", 256, 0.9, all_servers / one)

    # A. Sergeev, M. Del Balso, arXiv:1802.05799, and Horovod's README of 2017: servers with 4
    # Pascal GPUs, fusion of tensors up to 64 MB, batches of 64. The rate of ResNet-101 is that of
    # docs/benchmarks.rst, 1656.82 images/s of 16 GPUs; that of VGG-16 as above.
    resnet_101, vgg_16 = layer_times(RESNET_101, 64, 1656.82 / 16), layer_times(vgg16(), 64, 154)
    for name, layers, devices, published in (
        ("ResNet-101", resnet_101, 128, 0.90),
        ("ResNet-101", resnet_101, 512, 0.90),
        ("VGG-16", vgg_16, 128, 0.79),
        ("VGG-16", vgg_16, 512, 0.68),
    ):
        ring = Ring(devices, PCIE_3, ROCE_25G, devices_per_node=4)
        simulation = simulate(layers, ring, bucket_bytes=64e6, jitter=jitter)
        yield Point("Horovod 2018", name, devices, published, simulation.efficiency)

    # The TensorFlow benchmarks on a DGX-1 with 8 P100.
    for name, costs, one_gpu, eight_gpus in (
        ("ResNet-50", RESNET_50, 219, 1734),
        ("VGG-16", vgg16(), 154, 1081),
    ):
        simulation = simulate(layer_times(costs, 64, one_gpu), CubeMesh(), jitter=jitter)
        published = eight_gpus / one_gpu / 8
        yield Point("TensorFlow 2017, DGX-1", name, 8, published, simulation.efficiency)


def main() -> None:
    """Print a table."""
    arguments = parse_arguments(__doc__, ["points"])
    table = pd.DataFrame(points())
    table["with jitter 5 %"] = [point.simulated for point in points(jitter=0.05)]
    if arguments.json:
        print(table.to_json(orient="records"))
    else:
        print(table.to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
