from contextlib import closing

import nbformat
import pytest
from jupyterhub import orm

from dltlab.errors import NotFound
from dltlab.exercises import Outcome
from dltlab.workshop.board.store import BoardStore, CheckedAnswer
from dltlab.workshop.codes import CodeBook
from dltlab.workshop.erase import ERASED, erase
from dltlab.workshop.hand_in import last_receipts, store
from dltlab.workshop.roster import Person, enroll, read_members

LAB = "01_first_network"


@pytest.fixture
def workshop(folder):
    enroll(folder, [Person("Ada Lovelace", "ada@example.org"), Person("Eve")], [])
    notebook = nbformat.writes(nbformat.v4.new_notebook()).encode()
    with closing(BoardStore(folder.board_database)) as board:
        for account in ("learner01", "learner02"):
            answer = CheckedAnswer(LAB, "softmax", Outcome.NOT_YET, f"secret of {account}", 5.0)
            board.record(account, [answer])
            store(folder.handed_in, account, LAB, notebook)
    with closing(orm.new_session_factory(f"sqlite:///{folder.hub_database}")()) as hub:
        for account in ("learner01", "learner02", "left"):
            client = orm.OAuthClient(identifier=f"jupyterhub-user-{account}")
            server = orm.Server(base_url=f"/user/{account}/")
            user = orm.User(name=account)
            hub.add(user)
            hub.add(orm.Spawner(name="", user=user, server=server, oauth_client=client))
            token = f"token-of-{account}"
            hub.add(orm.APIToken(user=user, token=token, note=token, oauth_client=client))
        hub.commit()
        hub.delete(hub.query(orm.User).filter_by(name="left").one())  # whose pages become free
        hub.commit()
    certificates = folder.path / "certificates"
    certificates.mkdir()
    (certificates / "learner01.pdf").write_text("Ada Lovelace")
    return folder


def everything(folder):
    return b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())


def test_nothing_of_an_erased_learner_is_left_and_all_of_the_others(workshop):
    codes = CodeBook(workshop).issue(["learner01", "learner02"])
    workshop.roster_file.write_text("name\nEve\n")

    assert erase(workshop, ["learner01"]) == ["learner01"]

    content = everything(workshop)
    assert b"Lovelace" not in content
    assert b"ada@example.org" not in content
    assert b"secret of learner01" not in content
    assert b"secret of learner02" in content
    assert CodeBook(workshop).account_of(codes["learner01"]) is None
    assert CodeBook(workshop).account_of(codes["learner02"]) == "learner02"
    assert not list(last_receipts(workshop.handed_in, "learner01"))
    assert list(last_receipts(workshop.handed_in, "learner02"))
    hub = workshop.hub_database.read_bytes()
    assert b"learner01" not in hub
    assert b"user/left" not in hub
    for row in (b"jupyterhub-user-learner02", b"/user/learner02/", b"token-of-learner02"):
        assert row in hub


def test_nobody_else_gets_the_account_of_an_erased_learner(workshop):
    erase(workshop, ["learner01"])
    members = enroll(workshop, [Person("Ada Lovelace"), Person("Eve")], [])

    assert [(m.account, m.name) for m in members if m.enrolled] == [
        ("learner02", "Eve"),
        ("learner03", "Ada Lovelace"),
    ]
    assert members[0].name == ERASED


def test_without_names_all_are_erased(workshop):
    assert erase(workshop, []) == ["learner01", "learner02"]
    assert {member.name for member in read_members(workshop)} == {ERASED}
    assert erase(workshop, []) == []


def test_an_unknown_account_erases_nothing(workshop):
    before = everything(workshop)

    with pytest.raises(NotFound, match="Nobody has the account learner99"):
        erase(workshop, ["learner01", "learner99"])
    assert everything(workshop) == before
