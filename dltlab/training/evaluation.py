"""How good a model is, class by class, and what it gets wrong: `evaluate`."""

import html
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import keras
import numpy as np

from dltlab.display import printable, show
from dltlab.errors import LabError
from dltlab.training.drawing import as_image, label
from dltlab.training.probabilities import checked_class_names, is_multi_label, probabilities

if TYPE_CHECKING:
    import pandas as pd
    import tensorflow as tf
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Z = 1.959964  # 95% of a normal distribution lie within so many standard deviations
_TOP = 5
_THRESHOLD = 0.5
_KEPT = 64  # worst mistakes
_MOST_ROWS = 60  # of a table
_WITH_NUMBERS, _WITH_NAMES = 20, 40  # classes that a matrix has room for
_SUM_TOLERANCE = 1e-3  # of a row of labels, which may be bfloat16
_COLOR = "#0072B2"


@dataclass(frozen=True)
class Mistake:
    """An image that a model got wrong.

    Attributes:
        image: float32 `(height, width, channels)`.
        true: What it shows.
        predicted: What the model takes it for.
        probability: Of that, by the model.
    """

    image: np.ndarray
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """What `evaluate` has found; a notebook shows it as a sentence and a table.

    Attributes:
        accuracy: The share of images whose class is right; where an image may have several
            labels, of those with every label right.
        interval: The 95% confidence interval of the accuracy.
        num_images: How many images there were.
        classes: Their names.
        scores: For each score its value for each class, NaN where a class does not allow one.
        confusion: int64 `(classes, classes)`, how many images of the class of a row were taken
            for the class of a column; None where an image may have several labels.
        top_5: The share of images whose class is among the five most probable; None where there
            are no more than five classes or an image may have several labels.
        mean_average_precision: Of the classes that have examples, where an image may have several
            labels; else None.
        worst: The most confident mistakes, the worst first, at most 64.
    """

    accuracy: float
    interval: tuple[float, float]
    num_images: int
    classes: tuple[str, ...]
    scores: dict[str, np.ndarray]
    confusion: np.ndarray | None
    top_5: float | None
    mean_average_precision: float | None
    worst: tuple[Mistake, ...]

    def table(self) -> "pd.DataFrame":
        """A row for each class: its scores, and the number of its images."""
        import pandas as pd

        return pd.DataFrame(self.scores, index=[printable(name) for name in self.classes])

    def _repr_html_(self) -> str:
        table = self.table().to_html(
            na_rep="–", float_format="{:.3f}".format, max_rows=_MOST_ROWS
        )  # fmt: skip
        return f"<p>{html.escape(self._sentence)}</p>{table}"

    def __repr__(self) -> str:
        table = self.table().to_string(
            na_rep="–", float_format="{:.3f}".format, max_rows=_MOST_ROWS
        )  # fmt: skip
        return f"{self._sentence}\n{table}"

    @property
    def _headline(self) -> str:
        images = f"{self.num_images:,} image{'s' * (self.num_images != 1)}"
        between = f"(95% interval {self.interval[0]:.3f} to {self.interval[1]:.3f})"
        if self.mean_average_precision is None:
            return f"Accuracy {self.accuracy:.3f} {between} on {images}"
        precision = self.mean_average_precision
        shown = "–" if math.isnan(precision) else f"{precision:.3f}"
        return (
            f"Mean average precision {shown} on {images}, every label right in "
            f"{self.accuracy:.3f} of them {between}"
        )

    @property
    def _sentence(self) -> str:
        top = "" if self.top_5 is None else f" Top-5 accuracy {self.top_5:.3f}."
        present = np.flatnonzero(self.scores["images"])
        alone = ""
        if self.confusion is not None and len(present) == 1:
            name = printable(self.classes[present[0]])
            alone = f" All of them are of one class, '{name}': this says nothing of the others."
        return f"{self._headline}.{top}{alone}"

    def figure(self) -> tuple["Figure", str]:
        """The confusion matrix, and its description in words.

        Where an image may have several labels: the average precision of each class.
        """
        return self._bars() if self.confusion is None else self._matrix(self.confusion)

    def _matrix(self, confusion: np.ndarray) -> tuple["Figure", str]:
        from matplotlib.figure import Figure

        num = len(confusion)
        side = np.clip((0.42 if num <= _WITH_NUMBERS else 0.24) * num, 3.0, 10.0)
        figure = Figure(figsize=(max(side + 2.2, 5.4), side + 1.6), layout="constrained")
        axes = figure.subplots()
        shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(drawn, label="share of the true class's images", fraction=0.05)
        places, names = self._named_places()
        small = 9 if num <= _WITH_NUMBERS else 7
        is_wide = max(map(len, names)) > 2
        axes.set_xticks(places, names, rotation=90 if is_wide else 0, fontsize=small)
        axes.set_yticks(places, names, fontsize=small)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if num <= _WITH_NUMBERS:
            _write_counts(axes, confusion, shares)
        figure.suptitle(self._headline.replace(" (", "\n("), fontsize=11)
        return figure, f"Confusion matrix of {num} classes. {self._sentence} {self._confused()}"

    def _named_places(self) -> tuple[range, list[str]]:
        """The places of the classes whose names there is room for, and these names."""
        num = len(self.classes)
        places = range(0, num, math.ceil(num / _WITH_NAMES))
        return places, [label(self.classes[place]) for place in places]

    def _confused(self) -> str:
        """The pairs of classes that are confused most often."""
        assert self.confusion is not None
        wrong = self.confusion * (1 - np.eye(len(self.confusion), dtype=np.int64))
        worst = np.argsort(-wrong, axis=None, kind="stable")[:3]
        pairs = [np.unravel_index(place, wrong.shape) for place in worst]
        listed = ", ".join(
            f"{printable(self.classes[true])} taken for {printable(self.classes[taken])} "
            f"({wrong[true, taken]:,})"
            for true, taken in pairs
            if wrong[true, taken]
        )
        return f"Most often: {listed}." if listed else "No image is taken for another class."

    def _bars(self) -> tuple["Figure", str]:
        from matplotlib.figure import Figure

        precision = self.scores["average precision"]
        num = len(precision)
        shown = ["–" if math.isnan(each) else f"{each:.2f}" for each in precision]
        figure = Figure(figsize=(8, 1.4 + 0.3 * min(num, _WITH_NAMES)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(range(num), np.nan_to_num(precision), color=_COLOR)
        if num <= _WITH_NAMES:
            axes.bar_label(bars, shown, padding=4)
        axes.set_yticks(*self._named_places())
        axes.set_xlim(0, 1.1)
        axes.set_ylim(num - 0.5, -0.5)
        axes.set_xlabel("average precision")
        axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(self._headline.replace(", every", ",\nevery"), fontsize=11)
        listed = ", ".join(
            f"{printable(name)} {each}" for name, each in zip(self.classes, shown, strict=True)
        )
        return figure, f"Average precision of each class: {listed}. {self._sentence}"

    def mistakes(self, n: int = 16) -> tuple["Figure", str]:
        """The images that the model was most sure of and got wrong, and them in words.

        Each with what it shows, what it was taken for, and the probability of that by the model.

        Args:
            n: How many, at most 64.

        Raises:
            LabError: `n` is less than 1.
        """
        from matplotlib.figure import Figure

        if n < 1:
            raise LabError(f"n is {n}; it must be 1 or more.")
        chosen = self.worst[:n]
        if not chosen:
            figure = Figure(figsize=(5, 1), layout="constrained")
            figure.suptitle(f"No mistake on {self.num_images:,} images")
            return figure, f"There is no mistake to show: all {self.num_images:,} are right."
        columns = min(8, math.ceil(math.sqrt(len(chosen))))
        rows = math.ceil(len(chosen) / columns)
        width = max(1.9 * columns, 4)
        figure = Figure(figsize=(width, 2.15 * rows + 0.6), layout="constrained")
        cells = figure.subplots(rows, columns, squeeze=False).flat
        for axes, each in zip(cells, chosen, strict=False):
            axes.imshow(as_image(each.image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            title = f"{label(each.true)}\n→ {label(each.predicted)}, {each.probability:.2f}"
            axes.set_title(title, fontsize=8)
        for axes in figure.axes:
            axes.set_axis_off()
        figure.suptitle("The most confident mistakes:\ntrue → predicted, probability", fontsize=11)
        listed = "; ".join(
            f"{printable(each.true)} taken for {printable(each.predicted)} ({each.probability:.2f})"
            for each in chosen
        )
        return figure, f"The mistakes of which the model is most sure, as images: {listed}."

    def show(self) -> None:
        """Show the confusion matrix, then the mistakes."""
        show(*self.figure())
        show(*self.mistakes())


def evaluate(
    model: keras.Model,
    dataset: "tf.data.Dataset",
    classes: Sequence[str] | None = None,
    *,
    multi_label: bool | None = None,
) -> Evaluation:
    """Let a model classify every image of a data set, and compare with the labels.

    The data set is read once; of its images only the worst mistakes stay in memory. Labels with a
    value for each class, as mixup and label smoothing make them, count as their largest one, unless
    an image may have several labels: then each class is there from 0.5.

    Args:
        model: Gives `(b, classes)`, logits or probabilities.
        dataset: Batches of float32 images `(b, height, width, channels)` and labels: whole numbers
            `(b,)`, or a value for each class `(b, classes)`.
        classes: Their names, in the order of the labels; by default their numbers.
        multi_label: Whether an image may have several labels. By default it may where the model
            was compiled with a binary cross-entropy.

    Raises:
        LabError: The data set is empty, endless, not in batches or does not fit the model; a label
            is none of the classes; a pixel or an output is NaN.
    """
    several = is_multi_label(model) if multi_label is None else multi_label
    tally: _Tally | None = None
    for images, labels in _batches(dataset):
        found = probabilities(model, images, multi_label=several)
        if tally is None:
            names = checked_class_names(classes, found.shape[1])
            tally = _SeveralLabels(names) if several else _OneLabel(names)
        tally.add(images, found, labels)
    if tally is None:
        raise LabError("The data set is empty: there is nothing to evaluate.")
    return tally.evaluation()


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """The 95% confidence interval of a share of which `right` of `total` were seen.

    Wilson's score interval, which holds for small numbers and shares near 0 and 1, too: E. B.
    Wilson, Probable inference, the law of succession, and statistical inference, J. Am. Stat.
    Assoc. 22 (1927), 209–212.
    """
    share, z2 = right / total, _Z**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(share * (1 - share) / total + z2 / (4 * total**2)) * _Z / (1 + z2 / total)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass
class _Tally(ABC):
    """Takes in batch after batch; what becomes of the images but the worst is numbers."""

    names: tuple[str, ...]
    true: list[np.ndarray] = field(default_factory=list)
    found: list[np.ndarray] = field(default_factory=list)
    worst: list[Mistake] = field(default_factory=list)

    @abstractmethod
    def add(self, images: np.ndarray, found: np.ndarray, labels: np.ndarray) -> None:
        """Take in the images of a batch, their probabilities, and their labels."""

    @abstractmethod
    def evaluation(self) -> Evaluation:
        """What all of them together say."""

    def _keep(self, more: list[Mistake]) -> None:
        both = sorted([*self.worst, *more], key=lambda each: -each.probability)
        self.worst = both[:_KEPT]


@dataclass
class _OneLabel(_Tally):
    """Where every image is of one class."""

    top: int = 0

    def add(self, images: np.ndarray, found: np.ndarray, labels: np.ndarray) -> None:
        true = _numbers(labels, len(self.names))
        taken = found.argmax(axis=1)
        self.true.append(true)
        self.found.append(taken)
        own = found[np.arange(len(true)), true]
        self.top += int(((found > own[:, np.newaxis]).sum(axis=1) < _TOP).sum())
        sure = found.max(axis=1)
        wrong = np.flatnonzero(taken != true)
        chosen = wrong[np.argsort(-sure[wrong], kind="stable")[:_KEPT]]
        self._keep(
            [
                Mistake(
                    images[row].copy(),
                    self.names[true[row]],
                    self.names[taken[row]],
                    float(sure[row]),
                )
                for row in chosen
            ]
        )

    def evaluation(self) -> Evaluation:
        from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

        true, taken = np.concatenate(self.true), np.concatenate(self.found)
        numbers = range(len(self.names))
        precision, recall, f1, images = precision_recall_fscore_support(
            true, taken, labels=numbers, zero_division=np.nan
        )
        right, total = int((true == taken).sum()), len(true)
        return Evaluation(
            accuracy=right / total,
            interval=wilson_interval(right, total),
            num_images=total,
            classes=self.names,
            scores={"precision": precision, "recall": recall, "F1": f1, "images": images},
            confusion=confusion_matrix(true, taken, labels=numbers).astype(np.int64),
            top_5=self.top / total if len(self.names) > _TOP else None,
            mean_average_precision=None,
            worst=tuple(self.worst),
        )


@dataclass
class _SeveralLabels(_Tally):
    """Where an image may have several labels, or none."""

    def add(self, images: np.ndarray, found: np.ndarray, labels: np.ndarray) -> None:
        true = _flags(labels, len(self.names))
        self.true.append(true)
        self.found.append(found)
        taken = found >= _THRESHOLD
        # How sure the model is of each wrong label; an image counts by its worst one.
        sure = np.where(taken != true, np.where(taken, found, 1 - found), 0)
        chosen = np.argsort(-sure.max(axis=1), kind="stable")[:_KEPT]
        self._keep(
            [self._mistake(images[row], sure[row], true[row]) for row in chosen if sure[row].any()]
        )

    def _mistake(self, image: np.ndarray, sure: np.ndarray, true: np.ndarray) -> Mistake:
        place = int(sure.argmax())
        name = self.names[place]
        is_there = bool(true[place])
        words = (name, f"no {name}") if is_there else (f"no {name}", name)
        return Mistake(image.copy(), *words, float(sure[place]))

    def evaluation(self) -> Evaluation:
        from sklearn.metrics import average_precision_score, precision_recall_fscore_support

        true, found = np.concatenate(self.true), np.concatenate(self.found)
        taken = found >= _THRESHOLD
        precision, recall, f1, images = precision_recall_fscore_support(
            true, taken, average=None, zero_division=np.nan
        )
        average = np.array(
            [
                average_precision_score(of_class, scores) if of_class.any() else np.nan
                for of_class, scores in zip(true.T, found.T, strict=True)
            ]
        )
        with_examples = average[images > 0]
        right, total = int((true == taken).all(axis=1).sum()), len(true)
        return Evaluation(
            accuracy=right / total,
            interval=wilson_interval(right, total),
            num_images=total,
            classes=self.names,
            scores={
                "average precision": average, "precision": precision, "recall": recall, "F1": f1,
                "images": images,
            },
            confusion=None,
            top_5=None,
            mean_average_precision=float(with_examples.mean()) if len(with_examples) else math.nan,
            worst=tuple(self.worst),
        )  # fmt: skip


def _batches(dataset: "tf.data.Dataset") -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images, float32, and labels, float64, of each batch.

    Raises:
        LabError: They are none that can be evaluated.
    """
    import tensorflow as tf

    if not isinstance(dataset, tf.data.Dataset):
        raise LabError(
            f"The data set is a {type(dataset).__name__}; it must be a tf.data.Dataset of images "
            "and labels, as dltlab.data.load returns it."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise LabError("The data set has no end: leave out .repeat(), or take a part of it.")
    step = 0
    for step, element in enumerate(dataset, 1):
        if not isinstance(element, tuple) or len(element) < 2:
            raise LabError("The data set holds no labels: its elements must be (images, labels).")
        if element[1].dtype == tf.string:
            raise LabError("The labels are text: give each class a number, counted from 0.")
        images = tf.cast(element[0], tf.float32).numpy()
        labels = tf.cast(element[1], tf.float64).numpy()
        _require_batch(images, labels)
        if not np.isfinite(images).all():
            raise LabError(
                f"Batch {step} of the data set holds pixels that are NaN or infinite: look for a "
                "division by zero in what prepares the images."
            )
        if len(images):
            yield images, labels


def _require_batch(images: np.ndarray, labels: np.ndarray) -> None:
    if labels.ndim == 0 or (images.ndim == 3 and labels.ndim == 1 and len(labels) != len(images)):
        raise LabError("The data set is not in batches: add .batch(64), or load it with one.")
    if images.ndim != 4:
        raise LabError(
            f"The data set's images have the shape {images.shape}; a batch of images is (batch, "
            "height, width, channels)."
        )
    if len(images) != len(labels):
        raise LabError(f"A batch has {len(images)} images and {len(labels)} labels.")


def _numbers(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Labels as numbers of classes, int64 `(b,)`.

    Raises:
        LabError: One is no class.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        _require_width(labels, num_classes)
        if np.abs(labels.sum(axis=1) - 1).max() > _SUM_TOLERANCE:
            raise LabError(
                "The labels have several classes at once, or none, in one image: pass "
                "multi_label=True if that is meant."
            )
        largest: np.ndarray = labels.argmax(axis=1)
        return largest
    numbers = labels.reshape(len(labels), -1)[:, 0]
    wrong = numbers[~((numbers >= 0) & (numbers < num_classes) & (numbers % 1 == 0))]
    if len(wrong):
        raise LabError(
            f"The label {wrong[0]:g} is none of the model's {num_classes} classes, which are "
            f"counted from 0 to {num_classes - 1}: use the labels the model was trained on."
        )
    return numbers.astype(np.int64)


def _flags(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Which classes each image shows, bool `(b, classes)`."""
    if labels.ndim != 2:
        raise LabError(
            f"The labels have the shape {labels.shape}; where an image may have several, they "
            f"must be 0 or 1 for each of the {num_classes} classes."
        )
    _require_width(labels, num_classes)
    flags: np.ndarray = labels >= _THRESHOLD
    return flags


def _require_width(labels: np.ndarray, num_classes: int) -> None:
    if labels.shape[1] != num_classes:
        raise LabError(
            f"The labels have {labels.shape[1]} classes, and the model tells {num_classes} apart: "
            "use the data it was trained on."
        )
    if np.isnan(labels).any():
        raise LabError("The labels hold NaN.")


def _write_counts(axes: "Axes", confusion: np.ndarray, shares: np.ndarray) -> None:
    """The number in each cell that has one."""
    size = 9 if confusion.max() < 1000 else 7
    for row, column in zip(*np.nonzero(confusion), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(
            column, row, f"{confusion[row, column]:,}",
            ha="center", va="center", fontsize=size, color=color,
        )  # fmt: skip
