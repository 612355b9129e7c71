"""Erase what a workshop has recorded of one learner, or of all."""

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from dltlab.errors import NotFound, Unavailable
from dltlab.files import cannot_write, lock_folder, write_atomically
from dltlab.workshop.accounts import remove_account
from dltlab.workshop.board.store import BoardStore
from dltlab.workshop.codes import CodeBook
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.members import has_accounts
from dltlab.workshop.roster import read_members
from dltlab.workshop.settings import read_settings
from dltlab.workshop.supervisor import is_running

_SPAWNERS = "from spawners join users on users.id = spawners.user_id where users.name = ?"
_DELETE_USER = (  # a Hub that was killed leaves the rows of servers that ran
    f"delete from servers where id in (select server_id {_SPAWNERS})",  # noqa: S608 - a constant
    f"delete from oauth_clients where identifier in (select oauth_client_id {_SPAWNERS})",  # noqa: S608
    "delete from users where name = ?",  # and by cascades, what belongs to the user
)
ERASED = "(erased)"  # the name of who was erased: nobody else ever gets the account


def erase(workshop: WorkshopFolder, accounts: list[str]) -> list[str]:
    """Erase learners: account, home, codes, results, hand-ins, certificates, name and e-mail.

    Accounts that the system had before, where people sign in with PAM, stay. The roster is a file
    of the instructor's and stays as it is, as do cards and exports.

    Args:
        workshop: It must not be running.
        accounts: Those to erase; empty for all members.

    Returns:
        The accounts that were erased.

    Raises:
        NotFound: Nobody has such an account; nothing is erased.
        Unavailable: The workshop is running, or something cannot be erased.
    """
    if is_running(workshop):
        raise Unavailable("The workshop is running. Stop it first: dltlab workshop stop")
    known = [member.account for member in read_members(workshop) if member.name != ERASED]
    for account in accounts:
        if account not in known:
            raise NotFound(f"Nobody has the account {account}. There are: {', '.join(known)}.")
    erased = accounts or known
    for account in erased:
        _erase(workshop, account)
    return erased


def _erase(workshop: WorkshopFolder, account: str) -> None:
    """Erase one account; the name goes last, so that an interrupted erasure can be repeated."""
    settings = read_settings(workshop).content
    if has_accounts(settings) and not settings.sign_in.is_by_system:
        remove_account(account, workshop.runtime.name)
    CodeBook(workshop).forget(account)
    if workshop.board_database.exists():
        with closing(BoardStore(workshop.board_database)) as board:
            board.erase(account)
    if workshop.hub_database.exists():
        _erase_user(workshop.hub_database, account)
    try:
        if (folder := workshop.handed_in / account).exists():
            shutil.rmtree(folder)
        (workshop.path / "certificates" / f"{account}.pdf").unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(Path(error.filename or workshop.handed_in), error) from error
    with lock_folder(workshop.state):
        members = [
            replace(member, name=ERASED, email="", group="", enrolled=False)
            if member.account == account
            else member
            for member in read_members(workshop)
        ]
        content = json.dumps([asdict(member) for member in members], indent=1)
        write_atomically(workshop.accounts_file, content + "\n")


def _erase_user(database: Path, account: str) -> None:
    """Delete a user from the Hub's database, with tokens and servers, also from free pages."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            with connection:
                connection.execute("pragma foreign_keys = on")
                for command in _DELETE_USER:
                    connection.execute(command, (account,))
            connection.execute("vacuum")
    except sqlite3.Error as error:
        raise Unavailable(f"{account} cannot be erased from {database} ({error}).") from error
