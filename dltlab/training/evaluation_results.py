"""What `evaluate` returns: scores, a confusion matrix, and the worst mistakes."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from dltlab.display import PALETTE, Result, printable
from dltlab.errors import Invalid
from dltlab.training.drawing import as_image, label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MAX_CLASSES_WITH_COUNTS, _MAX_CLASS_NAMES = 20, 40  # of a figure


@dataclass(frozen=True)
class Mistake:
    """An image that the model classified wrongly.

    Attributes:
        image: float32 `(height, width, channels)`.
        true: The true class.
        predicted: The predicted class.
        probability: The model's probability of the predicted class.
    """

    image: np.ndarray
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation(Result):
    """What `evaluate` returns.

    Attributes:
        accuracy: The fraction of images whose class is right; if an image may have several labels,
            of those with every label right.
        interval: The 95% confidence interval of the accuracy.
        num_images: The number of images.
        class_names: The names of the classes.
        scores: For each score its value for each class, NaN if it is not defined for a class.
        confusion: int64 `(classes, classes)`: the number of images of each true class (row) with
            each predicted class (column); None if an image may have several labels.
        top_5: The fraction of images whose class is among the five most probable ones; None if
            there are at most five classes or an image may have several labels.
        mean_average_precision: The mean over the classes that have examples, if an image may have
            several labels; else None.
        worst: The mistakes with the highest probability, at most 64, the highest first.
    """

    accuracy: float
    interval: tuple[float, float]
    num_images: int
    class_names: tuple[str, ...]
    scores: dict[str, np.ndarray]
    confusion: np.ndarray | None
    top_5: float | None
    mean_average_precision: float | None
    worst: tuple[Mistake, ...]

    _shows_index: ClassVar[bool] = True
    _max_rows: ClassVar[int] = 60
    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = dict.fromkeys(
        ("average precision", "precision", "recall", "F1"), "{:.3f}".format
    )

    @property
    def table(self) -> "pd.DataFrame":
        """One row per class: its scores and the number of its images."""
        import pandas as pd

        return pd.DataFrame(self.scores, index=list(map(printable, self.class_names)))

    @property
    def summary(self) -> str:
        """Accuracy and interval in a sentence."""
        top_5 = "" if self.top_5 is None else f" Top-5 accuracy {self.top_5:.3f}."
        return f"{self._headline}.{top_5}{self._class_warning}"

    @property
    def _headline(self) -> str:
        images = f"{self.num_images:,} image{'s' * (self.num_images != 1)}"
        interval = f"(95% interval {self.interval[0]:.3f} to {self.interval[1]:.3f})"
        if self.mean_average_precision is None:
            return f"Accuracy {self.accuracy:.3f} {interval} on {images}"
        precision = self.mean_average_precision
        return (
            f"Mean average precision {'–' if math.isnan(precision) else f'{precision:.3f}'} on "
            f"{images}, every label right in {self.accuracy:.3f} of them {interval}"
        )

    @property
    def _class_warning(self) -> str:
        present = np.flatnonzero(self.scores["images"])
        if self.confusion is None or len(present) != 1:
            return ""
        name = printable(self.class_names[present[0]])
        return f" All images are of the class '{name}': the others were not evaluated."

    @property
    def alt(self) -> str:
        """The summary, and the most frequent confusions or the scores of each class."""
        if self.confusion is not None:
            title = f"Confusion matrix of {len(self.class_names)} classes."
            return f"{title} {self.summary} {_confused_pairs(self.confusion, self.class_names)}"
        scores = zip(self.class_names, self._precision_texts, strict=True)
        listed = ", ".join(f"{printable(name)} {precision}" for name, precision in scores)
        return f"Average precision of each class: {listed}. {self.summary}"

    def figure(self) -> "Figure":
        """Draw the confusion matrix, or the average precisions if images have several labels."""
        if self.confusion is None:
            return self._precision_figure()
        return self._confusion_figure(self.confusion)

    def mistakes(self, n: int = 16) -> "Mistakes":
        """Return the mistakes with the highest probability.

        Args:
            n: How many, at most 64.

        Raises:
            Invalid: `n` is less than 1.
        """
        if n < 1:
            raise Invalid(f"n is {n}; it must be 1 or more.")
        return Mistakes(self.worst[:n], self.num_images)

    def show(self) -> None:
        """Show the figure, then the mistakes."""
        super().show()
        self.mistakes().show()

    def _confusion_figure(self, confusion: np.ndarray) -> "Figure":
        from matplotlib.figure import Figure
        from sklearn.metrics import ConfusionMatrixDisplay

        num_classes = len(confusion)
        has_counts = num_classes <= _MAX_CLASSES_WITH_COUNTS
        side = np.clip((0.42 if has_counts else 0.24) * num_classes, 3.0, 10.0)
        figure = Figure(figsize=(max(side + 2.2, 5.4), side + 1.6), layout="constrained")
        axes = figure.subplots()
        matrix = ConfusionMatrixDisplay(_row_fractions(confusion)).plot(
            ax=axes, cmap="Blues", colorbar=False, include_values=has_counts,
            im_kw={"vmin": 0, "vmax": 1}, text_kw={"fontsize": 9 if confusion.max() < 1000 else 7},
        )  # fmt: skip
        if has_counts:
            for text, count in zip(matrix.text_.flat, confusion.flat, strict=True):
                text.set_text(f"{count:,}" if count else "")
        figure.colorbar(matrix.im_, label="fraction of the true class's images", fraction=0.05)
        places, names = self._named_places()
        rotation = 90 if max(map(len, names)) > 2 else 0
        axes.set_xticks(places, names, rotation=rotation, fontsize=9 if has_counts else 7)
        axes.set_yticks(places, names, fontsize=9 if has_counts else 7)
        axes.set(xlabel="predicted class", ylabel="true class")
        figure.suptitle(self._headline.replace(" (", "\n("), fontsize=11)
        return figure

    def _precision_figure(self) -> "Figure":
        from matplotlib.figure import Figure

        precision = self.scores["average precision"]
        num_classes = len(precision)
        height = 1.4 + 0.3 * min(num_classes, _MAX_CLASS_NAMES)
        figure = Figure(figsize=(8, height), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh(range(num_classes), np.nan_to_num(precision), color=PALETTE[0])
        if num_classes <= _MAX_CLASS_NAMES:
            axes.bar_label(bars, self._precision_texts, padding=4)
        axes.set_yticks(*self._named_places())
        axes.set_xlim(0, 1.1)
        axes.set_ylim(num_classes - 0.5, -0.5)
        axes.set_xlabel("average precision")
        axes.spines[["top", "right"]].set_visible(False)
        figure.suptitle(self._headline.replace(", every", ",\nevery"), fontsize=11)
        return figure

    @property
    def _precision_texts(self) -> list[str]:
        precisions = self.scores["average precision"]
        return ["–" if math.isnan(value) else f"{value:.2f}" for value in precisions]

    def _named_places(self) -> tuple[range, list[str]]:
        """Return the numbers of the classes whose names fit into a figure, and these names."""
        num_classes = len(self.class_names)
        places = range(0, num_classes, math.ceil(num_classes / _MAX_CLASS_NAMES))
        return places, [label(self.class_names[place]) for place in places]


@dataclass(frozen=True, repr=False, eq=False)
class Mistakes(Result):
    """The mistakes of an evaluation.

    Attributes:
        mistakes: The mistakes, the one with the highest probability first.
        num_images: The number of images that were evaluated.
    """

    mistakes: tuple[Mistake, ...]
    num_images: int

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {"probability": "{:.3f}".format}

    @property
    def table(self) -> "pd.DataFrame":
        """One row per mistake."""
        import pandas as pd

        rows = [(mistake.true, mistake.predicted, mistake.probability) for mistake in self.mistakes]
        return pd.DataFrame(rows, columns=["true", "predicted", "probability"])

    @property
    def summary(self) -> str:
        """The mistakes in a sentence."""
        if not self.mistakes:
            return f"There are no mistakes on {self.num_images:,} images."
        listed = "; ".join(
            f"{printable(mistake.true)} taken for {printable(mistake.predicted)} "
            f"({mistake.probability:.2f})"
            for mistake in self.mistakes
        )
        return f"The mistakes with the highest probability, as images: {listed}."

    def figure(self) -> "Figure":
        """Draw the images, each with true class, predicted class and probability."""
        from matplotlib.figure import Figure

        if not self.mistakes:
            figure = Figure(figsize=(5, 1), layout="constrained")
            figure.suptitle(f"No mistakes on {self.num_images:,} images")
            return figure
        columns = min(8, math.ceil(math.sqrt(len(self.mistakes))))
        rows = math.ceil(len(self.mistakes) / columns)
        size = (max(1.9 * columns, 4), 2.15 * rows + 0.6)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flat
        for axes, mistake in zip(grid, self.mistakes, strict=False):
            image = as_image(mistake.image)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            names = f"{label(mistake.true)}\n→ {label(mistake.predicted)}"
            axes.set_title(f"{names}, {mistake.probability:.2f}", fontsize=8)
        for axes in figure.axes:
            axes.set_axis_off()
        figure.suptitle("The most confident mistakes:\ntrue → predicted, probability", fontsize=11)
        return figure


def _row_fractions(confusion: np.ndarray) -> np.ndarray:
    """Divide each row by its sum; rows of zeros stay zero."""
    fractions: np.ndarray = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    return fractions


def _confused_pairs(confusion: np.ndarray, class_names: Sequence[str]) -> str:
    """Return a sentence with the three most frequent confusions."""
    mistakes = confusion * (1 - np.eye(len(confusion), dtype=np.int64))
    largest = np.argsort(-mistakes, axis=None, kind="stable")[:3]
    pairs = [np.unravel_index(place, mistakes.shape) for place in largest]
    listed = ", ".join(
        f"{printable(class_names[true])} taken for {printable(class_names[predicted])} "
        f"({mistakes[true, predicted]:,})"
        for true, predicted in pairs
        if mistakes[true, predicted]
    )
    return f"Most often: {listed}." if listed else "No image is taken for another class."
