import csv
import json
import zipfile

import nbformat
import pytest

from dltlab.errors import Invalid, NotFound
from dltlab.exercises import Outcome
from dltlab.workshop.board.store import BoardStore, CheckedAnswer
from dltlab.workshop.export import export_workshop, safe_cell
from dltlab.workshop.hand_in import store
from dltlab.workshop.roster import Person, enroll

pytestmark = pytest.mark.filterwarnings("ignore")  # of nbgrader's import

LAB = "01_first_network"


@pytest.fixture
def workshop(folder):
    people = [Person("=HYPERLINK(1)", "eve@example.org"), Person("Ada", group="B")]
    enroll(folder, people, [Person("Grace")])
    board = BoardStore(folder.board_database)
    board.record("learner01", [CheckedAnswer(LAB, "softmax", Outcome.NOT_YET, "wrong", 5.0, 0)])
    board.record("learner01", [CheckedAnswer(LAB, "softmax", Outcome.PASSED, "", 9.0, 1)])
    board.close()
    code = nbformat.v4.new_code_cell("def softmax(z):\n    ...\n\n\nex.softmax.check(softmax)")
    notebook = nbformat.v4.new_notebook(cells=[code])
    store(folder.handed_in, "learner02", LAB, nbformat.writes(notebook).encode())
    return folder


def rows_of(text):
    return list(csv.DictReader(text.lstrip("\ufeff").splitlines()))


def test_an_export_has_results_a_zip_for_each_learner_and_a_course_of_nbgrader(workshop, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.csv").write_text("of an older export")

    export = export_workshop(workshop, out)

    rows = rows_of((out / "results.csv").read_text(encoding="utf-8"))
    assert [(row["account"], row["exercise"], row["outcome"]) for row in rows] == [
        ("learner01", "softmax", "passed"),
        ("learner02", "", ""),
    ]
    assert rows[0]["name"] == "'=HYPERLINK(1)"
    assert rows[0]["attempts"] == "2"
    assert rows[1]["handed_in"]
    assert (export.learners, export.results, export.notes) == (2, 2, ())
    assert (out / "gradebook.db").stat().st_size
    submitted = out / "nbgrader" / "submitted" / "learner02" / LAB
    assert "grade-softmax" in (submitted / f"{LAB}.ipynb").read_text()
    assert (submitted / "timestamp.txt").read_text().endswith(" UTC")
    with zipfile.ZipFile(out / "learners" / "learner02.zip") as archive:
        assert f"handed-in/{LAB}.ipynb" in archive.namelist()
        told = json.loads(archive.read("receipts.json"))
        assert told["member"]["name"] == "Ada"
        assert [receipt["lab"] for receipt in told["receipts"]] == [LAB]
        text = archive.read("results.csv").decode()
    assert {row["account"] for row in rows_of(text)} == {"learner02"}


def test_another_folder_is_never_replaced(workshop, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")

    with pytest.raises(Invalid, match="is not an export"):
        export_workshop(workshop, tmp_path / "other")
    assert (tmp_path / "other" / "thesis.txt").exists()


def test_a_workshop_without_learners_cannot_be_exported(folder, tmp_path):
    with pytest.raises(NotFound, match="has no learners yet"):
        export_workshop(folder, tmp_path / "out")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "  =1", "\n=1"])
def test_a_cell_is_no_formula(text):
    assert safe_cell(text) == f"'{text}"
    assert safe_cell(f"a{text}") == f"a{text}"


def test_only_the_learners_own_files_are_read(namespace):
    code = """
import pwd, subprocess, tempfile, warnings, zipfile
from pathlib import Path
warnings.simplefilter("ignore")
from dltlab.workshop.accounts import create_account
from dltlab.workshop.export import export_workshop
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.roster import Person, enroll

account = create_account("learner01", "test")
work = Path(account.pw_dir) / "dltlab"
script = (
    "cd ~learner01; mkdir -p dltlab/sub dltlab/runs; cd dltlab; echo 1 > mine.ipynb; "
    "echo 2 > sub/mine.txt; ln -s /etc/shadow shadow.txt; ln -s /etc etc; mkfifo fifo.txt; "
    "echo 3 > .hidden; echo 4 > runs/x"
)
user = ["setpriv", "--reuid=learner01", "--regid=learner01", "--clear-groups"]
subprocess.run([*user, "sh", "-ec", script], check=True)
(work / "of_root.txt").write_text("root")
(work / "linked.txt").hardlink_to(work / "mine.ipynb")
with tempfile.TemporaryDirectory() as name:
    folder = WorkshopFolder(Path(name) / "class")
    folder.path.mkdir()
    folder.create()
    enroll(folder, [Person("Ada")], [])
    export_workshop(folder, Path(name) / "out")
    with zipfile.ZipFile(Path(name) / "out" / "learners" / "learner01.zip") as archive:
        print(sorted(n for n in archive.namelist() if n.startswith("work/")))
"""
    assert namespace.python(code) == "['work/sub/mine.txt']"
