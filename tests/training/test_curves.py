"""The figure, the description and the lines of `Curves`."""

import math

import numpy as np
import pytest

from dltlab.training.curves import Curves, EpochProgress


def curves(*logs: dict[str, float]) -> Curves:
    """Curves after one epoch of a second for each of `logs`, at 100 images per second."""
    result = Curves("Run", 9, "images")
    for epoch, values in enumerate(logs, 1):
        result.add(epoch, float(epoch), 100.0, values)
    return result


def test_title_has_epoch_seconds_and_speed() -> None:
    figure = curves({"loss": 1.0}, {"loss": 0.5}).draw()
    assert figure.get_suptitle() == "Run: epoch 2 of 9, 2.0 s, 100 images/s"


def test_unknown_speed_is_left_out() -> None:
    result = Curves("Run", 9, "images")
    result.add(1, 1.0, None, {"loss": 1.0})
    assert result.line == "Run: epoch 1 of 9, 1.0 s, loss 1."


def test_training_and_validation_have_a_curve_each_in_labeled_panels() -> None:
    logs = {"loss": 3.0, "accuracy": 0.5, "val_loss": 4.0, "val_accuracy": 0.25}
    loss, accuracy = curves(logs).draw().axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy")
    drawn = {line.get_label(): np.array(line.get_ydata()).tolist() for line in loss.get_lines()}
    assert drawn == {"training": [3.0], "validation": [4.0]}


def test_validation_is_drawn_at_its_own_epochs() -> None:
    figure = curves({"loss": 3.0}, {"loss": 2.0, "val_loss": 5.0}).draw()
    training, validation = figure.axes[0].get_lines()
    assert np.array(training.get_xdata()).tolist() == [1, 2]
    assert np.array(validation.get_xdata()).tolist() == [2]


@pytest.mark.parametrize(
    ("names", "metric"),
    [
        (["loss"], None),
        (["loss", "learning_rate"], None),
        (["loss", "mae", "val_mae"], "mae"),
        (["loss", "mae", "sparse_categorical_accuracy"], "sparse_categorical_accuracy"),
        (["loss", "head_loss", "head_precision"], "head_precision"),
    ],
)
def test_second_panel_is_an_accuracy_or_the_first_metric(
    names: list[str], metric: str | None
) -> None:
    result = curves(dict.fromkeys(names, 1.0))
    assert result.metric == metric
    assert len(result.draw().axes) == (2 if metric else 1)


def test_metric_that_is_not_a_number_is_ignored() -> None:
    assert curves({"loss": 1.0, "f1_score": [0.1, 0.2]}).metric is None  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_is_noted_in_figure_and_description(value: float) -> None:
    result = curves({"loss": 1.0}, {"loss": value}, {"loss": value})
    (text,) = result.draw().axes[0].texts
    assert text.get_text() == f"Loss is {value} at epoch 2:\ntry a smaller learning rate."
    assert result.alt.endswith(f"Loss is {value} at epoch 2: try a smaller learning rate.")


def test_description_has_the_last_values() -> None:
    logs = {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.6, "val_accuracy": 0.7}
    assert curves(logs).alt == (
        "Curves of loss and accuracy over the epochs. Run: epoch 1 of 9, 1.0 s, 100 images/s, "
        "loss 0.5, validation loss 0.6, accuracy 0.75, validation accuracy 0.7."
    )


@pytest.mark.parametrize(
    ("seconds_left", "words"), [(40, "40 s"), (740, "12 min"), (12_600, "3.5 h"), (None, None)]
)
def test_progress_within_an_epoch_replaces_the_last_values(
    seconds_left: float | None, words: str | None
) -> None:
    result = curves({"loss": 1.0})
    result.progress, result.seconds_left = EpochProgress(3, 8, 0.5), seconds_left
    left = f", about {words} left" if words else ""
    assert result.line == (f"Run: epoch 2 of 9, step 3 of 8, 1.0 s{left}, 100 images/s, loss 0.5.")


def test_unknown_number_of_steps_is_left_out() -> None:
    result = curves()
    result.progress = EpochProgress(3, None, 0.5)
    result.wait_fraction = 0.25
    assert result.line == "Run: epoch 1 of 9, step 3, 0.0 s, waiting 25%, loss 0.5."


def test_loss_of_another_name_is_drawn_and_told() -> None:
    result = curves({"d_loss": 2.0, "val_d_loss": 3.0, "g_loss": 1.0})
    assert result.loss == "d_loss"
    assert result.line.endswith("d loss 2, validation d loss 3.")
    assert result.draw().axes[0].get_ylabel() == "d loss"
    result.progress = EpochProgress(3, 8, None)
    assert result.line.endswith("100 images/s.")
