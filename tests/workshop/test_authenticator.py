import asyncio
from types import SimpleNamespace

import pytest
from tornado.web import HTTPError
from traitlets.config import Config

from dltlab.workshop.authenticator import CardAuthenticator, TooManyFailures
from dltlab.workshop.codes import CodeBook
from dltlab.workshop.roster import Person, enroll


@pytest.fixture
def sign_in(folder):
    """Sign in with a code from an address."""
    enroll(folder, [Person("Ada"), Person("Eve")], [Person("Ida")])
    config = Config(CardAuthenticator={"workshop": str(folder.roster_file)})
    authenticator = CardAuthenticator(config=config)

    def sign_in(code, address="10.0.0.1", headers=None):
        request = SimpleNamespace(remote_ip=address, headers=headers or {})
        handler = SimpleNamespace(request=request)
        return asyncio.run(authenticator.authenticate(handler, {"password": code}))

    return sign_in


def test_a_code_signs_its_member_in_and_nobody_is_an_administrator(sign_in, folder):
    for account, code in CodeBook(folder).issue(["learner01", "instructor01"]).items():
        assert sign_in(code) == {"name": account, "admin": False}


def test_who_left_the_roster_is_refused(sign_in, folder):
    codes = CodeBook(folder).issue(["learner02"])
    enroll(folder, [Person("Ada")], [Person("Ida")])

    with pytest.raises(HTTPError) as error:
        sign_in(codes["learner02"])

    assert error.value.status_code == 403


def test_guesses_from_one_address_wait_while_neighbors_sign_in(sign_in, folder):
    codes = CodeBook(folder).issue(["learner01"])
    statuses = []
    for number in range(40):
        with pytest.raises(HTTPError) as error:
            sign_in(f"{number:04d}-aaaa-bbbb")
        statuses.append(error.value.status_code)

    assert statuses[:30] == [403] * 30
    assert statuses[-1] == 429
    assert isinstance(error.value, TooManyFailures)
    assert int(error.value.headers["Retry-After"]) > 0
    assert sign_in(codes["learner01"])["name"] == "learner01"
    with pytest.raises(HTTPError) as error:
        sign_in("zzzz", address="10.0.0.2")
    assert error.value.status_code == 403


def test_an_address_that_the_proxy_has_not_written_makes_no_difference(sign_in):
    for number in range(40):
        forged = f"10.0.1.{number}"  # which Tornado takes from X-Real-Ip
        headers = {"X-Real-Ip": forged, "X-Forwarded-For": f"{forged}, 10.0.0.1"}
        with pytest.raises(HTTPError) as error:
            sign_in(f"{number:04d}-aaaa-bbbb", forged, headers)

    assert error.value.status_code == 429


def test_guesses_at_one_card_wait_from_whatever_address(sign_in):
    for number in range(12):
        with pytest.raises(HTTPError) as error:
            sign_in(f"abcd-{number:04d}-2222", address=f"10.0.1.{number}")

    assert error.value.status_code == 429
