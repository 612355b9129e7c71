"""What learners have handed in: each notebook as it was sent, with its time and a receipt."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dltlab.errors import Invalid
from dltlab.files import cannot_write, lock_folder, write_atomically

LARGEST_MB = 20
KEPT = 10  # hand-ins of one learner and lab: the newest ones

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_.-]{0,63}", re.ASCII)
_LAB = re.compile(r"[0-9]{2}_[a-z][a-z0-9_]{0,99}", re.ASCII)
_TIME = "%Y%m%dT%H%M%S.%fZ"
# What reading and validating JSON of any content raises, besides nbformat's own error.
_NO_NOTEBOOK = (ValueError, RecursionError, LookupError, AttributeError, TypeError)
_FILE = re.compile(r"(?P<time>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)_(?P<sha256>[0-9a-f]{64})\.ipynb")


@dataclass(frozen=True)
class Receipt:
    """A notebook that was handed in.

    Attributes:
        account: The learner's account, as in "learner01".
        lab: Name of the lab, as in "01_first_network".
        time: When it was received, in UTC.
        sha256: Hash of the notebook's bytes.
        path: The file that holds these bytes.
    """

    account: str
    lab: str
    time: datetime
    sha256: str
    path: Path

    @property
    def number(self) -> str:
        """The receipt's number: the first digits of the hash."""
        return f"{self.sha256[:4]}-{self.sha256[4:8]}"

    def as_dict(self) -> dict[str, str]:
        """Return what the learner gets, ready for JSON; the file's place stays out of it."""
        return {
            "account": self.account,
            "lab": self.lab,
            "time": self.time.isoformat(timespec="seconds"),
            "number": self.number,
            "sha256": self.sha256,
        }


def store(handed_in: Path, account: str, lab: str, notebook: bytes) -> Receipt:
    """Keep a notebook, and return its receipt.

    The same bytes as in the learner's last hand-in of the lab get the same receipt. The newest
    `KEPT` hand-ins are kept.

    Args:
        handed_in: The folder of a workshop's hand-ins.
        account: The learner's account, as the Hub knows it.
        lab: Name of the lab, as in "01_first_network".
        notebook: The content of the notebook's file.

    Raises:
        Invalid: The account or the lab has no valid name, the notebook is larger than
            `LARGEST_MB`, or it is no notebook. Nothing is kept.
        Unavailable: The folder or the disk cannot be written. Nothing is kept.
    """
    folder = _folder(handed_in, account, lab)
    _require_notebook(lab, notebook)
    sha256 = hashlib.sha256(notebook).hexdigest()
    try:
        with lock_folder(folder):
            earlier = _receipts(folder)
            if earlier and earlier[-1].sha256 == sha256:
                return earlier[-1]
            time = datetime.now(UTC)
            if earlier:  # the last one stays the last, even where the clock was set back
                time = max(time, earlier[-1].time + timedelta(microseconds=1))
            path = folder / f"{time.strftime(_TIME)}_{sha256}.ipynb"
            write_atomically(path, notebook)
            for receipt in earlier[: -KEPT + 1]:
                receipt.path.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from error
    return Receipt(account, lab, time, sha256, path)


def last_receipts(handed_in: Path, account: str) -> Iterator[Receipt]:
    """Yield the learner's last hand-in of each lab, sorted by lab.

    Raises:
        Invalid: The account has no valid name.
    """
    for folder in sorted(_account_folder(handed_in, account).glob("*/")):
        if receipts := _receipts(folder):
            yield receipts[-1]


def _folder(handed_in: Path, account: str, lab: str) -> Path:
    if not _LAB.fullmatch(lab):
        raise Invalid(f"{lab!r} is not the name of a lab, as in '01_first_network'.")
    return _account_folder(handed_in, account) / lab


def _account_folder(handed_in: Path, account: str) -> Path:
    if not _ACCOUNT.fullmatch(account):
        raise Invalid(f"{account!r} is not the name of an account, as in 'learner01'.")
    return handed_in / account


def _require_notebook(lab: str, notebook: bytes) -> None:
    """Raise `Invalid` for what is too large or no notebook."""
    import nbformat

    if len(notebook) > LARGEST_MB * 1_000_000:
        raise Invalid(
            f"The notebook of {lab} has {len(notebook) / 1e6:.0f} MB, more than {LARGEST_MB}. "
            "Clear its outputs (Edit, Clear Outputs of All Cells), save it, and hand it in again."
        )
    try:
        nbformat.validate(json.loads(notebook), version=4)
    except (*_NO_NOTEBOOK, nbformat.ValidationError) as error:
        raise Invalid(
            f"What was handed in for {lab} is not a notebook ({type(error).__name__}). Open the "
            "lab in JupyterLab, save it, and hand it in again."
        ) from error


def _receipts(folder: Path) -> list[Receipt]:
    """Return the receipts of one learner and lab, the oldest first."""
    return [
        Receipt(
            folder.parent.name,
            folder.name,
            datetime.strptime(match["time"], _TIME).replace(tzinfo=UTC),
            match["sha256"],
            path,
        )
        for path in sorted(folder.glob("*.ipynb"))
        if (match := _FILE.fullmatch(path.name))
    ]
