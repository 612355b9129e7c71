"""What each person on the roster gets: an account, a code, a card."""

import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from dltlab.errors import Invalid, NotFound, Unavailable
from dltlab.workshop.accounts import create_account, require_account
from dltlab.workshop.cards import sign_in_link, write_cards
from dltlab.workshop.codes import CodeBook
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.limits import LearnerLimits
from dltlab.workshop.loopback import join_loopback, separate_loopback
from dltlab.workshop.roster import Member, Person, enroll, read_members, read_roster
from dltlab.workshop.settings import Settings, read_settings


def has_accounts(settings: Settings) -> bool:
    """Return whether each member gets a system account."""
    return settings.servers.spawner == "accounts" and os.geteuid() == 0


def enroll_members(folder: WorkshopFolder, settings: Settings) -> tuple[list[Member], Path | None]:
    """Give everybody on the roster an account and a code.

    Returns:
        All members, and the file with the cards for new codes, if there are any.

    Raises:
        Invalid: The roster is not valid, or an account exists that the workshop did not make.
        Unavailable: The system cannot make accounts.
    """
    members = _enroll(folder, settings)
    active = [member for member in members if member.enrolled]
    if has_accounts(settings):
        for member in active:
            if settings.sign_in.is_by_system:
                require_account(member.account)
            else:
                create_account(member.account, folder.runtime.name)
    if settings.sign_in.own_accounts:
        return members, None
    codes = CodeBook(folder).issue(member.account for member in active)
    return members, print_cards(folder, settings, members, codes) if codes else None


def separate_members(
    folder: WorkshopFolder, settings: Settings, members: Sequence[Member]
) -> list[str]:
    """Limit what each learner uses, and keep learners from the ports of others.

    Returns:
        A sentence for each thing that this system does not allow.
    """
    if not has_accounts(settings):
        return []
    accounts = [pwd.getpwnam(member.account) for member in members if member.enrolled]
    notes = LearnerLimits(settings.limits, folder.runtime.name).set_up(accounts)
    note = separate_loopback([account.pw_uid for account in accounts], folder.runtime.name)
    return [*notes, *([note] if note else [])]


def undo_separation(folder: WorkshopFolder, settings: Settings) -> None:
    """Remove what `separate_members` has set in the system."""
    if has_accounts(settings):
        LearnerLimits(settings.limits, folder.runtime.name).tear_down()
        join_loopback(folder.runtime.name)


def make_cards(folder: WorkshopFolder, renewed: Sequence[str]) -> Path | None:
    """Write the cards of those who have no code yet, and of those who get a new one.

    Args:
        folder: Of the workshop.
        renewed: Accounts that get a new code; "all" means everybody.

    Returns:
        The file, or None if there are no new codes.

    Raises:
        Invalid: The roster is not valid, or nobody signs in with a card.
        NotFound: Nobody has such an account.
    """
    settings = _settings_with_cards(folder)
    folder.create()
    members = _enroll(folder, settings)
    accounts = [member.account for member in members if member.enrolled]
    for account in renewed:
        if account not in (*accounts, "all"):
            raise NotFound(f"Nobody has the account {account}. There are: {', '.join(accounts)}.")
    book = CodeBook(folder)
    codes = book.issue(accounts)
    codes |= book.renew(accounts if "all" in renewed else renewed)
    return print_cards(folder, settings, members, codes) if codes else None


def make_link(folder: WorkshopFolder, account: str) -> str:
    """Return a link with which a person signs in once, within a day.

    Raises:
        Invalid: Nobody signs in with a card.
        NotFound: Nobody has such an account.
    """
    settings = _settings_with_cards(folder)
    members = read_members(folder)
    if not any(member.account == account and member.enrolled for member in members):
        raise NotFound(
            f"Nobody has the account {account} yet; make the accounts with: dltlab workshop cards"
        )
    return sign_in_link(settings.url, CodeBook(folder).link(account))


def _settings_with_cards(folder: WorkshopFolder) -> Settings:
    """Return the settings of a workshop in which people sign in with cards.

    Raises:
        Invalid: They sign in with another authenticator.
    """
    settings = read_settings(folder).content
    if settings.sign_in.own_accounts:
        name = settings.sign_in.authenticator
        raise Invalid(
            f"People sign in with the authenticator '{name}', which knows no cards: set "
            'authenticator = "cards" under [sign_in] to use them.'
        )
    return settings


def print_cards(
    folder: WorkshopFolder, settings: Settings, members: list[Member], codes: dict[str, str]
) -> Path:
    """Write the cards with new codes to a new file, and return its path."""
    path, number = folder.path / "cards.html", 2
    while path.exists():
        path = path.with_name(f"cards-{number}.html")
        number += 1
    write_cards(path, settings.title, settings.url, members, codes)
    return path


def require_separation(settings: Settings, members: list[Member], shared_account: bool) -> None:
    """Raise unless each learner has an account, or the instructor does without.

    Raises:
        Unavailable: Several learners would share an account.
    """
    learners = [member for member in members if member.enrolled and not member.instructor]
    separate = has_accounts(settings) or settings.servers.spawner != "accounts"
    if not separate and len(learners) > 1 and not shared_account:
        raise Unavailable(
            f"{len(learners)} learners would share one account, and could read and change each "
            "other's files: accounts of their own need root. Run the command as root, or name "
            "another spawner in workshop.toml, or accept it with --let-learners-share-one-account."
        )


def _enroll(folder: WorkshopFolder, settings: Settings) -> list[Member]:
    own_accounts = settings.sign_in.own_accounts
    people = read_roster(folder.roster_file, own_accounts)
    instructors = [
        Person(name, account=name if own_accounts else "") for name in settings.instructors
    ]
    return enroll(folder, people, instructors, settings.prefix)
