"""`evaluate` on models whose outputs are their inputs."""

import math
import warnings
from collections.abc import Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab.errors import Invalid
from dltlab.training import evaluate
from dltlab.training.evaluation import wilson_interval
from dltlab.training.evaluation_results import Evaluation
from tests.training.echo_models import batches, echo, images, one_hot

NAMES = ["cat", "dog", "hen"]


@pytest.fixture(autouse=True)
def no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture
def evaluation() -> Evaluation:
    """Of three cats one is taken for a dog, two dogs are right, and there is no hen."""
    return evaluate(echo(3), batches(one_hot([0, 0, 1, 1, 1], 3), [0, 0, 0, 1, 1]), NAMES)


def test_matrix_has_true_classes_in_rows_and_predicted_ones_in_columns(
    evaluation: Evaluation,
) -> None:
    assert evaluation.confusion is not None
    assert evaluation.confusion.dtype == np.int64
    assert evaluation.confusion.tolist() == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert (evaluation.accuracy, evaluation.num_images) == (0.8, 5)


def test_arrays_are_evaluated_as_batches_are(evaluation: Evaluation) -> None:
    arrays = images(one_hot([0, 0, 1, 1, 1], 3)), np.array([0, 0, 0, 1, 1])
    assert evaluate(echo(3), arrays, NAMES).as_dict() == evaluation.as_dict()


def test_scores_of_each_class_follow_their_definitions(evaluation: Evaluation) -> None:
    table = evaluation.table
    assert table.index.tolist() == NAMES
    assert table.loc["cat"].tolist() == pytest.approx([1, 2 / 3, 0.8, 3])
    assert table.loc["dog"].tolist() == pytest.approx([2 / 3, 1, 0.8, 2])


def test_undefined_score_is_a_dash(evaluation: Evaluation) -> None:
    assert evaluation.table.loc["hen"].isna().tolist() == [True, True, True, False]
    for text in (repr(evaluation), evaluation._repr_html_()):
        assert "–" in text
        assert "nan" not in text.lower()


def test_summary_has_accuracy_interval_and_number(evaluation: Evaluation) -> None:
    assert evaluation.summary == "Accuracy 0.800 (95% interval 0.376 to 0.964) on 5 images."


@pytest.mark.parametrize(
    ("num_correct", "total", "low", "high"),
    [(0, 5, 0, 0.4345), (5, 5, 0.5655, 1), (873, 1000, 0.8509, 0.8922), (3, 7, 0.1582, 0.7495)],
)
def test_interval_is_wilsons(num_correct: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(num_correct, total) == pytest.approx((low, high), abs=1e-4)


def test_top_5_counts_the_true_class_among_the_five_most_probable() -> None:
    logits = [[7, 6, 5, 4, 3, 2, 1]] * 4
    assert evaluate(echo(7), batches(logits, [0, 4, 5, 6])).top_5 == 0.5
    assert "Top-5 accuracy 0.500." in evaluate(echo(7), batches(logits, [0, 4, 5, 6])).summary
    assert evaluate(echo(5), batches(one_hot([0], 5), [0])).top_5 is None


def test_worst_mistakes_come_first_with_images_and_probabilities() -> None:
    logits = one_hot([1, 0, 2, 0], 3) * np.array([[1], [2], [0.5], [3]], np.float32)
    worst = evaluate(echo(3), batches(logits, [0, 1, 1, 0]), NAMES).worst
    names = [(mistake.true, mistake.predicted) for mistake in worst]
    assert names == [("dog", "cat"), ("cat", "dog"), ("dog", "hen")]
    assert worst[0].probability == pytest.approx(math.exp(10) / (math.exp(10) + 2))
    assert np.array_equal(worst[0].image, images(logits)[1])


def test_worst_64_of_many_mistakes_are_kept() -> None:
    confidence = np.random.default_rng(0).permutation(300).astype(np.float32) / 100
    logits = np.stack([confidence, np.zeros(300, np.float32)], axis=1)
    worst = evaluate(echo(2), batches(logits, np.ones(300, int), size=50)).worst
    assert [mistake.image.max() for mistake in worst] == pytest.approx(np.sort(confidence)[:-65:-1])


def test_data_set_is_read_once_and_no_batch_is_kept() -> None:
    starts = []

    def generator() -> Iterator[tuple[np.ndarray, int]]:
        starts.append(True)
        yield from zip(images(one_hot([0] * 10, 2)), [1] * 10, strict=True)

    spec = (tf.TensorSpec((1, 2, 1)), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(generator, output_signature=spec).batch(5)
    evaluation = evaluate(echo(2), dataset)
    assert (len(starts), evaluation.num_images, len(evaluation.worst)) == (1, 10, 10)
    # A view would keep its whole batch in memory.
    assert all(mistake.image.flags.owndata for mistake in evaluation.worst)


def test_one_hot_and_smoothed_labels_count_as_their_largest_value() -> None:
    labels = [[0.9, 0.05, 0.05], [0.3, 0.7, 0], [0, 0, 1]]
    result = evaluate(echo(3), batches(one_hot([0, 1, 1], 3), np.asarray(labels, np.float32)))
    assert result.confusion is not None
    assert result.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_labels_in_a_column_are_class_numbers() -> None:
    assert evaluate(echo(3), batches(one_hot([0, 2], 3), [[0], [2]])).accuracy == 1


def test_images_of_a_single_class_are_noted() -> None:
    result = evaluate(echo(3), batches(one_hot([1, 0], 3), [1, 1]), NAMES)
    assert "All images are of the class 'dog'" in result.summary
    assert result.accuracy == 0.5


def test_model_with_one_output_and_binary_cross_entropy_has_one_label() -> None:
    model = echo(1, optimizer="sgd", loss="binary_crossentropy")
    result = evaluate(model, batches([[2], [-1], [3]], [1, 0, 0]))
    assert result.confusion is not None
    assert result.confusion.tolist() == [[1, 1], [0, 1]]


class TestSeveralLabels:
    LOGITS = ((3, 2, -1), (-2, 1, -3), (1, -1, -2), (-1, 4, -4))
    LABELS = ((1, 0, 0), (0, 1, 0), (0, 0, 0), (0, 1, 0))

    @pytest.fixture
    def multi_label(self) -> Evaluation:
        model = echo(3, optimizer="sgd", loss=keras.losses.BinaryCrossentropy(from_logits=True))
        return evaluate(model, batches(self.LOGITS, self.LABELS), NAMES)

    def test_binary_cross_entropy_or_the_argument_means_several_labels(
        self, multi_label: Evaluation
    ) -> None:
        by_argument = evaluate(echo(3), batches(self.LOGITS, self.LABELS), NAMES, multi_label=True)
        assert multi_label.confusion is by_argument.confusion is None
        assert repr(multi_label) == repr(by_argument)

    def test_scores_of_each_class_follow_their_definitions(self, multi_label: Evaluation) -> None:
        table = multi_label.table
        # In order of the scores: for cats cat, no cat; for dogs dog, no dog, dog.
        assert table.loc["cat"].tolist() == pytest.approx([1, 1 / 2, 1, 2 / 3, 1])
        assert table.loc["dog"].tolist() == pytest.approx([(1 + 2 / 3) / 2, 2 / 3, 1, 0.8, 2])
        assert table.loc["hen"].isna().tolist() == [True, True, True, True, False]
        assert multi_label.mean_average_precision == pytest.approx((1 + 5 / 6) / 2)

    def test_image_is_right_if_every_label_is_right(self, multi_label: Evaluation) -> None:
        assert multi_label.accuracy == 0.5
        assert multi_label.interval == wilson_interval(2, 4)
        assert "every label right in 0.500 of them (95% interval" in multi_label.summary

    def test_worst_mistake_of_an_image_names_its_label(self, multi_label: Evaluation) -> None:
        (first, second) = multi_label.worst
        assert (first.true, first.predicted) == ("no dog", "dog")
        assert first.probability == pytest.approx(1 / (1 + math.exp(-2)))
        assert (second.true, second.predicted) == ("no cat", "cat")

    def test_missed_label_is_a_mistake(self) -> None:
        labels = np.array([[0, 1]])
        (missed,) = evaluate(echo(2), batches([[-1, -2]], labels), multi_label=True).worst
        assert (missed.true, missed.predicted) == ("1", "no 1")
        assert missed.probability == pytest.approx(1 / (1 + math.exp(-2)))

    def test_figure_has_a_bar_for_each_class(self, multi_label: Evaluation) -> None:
        assert len(multi_label.figure().axes[0].patches) == 3
        assert "cat 1.00, dog 0.83, hen –" in multi_label.alt

    def test_precision_is_undefined_without_labels(self) -> None:
        result = evaluate(echo(2), batches([[-1, -2]], np.array([[0, 0]])), multi_label=True)
        assert math.isnan(result.mean_average_precision or 0)
        assert "Mean average precision – on 1 image, every label right in 1.000" in result.summary


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda: batches(one_hot([0], 3), [0]).take(0), "empty: there is nothing to evaluate"),
        (lambda: batches(one_hot([0], 3), [0]).repeat(), "has no end"),
        (lambda: batches(one_hot([0], 3), [0]).unbatch(), "not in batches"),
        (lambda: batches(one_hot([0], 3), [[0, 0, 1]]).unbatch(), "not in batches"),
        (lambda: batches(one_hot([0], 3), [0]).map(lambda x, y: x), "has no labels"),
        (lambda: [images([[0, 1, 2]]), [0]], "is a list; it must be a tf.data.Dataset"),
        (
            lambda: batches(one_hot([0, 1], 3), [0, 3]),
            "label 3 is not one of the model's 3",
        ),
        (lambda: batches(one_hot([0], 3), [-1]), "label -1 is not one .* numbered from 0 to 2"),
        (lambda: batches(one_hot([0], 3), [0.5]), "label 0.5 is not one"),
        (lambda: batches(one_hot([0], 3), [np.nan]), "label nan is not one"),
        (lambda: batches(one_hot([0], 3), ["cat"]), "labels are text"),
        (
            lambda: batches(one_hot([0], 3), [[1.0, 0, 0, 0]]),
            "have 4 classes and the model has 3",
        ),
        (
            lambda: batches(one_hot([0], 3), [[1.0, 1, 0]]),
            "have several classes, .*multi_label",
        ),
        (lambda: batches(one_hot([0], 3), [[np.nan, 1, 0]]), "labels contain NaN"),
        (lambda: batches([[np.nan, 1, 0]], [0]), "Batch 1 .* NaN or infinite"),
        (lambda: batches([[np.inf, 1, 0]], [0]), "Batch 1 .* NaN or infinite"),
        (lambda: batches(one_hot([0], 4), [0]), "takes images of shape 1×3×1 .* 1×4×1"),
        (
            lambda: batches(one_hot([0], 3), [0]).map(lambda x, y: (x[..., 0], y)),
            "shape .1, 1, 3.; a batch of images is",
        ),
    ],
)
def test_data_that_cannot_be_evaluated_are_refused(dataset, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        evaluate(echo(3), dataset())


def test_several_labels_need_a_value_for_each_class() -> None:
    with pytest.raises(Invalid, match="must be 0 or 1 for each of the 3 classes"):
        evaluate(echo(3), batches(one_hot([0], 3), [0]), multi_label=True)


def test_number_of_names_must_equal_the_number_of_classes() -> None:
    with pytest.raises(Invalid, match="class_names has 2 names and the model has 3 classes"):
        evaluate(echo(3), batches(one_hot([0], 3), [0]), ["cat", "dog"])
