import os

import pytest
from rich.table import Table

from dltlab.cli.common import complete_lab, examples, print_table, without_greeting


def test_what_is_written_to_stderr_in_the_block_is_suppressed(capfd):
    with without_greeting():
        os.write(2, b"greeting")
    os.write(2, b"error")

    assert capfd.readouterr().err == "error"


def test_stderr_works_again_after_an_error_in_the_block(capfd):
    def fail():
        with without_greeting():
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - it is raised above
        fail()
    os.write(2, b"error")

    assert capfd.readouterr().err == "error"


def test_a_table_is_as_wide_as_the_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10")
    table = Table("name", box=None)
    table.add_row("a long name")

    print_table(table)

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 10


def test_a_shell_offers_the_labs_of_the_course(course, monkeypatch):
    monkeypatch.setenv("DLTLAB_COURSE", str(course.root))
    assert complete_lab("0") == ["01_my_topic"]
    assert complete_lab("2") == []

    monkeypatch.setenv("DLTLAB_COURSE", "nowhere")
    assert complete_lab("0") == []


def test_examples_are_lines_of_a_help():
    assert examples("dltlab lab") == "Example:\n\ndltlab lab"
    assert examples("dltlab lab", "dltlab lab 02") == "Examples:\n\ndltlab lab\n\ndltlab lab 02"
