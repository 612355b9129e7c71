"""What the monitor's figure, its description and its lines say."""

import math

import pytest

from dltlab.training.curves import Curves


def curves(*logs: dict[str, float]) -> Curves:
    """After one epoch a second of 100 images for each of `logs`."""
    found = Curves("Run", 9, "images")
    for epoch, values in enumerate(logs, 1):
        found.add(epoch, float(epoch), 100.0, values)
    return found


def test_the_title_tells_epoch_seconds_and_rate() -> None:
    figure = curves({"loss": 1.0}, {"loss": 0.5}).draw()
    assert figure.get_suptitle() == "Run: epoch 2 of 9, 2.0 s, 100 images/s"


def test_the_rate_is_left_out_where_it_is_not_known() -> None:
    found = Curves("Run", 9, "images")
    found.add(1, 1.0, None, {"loss": 1.0})
    assert found.line == "Run: epoch 1 of 9, 1.0 s, loss 1."


def test_training_and_validation_have_a_curve_each_in_labeled_panels() -> None:
    logs = {"loss": 3.0, "accuracy": 0.5, "val_loss": 4.0, "val_accuracy": 0.25}
    loss, accuracy = curves(logs).draw().axes
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "loss")
    assert (accuracy.get_xlabel(), accuracy.get_ylabel()) == ("epoch", "accuracy")
    drawn = {line.get_label(): list(line.get_ydata()) for line in loss.get_lines()}
    assert drawn == {"training": [3.0], "validation": [4.0]}


def test_validation_of_every_other_epoch_stands_at_its_epochs() -> None:
    figure = curves({"loss": 3.0}, {"loss": 2.0, "val_loss": 5.0}).draw()
    training, validation = figure.axes[0].get_lines()
    assert list(training.get_xdata()) == [1, 2]
    assert list(validation.get_xdata()) == [2]


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
def test_the_second_panel_is_an_accuracy_or_the_first_metric(
    names: list[str], metric: str | None
) -> None:
    found = curves(dict.fromkeys(names, 1.0))
    assert found.metric == metric
    assert len(found.draw().axes) == (2 if metric else 1)


def test_a_metric_that_is_no_single_number_is_passed_over() -> None:
    assert curves({"loss": 1.0, "f1_score": [0.1, 0.2]}).metric is None  # type: ignore[dict-item]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_finite_number_is_said_on_the_figure_and_in_words(value: float) -> None:
    found = curves({"loss": 1.0}, {"loss": value}, {"loss": value})
    (text,) = found.draw().axes[0].texts
    assert text.get_text() == f"Loss is {value} at epoch 2:\ntry a smaller learning rate."
    assert found.alt.endswith(f"Loss is {value} at epoch 2: try a smaller learning rate.")


def test_the_alternative_text_tells_the_last_values() -> None:
    logs = {"loss": 0.5, "accuracy": 0.75, "val_loss": 0.6, "val_accuracy": 0.7}
    assert curves(logs).alt == (
        "Curves of loss and accuracy over the epochs. Run: epoch 1 of 9, 1.0 s, 100 images/s, "
        "loss 0.5, validation loss 0.6, accuracy 0.75, validation accuracy 0.7."
    )
