"""The roster: who takes part, and which account each person has."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.files import lock_folder, write_atomically
from dltlab.paths import short_path
from dltlab.workshop.folder import WorkshopFolder

COLUMNS = ("name", "email", "group")
_ACCOUNT_COLUMN = "account"  # where people do not sign in with cards
ACCOUNT = re.compile(r"[a-z_][a-z0-9_.-]{0,63}", re.ASCII)  # a name in the Hub
_MAX_LENGTH = 200
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
# These reorder the text around them: a name with one could look like another on the board.
_REORDERING = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Person:
    """A line of the roster; `account` is empty where the workshop gives accounts."""

    name: str
    email: str = ""
    group: str = ""
    account: str = ""


@dataclass(frozen=True)
class Member:
    """A person and their account, which is their name in the Hub and in the system.

    Attributes:
        account: Such as learner01; it is never given to another person.
        name: As in the roster.
        email: Empty if unknown.
        group: Empty if unknown.
        instructor: Whether the person is an instructor.
        enrolled: Whether the person is on the roster now.
    """

    account: str
    name: str
    email: str = ""
    group: str = ""
    instructor: bool = False
    enrolled: bool = True


def read_roster(path: Path, own_accounts: bool = False) -> list[Person]:
    """Read and validate a roster: CSV with the columns name, email and group.

    The columns may be in any order; email and group may be missing. Commas, semicolons or tabs
    separate them.

    Args:
        path: The file.
        own_accounts: Whether people sign in with names of their own. These are in another column,
            account; where it is empty, the name is the account.

    Raises:
        Invalid: Lines are not valid; the message has a sentence for each, with the file and line.
        NotFound: There is no such file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"There is no roster {short_path(path)}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            f"{short_path(path)} cannot be read ({error}); save it as CSV in UTF-8."
        ) from error
    people: dict[int, Person] = {}
    faults: list[tuple[int, str]] = []
    for line, person, fault in _lines(path, text, own_accounts):
        if fault or person is None:
            faults.append((line, fault))
        else:
            people[line] = person
    faults += _duplicates(people)
    if faults:
        places = (f"{short_path(path)}:{line}: {fault}" for line, fault in sorted(faults))
        raise Invalid("\n".join(places))
    if not people:
        raise Invalid(f"{short_path(path)}:2: The roster has no people. Add a line for each.")
    return list(people.values())


def enroll(
    folder: WorkshopFolder, people: list[Person], instructors: list[Person], prefix: str = ""
) -> list[Member]:
    """Give each person an account, remember it, and return all members, former ones included.

    A person without an account of their own is known by the e-mail address, or by the name where an
    address is missing; so a roster may be sorted and extended. Nobody gets an account that another
    person had.

    Args:
        folder: Of the workshop; its folder `state` exists.
        people: The roster.
        instructors: The instructors.
        prefix: Of the names of new accounts.

    Raises:
        Invalid: An instructor's account is not valid, or is on the roster, too.
    """
    own = [person.account for person in instructors if person.account]
    if fault := next(filter(None, map(_account_fault, own)), ""):
        raise Invalid(f"The instructors in the settings: {fault}")
    with lock_folder(folder.state):
        known = read_members(folder)
        before = {member.account: member for member in known}
        after: dict[str, Member] = {}
        for person, instructor in [
            *((person, True) for person in instructors),
            *((person, False) for person in people),
        ]:
            kind = "instructor" if instructor else "learner"
            free = [member for member in before.values() if member.account not in after]
            same = (member.account for member in free if _is_same(member, person, instructor))
            account = (
                person.account
                or next(same, None)
                or _next_account(prefix + kind, [*before, *after])
            )
            if account in after:
                raise Invalid(f"{account} is an instructor and on the roster, too. Remove one.")
            after[account] = Member(**asdict(person) | {"account": account}, instructor=instructor)
        former = [replace(m, enrolled=False) for m in known if m.account not in after]
        members = sorted([*after.values(), *former], key=lambda member: member.account)
        if members != known:
            content = json.dumps([asdict(member) for member in members], indent=1)
            write_atomically(folder.accounts_file, content + "\n")
    return members


def read_members(folder: WorkshopFolder) -> list[Member]:
    """Return the members of a workshop as `enroll` remembered them; empty before.

    Raises:
        Damaged: The file cannot be read.
    """
    try:
        return [Member(**values) for values in json.loads(folder.accounts_file.read_bytes())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise Damaged(
            f"{short_path(folder.accounts_file)} cannot be read ({error}). Restore it from a copy: "
            "it says who has which account."
        ) from error


def _lines(path: Path, text: str, own_accounts: bool) -> Iterator[tuple[int, Person | None, str]]:
    """Yield the number of each line that is not empty, and its person or its fault."""
    known = (*COLUMNS, _ACCOUNT_COLUMN) if own_accounts else COLUMNS
    header = text.partition("\n")[0].strip()
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    columns = [column.strip().lower() for column in next(reader, [])]
    if "name" not in columns or len(set(columns)) < len(columns) or set(columns) - {*known}:
        raise Invalid(
            f"{short_path(path)}:1: The first line must name the columns: {','.join(known)}. "
            "Only name is required."
        )
    while True:
        line = reader.line_num + 1
        try:
            cells = [" ".join(cell.split()) for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            yield line, None, f"Not CSV: {error}."
            return
        if not any(cells):
            continue
        if len(cells) > len(columns):
            fault = f"There are {len(cells)} values for {len(columns)} columns. Quote the commas."
            yield line, None, fault
            continue
        person = Person(**dict(zip(columns, cells, strict=False)))
        fault = _fault(person)
        if own_accounts and not fault:
            person = replace(person, account=person.account or person.name)
            if fault := _account_fault(person.account):
                fault += f" Give that name in the column {_ACCOUNT_COLUMN}."
        yield line, person, fault


def _fault(person: Person) -> str:
    """Return what is wrong with a person, or an empty string."""
    if not person.name:
        return "The name is missing."
    for column, value in asdict(person).items():
        if len(value) > _MAX_LENGTH:
            return f"The {column} has {len(value)} characters; at most {_MAX_LENGTH} are allowed."
        if _REORDERING.search(value) or any(unicodedata.category(c) == "Cc" for c in value):
            return f"The {column} contains a control character. Type it anew."
    if person.email and not _EMAIL.fullmatch(person.email):
        return f"'{person.email}' is not an e-mail address. Correct it or leave it out."
    return ""


def _account_fault(account: str) -> str:
    """Return what is wrong with a name that a person signs in with, or an empty string."""
    if ACCOUNT.fullmatch(account):
        return ""
    return (
        f"'{account}' is not a name to sign in with, which has up to 64 lowercase letters, digits, "
        "dots, hyphens and underscores."
    )


def _duplicates(people: dict[int, Person]) -> Iterator[tuple[int, str]]:
    """Yield the lines of people who cannot be told from an earlier one."""
    emails: dict[str, int] = {}
    names: dict[str, int] = {}
    accounts: dict[str, int] = {}
    for line, person in people.items():
        if person.account:
            if person.account in accounts:
                other = accounts[person.account]
                yield line, f"The account {person.account} is in line {other}, too."
            accounts.setdefault(person.account, line)
            continue
        email, name = person.email.casefold(), _plain(person.name)
        if email in emails:
            yield line, f"The e-mail address {person.email} is in line {emails[email]}, too."
        elif name in names and not (email and people[names[name]].email):
            yield (
                line,
                (
                    f"The name {person.name} is in line {names[name]}, too. Remove a line, or give "
                    "both an e-mail address."
                ),
            )
        if email:
            emails.setdefault(email, line)
        names.setdefault(name, line)


def _is_same(member: Member, person: Person, instructor: bool) -> bool:
    if member.instructor != instructor:
        return False
    if member.email and person.email:
        return member.email.casefold() == person.email.casefold()
    return _plain(member.name) == _plain(person.name)


def _next_account(kind: str, taken: list[str]) -> str:
    ends = [account.removeprefix(kind) for account in taken if account.startswith(kind)]
    numbers = [int(end) for end in ends if end.isdecimal()]  # not of accounts of people's own
    return f"{kind}{max(numbers, default=0) + 1:02d}"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
