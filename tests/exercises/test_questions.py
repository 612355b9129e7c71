from importlib import import_module

import pytest

from dltlab.errors import Invalid
from dltlab.exercises import Outcome, correct, question, questions, wrong
from dltlab.exercises.progress import read_records

TEXT = """What is `one` < two?
  a) <b>less</b>
  b) `more`
Answer with: ex.why.answer("a")
"""


@pytest.fixture
def why(course):
    """Return a question of the course's one lab."""

    def why():
        """What is `one`
        < two?
        """
        return [
            correct("<b>less</b>", "It is `1 < 2`."),
            wrong("`more`", "Is <script>1</script> more?"),
        ]

    why.__module__ = import_module("checks.my_topic").__name__
    return question(why)


@pytest.fixture
def stored():
    """What the notebook keeps for the time when the widget has no kernel any more."""
    return []


@pytest.fixture
def widget(why, stored, monkeypatch):
    """Return the prompt, the choices, the button and the message that a notebook shows."""
    shown = []

    def show_widget(widget, text):
        shown.append(widget)
        return stored.append

    monkeypatch.setattr(questions, "show_widget", show_widget)
    why.ask()
    return shown[0].children


def choose(widget, letter):
    """Choose an option, and click the button that the browser shows for it."""
    _, choices, buttons, _ = widget
    choices.value = letter
    buttons.children["_ab".index(letter)].click()


def outcomes():
    return [record.outcome for record in read_records()]


def test_without_a_front_end_the_question_is_text(why, capsys):
    why.ask()

    assert capsys.readouterr().out == TEXT
    (record,) = read_records()
    assert (record.lab, record.exercise) == ("01_my_topic", "why")
    assert record.outcome is Outcome.UNATTEMPTED


@pytest.mark.parametrize("letter", ["a", "A", " a "])
def test_the_correct_letter_passes_with_its_reason(why, capsys, letter):
    why.answer(letter)

    assert capsys.readouterr().out == "why: passed. It is `1 < 2`.\n"
    assert outcomes() == [Outcome.PASSED]
    assert [record.message for record in read_records()] == [""]


def test_a_wrong_letter_is_not_yet_with_its_reason(why, capsys):
    why.answer("b")

    assert capsys.readouterr().out == "why: not yet. Is <script>1</script> more?\n"
    assert outcomes() == [Outcome.NOT_YET]
    assert [record.message for record in read_records()] == ["`more`"]


@pytest.mark.parametrize("letter", ["c", "", "ab", 1, None])
def test_an_unknown_letter_is_an_error_that_lists_the_options(why, letter):
    with pytest.raises(Invalid) as caught:
        why.answer(letter)

    assert str(caught.value) == f"why has the options a, b, not {letter!r}."
    assert read_records() == []


def test_the_widget_offers_every_option_and_selects_none(widget):
    prompt, choices, buttons, message = widget

    assert prompt.value.endswith("<b>What is one &lt; two?</b>")
    assert choices.options == (("a) <b>less</b>", "a"), ("b) more", "b"))
    assert choices.value is None
    assert [button.disabled for button in buttons.children] == [True, False, False]
    assert message.value == ""


def test_the_widget_checks_shows_and_records_each_choice(widget):
    message = widget[-1]

    choose(widget, "b")
    assert "why: not yet" in message.value

    choose(widget, "a")
    assert "why: passed" in message.value
    assert outcomes() == [Outcome.UNATTEMPTED, Outcome.NOT_YET, Outcome.PASSED]


@pytest.mark.parametrize("late", ["a", "b"])
def test_the_choices_that_a_busy_kernel_handles_after_the_click_change_nothing(widget, late):
    _, choices, buttons, message = widget
    buttons.children[1].click()
    choices.value = late

    assert "why: passed" in message.value
    assert outcomes() == [Outcome.UNATTEMPTED, Outcome.PASSED]


def test_a_verdict_is_shown_while_its_option_is_chosen(widget):
    prompt, _, _, message = widget
    choose(widget, "b")

    assert message.value.startswith('<div class="dltlab-verdict" data-option="b">')
    assert ".dltlab-verdict[data-option=b]" in prompt.value


def test_the_notebook_keeps_what_was_chosen(widget, stored):
    prompt = widget[0]
    assert stored == []

    choose(widget, "a")

    (html,) = stored
    assert html.startswith(f"{prompt.value}<p>You chose a) &lt;b&gt;less&lt;/b&gt;</p>")
    assert "dltlab-verdict" not in html.removeprefix(prompt.value)
    assert "why: passed" in html


def test_a_reason_is_escaped_in_the_widget(widget):
    choose(widget, "b")

    assert "Is &lt;script&gt;1&lt;/script&gt; more?" in widget[-1].value


def test_a_choice_that_cannot_be_saved_is_still_shown(widget, monkeypatch, capsys):
    monkeypatch.setenv("DLTLAB_PROGRESS", "/dev/full")
    choose(widget, "a")

    assert "why: passed" in widget[-1].value
    assert "why: not saved" in capsys.readouterr().out
