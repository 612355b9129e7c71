import re

import pytest

from dltlab import start_page
from dltlab.authoring import new_lab
from dltlab.batch import Status
from dltlab.doctor import Finding, Level
from dltlab.exercises import Outcome
from dltlab.exercises.progress import record_outcome
from dltlab.start_page import StartPage, machine_verdict
from tests.batch.fabricated_runs import fabricate
from tests.deadlines import wait_until

LAB, NAME = "01_my_topic", "mean_squared_error"
LINK = f'href="/base/lab/tree/{LAB}.ipynb" data-path="{LAB}.ipynb"'


@pytest.fixture(autouse=True)
def findings(monkeypatch):
    """What the doctor finds on this machine."""
    findings = [Finding("CPU", Level.OK, "a fast one")]
    monkeypatch.setattr(start_page, "diagnose", lambda: findings)
    return findings


@pytest.fixture
def page(workspace):
    return StartPage(workspace, "/base/")


def test_a_new_learner_starts_with_the_first_lab(page):
    html = page.html()

    assert f"{LINK}>Start with lab 01: My topic</a>" in html
    assert f"Your next exercise there is <code>{NAME}</code>." in html
    assert f"{LINK}>01 My topic</a></h3>" in html
    assert f"<li><code>{NAME}</code>: unattempted</li>" in html
    assert "0 of 1 passed" in html


def test_the_page_shows_what_was_recorded_since(page):
    page.html()

    record_outcome(LAB, NAME, Outcome.NOT_YET)
    assert "Continue with lab 01: My topic" in page.html()

    record_outcome(LAB, NAME, Outcome.PASSED)
    assert "1 of 1 passed" in page.html()
    assert "You have passed every exercise" in page.html()


def test_a_lab_links_to_those_that_it_requires(page, workspace, built, edit):
    source, _ = new_lab("second", built.root)
    edit(source, "requires: []", f"requires: [{LAB}]")

    html = page.html()

    assert f"after <a {LINK}>{LAB}</a>" in html
    assert "<h3>02 Second</h3>" in html  # not a link: the learner has no copy of it


def test_the_page_is_the_same_until_something_changes(page):
    wait_until(lambda: "all that the labs need" in page.html())

    assert page.html() is page.html()


def test_text_of_a_course_is_escaped(page, source, edit):
    edit(source, 'title: "My topic"', "title: a < b")

    assert "01 a &lt; b" in page.html()


def test_a_lab_that_is_not_valid_is_left_out_with_the_reason(page, source, edit):
    edit(source, "title:", "titel:")

    assert "<p>01_my_topic is left out: " in page.html()


def test_an_error_is_shown_on_the_page(page, tmp_path, monkeypatch):
    monkeypatch.setenv("DLTLAB_PROGRESS", str(tmp_path))

    assert page.html().startswith(f'<p role="alert">{tmp_path} cannot be read')


def test_headings_have_an_order_without_gaps(page):
    assert re.findall("<h([1-6])>", page.html()) == ["1", "2", "3", "2"]


def test_the_verdict_on_the_machine_is_one_line(findings):
    assert machine_verdict() == "This machine has all that the labs need."

    findings.append(Finding("disk", Level.WARNING, "is nearly full", "Free some space"))
    assert machine_verdict().startswith("disk: is nearly full. The command dltlab doctor")

    findings.append(Finding("GPU", Level.PROBLEM, "has no driver", "Install it"))
    assert machine_verdict().startswith("GPU: has no driver, and 1 more. The command")


def test_batches_are_listed_with_their_reports(page, workspace):
    assert "Experiments" not in page.html()
    out = workspace.folder / "runs" / "experiments" / "first <sweep>"
    fabricate(out, {"lr": 0.1})
    fabricate(out, {"lr": 0.2}, status=Status.FAILED)
    (out / "report.html").write_text("")

    html = page.html()
    path = 'data-path="runs/experiments/first &lt;sweep&gt;/report.html"'
    assert f"{path}>runs/experiments/first &lt;sweep&gt;</a>: 1 failed, 1 done</li>" in html
    assert 'href="/base/lab/tree/runs/experiments/first%20%3Csweep%3E/report.html"' in html


def test_a_report_without_runs_is_not_listed(page, workspace):
    (workspace.folder / "mine").mkdir()
    (workspace.folder / "mine" / "report.html").write_text("")

    assert "Experiments" not in page.html()


def test_in_a_workshop_the_machine_is_not_the_learners_concern(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("DLTLAB_ROOM", str(tmp_path))

    html = StartPage(workspace, "/base/").html()

    assert LINK in html
    assert "This machine" not in html
