"""`inspect` on networks built by hand, whose answers are known."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.display import in_notebook
from dltlab.errors import Invalid, LabError, NotFound, Unavailable
from dltlab.training import inspect
from dltlab.training.inspection import Inspection
from dltlab.training.probabilities import probabilities

SIZE = 16
RED, GREEN = (3, 12), (11, 2)  # rows and columns of the two patches


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A red patch at one place and a green one at another, on black."""
    image = np.zeros((SIZE, SIZE, 3), np.float32)
    for channel, (row, column) in enumerate((RED, GREEN)):
        image[row - 1 : row + 2, column - 1 : column + 2, channel] = 1
    return image


def network_layers(*, activation: str | None = None, pool: bool = False, dtype: str | None = None):
    """Layers of a network that answers 0 for red and 1 for green: two filters, their means."""
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1, 0, 0] = kernel[1, 1, 1, 1] = 1
    convolution = layers.Conv2D(
        2, 3, padding="same", activation="relu", name="filters", dtype=dtype,
        kernel_initializer=lambda shape, dtype=None: keras.ops.cast(kernel, dtype),
    )  # fmt: skip
    middle = [layers.MaxPooling2D(name="pool")] if pool else []
    dense = layers.Dense(
        2, activation, kernel_initializer=keras.initializers.Identity(20.0), dtype=dtype
    )
    return [convolution, *middle, layers.GlobalAveragePooling2D(), dense]


def sequential(**options) -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *network_layers(**options)])


def nested() -> keras.Model:
    inner = keras.Sequential(network_layers()[:2], name="inner")
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, network_layers()[-1](inner(layers.Rescaling(1.0)(inputs))))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.filters, self.mean, self.answer = network_layers()

    def call(self, pixels):
        return self.answer(self.mean(self.filters(pixels)))


def ending_in_softmax() -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *network_layers(), layers.Softmax()])


def strongest_place(inspection: Inspection) -> tuple[int, int]:
    """The row and column with the strongest evidence in the maps of the filters."""
    (maps,) = [maps for maps in inspection.layers if maps.layer == "filters"]
    row, column = np.unravel_index(maps.heatmap.argmax(), maps.heatmap.shape)
    return int(row), int(column)


@pytest.mark.parametrize(
    "build",
    [
        sequential,
        nested,
        Subclassed,
        ending_in_softmax,
        lambda: sequential(activation="softmax"),
        lambda: sequential(activation="sigmoid"),
        lambda: sequential(dtype="mixed_bfloat16"),
    ],
    ids=["sequential", "nested", "subclassed", "softmax", "activation", "sigmoid", "bfloat16"],
)
def test_grad_cam_is_strongest_where_the_answer_comes_from(build, image: np.ndarray) -> None:
    model = build()
    for target, (row, column) in enumerate((RED, GREEN)):
        inspection = inspect(model, image, target)
        (maps,) = [maps for maps in inspection.layers if maps.layer == "filters"]
        assert maps.heatmap.shape == (SIZE, SIZE)
        assert maps.heatmap[row, column] == maps.heatmap.max() == 1
        elsewhere = maps.heatmap.copy()
        elsewhere[row - 1 : row + 2, column - 1 : column + 2] = 0
        assert elsewhere.max() == 0


def test_answer_depends_on_the_patch_that_grad_cam_shows(image: np.ndarray) -> None:
    model = sequential()
    row, column = strongest_place(inspect(model, image, 0))
    hidden = image.copy()
    hidden[row - 1 : row + 2, column - 1 : column + 2] = 0
    before, after = probabilities(model, np.stack([image, hidden]))[:, 0]
    assert after < before


def test_single_output_has_evidence_for_both_classes(image: np.ndarray) -> None:
    filters, mean, _ = network_layers()
    answer = layers.Dense(
        1, kernel_initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor([[-9.0], [9]])
    )
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), filters, mean, answer])
    for target, (row, column) in enumerate((RED, GREEN)):
        heatmap = inspect(model, image, target).layers[0].heatmap
        assert heatmap[row, column] == 1


def test_target_is_the_predicted_class_by_default(image: np.ndarray) -> None:
    image = image * np.array([0.5, 1, 1], np.float32)
    names = ["red", "green"]
    model = sequential()
    result = inspect(model, image, class_names=names)
    expected = probabilities(model, image[np.newaxis])[0]
    assert (result.predicted, result.target) == ("green", "green")
    assert result.probability == pytest.approx(expected[1])
    for target in (0, "red"):
        result = inspect(model, image, target, names)
        assert (result.predicted, result.target) == ("green", "red")
        assert result.probability == pytest.approx(expected[0])


def test_model_is_not_changed(image: np.ndarray) -> None:
    model = sequential(activation="softmax")
    before = model.predict_on_batch(image[np.newaxis])
    inspect(model, image)
    assert model.layers[-1].activation is keras.activations.softmax
    assert np.array_equal(model.predict_on_batch(image[np.newaxis]), before)


def test_model_that_raises_is_not_changed(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = sequential(activation="softmax")
    probabilities(model, image[np.newaxis])
    monkeypatch.setattr(model, "call", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inspect(model, image)
    assert model.layers[-1].activation is keras.activations.softmax


def test_grad_cam_uses_the_maps_before_pooling_unless_a_layer_is_named(image: np.ndarray) -> None:
    result = inspect(sequential(pool=True), image)
    layers_found = [(maps.layer, maps.is_pooling) for maps in result.layers]
    assert layers_found == [("filters", False), ("pool", True)]
    for layer, title in ((None, "filters, 16×16×2"), ("pool", "pool, 8×8×2")):
        assert result.grad_cam(layer).figure().axes[1].get_title() == title


def test_last_maps_of_a_pre_activation_network_follow_its_last_relu() -> None:
    inputs = x = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(y)])
    x = layers.Activation("relu", name="last")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D(keepdims=False)(x))
    result = inspect(keras.Model(inputs, outputs), np.ones((8, 8, 1), np.float32))
    assert result.layers[-1].layer == "last"
    assert result.figure().axes[1].get_title().startswith("last, 8×8×4")


def test_strongest_channels_vary_most() -> None:
    weights = np.zeros((1, 1, 1, 12), np.float32)
    weights[..., :] = [3, 0, 5, 1, 2, 11, 4, 9, 6, 8, 7, 10]
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            layers.Conv2D(12, 1, kernel_initializer=lambda shape, dtype=None: weights),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    (maps,) = inspect(model, np.array([[[0], [1]], [[0], [0]]], np.float32)).layers
    assert maps.channels.tolist() == [5, 11, 7, 9, 10, 8]
    assert maps.strongest[0, 1].tolist() == [11, 10, 9, 8, 7, 6]


def test_negative_evidence_is_left_out(image: np.ndarray) -> None:
    model = sequential()
    model.layers[-1].kernel.assign([[-1, 0], [-1, 0]])
    result = inspect(model, image, 0)
    assert not result.layers[-1].heatmap.any()
    assert result.alt.endswith("nowhere.")
    assert result.figure().axes[1].get_title().endswith("no evidence")
    assert result.grad_cam().table.empty


def test_tables_have_a_row_per_layer_filter_and_position(image: np.ndarray) -> None:
    result = inspect(sequential(pool=True), image, 0)
    assert result.table.to_numpy().tolist() == [["filters", 16, 16, 2], ["pool", 8, 8, 2]]
    assert result.filters().table["largest weight"].tolist() == [1, 1]
    assert result.activations().table["shape"].tolist() == ["16×16×2", "8×8×2"]
    strongest = result.grad_cam().table.iloc[0]
    assert strongest["evidence"] == 1
    assert "Predicted: " in repr(result)


class TestFigures:
    def test_filters_in_color_have_mid_gray_for_zero(self, image: np.ndarray) -> None:
        filters = inspect(sequential(), image).filters()
        figure = filters.figure()
        pixels = np.array(figure.axes[0].images[0].get_array())
        assert pixels.shape == (30, 61, 3)  # two filters of 3×3, enlarged 10 times, and a line
        assert pixels[15, 15].tolist() == [1, 0.5, 0.5]
        assert pixels[15, 30].tolist() == [1, 1, 1]
        assert pixels[0, 31].tolist() == [0.5, 0.5, 0.5]
        assert "2 filters of 3×3 weights, in color" in filters.alt
        assert "mid-gray is 0" in figure.get_suptitle()

    @pytest.mark.parametrize(("channels", "words"), [(1, "in gray"), (2, "the mean of 2 inputs")])
    def test_filters_of_other_inputs_are_gray(self, channels: int, words: str) -> None:
        model = keras.Sequential(
            [
                keras.Input((8, 8, channels)),
                layers.Conv2D(70, 3),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2),
            ]
        )
        filters = inspect(model, np.ones((8, 8, channels), np.float32)).filters()
        figure = filters.figure()
        assert figure.axes[0].images[0].get_array().shape == (8 * 31 - 1, 8 * 31 - 1)
        assert "64 of 70 filters" in filters.alt
        assert words in filters.alt

    def test_four_layers_of_a_deep_network_are_shown_first_to_last(self) -> None:
        deep = [layers.Conv2D(9, 3, padding="same", name=f"layer_{place}") for place in range(30)]
        model = keras.Sequential(
            [keras.Input((4, 4, 1)), *deep, layers.GlobalAveragePooling2D(), layers.Dense(2)]
        )
        activations = inspect(model, np.ones((4, 4, 1), np.float32)).activations()
        figure = activations.figure()
        rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
        assert len(rows) == 4
        assert (rows[0], rows[-1]) == (r"layer_0" + "\n4×4×9", r"layer_29" + "\n4×4×9")
        pixels = np.array(figure.axes[0].images[0].get_array())
        assert pixels.shape == (32, 6 * 33 - 1)
        assert np.isnan(pixels).any(axis=0).sum() == 5  # the lines between six channels
        assert "4 of 30 layers" in activations.alt

    def test_heatmap_covers_the_image(self, image: np.ndarray) -> None:
        grad_cam = inspect(sequential(), image, "0").grad_cam()
        figure = grad_cam.figure()
        gray, heatmap = figure.axes[1].images
        assert gray.get_array().shape == (SIZE, SIZE)
        assert heatmap.get_extent() == [-0.5, SIZE - 0.5, SIZE - 0.5, -0.5]
        assert "'0', probability" in figure.get_suptitle()
        assert "most at 72% of the width from the left and 16% of the height" in grad_cam.alt

    def test_show_shows_all_three(
        self, image: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert not in_notebook()
        inspect(sequential(), image).show()
        filters, maps, grad_cam = capsys.readouterr().out.splitlines()
        assert filters.startswith("The first convolution")
        assert maps.startswith("Feature maps of all 1 layers")
        assert grad_cam.startswith("Grad-CAM: an image, and over it")

    def test_special_characters_in_class_names_are_escaped(self, image: np.ndarray) -> None:
        result = inspect(sequential(), image, class_names=["$\\frac{$", "two\nlines"])
        for part in (result.filters(), result.activations(), result.grad_cam()):
            part.figure().draw_without_rendering()
            assert "\n" not in part.alt
        assert "two\nlines" not in repr(result)


def test_network_without_a_convolution_is_refused() -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(Invalid, match=r"no convolution \(keras.layers.Conv2D\)"):
        inspect(model, np.ones((4, 4, 1), np.float32))


def test_network_without_feature_maps_is_refused() -> None:
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(3, 4), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(Invalid, match="No layer of the model has feature maps"):
        inspect(model, np.ones((4, 4, 1), np.float32))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.ones((1, SIZE, SIZE, 3)), {}, "one image, without a batch"),
        (np.full((SIZE, SIZE, 3), np.nan), {}, "NaN or infinite"),
        (np.ones((8, 8, 3)), {}, "takes images of shape 16×16×3 and these are 8×8×3"),
        (np.ones((SIZE, SIZE, 3)), {"target": 2}, "no class 2: the model has 2, numbered from 0"),
        (np.ones((SIZE, SIZE, 3)), {"target": -1}, "no class -1"),
        (
            np.ones((SIZE, SIZE, 3)),
            {"target": "blue", "class_names": ["red", "green"]},
            "no class 'blue'. The classes are: red, green",
        ),
        (np.ones((SIZE, SIZE, 3)), {"class_names": ["red"]}, "class_names has 1 names"),
    ],
)
def test_wrong_argument_is_refused(image: np.ndarray, options, message: str) -> None:
    with pytest.raises(LabError, match=message):
        inspect(sequential(), image, **options)


def test_layer_without_feature_maps_is_refused(image: np.ndarray) -> None:
    result = inspect(sequential(pool=True), image)
    with pytest.raises(NotFound, match=r"No layer 'dense' has .* Choose from filters, pool"):
        result.grad_cam("dense")


def test_other_backend_is_refused(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sequential()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(Unavailable, match=r"needs Keras on TensorFlow .* runs on jax"):
        inspect(model, image)
