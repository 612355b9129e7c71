import json

import pytest

from dltlab.errors import Damaged
from dltlab.workshop.codes import CodeBook, Throttle


@pytest.fixture
def book(folder):
    return CodeBook(folder)


def test_a_code_opens_its_account_however_it_is_typed(book):
    codes = book.issue(["learner01", "learner02"])

    code = codes["learner02"]
    assert len(code) == 14
    for typed in (code, f" {code.upper()} ", code.replace("-", ""), code.replace("-", " ")):
        assert book.account_of(typed) == "learner02"
    for wrong in ("", "x", codes["learner01"][:-1], "a" * 10_000):
        assert book.account_of(wrong) is None


def test_a_code_is_issued_once_and_renewed_on_demand(book):
    first = book.issue(["learner01"])
    assert book.issue(["learner01"]) == {}

    second = book.renew(["learner01"])

    assert book.account_of(first["learner01"]) is None
    assert book.account_of(second["learner01"]) == "learner01"


def test_no_code_is_kept_as_it_is_printed(book, folder):
    (code,) = book.issue(["learner01"]).values()
    link = book.link("learner01")

    kept = b"".join(path.read_bytes() for path in folder.state.rglob("*") if path.is_file())
    for secret in (code, code.replace("-", ""), link):
        assert secret.encode() not in kept


def test_a_link_holds_once_and_for_a_day(book, folder):
    link, old = book.link("learner01"), book.link("learner01")
    content = json.loads((folder.state / "codes.json").read_text())
    (*_, entry) = content["links"].values()
    entry[1] = 0.0
    (folder.state / "codes.json").write_text(json.dumps(content))

    assert [book.account_of(link), book.account_of(link)] == ["learner01", None]
    assert book.account_of(old) is None


def test_an_account_can_be_forgotten(book):
    codes, link = book.issue(["learner01", "learner02"]), book.link("learner01")

    book.forget("learner01")

    assert book.account_of(codes["learner01"]) is None
    assert book.account_of(link) is None
    assert book.account_of(codes["learner02"]) == "learner02"


def test_codes_that_cannot_be_read_are_named(book, folder):
    (folder.state / "codes.json").write_text("[]")

    with pytest.raises(Damaged, match=r"codes\.json cannot be read"):
        book.account_of("x")


def test_failures_beyond_a_burst_must_wait_and_others_need_not():
    throttle = Throttle(rate=0.5, burst=3)

    waits = [throttle.fail("a", now=0.0) for _ in range(5)]

    assert waits == [0.0, 0.0, 0.0, 2.0, 4.0]
    assert throttle.fail("b", now=0.0) == 0.0
    assert throttle.fail("a", now=100.0) == 0.0


def test_a_flood_of_failures_does_not_add_up_for_ever():
    throttle = Throttle(rate=1.0, burst=3, size=2)

    waits = [throttle.fail("a", now=0.0) for _ in range(1000)]

    assert max(waits) <= 6.0
    for key in "bcd":
        throttle.fail(key, now=0.0)
    assert throttle.fail("a", now=0.0) == 0.0  # the oldest keys were forgotten
