"""Evaluate a model class by class: `evaluate`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.errors import Invalid
from dltlab.training.batches import Batches
from dltlab.training.evaluation_results import Evaluation, Mistake
from dltlab.training.probabilities import checked_class_names, is_multi_label, probabilities

if TYPE_CHECKING:
    import tensorflow as tf

_BATCH_SIZE = 256  # of arrays
_TOP = 5
_THRESHOLD = 0.5
_MAX_MISTAKES = 64
_SUM_TOLERANCE = 1e-3  # of a row of labels, which may be bfloat16


def evaluate(
    model: keras.Model,
    dataset: "tf.data.Dataset | tuple[np.ndarray, np.ndarray]",
    class_names: Sequence[str] | None = None,
    *,
    multi_label: bool | None = None,
) -> Evaluation:
    """Classify every image of a data set and compare with the labels.

    The data set is read once; only the images of the worst mistakes stay in memory. Labels with a
    value for each class, as made by mixup and label smoothing, count as the class with the largest
    value. If an image may have several labels, it has each one with a value of 0.5 or more.

    Args:
        model: A model with outputs `(b, classes)`, logits or probabilities.
        dataset: Batches of float32 images `(b, height, width, channels)` and labels: whole numbers
            `(b,)`, or a value for each class `(b, classes)`. Or a pair of such arrays.
        class_names: The names of the classes, in the order of the labels; by default their
            numbers.
        multi_label: Whether an image may have several labels; by default, whether the model was
            compiled with a binary cross-entropy.

    Raises:
        Invalid: The data set is empty, endless, not in batches or does not fit the model; a label
            is not a class; a pixel is NaN.
        Damaged: An output of the model is NaN.
    """
    has_several = is_multi_label(model) if multi_label is None else multi_label
    counter: _Counter | None = None
    for images, labels in _batches(dataset):
        scores = probabilities(model, images, multi_label=has_several)
        if counter is None:
            names = checked_class_names(class_names, scores.shape[1])
            counter = _MultiLabelCounter(names) if has_several else _SingleLabelCounter(names)
        counter.add(images, scores, labels)
    if counter is None:
        raise Invalid("The data set is empty: there is nothing to evaluate.")
    return counter.evaluation()


def wilson_interval(num_correct: int, total: int) -> tuple[float, float]:
    """Return the 95% confidence interval of a fraction, by Wilson's score method.

    It also holds for small numbers and for fractions near 0 and 1: E. B. Wilson, Probable
    inference, the law of succession, and statistical inference, J. Am. Stat. Assoc. 22 (1927),
    209-212.
    """
    from scipy.stats import binomtest

    interval = binomtest(num_correct, total).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


@dataclass
class _Counter(ABC):
    """Accumulates batches; of the images it keeps only those of the worst mistakes."""

    names: tuple[str, ...]
    true: list[np.ndarray] = field(default_factory=list)
    worst: list[Mistake] = field(default_factory=list)

    @abstractmethod
    def add(self, images: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        """Add the images of a batch, their class probabilities, and their labels."""

    @abstractmethod
    def evaluation(self) -> Evaluation:
        """Return the evaluation of all batches."""

    def _keep_worst(self, mistakes: list[Mistake]) -> None:
        by_probability = sorted([*self.worst, *mistakes], key=lambda mistake: -mistake.probability)
        self.worst = by_probability[:_MAX_MISTAKES]


@dataclass
class _SingleLabelCounter(_Counter):
    """For images of one class each."""

    predicted: list[np.ndarray] = field(default_factory=list)
    num_top: int = 0

    def add(self, images: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        true = _class_numbers(labels, len(self.names))
        predicted = scores.argmax(axis=1)
        self.true.append(true)
        self.predicted.append(predicted)
        true_scores = scores[np.arange(len(true)), true]
        self.num_top += int(((scores > true_scores[:, np.newaxis]).sum(axis=1) < _TOP).sum())
        highest = scores.max(axis=1)
        wrong = np.flatnonzero(predicted != true)
        worst = wrong[np.argsort(-highest[wrong], kind="stable")[:_MAX_MISTAKES]]
        self._keep_worst(
            [
                Mistake(
                    images[row].copy(),
                    self.names[true[row]],
                    self.names[predicted[row]],
                    float(highest[row]),
                )
                for row in worst
            ]
        )

    def evaluation(self) -> Evaluation:
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        true, predicted = np.concatenate(self.true), np.concatenate(self.predicted)
        numbers = range(len(self.names))
        precision, recall, f1, images = precision_recall_fscore_support(
            true, predicted, labels=numbers, zero_division=np.nan
        )
        num_correct, total = int((true == predicted).sum()), len(true)
        return Evaluation(
            accuracy=num_correct / total,
            interval=wilson_interval(num_correct, total),
            num_images=total,
            class_names=self.names,
            scores={"precision": precision, "recall": recall, "F1": f1, "images": images},
            confusion=confusion_matrix(true, predicted, labels=numbers).astype(np.int64),
            top_5=self.num_top / total if len(self.names) > _TOP else None,
            mean_average_precision=None,
            worst=tuple(self.worst),
        )


@dataclass
class _MultiLabelCounter(_Counter):
    """For images with several labels, or none."""

    scores: list[np.ndarray] = field(default_factory=list)

    def add(self, images: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        true = _class_flags(labels, len(self.names))
        self.true.append(true)
        self.scores.append(scores)
        predicted = scores >= _THRESHOLD
        # The probability of each wrong label; an image counts by its highest one.
        confidence = np.where(predicted != true, np.where(predicted, scores, 1 - scores), 0)
        rows = np.argsort(-confidence.max(axis=1), kind="stable")[:_MAX_MISTAKES]
        self._keep_worst(
            [
                self._mistake(images[row], confidence[row], true[row])
                for row in rows
                if confidence[row].any()
            ]
        )

    def _mistake(self, image: np.ndarray, confidence: np.ndarray, true: np.ndarray) -> Mistake:
        number = int(confidence.argmax())
        name = self.names[number]
        names = (name, f"no {name}") if true[number] else (f"no {name}", name)
        return Mistake(image.copy(), *names, float(confidence[number]))

    def evaluation(self) -> Evaluation:
        from sklearn.metrics import average_precision_score, precision_recall_fscore_support

        true, scores = np.concatenate(self.true), np.concatenate(self.scores)
        predicted = scores >= _THRESHOLD
        precision, recall, f1, images = precision_recall_fscore_support(
            true, predicted, average=None, zero_division=np.nan
        )
        average = np.array(
            [
                average_precision_score(class_true, class_scores) if class_true.any() else np.nan
                for class_true, class_scores in zip(true.T, scores.T, strict=True)
            ]
        )
        with_examples = average[images > 0]
        num_correct, total = int((true == predicted).all(axis=1).sum()), len(true)
        return Evaluation(
            accuracy=num_correct / total,
            interval=wilson_interval(num_correct, total),
            num_images=total,
            class_names=self.names,
            scores={
                "average precision": average, "precision": precision, "recall": recall, "F1": f1,
                "images": images,
            },
            confusion=None,
            top_5=None,
            mean_average_precision=float(with_examples.mean()) if len(with_examples) else math.nan,
            worst=tuple(self.worst),
        )  # fmt: skip


def _batches(dataset: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the images, float32, and labels, float64, of each batch.

    Raises:
        Invalid: The data set cannot be evaluated.
    """
    import tensorflow as tf

    if isinstance(dataset, tuple):
        dataset = Batches.of(dataset, "test", batch_size=_BATCH_SIZE).dataset
    if not isinstance(dataset, tf.data.Dataset):
        raise Invalid(
            f"The data set is a {type(dataset).__name__}; it must be a tf.data.Dataset of images "
            "and labels, as dltlab.data.load returns it, or a pair of arrays."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise Invalid("The data set has no end: leave out .repeat(), or take a part of it.")
    for step, element in enumerate(dataset, 1):
        if not isinstance(element, tuple) or len(element) < 2:
            raise Invalid("The data set has no labels: its elements must be (images, labels).")
        if element[1].dtype == tf.string:
            raise Invalid("The labels are text: give each class a number, starting at 0.")
        images = tf.cast(element[0], tf.float32).numpy()
        labels = tf.cast(element[1], tf.float64).numpy()
        _require_batch(images, labels)
        if not np.isfinite(images).all():
            raise Invalid(
                f"Batch {step} of the data set contains pixels that are NaN or infinite: look for "
                "a division by zero in what prepares the images."
            )
        if len(images):
            yield images, labels


def _require_batch(images: np.ndarray, labels: np.ndarray) -> None:
    if labels.ndim == 0 or (images.ndim == 3 and labels.ndim == 1 and len(labels) != len(images)):
        raise Invalid("The data set is not in batches: add .batch(64), or load it with one.")
    if images.ndim != 4:
        raise Invalid(
            f"The data set's images have the shape {images.shape}; a batch of images is (batch, "
            "height, width, channels)."
        )
    if len(images) != len(labels):
        raise Invalid(f"A batch has {len(images)} images and {len(labels)} labels.")


def _class_numbers(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return labels as class numbers, int64 `(b,)`.

    Raises:
        Invalid: One is not a class.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        _require_num_classes(labels, num_classes)
        if np.abs(labels.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
            raise Invalid(
                "The labels of an image have several classes, or none: pass multi_label=True if "
                "that is intended."
            )
        largest: np.ndarray = labels.argmax(axis=1)
        return largest
    numbers = labels.reshape(len(labels), -1)[:, 0]
    wrong = numbers[~((numbers >= 0) & (numbers < num_classes) & (numbers % 1 == 0))]
    if len(wrong):
        raise Invalid(
            f"The label {wrong[0]:g} is not one of the model's {num_classes} classes, which are "
            f"numbered from 0 to {num_classes - 1}: use the labels that the model was trained on."
        )
    return numbers.astype(np.int64)


def _class_flags(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Return which classes each image has, bool `(b, classes)`."""
    if labels.ndim != 2:
        raise Invalid(
            f"The labels have the shape {labels.shape}; if an image may have several labels, they "
            f"must be 0 or 1 for each of the {num_classes} classes."
        )
    _require_num_classes(labels, num_classes)
    flags: np.ndarray = labels >= _THRESHOLD
    return flags


def _require_num_classes(labels: np.ndarray, num_classes: int) -> None:
    if labels.shape[1] != num_classes:
        raise Invalid(
            f"The labels have {labels.shape[1]} classes and the model has {num_classes}: use the "
            "data that it was trained on."
        )
    if np.isnan(labels).any():
        raise Invalid("The labels contain NaN.")
