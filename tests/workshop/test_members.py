import os

import pytest

from dltlab.errors import Invalid, NotFound, Unavailable
from dltlab.workshop.codes import CodeBook
from dltlab.workshop.members import (
    enroll_members,
    has_accounts,
    make_cards,
    make_link,
    require_separation,
)
from dltlab.workshop.roster import Member
from dltlab.workshop.settings import Servers, Settings, SignIn

OTHER = Settings(servers=Servers(spawner="simple"))  # no system accounts
MEMBERS = [Member("instructor01", "Ida", instructor=True), Member("learner01", "Ada")]


def test_cards_are_made_for_new_people_only(folder):
    members, cards = enroll_members(folder, OTHER)
    assert [member.account for member in members] == ["instructor01", "learner01", "learner02"]
    assert cards.name == "cards.html"
    assert enroll_members(folder, OTHER)[1] is None

    folder.roster_file.write_text("name\nAda\nEve\nGrace\n")

    new = enroll_members(folder, OTHER)[1]
    assert new.name == "cards-2.html"
    assert "Grace" in new.read_text()
    assert "Ada" not in new.read_text()


def test_with_another_authenticator_the_roster_has_the_accounts_and_there_are_no_cards(folder):
    folder.roster_file.write_text("name\nada\n")
    settings = Settings(
        instructors=["ida"],
        servers=Servers(spawner="simple"),
        sign_in=SignIn(authenticator="dummy"),
    )

    members, cards = enroll_members(folder, settings)
    assert [member.account for member in members] == ["ada", "ida"]
    assert cards is None


def test_accounts_of_the_system_are_not_made(folder, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    folder.roster_file.write_text("name\nnobody-of-this-machine\n")
    settings = Settings(instructors=["root"], sign_in=SignIn(authenticator="pam"))

    with pytest.raises(Invalid, match="There is no account nobody-of-this-machine on this machine"):
        enroll_members(folder, settings)


def test_cards_can_be_made_before_and_again(folder):
    assert make_cards(folder, []).name == "cards.html"
    assert make_cards(folder, []) is None

    page = make_cards(folder, ["learner02"]).read_text()

    assert "Eve" in page
    assert "Ada" not in page
    assert make_cards(folder, ["all"]).read_text().count("<article>") == 3
    with pytest.raises(NotFound, match="Nobody has the account learner09"):
        make_cards(folder, ["learner09"])


def test_there_are_no_cards_or_links_with_another_authenticator(folder):
    folder.settings_file.write_text('[sign_in]\nauthenticator = "dummy"\n')

    with pytest.raises(Invalid, match="the authenticator 'dummy', which knows no cards"):
        make_cards(folder, [])
    with pytest.raises(Invalid, match="the authenticator 'dummy', which knows no cards"):
        make_link(folder, "learner01")
    assert not list(folder.path.glob("cards*.html"))


def test_a_link_is_for_somebody_on_the_roster(folder):
    with pytest.raises(NotFound, match="dltlab workshop cards"):
        make_link(folder, "learner01")
    make_cards(folder, [])

    address, code = make_link(folder, "learner01").split("#")

    assert address == "http://127.0.0.1:8000/hub/login"
    assert CodeBook(folder).account_of(code) == "learner01"


def test_a_roster_that_is_not_valid_changes_nothing(folder):
    folder.roster_file.write_text("name\n\n")

    with pytest.raises(Invalid):
        enroll_members(folder, OTHER)

    assert not folder.accounts_file.exists()


def test_several_learners_in_one_account_must_be_accepted(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    two = [*MEMBERS, Member("learner02", "Eve")]
    left = [*MEMBERS, Member("learner02", "Eve", enrolled=False)]

    assert not has_accounts(Settings())
    require_separation(Settings(), left, shared_account=False)
    require_separation(OTHER, two, shared_account=False)
    require_separation(Settings(), two, shared_account=True)
    with pytest.raises(Unavailable, match="2 learners would share one account"):
        require_separation(Settings(), two, shared_account=False)


def test_root_gives_everybody_an_account(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert has_accounts(Settings())
    assert not has_accounts(OTHER)
