"""The report shows what a compiler made of the layers."""

import pytest
from matplotlib.figure import Figure

from dltlab.inference import Engine, optimize, report
from dltlab.inference.backends.base import Operation
from dltlab.inference.reporting import FusedOperation, Report

CONV = Operation("conv", "Convolution", "float32", ("conv",), 1e-3)


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def engine(request, model, validation) -> Engine:
    return optimize(model, backend=request.param, precision="float32", validation=validation)


@pytest.fixture(scope="module")
def result(engine) -> Report:
    return report(engine)


def test_fused_layers_are_listed_together(result):
    assert ("conv_a", "norm_a", "relu_a") in result.fused.values()
    assert ("conv_d", "add", "relu_e") in result.fused.values()


def test_layers_that_nothing_computes_are_listed_as_removed(result):
    assert "dropout" in result.removed
    computed = {"conv_a", "norm_a", "conv_b", "conv_c", "conv_d", "add", "logits"}
    assert not computed & {*result.removed}


def test_layers_and_their_operations_are_counted_in_one_row(result):
    table = result.kinds().set_index("kind")
    (convolutions,) = table.index[table.index.str.startswith("Conv2D / Conv")]
    assert table.loc[convolutions].to_dict() == {"layers": 4, "operations": 4}
    assert result.layer_kinds["Conv2D"] == 4
    assert table["layers"].sum() == len(result.layers)
    assert table["operations"].sum() == len(result.operations)


def test_an_operation_counts_with_the_layer_that_most_operations_of_its_kind_compute():
    kinds = ("ZeroPadding2D", "Conv2D", "ReLU", "Conv2D", "BatchNormalization", "Convolution")
    layers = tuple((str(place), kind) for place, kind in enumerate(kinds))
    reorder = Operation("reorder", "Reorder", "float32", ("reorder",), 1e-6)
    operations = (
        *(FusedOperation(CONV, names) for names in (("0", "1", "2"), ("3", "4"), ("3",), ("5",))),
        FusedOperation(reorder, ()),
        *(
            FusedOperation(Operation(kind, kind, "float32", (), None), ("4",))
            for kind in ("Cast", "BatchNormalization", "Slice")
        ),
    )
    assert Report("e", layers, operations).kinds().to_numpy().tolist() == [
        ["BatchNormalization / Cast / …", 1, 3],
        ["Conv2D / Convolution", 2, 4],
        ["Convolution", 1, 0],
        ["ReLU", 1, 0],
        ["Reorder", 0, 1],
        ["ZeroPadding2D", 1, 0],
    ]


def test_each_operation_has_a_precision_and_a_share_of_the_time(result):
    table = result.table
    assert set(table["precision"]) == {"float32"}
    assert table["share"].sum() == pytest.approx(1)
    assert (table["time (µs)"] >= 0).all()


def test_the_figure_shows_kinds_and_the_slowest_operations(result):
    figure = result.figure()
    assert isinstance(figure, Figure)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Layers and operations", "The slowest operations"]
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert result.alt == result.summary


def test_each_bar_is_on_the_tick_of_its_kind(result):
    axes = result.figure().axes[0]
    kinds = result.kinds()
    assert [text.get_text() for text in axes.get_yticklabels()] == list(kinds["kind"])
    for bars, column in zip(axes.containers, ("layers", "operations"), strict=True):
        assert [bar.get_y() + bar.get_height() / 2 for bar in bars] == [
            *map(float, range(len(kinds)))
        ]
        assert [bar.get_width() for bar in bars] == list(kinds[column])


def test_the_result_reads_as_its_summary_and_a_table(result):
    assert result.summary.startswith(result.title)
    assert "conv_a + norm_a + relu_a" in repr(result)


def test_a_backend_that_reports_no_operations_is_named(model, validation):
    engine = optimize(
        model, backend="keras", precision="float32", validation=validation, batch_size=32
    )
    result = report(engine)
    assert result.removed == ()
    assert repr(result) == result.summary
    assert result.summary.endswith(" layers; this backend does not report its operations.")
    assert isinstance(result.figure(), Figure)


def test_a_concatenation_that_is_done_in_place_is_removed():
    layers = (("conv", "Conv2D"), ("join", "Concatenate"))
    assert Report("e", layers, (FusedOperation(CONV, ("conv",)),)).removed == ("join",)


@pytest.mark.parametrize(
    ("layers", "label"),
    [
        ((), "Convolution"),
        (("conv", "norm", "relu"), "conv and 2 more"),
        (("a" * 30,), "a" * 25 + "…"),
        (("line\nbreak",), "line\\nbreak"),
    ],
)
def test_an_operation_is_labeled_by_its_first_layer(layers, label):
    assert FusedOperation(CONV, layers).label == label


def test_an_operation_without_a_time_counts_as_zero():
    untimed = Operation("relu", "Relu", "float32", (), None)
    result = Report("e", (), (FusedOperation(CONV, ()), FusedOperation(untimed, ())))
    assert list(result.table["share"]) == [1.0, 0.0]
