import importlib
import json

import keras
import numpy as np
import pytest

from dltlab import models
from dltlab.distribute import CubeMesh, FatTree, LayerTime, Link, Ring, layer_times, simulate
from dltlab.errors import Invalid

LINK = Link(alpha=1e-5, bandwidth=1e9)
LAYERS = [LayerTime(f"layer {i}", 0.001 * i, 0.002 * i, 1e6 * i) for i in range(1, 5)]
FORWARD, COMPUTE, NUM_BYTES = 0.01, 0.03, 10e6


def ring_seconds(num_devices, num_bytes):
    return 2 * (num_devices - 1) * (LINK.alpha + num_bytes / num_devices / LINK.bandwidth)


@pytest.mark.parametrize("num_devices", [2, 8, 128])
def test_without_overlap_communication_follows_the_backward_pass(num_devices):
    simulation = simulate(LAYERS, Ring(num_devices, LINK), bucket_bytes=1e9, overlap=False)

    communication = ring_seconds(num_devices, NUM_BYTES)
    assert simulation.compute_seconds == pytest.approx(COMPUTE)
    assert simulation.communication_seconds == pytest.approx(communication)
    assert simulation.step_seconds == pytest.approx(COMPUTE + communication)
    assert simulation.efficiency == pytest.approx(COMPUTE / (COMPUTE + communication))
    assert simulation.hidden_share == pytest.approx(0)


def test_each_bucket_pays_the_latency_and_the_bytes_stay_the_same():
    simulation = simulate(LAYERS, Ring(4, LINK), bucket_bytes=1, overlap=False)

    expected = sum(ring_seconds(4, layer.num_bytes) for layer in LAYERS)
    assert simulation.communication_seconds == pytest.approx(expected)


def test_with_overlap_only_what_does_not_fit_behind_the_backward_pass_takes_time():
    fast, slow = (Link(0, bandwidth) for bandwidth in (1e12, 1e8))
    hidden = simulate(LAYERS, Ring(2, fast), bucket_bytes=1)
    exposed = simulate(LAYERS, Ring(2, slow), bucket_bytes=1)

    # With the fast link, what remains is the bucket of the first layer, whose gradient is the last.
    assert hidden.step_seconds == pytest.approx(COMPUTE + 1e6 / 1e12)
    # With the slow one, all buckets follow each other from the gradient of the last layer on.
    assert exposed.step_seconds == pytest.approx(FORWARD + 0.008 + NUM_BYTES / 1e8)
    assert hidden.hidden_share == pytest.approx(0.9)
    assert exposed.hidden_share == pytest.approx(0.012 / 0.1)


def test_a_bucket_is_full_when_it_has_its_bytes():
    simulation = simulate(LAYERS, Ring(2, Link(0, 1e12)), bucket_bytes=5e6)

    assert [span.name for span in simulation.timeline] == [
        *("forward", "backward"),
        *("bucket 1", "bucket 2"),  # layers 4 and 3, layers 2 and 1
    ]
    starts = [span.start for span in simulation.timeline[2:]]
    assert starts == pytest.approx([FORWARD + 0.014, COMPUTE])


def test_one_device_does_not_communicate():
    simulation = simulate(LAYERS, Ring(1, LINK))

    assert simulation.efficiency == pytest.approx(1)
    assert simulation.hidden_share is None
    assert "communicates" not in simulation.summary


def test_jitter_lowers_the_efficiency_the_more_devices_wait_for_the_slowest():
    def efficiency(num_devices, jitter, seed=0):
        return simulate(LAYERS, Ring(num_devices, LINK), jitter=jitter, seed=seed).efficiency

    assert efficiency(1, 0.1) == pytest.approx(1, abs=0.1)
    assert efficiency(2, 0.1) < efficiency(2, 0.0)
    assert efficiency(32, 0.1) < efficiency(32, 0.05) < efficiency(32, 0.0)
    assert efficiency(8, 0.1, seed=1) != efficiency(8, 0.1, seed=2)
    assert efficiency(8, 0.1, seed=1) == efficiency(8, 0.1, seed=1)


def test_a_dgx_saturnv_of_992_devices_is_simulated():
    simulation = simulate(LAYERS, FatTree(124, Link(5e-6, 50e9)))

    assert simulation.num_devices == 992
    assert 0.5 < simulation.efficiency < simulate(LAYERS, CubeMesh()).efficiency < 1


def test_simulated_efficiencies_are_close_to_published_ones(monkeypatch, repository):
    """The tolerances are those that the two kinds of points need.

    The latency of the network is fitted to Horovod's points. In all others, the simulation is an
    upper bound, without what slows real devices down.
    """
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    points = list(importlib.import_module("published_scaling").points())
    horovod = [point for point in points if point.source == "Horovod 2018"]

    assert {(point.network, point.devices) for point in horovod} >= {
        ("ResNet-101", 512),
        ("VGG-16", 512),
    }
    for point in horovod:
        assert point.simulated == pytest.approx(point.published, abs=0.05)
    for point in points:
        assert point.published < point.simulated < point.published + 0.13
    (goyal,) = (point for point in points if point.devices == 256)
    assert goyal.simulated == pytest.approx(0.9, abs=0.1)


def test_a_simulation_is_a_table_a_figure_and_plain_values():
    simulation = simulate(LAYERS, Ring(4, LINK))

    assert simulation.table["first device"].tolist() == ["forward", "backward", "bucket 1"]
    assert "4 devices: 45." in repr(simulation)
    assert json.loads(json.dumps(simulation.as_dict()))["num_devices"] == 4
    (axes,) = simulation.figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "computation",
        "communication",
    ]


def test_the_times_of_layers_follow_from_the_operations_of_a_model():
    hidden, last = keras.layers.Dense(20, name="hidden"), keras.layers.Dense(5)
    model = keras.Sequential([keras.Input((10,)), hidden, last])
    first, second = layer_times(models.cost(model), batch_size=4, flops_per_second=1e6)

    assert first == LayerTime("hidden", 2 * 4 * 200 / 1e6, 2 * 2 * 4 * 200 / 1e6, 4 * 220)
    assert second.num_bytes == 4 * 105


def test_values_out_of_their_range_are_refused():
    with pytest.raises(Invalid, match="no layer to simulate"):
        simulate([], Ring(2, LINK))
    with pytest.raises(Invalid, match="bucket_bytes is 0 and jitter 0"):
        simulate(LAYERS, Ring(2, LINK), bucket_bytes=0)
    with pytest.raises(Invalid, match="jitter nan"):
        simulate(LAYERS, Ring(2, LINK), jitter=np.nan)
    with pytest.raises(Invalid, match="layer 'fc' must be at least 0"):
        LayerTime("fc", -1, 0, 0)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(Invalid, match="batch_size is 0"):
        layer_times(models.cost(model), batch_size=0, flops_per_second=1)
