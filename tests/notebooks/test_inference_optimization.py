"""Lab 08 with images of one's own."""

from pathlib import Path

import nbformat
import papermill
import pytest

from dltlab import data
from dltlab.course import Course, notebook_text
from tests.deadlines import HANG_SECONDS
from tests.image_sources import image_files, write_files

LATER_CELLS = ("def optimized(", "engines = {", "test_images, test_labels = ")


@pytest.mark.parametrize("num_classes", [2, 3, 11])
def test_lab_08_runs_on_imported_images_with_any_number_of_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_kernels, num_classes: int
) -> None:
    """The cells that depend on the classes: the training, the engines, and the test at the end."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("DLTLAB_ENGINE_DIR", str(tmp_path / "engines"))
    folders = [f"class number {number}" for number in range(num_classes)]
    data.import_images(write_files(tmp_path / "mine", image_files(*folders)), "mine", size=8)
    (lab,) = Course.own().read(["08"])
    notebook = nbformat.read(Course.own().solutions / f"{lab.name}.ipynb", 4)
    sources = [cell.source for cell in notebook.cells]
    later = [next(n for n, text in enumerate(sources) if part in text) for part in LATER_CELLS]
    first = next(n for n, text in enumerate(sources) if text.startswith("## Without Python"))
    notebook.cells = notebook.cells[:first] + [notebook.cells[number] for number in later]
    notebook.cells[-1].source = f'fastest = engines["float32"]\n{notebook.cells[-1].source}'
    nbformat.write(notebook, tmp_path / "part.ipynb")

    executed = papermill.execute_notebook(
        tmp_path / "part.ipynb",
        tmp_path / "mine.ipynb",
        {**lab.front_matter.profiles.smoke, "DATASET": "mine", "STEPS": 1, "CALLS": 1},
        cwd=tmp_path,
        progress_bar=False,
        execution_timeout=int(HANG_SECONDS),
    )

    text = notebook_text(executed)
    assert folders[-1] in text
    assert f"99 % of it on {num_classes} test images." in text
