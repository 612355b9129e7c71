"""`predict_step_time`: computed by hand from peaks and from rates of layers, and against papers."""

from dataclasses import dataclass, replace

import pytest

from dltlab import models
from dltlab.devices import predict_step_time, specified_peaks
from dltlab.devices.layer_rates import FORWARD, INPUTS, WEIGHTS, Rate
from dltlab.devices.peaks import Peaks
from dltlab.errors import Invalid

PEAKS = Peaks("a device", {"float32": 1e9, "bfloat16": 4e9}, 1e8, {})
RATES = {
    "Dense": {FORWARD: Rate(2e-9, 1e-8), WEIGHTS: Rate(3e-9), INPUTS: Rate(4e-9)},
    "elementwise": {FORWARD: Rate(0, 0, 1e-8), WEIGHTS: Rate(), INPUTS: Rate(0, 0, 2e-8)},
    "optimizer": {FORWARD: Rate(0, 3e-8)},
}


@dataclass(frozen=True)
class Layer:
    name: str
    kind: str
    flops: float
    weight_bytes: int
    activation_bytes: int
    weight_gradients: int = 1
    input_gradients: int = 1


@dataclass(frozen=True)
class Step:
    name: str = "network"
    batch_size: int = 5
    layers: tuple[Layer, ...] = (
        Layer("large", "Dense", 1e9, 1_000_000, 1_000_000, input_gradients=0),
        Layer("wide", "Dense", 1e6, 10_000_000, 1_000_000),
        Layer("relu", "ReLU", 0, 0, 10_000_000, weight_gradients=0),
    )
    optimizer_flops: float = 1e6
    optimizer_bytes_moved: int = 1_000_000
    uncounted: tuple[str, ...] = ()


def test_each_pass_takes_as_long_as_computing_or_moving():
    time = predict_step_time(Step(), PEAKS)

    assert time.is_bound
    rows = [(row.name, row.forward, row.backward, row.limit) for row in time.layers]
    assert rows == [
        ("large", pytest.approx(1), pytest.approx(1), "FLOPs"),
        ("wide", pytest.approx(0.11), pytest.approx(0.22), "weights"),
        ("relu", pytest.approx(0.1), pytest.approx(0.1), "activations"),
        ("optimizer", 0, pytest.approx(0.01), "weights"),
    ]
    assert time.seconds == pytest.approx(2.54)
    assert time.examples_per_second == pytest.approx(5 / 2.54)
    assert time.limits["FLOPs"] == pytest.approx(2 / 2.54)
    assert time.summary == (
        "network on a device: at least 2.54 s for a step with a batch of 5, at most 1.97 "
        "examples/s. 79% of it is limited by the FLOPs."
    )


def test_another_dtype_has_another_peak():
    assert predict_step_time(Step(), PEAKS, "bfloat16").layers[0].forward == pytest.approx(0.25)
    with pytest.raises(Invalid, match="a device has no peak in 'int8'; it has float32, bfloat16"):
        predict_step_time(Step(), PEAKS, "int8")


def test_rates_of_layers_are_used_where_they_were_measured():
    peaks = replace(PEAKS, layers=RATES)
    time = predict_step_time(Step(), peaks)

    assert not time.is_bound
    large, wide, relu, optimizer = time.layers
    assert (large.forward, large.backward) == (pytest.approx(2.01), pytest.approx(3))
    assert (wide.forward, wide.backward) == (pytest.approx(0.102), pytest.approx(0.007))
    assert (relu.forward, relu.backward) == (pytest.approx(0.1), pytest.approx(0.2))
    assert optimizer.backward == pytest.approx(0.03)
    assert "at least" not in time.summary
    unknown = replace(Step(), layers=(Layer("new", "Einsum", 1e9, 0, 0),))
    assert predict_step_time(unknown, peaks).layers[0].forward == pytest.approx(2)
    with pytest.raises(Invalid, match="measured in float32, not in 'bfloat16'"):
        predict_step_time(Step(), peaks, "bfloat16")


def test_network_that_cannot_be_counted_is_named_with_its_layer():
    with pytest.raises(
        Invalid, match=r"The multiply-adds of mystery in network are not known, so the time"
    ):
        predict_step_time(replace(Step(), uncounted=("mystery",)), PEAKS)


@pytest.mark.parametrize(
    ("name", "batch_size", "published", "low", "high"),
    [("googlenet", 128, 468, 0.4, 1), ("resnet50", 64, 219, 0.4, 1), ("vgg16", 64, 154, 1, 2.25)],
)
def test_published_rates_of_a_p100_agree_with_the_bound(name, batch_size, published, low, high):
    """TensorFlow's benchmarks of May 2017, and for GoogLeNet Dell's with NVIDIA's Caffe.

    VGG has 3×3 convolutions only, which Winograd's algorithm computes with up to 2.25 times fewer
    multiplications (A. Lavin and S. Gray, 2015, arXiv:1509.09308).
    """
    step = models.cost(getattr(models, name)()).training(batch_size, slots=1)
    bound = predict_step_time(step, specified_peaks("P100")).examples_per_second
    assert low < published / bound < high


def test_table_and_figure_show_the_layers():
    time = predict_step_time(Step(), PEAKS)
    assert list(time.table["layer"]) == ["large", "wide", "relu", "optimizer"]
    assert time.table["share"].sum() == pytest.approx(1)
    (axes,) = time.figure().axes
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == "large (FLOPs)"
    assert axes.get_xlabel() == "time (ms)"
