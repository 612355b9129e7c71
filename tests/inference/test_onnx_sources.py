"""What ONNX Runtime's optimized nodes replace, in graphs as it writes them for some processors."""

from types import SimpleNamespace

from onnx import helper

from dltlab.inference.backends.onnx_runtime import sources_of


def node(kind, name, inputs, output, **attributes):
    return helper.make_node(kind, inputs.split(), [output], name=name, **attributes)


def graph(*nodes, constants=""):
    tensors = [SimpleNamespace(name=name) for name in constants.split()]
    return SimpleNamespace(node=nodes, initializer=tensors, input=[SimpleNamespace(name="x")])


ORIGINAL = graph(
    node("Conv", "conv_a", "x a", "conv_a:0"),
    node("Relu", "relu_a", "conv_a:0", "relu_a:0"),
    node("Conv", "conv_b", "relu_a:0 b", "conv_b:0"),
    node("Add", "add", "conv_b:0 relu_a:0", "add:0"),
    node("Relu", "relu_e", "add:0", "relu_e:0"),
    node("MaxPool", "pool", "relu_e:0", "pool:0"),
    constants="a b",
)


def test_nodes_in_blocks_of_channels_are_named_after_their_tensors():
    """So they are with AVX2; a sum and its activation are fused into a convolution later."""
    optimized = graph(
        node("Conv", "relu_a:0_nchwc", "x reorder", "token_0", activation="Relu"),
        node("Conv", "conv_b:0_nchwc", "token_0 token_1  ", "token_2"),
        node("MaxPool", "pool:0_nchwc", "token_2", "token_3"),
        node("ReorderOutput", "ReorderOutput", "token_3", "pool:0"),
        constants="reorder token_1",
    )
    fused = optimized.node[1]
    del fused.input[:]
    fused.input.extend(["token_0", "token_1", "", "token_0"])
    fused.attribute.append(helper.make_attribute("activation", "Relu"))

    sources = sources_of(ORIGINAL, optimized)

    assert {"conv_a", "relu_a"} <= {*sources["relu_a:0_nchwc"]}
    assert "conv_b" not in sources["relu_a:0_nchwc"]
    assert {"conv_b", "add", "relu_e"} <= {*sources["conv_b:0_nchwc"]}
    assert not {"conv_a", "relu_a", "pool"} & {*sources["conv_b:0_nchwc"]}
    assert "pool" in sources["pool:0_nchwc"]
    assert not {"relu_e", "add"} & {*sources["pool:0_nchwc"]}


def test_nodes_in_another_layout_that_keep_their_names():
    optimized = graph(
        node("ReorderInput", "ReorderInput", "x", "token_0"),
        node("Conv", "relu_a", "token_0 a", "token_1", activation="Relu"),
        node("ReorderOutput", "ReorderOutput", "token_1", "relu_a:0"),
        constants="a",
    )

    assert {"conv_a", "relu_a"} <= {*sources_of(ORIGINAL, optimized)["relu_a"]}
