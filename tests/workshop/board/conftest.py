"""A board that all tests of this folder share."""

import pytest

from tests.workshop.board.fake_hub import make_folder, running_board


@pytest.fixture(scope="package")
def board(tmp_path_factory):
    """A board with three learners, and its Hub."""
    folder = make_folder(tmp_path_factory.mktemp("workshop") / "class")
    with running_board(folder) as board:
        yield board


@pytest.fixture(scope="package")
def instructor(board):
    """A browser in which an instructor has signed in."""
    with board.browser() as client:
        yield client


@pytest.fixture(scope="package")
def ada(board):
    """The server of the first learner."""
    with board.learner("learner01") as client:
        yield client


@pytest.fixture(scope="package")
def bob(board):
    """The server of the second learner."""
    with board.learner("learner02") as client:
        yield client
