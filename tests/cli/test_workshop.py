"""The commands `dltlab workshop …`: what they print and how they end."""

import json

import pytest


@pytest.fixture
def roster(tmp_path, monkeypatch, dltlab):
    """The roster of a new workshop, in an own working folder."""
    monkeypatch.chdir(tmp_path)
    assert dltlab("workshop", "init", "class").code == 0
    return tmp_path / "class" / "roster.csv"


def test_init_says_what_to_do_next(tmp_path, monkeypatch, dltlab):
    monkeypatch.chdir(tmp_path)

    result = dltlab("workshop", "init", "class")

    assert result.out == (
        "Fill in class/roster.csv, look at class/workshop.toml, then run: dltlab workshop serve "
        "class/roster.csv\n"
    )
    again = dltlab("workshop", "init", "class")
    assert again.code == 2
    assert "class/workshop.toml exists already" in again.err


@pytest.mark.parametrize("command", ["serve", "status", "stop", "cards"])
def test_a_missing_roster_is_named(tmp_path, monkeypatch, dltlab, command):
    monkeypatch.chdir(tmp_path)

    result = dltlab("workshop", command, "none.csv")

    assert result.code == 2
    assert "There is no roster none.csv" in result.err


def test_a_fault_in_the_roster_or_settings_ends_with_its_line(roster, dltlab):
    roster.write_text("name\nAda\nAda\n")
    result = dltlab("workshop", "cards", roster)
    assert result.code == 2
    assert "class/roster.csv:3: The name Ada is in line 2, too." in result.err

    roster.with_name("workshop.toml").write_text("port = 3\n")
    result = dltlab("workshop", "serve", roster)
    assert result.code == 2
    assert "class/workshop.toml:1: Unknown key 'port'." in result.err


def test_cards_and_links(roster, dltlab):
    first = dltlab("workshop", "cards", roster)
    assert "The cards are in class/cards.html." in first.out
    assert "Everybody has a code already" in dltlab("workshop", "cards", roster).out
    assert "cards-2.html" in dltlab("workshop", "cards", roster, "--new", "learner01").out

    link = dltlab("workshop", "cards", roster, "--link", "learner01").out
    assert link.startswith("http://127.0.0.1:8000/hub/login#")


def test_a_workshop_that_does_not_run(roster, dltlab):
    assert dltlab("workshop", "status", roster).out == "The workshop is not running.\n"
    assert json.loads(dltlab("workshop", "status", roster, "--json").out) == {"running": False}
    assert dltlab("workshop", "stop", roster).out == "The workshop was not running.\n"


def test_a_workshop_on_kubernetes(tmp_path, monkeypatch, dltlab):
    monkeypatch.chdir(tmp_path)
    command = ("workshop", "init", "class", "--target", "kubernetes")

    first, second = dltlab(*command), dltlab(*command)

    assert first.out.endswith("then run: dltlab workshop init class --target kubernetes\n")
    assert "class/values.yaml says how to use it; keep it secret." in second.out
    assert "The cards are in class/cards.html." in second.out


def test_a_certificate_is_verified_on_the_command_line(dltlab, tmp_path):
    from dltlab.workshop.certificate import public_key, signing_key, write_certificate

    key, other = signing_key(tmp_path / "a.key"), signing_key(tmp_path / "b.key")
    path = tmp_path / "certificate.pdf"
    write_certificate(path, key, name="Ada", evaluated="here", tasks=[])

    result = dltlab("workshop", "verify", path, "--key", public_key(key))
    assert (result.code, "Ada passed" in result.out) == (0, True)
    assert dltlab("workshop", "verify", path, "--key", public_key(other)).code == 1
    path.write_bytes(path.read_bytes() + b" ")
    result = dltlab("workshop", "verify", path)
    assert (result.code, "was changed after it was signed" in result.err) == (2, True)


def test_erasing_needs_names_or_all(dltlab, roster):
    assert "or say --all" in dltlab("workshop", "erase", roster).err
    assert "or say --all" in dltlab("workshop", "erase", roster, "learner01", "--all").err
    assert dltlab("workshop", "erase", roster, "--all").out.startswith("Erased: nobody.")


@pytest.mark.parametrize("command", ["export", "assess"])
def test_nothing_is_exported_or_assessed_before_the_workshop(dltlab, roster, command):
    arguments = ["learner01"] if command == "assess" else []
    result = dltlab("workshop", command, roster, *arguments)

    assert result.code == 2
    assert "Nobody has the account" in result.err or "has no learners yet" in result.err
