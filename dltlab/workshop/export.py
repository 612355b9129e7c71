"""What is taken home from a workshop: a zip for each learner, and results for the instructor."""

import csv
import io
import json
import os
import pwd
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import nbformat

from dltlab.course import Course, Lab
from dltlab.errors import Invalid, NotFound, Unavailable
from dltlab.files import atomic_folder
from dltlab.workshop.board.store import BoardStore, ExerciseResult
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.gradebook import with_grading_cells, write_course, write_gradebook
from dltlab.workshop.hand_in import Receipt, last_receipts
from dltlab.workshop.roster import Member, read_members
from dltlab.workshop.settings import read_settings

LARGEST_FILE_MB = 100  # of a learner's work folder; larger ones stay there
_WORK = "dltlab"  # the folder of a learner's work, in the home folder
_SKIPPED_FOLDERS = {"runs", "__pycache__"}  # what a lab makes anew
_COLUMNS = (
    *("account", "name", "email", "group", "lab", "exercise"),
    *("outcome", "attempts", "last_checked", "handed_in"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a cell begins that a spreadsheet executes


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        folder: Where.
        learners: The number of zips.
        results: The number of lines of `results.csv`.
        notes: What was left out, a sentence each.
    """

    folder: Path
    learners: int
    results: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.folder}: {self.learners} learners, {self.results} results."
        return " ".join([text, *self.notes])


def export_workshop(workshop: WorkshopFolder, out: Path) -> Export:
    """Write a folder with everything to take home; an older export there is replaced.

    `learners/ACCOUNT.zip` holds what the learner handed in, the notebooks and files of the work
    folder, and the results. `results.csv` is for a spreadsheet, `gradebook.db` for nbgrader, and
    `nbgrader/` is a course of nbgrader with what was handed in, so that it can be graded anew.

    Raises:
        NotFound: The workshop has no members yet.
        Invalid: `out` exists and is not an export.
        Unavailable: A file cannot be written. An older export stays.
    """
    members = [member for member in read_members(workshop) if not member.instructor]
    if not members:
        raise NotFound(f"{workshop.path} has no learners yet: nothing can be exported.")
    course = Course.find()
    labs = course.read(read_settings(workshop).content.lab_names(course))
    results = _results(workshop)
    receipts = {
        member.account: list(last_receipts(workshop.handed_in, member.account))
        for member in members
    }
    notes: list[str] = []
    _require_export(out)
    with atomic_folder(out) as new:
        rows = list(_rows(members, results, receipts))
        (new / "results.csv").write_text(_csv(rows), encoding="utf-8-sig", newline="")
        for member in members:
            own_rows = [row for row in rows if row[0] == member.account]
            path = new / "learners" / f"{member.account}.zip"
            notes += _write_zip(path, member, receipts[member.account], _csv(own_rows))
        write_course(new / "nbgrader", labs, course.labs)
        labs_by_name = {lab.name: lab for lab in labs}
        for receipt in (receipt for one in receipts.values() for receipt in one):
            if receipt.lab in labs_by_name:
                _submit(new / "nbgrader" / "submitted", receipt, labs_by_name[receipt.lab])
        try:
            _write_gradebook(new / "gradebook.db", labs, members, results, receipts)
        except Unavailable as error:
            notes.append(f"There is no gradebook. {error}")
    return Export(out, len(members), len(rows), tuple(notes))


def safe_cell(text: object) -> str:
    """Return a text that a spreadsheet does not take for a formula."""
    cell = str(text)
    return f"'{cell}" if cell.lstrip(" \n").startswith(_FORMULA) else cell


def _require_export(out: Path) -> None:
    if out.exists() and not (out / "results.csv").is_file() and any(out.iterdir()):
        raise Invalid(f"{out} exists and is not an export: choose another folder.")


def _results(workshop: WorkshopFolder) -> list[ExerciseResult]:
    if not workshop.board_database.exists():
        return []
    store = BoardStore(workshop.board_database)
    try:
        return store.outcomes()
    finally:
        store.close()


def _rows(
    members: Sequence[Member],
    results: Sequence[ExerciseResult],
    receipts: dict[str, list[Receipt]],
) -> Iterator[tuple[object, ...]]:
    for member in members:
        times = {receipt.lab: receipt.time for receipt in receipts[member.account]}
        person = (member.account, member.name, member.email, member.group)
        own = [one for one in results if one.account == member.account]
        for one in own:
            last = datetime.fromtimestamp(one.last, UTC)
            yield (
                *(*person, one.lab, one.exercise, one.outcome.value, one.attempts),
                *(last.isoformat(timespec="seconds"), _time(times.get(one.lab))),
            )
        for lab in sorted(times.keys() - {one.lab for one in own}):
            yield (*person, lab, "", "", "", "", _time(times[lab]))


def _time(time: datetime | None) -> str:
    return time.isoformat(timespec="seconds") if time else ""


def _csv(rows: Sequence[tuple[object, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows([safe_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def _write_zip(
    path: Path, member: Member, receipts: Sequence[Receipt], results: str
) -> Iterator[str]:
    """Write a learner's zip; yield a sentence for each file that is left out."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("results.csv", "\ufeff" + results)
        told = [receipt.as_dict() for receipt in receipts]
        about = {"member": asdict(member), "receipts": told}
        archive.writestr("receipts.json", json.dumps(about, indent=1, ensure_ascii=False))
        for receipt in receipts:
            archive.write(receipt.path, f"handed-in/{receipt.lab}.ipynb")
        with suppress(KeyError):  # the account is on another machine, or gone
            account = pwd.getpwnam(member.account)
            for name, content in _own_files(Path(account.pw_dir) / _WORK, account.pw_uid):
                if content is None:
                    yield f"{member.account}: {name} is larger than {LARGEST_FILE_MB} MB."
                else:
                    archive.writestr(f"work/{name}", content)


def _own_files(folder: Path, uid: int) -> Iterator[tuple[str, bytes | None]]:
    """Yield the files in a learner's folder with their content, or None where that is too large.

    The learner may change the folder meanwhile: links are never followed, and what belongs to
    another account is never read.
    """
    for place, folders, names, handle in os.fwalk(folder, follow_symlinks=False):
        folders[:] = [n for n in folders if not n.startswith(".") and n not in _SKIPPED_FOLDERS]
        if os.fstat(handle).st_uid != uid:
            continue
        for name in sorted(names):
            if not name.startswith("."):
                with suppress(OSError):
                    content = _read_own(name, handle, uid)
                    if content != b"":
                        yield str(Path(place, name).relative_to(folder)), content


def _read_own(name: str, folder: int, uid: int) -> bytes | None:
    """Return the content of a regular file of the account; empty for anything else."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != uid or status.st_nlink > 1:
            return b""
        content = file.read(LARGEST_FILE_MB * 1_000_000 + 1)
    return content if len(content) <= LARGEST_FILE_MB * 1_000_000 else None


def _submit(folder: Path, receipt: Receipt, lab: Lab) -> None:
    """Write what was handed in as nbgrader expects it, with the cells that grade it."""
    path = folder / receipt.account / receipt.lab / f"{receipt.lab}.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(with_grading_cells(nbformat.read(receipt.path, 4), lab), path)
    (path.parent / "timestamp.txt").write_text(f"{receipt.time:%Y-%m-%d %H:%M:%S.%f} UTC")


def _write_gradebook(
    path: Path,
    labs: Sequence[Lab],
    members: Sequence[Member],
    results: Sequence[ExerciseResult],
    receipts: dict[str, list[Receipt]],
) -> None:
    times = {(one.account, one.lab): one.time for own in receipts.values() for one in own}
    write_gradebook(path, labs, members, results, times)
