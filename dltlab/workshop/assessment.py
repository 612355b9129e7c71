"""Evaluate the assessment that a learner has handed in, and certify who passes.

What the learner wrote runs only in processes of an account without privileges.
"""

import ast
import json
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltlab.checks import assessment
from dltlab.course import parse_code
from dltlab.errors import NotFound, Unavailable
from dltlab.exercises import Verdict, run_as
from dltlab.workshop.certificate import (
    public_key,
    signing_key,
    task_rows,
    write_certificate,
    write_verify_page,
)
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.hand_in import last_receipts
from dltlab.workshop.roster import Member, read_members
from dltlab.workshop.settings import read_settings

LAB = "18_assessment"
_NOBODY = "nobody"
_DEFINITIONS = (
    *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.Assign, ast.AnnAssign),
)


@dataclass(frozen=True)
class HandedInAnswer:
    """A function of a notebook; it is defined, with what stands above it, where it is called.

    Attributes:
        cells: The code of the notebook's cells, in order.
        name: Of the function.
    """

    cells: tuple[str, ...]
    name: str

    def __call__(self, *arguments: Any) -> Any:
        """Define the function, and call it."""
        namespace: dict[str, Any] = {"__name__": "handed_in"}
        for tree in self._trees():
            for statement in tree.body:
                if isinstance(statement, _DEFINITIONS):
                    with suppress(Exception):  # what only another cell needs
                        exec(_compiled(statement), namespace)  # noqa: S102 - in its own process
        return namespace[self.name](*arguments)

    def _trees(self) -> list[ast.Module]:
        """Return the cells up to the last one that defines the function."""
        trees = []
        for cell in self.cells:
            with suppress(SyntaxError):
                trees.append(parse_code(cell))
        last = max(
            (place for place, tree in enumerate(trees) if self.name in _functions(tree)),
            default=-1,
        )
        return trees[: last + 1]


@dataclass(frozen=True)
class Assessed:
    """The evaluation of what one learner has handed in.

    Attributes:
        account: The learner's account.
        passed: Whether all tasks are passed.
        verdicts: Of each task.
        certificate: The file; None for those who did not pass.
    """

    account: str
    passed: bool
    verdicts: tuple[Verdict, ...]
    certificate: Path | None


def assess(workshop: WorkshopFolder, account: str) -> Assessed:
    """Evaluate a learner's last hand-in of the assessment; write a certificate if it is passed.

    The certificate and the page that verifies it are in the folder `certificates` of the workshop.
    Run as root, the answers run as the account nobody; else as the account that runs this.

    Raises:
        NotFound: Nobody has such an account, or it handed in no assessment.
        Unavailable: A certificate cannot be written.
    """
    members = {member.account: member for member in read_members(workshop)}
    if account not in members:
        raise NotFound(f"Nobody has the account {account}.")
    receipts = [one for one in last_receipts(workshop.handed_in, account) if one.lab == LAB]
    if not receipts:
        raise NotFound(f"{account} has not handed in the lab {LAB} yet.")
    cells = _code_cells(receipts[0].path)
    verdicts = _evaluate(cells)
    result = assessment.results()
    certificate = None
    if result.passed and all(verdict.outcome == "passed" for verdict in verdicts):
        certificate = _certify(workshop, members[account], result)
    return Assessed(account, certificate is not None, verdicts, certificate)


def _evaluate(cells: tuple[str, ...]) -> tuple[Verdict, ...]:
    import os

    exercises = [(name, getattr(assessment, name)) for name in assessment.TASKS]
    if os.geteuid() != 0:
        return tuple(one.evaluate(HandedInAnswer(cells, name)) for name, one in exercises)
    try:
        nobody = pwd.getpwnam(_NOBODY)
    except KeyError as error:
        raise Unavailable(f"There is no account {_NOBODY} to evaluate answers with.") from error
    with run_as(nobody):
        return tuple(one.evaluate(HandedInAnswer(cells, name)) for name, one in exercises)


def _certify(workshop: WorkshopFolder, member: Member, result: Any) -> Path:
    key = signing_key(workshop.keys / "certificates.key")
    folder = workshop.path / "certificates"
    path = folder / f"{member.account}.pdf"
    title = read_settings(workshop).content.title
    write_certificate(
        path,
        key,
        name=member.name,
        evaluated=f"by the instructor of the workshop “{title}”",
        tasks=task_rows(result),
        account=member.account,
    )
    write_verify_page(folder, public_key(key))
    return path


def _code_cells(path: Path) -> tuple[str, ...]:
    """Return the code of a notebook's cells."""
    cells = json.loads(path.read_bytes())["cells"]
    sources = (cell["source"] for cell in cells if cell["cell_type"] == "code")
    return tuple("".join(source) for source in sources)


def _functions(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def _compiled(statement: ast.stmt) -> Any:
    return compile(ast.Module([statement], []), "<handed in>", "exec")
