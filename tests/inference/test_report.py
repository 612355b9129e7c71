"""The report shows what a compiler made of the layers."""

import pytest
from matplotlib.figure import Figure

from dltlab.inference import Engine, Report, optimize
from dltlab.inference.backends import Operation
from dltlab.inference.export import owner
from dltlab.inference.report import Fused


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engine(request, model, validation) -> Engine:
    return optimize(model, backend=request.param, precision="float32", validation=validation)


@pytest.fixture(scope="module")
def report(engine) -> Report:
    return engine.report()


def test_layers_that_were_fused_stand_together(report):
    assert ("conv_a", "norm_a", "relu_a") in report.fused.values()
    assert ("conv_d", "add", "relu_e") in report.fused.values()


def test_layers_that_do_nothing_any_more_are_gone(report):
    assert "dropout" in report.gone
    assert not {"conv_a", "norm_a", "conv_b", "conv_c", "conv_d", "add", "logits"} & {*report.gone}


def test_layers_and_operations_are_counted_by_kind(report):
    table = report.kinds().set_index("kind")
    assert table.loc["Conv2D", "layers before"] == 4
    assert report.kinds_after["Conv"] + report.kinds_after["Convolution"] == 4


def test_every_operation_has_a_precision_and_a_share_of_the_time(report):
    table = report.table()
    assert set(table["precision"]) == {"float32"}
    assert table["share"].sum() == pytest.approx(1)
    assert (table["µs"] >= 0).all()


def test_it_is_a_table_and_a_image_with_a_description(report):
    figure, alt = report.figure()
    assert isinstance(figure, Figure)
    assert [axes.get_title() for axes in figure.axes] == ["The graph", "Where the time goes"]
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert alt.startswith(report.engine)
    assert "conv_a + norm_a + relu_a" in repr(report)
    assert "<table" in report._repr_html_()


def test_a_backend_that_does_not_tell_is_said_to_be_one(model, validation):
    engine = optimize(model, backend="keras", precision="float32", validation=validation, batch=32)
    report = engine.report()
    assert report.gone == ()
    assert repr(report).endswith(" layers; this backend does not tell what it made of them.")
    report.figure()


def test_a_concatenation_that_is_done_in_place_is_gone():
    conv = Operation("conv", "Convolution", "float32", ("conv",), 1e-3)
    report = Report("e", (("conv", "Conv2D"), ("join", "Concatenate")), (Fused(conv, ("conv",)),))
    assert report.gone == ("join",)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("net_1/conv_1/convolution", "conv"),
        ("net/conv_b_1/Relu:0", "conv_b"),
        ("net/conv_10/add", "conv_10"),
        ("Transpose__17", ""),
    ],
)
def test_an_operation_is_traced_to_its_layer(name, layer):
    assert owner(name, ("conv", "conv_b", "conv_10")) == layer
