"""`SweepPanel`: start, watch and stop a sweep from a notebook."""

import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dltlab.batch import Status, SweepPanel, panel, run_folders
from dltlab.errors import NotFound
from tests.batch.notebooks import light_kernels, write_notebook
from tests.deadlines import wait_until

PARAMETERS = "x = 1"
SWEEP = 'notebook = "train.ipynb"\n\n[grid]\nx = [1, 2]\n'


@pytest.fixture(scope="module", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with light_kernels(tmp_path_factory.mktemp("kernels")):
        yield


@pytest.fixture
def new_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], SweepPanel]:
    """Make a panel for a notebook with the parameter x and this cell."""
    monkeypatch.chdir(tmp_path)

    def new(source: str) -> SweepPanel:
        write_notebook(tmp_path / "train.ipynb", source, parameters=PARAMETERS)
        (tmp_path / "sweep.toml").write_text(SWEEP)
        return SweepPanel("sweep.toml", out="runs/first", jobs=1)

    return new


def shown(panel: SweepPanel) -> tuple[str, str, str]:
    """The name of the button, the sentence beside it, and the runs."""
    _, (button, _, status), runs = (getattr(w, "children", w) for w in panel.widget.children)
    return button.description, html.unescape(status.value), runs.value


def test_sweep_is_started_shown_and_kept(
    new_panel: Callable[[str], SweepPanel], monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: list[str] = []

    def show_widget(widget: Any, text: str, first: str) -> Any:
        stored.append(first)
        return stored.append

    monkeypatch.setattr(panel, "show_widget", show_widget)
    sweep_panel = new_panel("import dltlab\ndltlab.record('<b>', x)")
    sweep_panel.show()
    assert shown(sweep_panel)[0] == "Start"
    assert "Press Start." in shown(sweep_panel)[1]

    sweep_panel.start()
    result = sweep_panel.wait()

    assert result.counts == {Status.DONE: 2}
    name, sentence, runs = shown(sweep_panel)
    assert name == "Start"
    assert "2 of 2 runs ended." in sentence
    assert "&lt;b&gt;" in runs
    assert "<b>" not in runs
    assert "<table" not in stored[0]
    assert runs in stored[-1]

    sweep_panel.start()
    assert {record.state.attempt for record in sweep_panel.wait().records} == {1}


def test_stop_ends_the_sweep(new_panel: Callable[[str], SweepPanel]) -> None:
    panel = new_panel("import time; time.sleep(3600)")
    panel.start()
    wait_until(lambda: any(r.state.status is Status.RUNNING for r in panel.result.records))
    wait_until(lambda: shown(panel)[0] == "Stop")

    panel.stop()

    assert not {Status.RUNNING, Status.DONE} & panel.wait().counts.keys()
    assert shown(panel)[0] == "Start"
    assert not any(folder.is_locked() for folder in run_folders(Path("runs/first")))


def test_sweep_that_is_not_valid_is_reported(new_panel: Callable[[str], SweepPanel]) -> None:
    panel = new_panel("pass")
    Path("sweep.toml").write_text(SWEEP.replace("x =", "y ="))

    panel.start()
    panel.wait()

    assert "sweep.toml" in shown(panel)[1]
    assert "'y'" in shown(panel)[1]


def test_file_that_is_missing_is_named() -> None:
    with pytest.raises(NotFound, match=r"There is no file none\.toml"):
        SweepPanel("none.toml")


def test_without_a_front_end_the_runs_are_printed(
    new_panel: Callable[[str], SweepPanel], capsys: pytest.CaptureFixture[str]
) -> None:
    new_panel("pass").show()
    assert capsys.readouterr().out == f"0 runs in {Path('runs/first')}.\n"
