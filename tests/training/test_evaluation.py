"""`evaluate` and the probabilities under it, on models whose outputs are their inputs."""

import html
import math
import warnings
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from scipy.stats import binomtest

from dltlab.errors import LabError
from dltlab.training.evaluation import Evaluation, evaluate, wilson_interval
from dltlab.training.probabilities import ends_in_probabilities, probabilities

NAMES = ["cat", "dog", "hen"]


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", UserWarning)
        yield


def echo(num_classes: int, *more: layers.Layer, **compiled: object) -> keras.Model:
    """A model whose logits are the pixels of an image of one row."""
    parts = [keras.Input((1, num_classes, 1)), layers.Flatten(), *more]
    model = keras.Sequential(parts)
    if compiled:
        model.compile(**compiled)
    return model


def images(logits: object) -> np.ndarray:
    """Of which `echo` makes the logits."""
    return np.asarray(logits, np.float32)[:, np.newaxis, :, np.newaxis]


def batches(logits: object, labels: object, size: int = 2) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((images(logits), np.asarray(labels))).batch(size)


def one_hot(places: list[int], num_classes: int, height: float = 5.0) -> np.ndarray:
    return np.eye(num_classes, dtype=np.float32)[places] * height


@pytest.fixture
def found() -> Evaluation:
    """Two cats right, one taken for a dog; both dogs right; no hen, and none predicted."""
    return evaluate(echo(3), batches(one_hot([0, 0, 1, 1, 1], 3), [0, 0, 0, 1, 1]), NAMES)


def test_rows_of_the_matrix_are_true_classes_and_columns_predicted_ones(found: Evaluation) -> None:
    assert found.confusion is not None
    assert found.confusion.dtype == np.int64
    assert found.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert (found.accuracy, found.num_images) == (0.8, 5)


def test_scores_of_each_class_are_those_of_its_definition(found: Evaluation) -> None:
    table = found.table()
    assert table.index.tolist() == NAMES
    assert table.loc["cat"].tolist() == pytest.approx([1, 2 / 3, 0.8, 3])
    assert table.loc["dog"].tolist() == pytest.approx([2 / 3, 1, 0.8, 2])


def test_what_a_class_without_images_does_not_allow_is_a_dash(found: Evaluation) -> None:
    assert found.table().loc["hen"].isna().tolist() == [True, True, True, False]
    for shown in (str(found), repr(found), found._repr_html_()):
        assert "–" in shown
        assert "nan" not in shown.lower()


def test_the_sentence_says_accuracy_interval_and_number(found: Evaluation) -> None:
    said = "Accuracy 0.800 (95% interval 0.376 to 0.964) on 5 images."
    assert str(found).startswith(said + "\n")
    assert said in found._repr_html_()


@pytest.mark.parametrize(("right", "total"), [(0, 5), (5, 5), (1, 1), (873, 1000), (3, 7)])
def test_the_interval_is_wilsons(right: int, total: int) -> None:
    theirs = binomtest(right, total).proportion_ci(method="wilson")
    assert wilson_interval(right, total) == pytest.approx((theirs.low, theirs.high), abs=1e-7)


def test_top_5_counts_the_true_class_among_the_five_most_probable() -> None:
    logits = [[7, 6, 5, 4, 3, 2, 1]] * 4
    assert evaluate(echo(7), batches(logits, [0, 4, 5, 6])).top_5 == 0.5
    assert "Top-5 accuracy 0.500." in str(evaluate(echo(7), batches(logits, [0, 4, 5, 6])))
    assert evaluate(echo(5), batches(one_hot([0], 5), [0])).top_5 is None


def test_the_worst_mistakes_come_first_with_their_images_and_probabilities() -> None:
    logits = one_hot([1, 0, 2, 0], 3) * np.array([[1], [2], [0.5], [3]], np.float32)
    worst = evaluate(echo(3), batches(logits, [0, 1, 1, 0]), NAMES).worst
    assert [(each.true, each.predicted) for each in worst] == [
        ("dog", "cat"), ("cat", "dog"), ("dog", "hen")
    ]  # fmt: skip
    assert worst[0].probability == pytest.approx(math.exp(10) / (math.exp(10) + 2))
    assert np.array_equal(worst[0].image, images(logits)[1])


def test_of_many_mistakes_the_worst_64_stay() -> None:
    sure = np.random.default_rng(0).permutation(300).astype(np.float32) / 100
    logits = np.stack([sure, np.zeros(300, np.float32)], axis=1)
    worst = evaluate(echo(2), batches(logits, np.ones(300, int), size=50)).worst
    kept = sorted((float(each.image.max()) for each in worst), reverse=True)
    assert kept == pytest.approx(np.sort(sure)[::-1][:64])
    assert [each.image.max() for each in worst] == kept


def test_the_data_set_is_read_once_and_no_batch_is_held() -> None:
    begun = []

    def generator() -> Iterator[tuple[np.ndarray, int]]:
        begun.append(True)
        yield from zip(images(one_hot([0] * 10, 2)), [1] * 10, strict=True)

    spec = (tf.TensorSpec((1, 2, 1)), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(generator, output_signature=spec).batch(5)
    found = evaluate(echo(2), dataset)
    assert (len(begun), found.num_images, len(found.worst)) == (1, 10, 10)
    # A view would keep the batch that it looks into.
    assert all(each.image.flags.owndata for each in found.worst)


def test_one_hot_and_smoothed_labels_count_as_their_largest_value() -> None:
    labels = [[0.9, 0.05, 0.05], [0.3, 0.7, 0], [0, 0, 1]]
    found = evaluate(echo(3), batches(one_hot([0, 1, 1], 3), np.asarray(labels, np.float32)))
    assert found.confusion is not None
    assert found.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_labels_in_a_column_are_numbers() -> None:
    assert evaluate(echo(3), batches(one_hot([0, 2], 3), [[0], [2]])).accuracy == 1


def test_a_single_class_is_said() -> None:
    found = evaluate(echo(3), batches(one_hot([1, 0], 3), [1, 1]), NAMES)
    assert "All of them are of one class, 'dog'" in str(found)
    assert found.accuracy == 0.5


class TestSeveralLabels:
    LOGITS = ((3, 2, -1), (-2, 1, -3), (1, -1, -2), (-1, 4, -4))
    LABELS = ((1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0))

    @pytest.fixture
    def several(self) -> Evaluation:
        model = echo(3, optimizer="sgd", loss=keras.losses.BinaryCrossentropy(from_logits=True))
        return evaluate(model, batches(self.LOGITS, self.LABELS), NAMES)

    def test_a_binary_cross_entropy_or_the_argument_means_several_labels(
        self, several: Evaluation
    ) -> None:
        asked = evaluate(echo(3), batches(self.LOGITS, self.LABELS), NAMES, multi_label=True)
        assert several.confusion is asked.confusion is None
        assert str(several) == str(asked)

    def test_scores_of_each_class_are_those_of_its_definition(self, several: Evaluation) -> None:
        table = several.table()
        # The cats' scores rank: cat, no cat; the dogs': dog, no dog, dog.
        assert table.loc["cat"].tolist() == pytest.approx([1, 1 / 2, 1, 2 / 3, 1])
        assert table.loc["dog"].tolist() == pytest.approx([(1 + 2 / 3) / 2, 2 / 3, 1, 0.8, 2])
        assert table.loc["hen"].isna().tolist() == [True, True, True, True, False]
        assert several.mean_average_precision == pytest.approx((1 + 5 / 6) / 2)

    def test_a_image_is_right_with_every_label_right(self, several: Evaluation) -> None:
        assert several.accuracy == 0.5
        assert several.interval == wilson_interval(2, 4)
        assert "every label right in 0.500 of them (95% interval" in str(several)

    def test_the_worst_mistake_of_a_image_names_its_label(self, several: Evaluation) -> None:
        (first, second) = several.worst
        assert (first.true, first.predicted) == ("no dog", "dog")
        assert first.probability == pytest.approx(1 / (1 + math.exp(-2)))
        assert (second.true, second.predicted) == ("no cat", "cat")

    def test_a_missed_label_is_a_mistake_too(self) -> None:
        labels = np.array([[0, 1]])
        (missed,) = evaluate(echo(2), batches([[-1, -2]], labels), multi_label=True).worst
        assert (missed.true, missed.predicted) == ("1", "no 1")
        assert missed.probability == pytest.approx(1 / (1 + math.exp(-2)))

    def test_the_figure_has_a_bar_for_each_class(self, several: Evaluation) -> None:
        figure, alt = several.figure()
        assert len(figure.axes[0].patches) == 3
        assert "cat 1.00, dog 0.83, hen –" in alt

    def test_without_any_label_there_is_no_precision(self) -> None:
        found = evaluate(echo(2), batches([[-1, -2]], np.array([[0, 0]])), multi_label=True)
        assert math.isnan(found.mean_average_precision or 0)
        assert "Mean average precision – on 1 image, every label right in 1.000" in str(found)


class TestProbabilities:
    IMAGES = images([[0, 1, 3], [2, 2, 0]])

    def test_logits_become_probabilities_by_softmax(self) -> None:
        found = probabilities(echo(3), self.IMAGES)
        assert found.dtype == np.float32
        assert found[1] == pytest.approx(
            np.exp([2, 2, 0]) / np.exp([2, 2, 0]).sum(), rel=1e-6
        )  # fmt: skip

    def test_of_several_labels_each_is_by_itself(self) -> None:
        found = probabilities(echo(3), self.IMAGES, multi_label=True)
        assert found == pytest.approx(1 / (1 + np.exp(-self.IMAGES[:, 0, :, 0])), rel=1e-6)

    @pytest.mark.parametrize(
        "end",
        [
            lambda: [layers.Dense(3, activation="softmax")],
            lambda: [layers.Dense(3), layers.Softmax()],
            lambda: [layers.Dense(3), layers.Activation("softmax", dtype="float32")],
            lambda: [layers.Dense(3, "softmax"), layers.Activation("linear", dtype="float32")],
            lambda: [layers.Dense(3, activation=layers.Softmax())],
            lambda: [keras.Sequential([layers.Dense(3, activation="softmax")])],
            lambda: [layers.Dense(3, activation="sigmoid")],
        ],
        ids=["dense", "layer", "activation", "cast", "instance", "nested", "sigmoid"],
    )
    def test_outputs_that_are_probabilities_are_taken_as_they_are(self, end) -> None:
        model = echo(3, *end())
        found = probabilities(model, self.IMAGES)
        assert np.array_equal(found, model.predict_on_batch(self.IMAGES))
        assert ends_in_probabilities(model)

    def test_so_are_those_of_a_softmax_that_is_no_layer(self) -> None:
        inputs = keras.Input((1, 3, 1))
        model = keras.Model(inputs, keras.ops.softmax(layers.Flatten()(inputs)))
        assert probabilities(model, self.IMAGES) == pytest.approx(
            probabilities(echo(3), self.IMAGES)
        )

    def test_a_hidden_softmax_is_no_end(self) -> None:
        model = echo(3, layers.Dense(3, activation="softmax"), layers.Dense(3))
        assert not ends_in_probabilities(model)

    @pytest.mark.parametrize("multi_label", [False, True])
    def test_a_single_output_stands_for_two_classes(self, multi_label: bool) -> None:
        found = probabilities(echo(1), images([[2]]), multi_label=multi_label)
        yes = 1 / (1 + math.exp(-2))
        assert found[0] == pytest.approx([1 - yes, yes], rel=1e-6)

    def test_a_model_of_one_output_and_binary_cross_entropy_has_one_label(self) -> None:
        model = echo(1, optimizer="sgd", loss="binary_crossentropy")
        found = evaluate(model, batches([[2], [-1], [3]], [1, 0, 0]))
        assert found.confusion is not None
        assert found.confusion.tolist() == [[1, 1], [0, 1]]

    def test_mixed_precision_gives_float32(self) -> None:
        model = echo(3, layers.Dense(3, dtype="mixed_bfloat16"))
        found = probabilities(model, self.IMAGES)
        assert found.dtype == np.float32
        assert found.sum(axis=1) == pytest.approx([1, 1])

    def test_many_images_give_what_few_give(self) -> None:
        images = np.random.default_rng(0).normal(size=(300, 1, 3, 1)).astype(np.float32)
        some = np.concatenate(
            [probabilities(echo(3), images[:7]), probabilities(echo(3), images[7:])]
        )
        assert probabilities(echo(3), images) == pytest.approx(some, abs=1e-6)


class TestFigures:
    @pytest.mark.parametrize(("num", "numbers"), [(2, True), (20, True), (21, False), (40, False)])
    def test_a_matrix_has_numbers_where_there_is_room(self, num: int, numbers: bool) -> None:
        labels = np.arange(num)
        figure, alt = evaluate(echo(num), batches(one_hot([*labels], num), labels)).figure()
        axes = figure.axes[0]
        assert len(axes.texts) == (num if numbers else 0)
        assert len(axes.get_xticks()) == len(axes.get_yticks()) == num
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
        assert alt.startswith(f"Confusion matrix of {num} classes. Accuracy 1.000")
        assert alt.endswith("No image is taken for another class.")

    def test_the_names_of_very_many_classes_are_thinned_out(self) -> None:
        figure, _ = evaluate(echo(100), batches(one_hot([1], 100), [1])).figure()
        assert figure.axes[0].get_xticks().tolist() == list(range(0, 100, 3))

    def test_so_are_those_of_bars(self) -> None:
        labels = np.eye(100, dtype=int)
        found = evaluate(echo(100), batches(labels * 4 - 2, labels, 50), multi_label=True)
        axes = found.figure()[0].axes[0]
        assert (len(axes.patches), len(axes.get_yticks()), len(axes.texts)) == (100, 34, 0)

    def test_the_description_names_what_is_confused_most(self, found: Evaluation) -> None:
        assert found.figure()[1].endswith("Most often: cat taken for dog (1).")

    def test_mistakes_are_images_with_titles(self, found: Evaluation) -> None:
        figure, alt = found.mistakes()
        (axes,) = [each for each in figure.axes if each.images]
        assert axes.get_title() == "cat\n→ dog, 0.99"
        assert alt == (
            "The mistakes of which the model is most sure, as images: cat taken for dog (0.99)."
        )

    def test_so_many_mistakes_as_asked_for_are_shown(self) -> None:
        found = evaluate(echo(2), batches(one_hot([0] * 30, 2), [1] * 30))
        for asked, shown in ((1, 1), (5, 5), (16, 16), (99, 30)):
            figure, _ = found.mistakes(asked)
            assert sum(bool(axes.images) for axes in figure.axes) == shown

    def test_without_mistakes_that_is_said(self) -> None:
        found = evaluate(echo(2), batches(one_hot([0], 2), [0]))
        assert found.mistakes()[1] == "There is no mistake to show: all 1 are right."

    def test_show_shows_the_matrix_then_the_mistakes(
        self, found: Evaluation, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found.show()
        matrix, mistakes = capsys.readouterr().out.splitlines()
        assert matrix.startswith("Confusion matrix")
        assert mistakes.startswith("The mistakes of which the model is most sure")

    def test_names_from_users_do_no_harm(self) -> None:
        names = ["<script>alert(1)</script>", "$\\frac{$", "two\nlines"]
        found = evaluate(echo(3), batches(one_hot([1, 1, 0], 3), [0, 1, 2]), names)
        shown = found._repr_html_()
        assert "<script>" not in shown
        assert html.escape(names[0]) in shown
        assert "two\nlines" not in str(found)
        for figure, _ in (found.figure(), found.mistakes()):
            figure.draw_without_rendering()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda: batches(one_hot([0], 3), [0]).take(0), "empty: there is nothing to evaluate"),
        (lambda: batches(one_hot([0], 3), [0]).repeat(), "has no end"),
        (lambda: batches(one_hot([0], 3), [0]).unbatch(), "not in batches"),
        (lambda: batches(one_hot([0], 3), [[0, 0, 1]]).unbatch(), "not in batches"),
        (lambda: batches(one_hot([0], 3), [0]).map(lambda x, y: x), "holds no labels"),
        (lambda: (images([[0, 1, 2]]), [0]), "is a tuple; it must be a tf.data.Dataset"),
        (lambda: batches(one_hot([0, 1], 3), [0, 3]), "label 3 is none of the model's 3 classes"),
        (lambda: batches(one_hot([0], 3), [-1]), "label -1 is none .* counted from 0 to 2"),
        (lambda: batches(one_hot([0], 3), [0.5]), "label 0.5 is none"),
        (lambda: batches(one_hot([0], 3), [np.nan]), "label nan is none"),
        (lambda: batches(one_hot([0], 3), ["cat"]), "labels are text"),
        (lambda: batches(one_hot([0], 3), [[1.0, 0, 0, 0]]), "labels have 4 classes, .* tells 3"),
        (lambda: batches(one_hot([0], 3), [[1.0, 1, 0]]), "several classes .* multi_label=True"),
        (lambda: batches(one_hot([0], 3), [[np.nan, 1, 0]]), "labels hold NaN"),
        (lambda: batches([[np.nan, 1, 0]], [0]), "Batch 1 .* NaN or infinite"),
        (lambda: batches([[np.inf, 1, 0]], [0]), "Batch 1 .* NaN or infinite"),
        (lambda: batches(one_hot([0], 4), [0]), "takes images of shape 1×3×1 .* 1×4×1"),
        (
            lambda: batches(one_hot([0], 3), [0]).map(lambda x, y: (x[..., 0], y)),
            "shape .1, 1, 3.; a batch of images is",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_told(dataset, message: str) -> None:
    with pytest.raises(LabError, match=message):
        evaluate(echo(3), dataset())


def test_several_labels_need_a_value_for_each_class() -> None:
    with pytest.raises(LabError, match="must be 0 or 1 for each of the 3 classes"):
        evaluate(echo(3), batches(one_hot([0], 3), [0]), multi_label=True)


def test_names_must_be_as_many_as_classes() -> None:
    with pytest.raises(LabError, match="classes has 2 names, and the model tells 3 classes apart"):
        evaluate(echo(3), batches(one_hot([0], 3), [0]), ["cat", "dog"])


def test_a_model_with_damaged_weights_is_told() -> None:
    model = echo(3, layers.Dense(3, kernel_initializer=keras.initializers.Constant(np.nan)))
    with pytest.raises(LabError, match="gives NaN for 2 of 2 images"):
        evaluate(model, batches(one_hot([0, 1], 3), [0, 1]))


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: [layers.Flatten()(x)] * 2, "has 2 outputs, and one is needed"),
        (lambda x: x, "gives 1×3×1 for an image"),
        (lambda x: keras.ops.mean(x, axis=(1, 2, 3)), "gives a single number for an image"),
    ],
)
def test_a_model_that_gives_no_classes_is_told(outputs, message: str) -> None:
    inputs = keras.Input((1, 3, 1))
    with pytest.raises(LabError, match=message):
        evaluate(keras.Model(inputs, outputs(inputs)), batches(one_hot([0], 3), [0]))


def test_no_mistakes_cannot_be_asked_for(found: Evaluation) -> None:
    with pytest.raises(LabError, match="n is 0; it must be 1 or more"):
        found.mistakes(0)
