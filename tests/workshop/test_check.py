import os
import sys

import pytest

from dltlab.doctor import Level
from dltlab.errors import Invalid
from dltlab.workshop.check import check_workshop

NO_ACCOUNTS = '[servers]\nspawner = "simple"\n'


@pytest.fixture
def check(folder):
    """Check a workshop with settings; return the findings by subject."""

    def check(settings=NO_ACCOUNTS, learners=None):
        folder.settings_file.write_text(f'labs = ["01"]\n{settings}')
        return {finding.subject: finding for finding in check_workshop(folder, learners)}

    return check


def test_every_problem_has_a_fix(check):
    for finding in check(learners=10_000).values():
        assert (finding.level is Level.OK) == (finding.fix == "")


def test_a_machine_is_too_small_for_too_many_learners(check):
    findings = check(learners=10_000)

    assert findings["memory"].level is Level.PROBLEM
    assert findings["cores"].level is Level.WARNING
    assert check(learners=1)["cores"].level is Level.OK


def test_the_roster_says_how_many_learners_there_are(check):
    assert check()["roster"].message == "2 people; checked for 2 learners"


def test_learners_without_accounts_are_a_problem(check, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    finding = check("")["accounts"]

    assert finding.level is Level.PROBLEM
    assert "2 learners would share one account" in finding.fix


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs a program as somebody else")
def test_learners_must_be_able_to_run_this_python(check, monkeypatch, tmp_path):
    tmp_path.chmod(0o700)
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    finding = check("")["Python"]

    assert finding.level is Level.PROBLEM
    assert str(program) in finding.message


def test_an_address_that_is_not_encrypted_or_not_reached_is_told(check):
    local = check()["address"]
    assert "from this machine only" in local.message
    is_open = check(f'{NO_ACCOUNTS}[address]\nhost = "0.0.0.0"\n')["address"]
    assert "not encrypted" in is_open.message
    safe = check(f'{NO_ACCOUNTS}[address]\nhost = "0.0.0.0"\n[tls]\nself_signed = true\n')
    assert safe["address"].level is Level.OK
    assert safe["address"].message.endswith(":8001/board/")


def test_a_certificate_that_is_missing_is_a_problem(check):
    finding = check(f'{NO_ACCOUNTS}[tls]\ncertificate = "a"\nkey = "b"\n')["address"]

    assert finding.level is Level.PROBLEM
    assert "There is no file" in finding.fix


def test_settings_that_are_not_valid_are_an_error(check):
    with pytest.raises(Invalid):
        check("[limits]\nmemory = 3\n")
