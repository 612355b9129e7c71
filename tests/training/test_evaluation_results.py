"""Figures, descriptions and tables of an evaluation."""

import html

import numpy as np
import pytest

from dltlab.errors import Invalid
from dltlab.training import evaluate
from dltlab.training.evaluation_results import Evaluation
from tests.training.echo_models import batches, echo, one_hot


@pytest.fixture
def evaluation() -> Evaluation:
    """Of three cats one is taken for a dog, two dogs are right, and there is no hen."""
    data = batches(one_hot([0, 0, 1, 1, 1], 3), [0, 0, 0, 1, 1])
    return evaluate(echo(3), data, ["cat", "dog", "hen"])


@pytest.mark.parametrize(
    ("num_classes", "has_counts"), [(2, True), (20, True), (21, False), (40, False)]
)
def test_matrix_of_few_classes_has_counts(num_classes: int, has_counts: bool) -> None:
    labels = np.arange(num_classes)
    result = evaluate(echo(num_classes), batches(one_hot([*labels], num_classes), labels))
    axes = result.figure().axes[0]
    counts = [text.get_text() for text in axes.texts if text.get_text()]
    assert counts == ["1"] * (num_classes if has_counts else 0)
    assert len(axes.get_xticks()) == len(axes.get_yticks()) == num_classes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    assert result.alt.startswith(f"Confusion matrix of {num_classes} classes. Accuracy 1.000")
    assert result.alt.endswith("No image is taken for another class.")


def test_only_some_of_very_many_class_names_are_drawn() -> None:
    figure = evaluate(echo(100), batches(one_hot([1], 100), [1])).figure()
    assert figure.axes[0].get_xticks().tolist() == list(range(0, 100, 3))


def test_only_some_of_very_many_bars_are_named() -> None:
    labels = np.eye(100, dtype=int)
    result = evaluate(echo(100), batches(labels * 4 - 2, labels, 50), multi_label=True)
    axes = result.figure().axes[0]
    assert (len(axes.patches), len(axes.get_yticks()), len(axes.texts)) == (100, 34, 0)


def test_description_names_the_most_frequent_confusion(evaluation: Evaluation) -> None:
    assert evaluation.alt.endswith("Most often: cat taken for dog (1).")


def test_mistakes_are_images_with_titles(evaluation: Evaluation) -> None:
    mistakes = evaluation.mistakes()
    (axes,) = [axes for axes in mistakes.figure().axes if axes.images]
    assert axes.get_title() == "cat\n→ dog, 0.99"
    assert mistakes.alt == (
        "The mistakes with the highest probability, as images: cat taken for dog (0.99)."
    )
    assert mistakes.table.iloc[0, :2].tolist() == ["cat", "dog"]


def test_number_of_mistakes_can_be_chosen() -> None:
    result = evaluate(echo(2), batches(one_hot([0] * 30, 2), [1] * 30))
    for number, num_shown in ((1, 1), (5, 5), (16, 16), (99, 30)):
        figure = result.mistakes(number).figure()
        assert sum(bool(axes.images) for axes in figure.axes) == num_shown


def test_result_without_mistakes_says_so() -> None:
    mistakes = evaluate(echo(2), batches(one_hot([0], 2), [0])).mistakes()
    assert mistakes.alt == "There are no mistakes on 1 images."
    assert mistakes.figure().get_suptitle() == "No mistakes on 1 images"


def test_show_shows_the_matrix_then_the_mistakes(
    evaluation: Evaluation, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation.show()
    matrix, mistakes = capsys.readouterr().out.splitlines()
    assert matrix.startswith("Confusion matrix")
    assert mistakes.startswith("The mistakes with the highest probability")


def test_special_characters_in_class_names_are_escaped() -> None:
    names = ["<script>alert(1)</script>", "$\\frac{$", "two\nlines"]
    result = evaluate(echo(3), batches(one_hot([1, 1, 0], 3), [0, 1, 2]), names)
    markup = result._repr_html_()
    assert "<script>" not in markup
    assert html.escape(names[0]) in markup
    assert "two\nlines" not in repr(result)
    result.figure().draw_without_rendering()
    result.mistakes().figure().draw_without_rendering()


def test_number_of_mistakes_must_be_positive(evaluation: Evaluation) -> None:
    with pytest.raises(Invalid, match="n is 0; it must be 1 or more"):
        evaluation.mistakes(0)
