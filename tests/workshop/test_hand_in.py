import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import nbformat
import pytest

from dltlab.errors import Invalid, Unavailable
from dltlab.workshop import hand_in
from dltlab.workshop.hand_in import KEPT, LARGEST_MB, last_receipts, store

LAB = "01_first_network"


def notebook(text: str = "1 + 1") -> bytes:
    cells = [nbformat.v4.new_code_cell(text, id="a")]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)).encode()


def files(folder):
    return sorted(path.name for path in folder.rglob("*.ipynb"))


def test_a_notebook_is_kept_as_it_was_sent(tmp_path):
    before = datetime.now(UTC)
    receipt = store(tmp_path, "learner01", LAB, notebook())

    assert receipt.path.read_bytes() == notebook()
    assert before <= receipt.time <= datetime.now(UTC)
    assert list(last_receipts(tmp_path, "learner01")) == [receipt]


def test_a_receipt_tells_the_learner_what_was_received_and_no_path(tmp_path):
    told = store(tmp_path, "learner01", LAB, notebook()).as_dict()

    assert told["lab"] == LAB
    assert told["number"].replace("-", "") == told["sha256"][:8]
    assert str(tmp_path) not in json.dumps(told)


def test_handing_in_the_same_notebook_again_gives_the_same_receipt(tmp_path):
    with ThreadPoolExecutor() as pool:
        receipts = set(pool.map(lambda _: store(tmp_path, "learner01", LAB, notebook()), range(8)))

    assert len(receipts) == 1
    assert len(files(tmp_path)) == 1


def test_the_last_hand_in_counts_even_if_its_content_was_there_before(tmp_path):
    for text in ("first", "second", "first"):
        receipt = store(tmp_path, "learner01", LAB, notebook(text))

    assert list(last_receipts(tmp_path, "learner01")) == [receipt]
    assert receipt.path.read_bytes() == notebook("first")
    assert len(files(tmp_path)) == 3


def test_the_last_hand_in_is_the_last_where_the_clock_was_set_back(tmp_path, monkeypatch):
    class Clock(datetime):
        hour_now = 12

        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 11, 29, cls.hour_now, tzinfo=tz)

    monkeypatch.setattr(hand_in, "datetime", Clock)
    first = store(tmp_path, "learner01", LAB, notebook("first"))
    Clock.hour_now = 9
    second = store(tmp_path, "learner01", LAB, notebook("second"))

    assert second.time > first.time
    assert list(last_receipts(tmp_path, "learner01")) == [second]


def test_the_newest_hand_ins_of_a_lab_are_kept(tmp_path):
    receipts = [
        store(tmp_path, "learner01", LAB, notebook(f"{number}")) for number in range(KEPT + 3)
    ]

    assert files(tmp_path) == [receipt.path.name for receipt in receipts[3:]]
    assert all(earlier.time < later.time for earlier, later in pairwise(receipts))


def test_learners_and_labs_are_kept_apart(tmp_path):
    mine = [store(tmp_path, "learner01", lab, notebook()) for lab in (LAB, "17_experiments")]
    store(tmp_path, "learner02", LAB, notebook())

    assert list(last_receipts(tmp_path, "learner01")) == mine
    assert list(last_receipts(tmp_path, "learner03")) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
        b'{"nbformat": "4", "nbformat_minor": 5, "metadata": {}, "cells": []}',
        b'{"nbformat": 99, "nbformat_minor": 5, "metadata": {}, "cells": []}',
        b"[" * 100_000,
        notebook().replace(b'"code"', b'"cod"'),
    ],
    ids=lambda content: content[:40].decode(errors="replace"),
)
def test_what_is_no_notebook_is_refused_and_not_kept(tmp_path, content):
    with pytest.raises(Invalid, match=f"handed in for {LAB} is not a notebook"):
        store(tmp_path, "learner01", LAB, content)

    assert files(tmp_path) == []


def test_a_notebook_that_is_too_large_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(Invalid, match=r"21 MB, more than 20\. Clear its outputs"):
        store(tmp_path, "learner01", LAB, b" " * (LARGEST_MB + 1) * 1_000_000)


@pytest.mark.parametrize("name", ["", "..", "../root", "a/b", "Ada", "-x", "a" * 65, "a\n", "é"])
def test_an_account_or_lab_that_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(Invalid, match="not the name of an account"):
        store(tmp_path / "in", name, LAB, notebook())
    with pytest.raises(Invalid, match="not the name of a lab"):
        store(tmp_path / "in", "learner01", name, notebook())

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "learner01").write_text("a file")

    with pytest.raises(Unavailable, match=r"learner01.* cannot be written"):
        store(tmp_path, "learner01", LAB, notebook())


def test_an_interrupted_hand_in_keeps_the_one_before(tmp_path, monkeypatch):
    first = store(tmp_path, "learner01", LAB, notebook("first"))

    def full(path, content):
        raise Unavailable("the disk is full")

    monkeypatch.setattr(hand_in, "write_atomically", full)
    with pytest.raises(Unavailable):
        store(tmp_path, "learner01", LAB, notebook("second"))

    assert list(last_receipts(tmp_path, "learner01")) == [first]
