from rich.table import Table

from dltlab.cli.common import complete_lab, examples, print_table


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
