"""`inspect`, on networks built by hand whose answers are known."""

import keras
import numpy as np
import pytest
from keras import layers

from dltlab.display import in_notebook
from dltlab.errors import LabError
from dltlab.training.inspection import Inside, inspect
from dltlab.training.probabilities import probabilities

SIZE = 16
RED, GREEN = (3, 12), (11, 2)  # rows and columns of the two patches


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A red patch at one place and a green one at another, on black."""
    made = np.zeros((SIZE, SIZE, 3), np.float32)
    for channel, (row, column) in enumerate((RED, GREEN)):
        made[row - 1 : row + 2, column - 1 : column + 2, channel] = 1
    return made


def seer(*, activation: str | None = None, pool: bool = False, dtype: str | None = None):
    """Parts of a network that answers 0 for red and 1 for green: two filters, their means."""
    kernel = np.zeros((3, 3, 3, 2), np.float32)
    kernel[1, 1, 0, 0] = kernel[1, 1, 1, 1] = 1
    convolution = layers.Conv2D(
        2, 3, padding="same", activation="relu", name="see", dtype=dtype,
        kernel_initializer=lambda shape, dtype=None: keras.ops.cast(kernel, dtype),
    )  # fmt: skip
    middle = [layers.MaxPooling2D(name="pool")] if pool else []
    dense = layers.Dense(
        2, activation, kernel_initializer=keras.initializers.Identity(20.0), dtype=dtype
    )
    return [convolution, *middle, layers.GlobalAveragePooling2D(), dense]


def sequential(**options) -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *seer(**options)])


def nested() -> keras.Model:
    inner = keras.Sequential(seer()[:2], name="inner")
    inputs = keras.Input((SIZE, SIZE, 3))
    return keras.Model(inputs, seer()[-1](inner(layers.Rescaling(1.0)(inputs))))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.see, self.mean, self.answer = seer()

    def call(self, pixels):
        return self.answer(self.mean(self.see(pixels)))


def ending_in_softmax() -> keras.Model:
    return keras.Sequential([keras.Input((SIZE, SIZE, 3)), *seer(), layers.Softmax()])


def peak(inside: Inside, layer: str = "see") -> tuple[int, int]:
    """Where in the map the evidence is strongest."""
    (maps,) = [each for each in inside.layers if each.name == layer]
    row, column = np.unravel_index(maps.heat.argmax(), maps.heat.shape)
    return int(row), int(column)


@pytest.mark.parametrize(
    "model",
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
def test_grad_cam_peaks_where_the_answer_comes_from(model, image: np.ndarray) -> None:
    network = model()
    for target, (row, column) in enumerate((RED, GREEN)):
        inside = inspect(network, image, target)
        (maps,) = [each for each in inside.layers if each.name == "see"]
        assert maps.heat.shape == (SIZE, SIZE)
        assert maps.heat[row, column] == maps.heat.max() == 1
        elsewhere = maps.heat.copy()
        elsewhere[row - 1 : row + 2, column - 1 : column + 2] = 0
        assert elsewhere.max() == 0


def test_the_patch_that_grad_cam_shows_is_what_the_answer_depends_on(image: np.ndarray) -> None:
    model = sequential()
    row, column = peak(inspect(model, image, 0))
    hidden = image.copy()
    hidden[row - 1 : row + 2, column - 1 : column + 2] = 0
    before, after = probabilities(model, np.stack([image, hidden]))[:, 0]
    assert after < before


def test_a_single_output_has_evidence_for_both_answers(image: np.ndarray) -> None:
    see, mean, _ = seer()
    answer = layers.Dense(
        1, kernel_initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor([[-9.0], [9]])
    )
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), see, mean, answer])
    for target, (row, column) in enumerate((RED, GREEN)):
        heat = inspect(model, image, target).layers[0].heat
        assert heat[row, column] == 1


def test_the_target_is_the_predicted_class_unless_one_is_asked_for(image: np.ndarray) -> None:
    image = image * np.array([0.5, 1, 1], np.float32)
    names = ["red", "green"]
    model = sequential()
    found = inspect(model, image, classes=names)
    expected = probabilities(model, image[np.newaxis])[0]
    assert (found.predicted, found.target) == ("green", "green")
    assert found.probability == pytest.approx(expected[1])
    for asked in (0, "red"):
        found = inspect(model, image, asked, names)
        assert (found.predicted, found.target) == ("green", "red")
        assert found.probability == pytest.approx(expected[0])


def test_the_model_is_left_as_it_was(image: np.ndarray) -> None:
    model = sequential(activation="softmax")
    before, call = model.predict_on_batch(image[np.newaxis]), keras.layers.Layer.__call__
    inspect(model, image)
    assert model.layers[-1].activation is keras.activations.softmax
    assert np.array_equal(model.predict_on_batch(image[np.newaxis]), before)
    assert keras.layers.Layer.__call__ is call


def test_a_model_that_fails_is_left_as_it_was_too(
    image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, call = sequential(activation="softmax"), keras.layers.Layer.__call__
    probabilities(model, image[np.newaxis])
    monkeypatch.setattr(model, "call", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inspect(model, image)
    assert model.layers[-1].activation is keras.activations.softmax
    assert keras.layers.Layer.__call__ is call


def test_maps_come_before_pooling_and_others_by_name(image: np.ndarray) -> None:
    found = inspect(sequential(pool=True), image)
    assert [(each.name, each.is_pooled) for each in found.layers] == [
        ("see", False), ("pool", True)
    ]  # fmt: skip
    for asked, shown in ((None, "see, 16×16×2"), ("pool", "pool, 8×8×2")):
        figure, _ = found.grad_cam(asked)
        assert figure.axes[1].get_title() == shown


def test_of_a_pre_activation_network_the_last_maps_are_those_after_the_last_relu() -> None:
    inputs = x = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Add()([x, layers.Conv2D(4, 3, padding="same")(y)])
    x = layers.Activation("relu", name="last")(layers.BatchNormalization()(x))
    x = layers.Dropout(0.5)(x)
    outputs = layers.Dense(3)(layers.GlobalAveragePooling2D(keepdims=False)(x))
    found = inspect(keras.Model(inputs, outputs), np.ones((8, 8, 1), np.float32))
    assert found.layers[-1].name == "last"
    assert found.grad_cam()[0].axes[1].get_title().startswith("last, 8×8×4")


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
    (maps,) = inspect(model, np.float32([[[0], [1]], [[0], [0]]])).layers
    assert maps.channels.tolist() == [5, 11, 7, 9, 10, 8, 2, 6]
    assert maps.strongest[0, 1].tolist() == [11, 10, 9, 8, 7, 6, 5, 4]


def test_evidence_against_a_class_is_left_out(image: np.ndarray) -> None:
    model = sequential()
    model.layers[-1].kernel.assign([[-1, 0], [-1, 0]])
    found = inspect(model, image, 0)
    assert not found.layers[-1].heat.any()
    figure, alt = found.grad_cam()
    assert alt.endswith("nowhere.")
    assert figure.axes[1].get_title().endswith("no evidence")


class TestFigures:
    def test_filters_in_color_have_mid_gray_for_zero(self, image: np.ndarray) -> None:
        figure, alt = inspect(sequential(), image).filters()
        red, green = (axes.images[0].get_array() for axes in figure.axes)
        assert red.shape == green.shape == (3, 3, 3)
        assert red[1, 1].tolist() == [1, 0.5, 0.5]
        assert green[0, 0].tolist() == [0.5, 0.5, 0.5]
        assert "2 filters of 3×3 weights as images in color" in alt
        assert "mid-gray is 0" in figure.get_suptitle()

    @pytest.mark.parametrize(("channels", "said"), [(1, "in gray"), (2, "the mean of 2 inputs")])
    def test_filters_of_other_inputs_are_gray(self, channels: int, said: str) -> None:
        model = keras.Sequential(
            [
                keras.Input((8, 8, channels)),
                layers.Conv2D(70, 3),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2),
            ]
        )
        figure, alt = inspect(model, np.ones((8, 8, channels), np.float32)).filters()
        assert sum(bool(axes.images) for axes in figure.axes) == 64
        assert figure.axes[0].images[0].get_array().shape == (3, 3)
        assert "64 of 70 filters" in alt
        assert said in alt

    def test_of_a_deep_network_twelve_layers_from_first_to_last_are_shown(self) -> None:
        deep = [layers.Conv2D(9, 3, padding="same", name=f"layer_{place}") for place in range(30)]
        model = keras.Sequential(
            [keras.Input((4, 4, 1)), *deep, layers.GlobalAveragePooling2D(), layers.Dense(2)]
        )
        figure, alt = inspect(model, np.ones((4, 4, 1), np.float32)).activations()
        rows = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
        assert len(rows) == 12
        assert (rows[0], rows[-1]) == (r"layer_0" + "\n4×4×9", r"layer_29" + "\n4×4×9")
        assert sum(bool(axes.images) for axes in figure.axes) == 12 * 8
        assert "12 of 30 layers" in alt

    def test_the_heat_lies_over_the_whole_image(self, image: np.ndarray) -> None:
        figure, alt = inspect(sequential(), image, "0").grad_cam()
        gray, heat = figure.axes[1].images
        assert gray.get_array().shape == (SIZE, SIZE)
        assert heat.get_extent() == [-0.5, SIZE - 0.5, SIZE - 0.5, -0.5]
        assert "'0', probability" in figure.get_suptitle()
        assert "most at 72% of the width from the left and 16% of the height" in alt

    def test_show_shows_all_three(
        self, image: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert not in_notebook()
        inspect(sequential(), image).show()
        filters, maps, evidence = capsys.readouterr().out.splitlines()
        assert filters.startswith("The first convolution")
        assert maps.startswith("Maps of all 1 layers")
        assert evidence.startswith("An image, and over it")

    def test_names_from_users_do_no_harm(self, image: np.ndarray) -> None:
        found = inspect(sequential(), image, classes=["$\\frac{$", "two\nlines"])
        for figure, alt in (found.filters(), found.activations(), found.grad_cam()):
            figure.draw_without_rendering()
            assert "\n" not in alt
        assert "two\nlines" not in repr(found)


def test_a_dense_network_has_no_convolution() -> None:
    model = keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(LabError, match=r"no convolution \(keras.layers.Conv2D\)"):
        inspect(model, np.ones((4, 4, 1), np.float32))


def test_a_network_that_sees_one_place_only_has_no_maps() -> None:
    model = keras.Sequential(
        [keras.Input((4, 4, 1)), layers.Conv2D(3, 4), layers.Flatten(), layers.Dense(2)]
    )
    with pytest.raises(LabError, match="No layer of the model gives maps"):
        inspect(model, np.ones((4, 4, 1), np.float32))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.ones((1, SIZE, SIZE, 3)), {}, "one image, without a batch"),
        (np.full((SIZE, SIZE, 3), np.nan), {}, "NaN or infinite"),
        (np.ones((8, 8, 3)), {}, "takes images of shape 16×16×3 and these are 8×8×3"),
        (np.ones((SIZE, SIZE, 3)), {"target": 2}, "no class 2: the model tells 2 apart"),
        (np.ones((SIZE, SIZE, 3)), {"target": -1}, "no class -1"),
        (
            np.ones((SIZE, SIZE, 3)),
            {"target": "blue", "classes": ["red", "green"]},
            "no class 'blue'. The classes are: red, green",
        ),
        (np.ones((SIZE, SIZE, 3)), {"classes": ["red"]}, "classes has 1 names"),
    ],
)
def test_what_cannot_be_looked_at_is_told(image: np.ndarray, options, message: str) -> None:
    with pytest.raises(LabError, match=message):
        inspect(sequential(), image, **options)


def test_a_layer_without_maps_is_told(image: np.ndarray) -> None:
    found = inspect(sequential(pool=True), image)
    with pytest.raises(LabError, match=r"No layer 'dense' gives maps\. Those that do: see, pool"):
        found.grad_cam("dense")


def test_another_backend_is_told(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    model = sequential()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(LabError, match=r"needs Keras on TensorFlow .* runs on jax"):
        inspect(model, image)
