"""Lab 04 with an unusual text of a learner's own, and the network that it saves."""

from pathlib import Path

import nbformat
import papermill

from dltlab.course import Course, learner_notebook
from tests.deadlines import HANG_SECONDS

# It is short, is one line without its end, has no long words, and repeats itself.
TEXT = "we saw a cat, and a dog. " * 8


def test_lab_04_runs_on_a_short_line_of_short_words_and_a_new_process_continues_it(
    tmp_path: Path, cold_kernels
) -> None:
    (lab,) = Course.own().read(["04"])
    nbformat.write(learner_notebook(lab), tmp_path / "learner.ipynb")
    (tmp_path / "mine.txt").write_text(TEXT, encoding="utf-8")
    parameters = {"DATASET": "mine.txt", "UNITS": 8, "STEPS": 2, "WRITTEN": 8}

    executed = papermill.execute_notebook(
        tmp_path / "learner.ipynb",
        tmp_path / "executed.ipynb",
        parameters | {"RUN_CHALLENGE": False},
        cwd=tmp_path,
        progress_bar=False,
        execution_timeout=int(HANG_SECONDS),
    )

    printed = "".join(
        output.get("text", "")
        for cell in executed.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    assert "The same text as in this process: True" in printed
