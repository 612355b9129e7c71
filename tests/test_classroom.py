"""A learner's server in a workshop, between the learner's progress, the page and the board."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from typing import cast

import nbformat
import pytest

from dltlab.classroom import BoardClient, Classroom, ProgressFollower
from dltlab.course import Course, Workspace
from dltlab.errors import Invalid, Unavailable
from dltlab.exercises import Outcome, restart_lab
from dltlab.exercises.progress import record_outcome
from tests.deadlines import HANG_SECONDS
from tests.workshop.board.fake_hub import LAB, make_folder, results, running_board

TOKEN = "token-of-learner01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("workshop") / "class")


@pytest.fixture(scope="module")
def board(folder):
    with running_board(folder) as board:
        yield board


@pytest.fixture(scope="module")
def instructor(board):
    with board.browser() as client:
        yield client


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path / "workspace", Course.own())
    workspace.folder.mkdir()
    return workspace


async def until(condition):
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def running(classroom):
    """Let a classroom run in the block."""
    task = asyncio.create_task(classroom.run())
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def classroom_of(folder, workspace, token=TOKEN):
    return Classroom(BoardClient(folder.runtime, token), workspace)


def test_every_checked_answer_reaches_the_board(board, folder, instructor, workspace):
    def reached():
        return {exercise: attempts for _, exercise, _, attempts in shown()}

    def shown():
        return results(board, instructor, "learner01")

    async def check():
        record_outcome(LAB, "softmax", Outcome.NOT_YET, "A row adds up to 2.")
        async with running(classroom_of(folder, workspace)):
            await until(lambda: reached() == {"softmax": 1})
            record_outcome(LAB, "softmax", Outcome.PASSED)
            record_outcome(LAB, "cross_entropy", Outcome.ERROR, "NameError")
            await until(lambda: reached() == {"softmax": 2, "cross_entropy": 1})
        record_outcome(LAB, "cross_entropy", Outcome.PASSED)  # while the server does not run
        async with running(classroom_of(folder, workspace)):
            await until(lambda: reached() == {"softmax": 2, "cross_entropy": 2})
            restart_lab(LAB)
            await until(lambda: shown() == [])

    asyncio.run(check())


def test_a_file_that_was_begun_anew_is_sent_from_its_beginning(
    board, folder, instructor, workspace, progress_file
):
    async def check():
        for _ in range(3):
            record_outcome(LAB, "shift", Outcome.NOT_YET)
        async with running(classroom_of(folder, workspace, "token-of-learner02")):
            await until(lambda: results(board, instructor, "learner02") != [])
            progress_file.unlink()
            record_outcome(LAB, "build_cnn", Outcome.PASSED)
            await until(lambda: len(results(board, instructor, "learner02")) == 2)
        progress_file.write_text("")
        record_outcome(LAB, "train_step", Outcome.PASSED)
        async with running(classroom_of(folder, workspace, "token-of-learner02")):
            await until(lambda: len(results(board, instructor, "learner02")) == 3)

    asyncio.run(check())


class FakeClient:
    """A board that fails now and then, and remembers what it was sent."""

    def __init__(self, failures=0):
        self.records, self.failures = [], failures

    async def send(self, method, path, content=None):
        if method == "GET":
            return {"database": 1}
        if self.failures:
            self.failures -= 1
            raise Unavailable("down")
        assert len(json.dumps(content)) < 1_000_000
        self.records += content["records"]
        return None


def test_damaged_and_partial_lines_hold_nothing_up(progress_file):
    progress_file.parent.mkdir()
    partial = b'{"time": "20'
    progress_file.write_bytes(
        b"\xff\xfe\n" + b"x" * 100_000 + b"\n" + b"\n" * 500 + b"last\n" + partial
    )
    client = FakeClient(failures=2)

    async def check():
        follower = ProgressFollower(cast(BoardClient, client), progress_file)
        for _ in range(2):
            with pytest.raises(Unavailable):
                await follower.follow()
        task = asyncio.create_task(follower.follow())
        await until(lambda: client.records and client.records[-1][1] == "last\n")
        with progress_file.open("ab") as file:
            file.write(b'26"}\n')
        await until(lambda: client.records[-1][1].endswith("}\n"))
        task.cancel()

    asyncio.run(check())
    assert [text for _, text in client.records[-2:]] == ["last\n", '{"time": "2026"}\n']
    assert len(client.records) == 503


def test_the_page_is_told_what_is_new_until_it_was_shown(board, folder, instructor, workspace):
    async def check():
        classroom = classroom_of(folder, workspace)
        assert classroom.state["active"]
        assert classroom.state["announcements"] == []
        async with running(classroom):
            instructor.post("announce", json={"text": "Lunch"})
            await until(lambda: classroom.state["announcements"])
            (announcement,) = classroom.state["announcements"]
            assert announcement["text"] == "Lunch"
            await classroom.note_read(announcement["number"])
            assert classroom.state["announcements"] == []

            await classroom.set_hand(True, LAB)
            assert classroom.state["hand_raised"]
            assert len(board.overview(instructor)["hands"]) == 1
            instructor.post("helped", json={"account": "learner01"})
            await until(lambda: not classroom.state["hand_raised"])
        again = classroom_of(folder, workspace)
        async with running(again):
            await until(lambda: "title" in again.state)
            assert again.state["announcements"] == []

    asyncio.run(check())


def test_a_lab_is_handed_in_and_shown_to_the_instructor(board, folder, instructor, workspace):
    def write(text):
        cells = [nbformat.v4.new_code_cell(text)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), workspace.copy(LAB))

    async def look():
        address = f"notebook/learner01/{LAB}"
        return await asyncio.to_thread(instructor.get, address)

    async def check():
        classroom = classroom_of(folder, workspace)
        with pytest.raises(Invalid, match=r"01_first_network.ipynb cannot be read"):
            await classroom.hand_in(LAB)
        with pytest.raises(Invalid, match=r"is not a lab of this course"):
            await classroom.hand_in("../secret")
        workspace.copy(LAB).write_text("no notebook")
        with pytest.raises(Invalid, match=r"is not a notebook"):
            await classroom.hand_in(LAB)
        write("handed_in = 1")
        sentence = await classroom.hand_in(LAB)
        assert sentence.startswith("Lab 01 was handed in at ")
        assert await classroom.hand_in(LAB) == sentence
        write("now = 1")
        async with running(classroom):
            await until(lambda: "title" in classroom.state)
            assert "now" in (await look()).text
            workspace.copy(LAB).unlink()
            assert (await look()).status_code == 400

    asyncio.run(check())


def test_without_a_board_the_learner_is_told_so(folder, tmp_path, workspace):
    async def check(client, sentence):
        workspace.copy(LAB).touch()
        classroom = Classroom(client, workspace)
        for action in (classroom.set_hand(True, LAB), classroom.hand_in(LAB)):
            with pytest.raises(Unavailable, match=sentence):
                await action

    asyncio.run(check(None, "This is not a workshop"))
    asyncio.run(check(BoardClient(tmp_path, TOKEN), "The board of this workshop does not run"))
    (tmp_path / "room.json").write_text('{"board": "http://127.0.0.1:1/board"}')
    asyncio.run(check(BoardClient(tmp_path, TOKEN), "The board does not answer"))


def test_a_forged_token_is_refused(board, folder, workspace):
    async def check():
        with pytest.raises(Invalid, match="The Hub knows no learner with this token"):
            await classroom_of(folder, workspace, "forged-token").set_hand(True, LAB)

    asyncio.run(check())
