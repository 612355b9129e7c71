"""Names in messages: printable and short."""

from dltlab.data.importing.wording import joined, listed, shortened


def test_a_long_name_loses_its_middle() -> None:
    assert shortened("a" * 80) == "a" * 80
    assert shortened("a" * 50_000 + "b" * 50_000) == "a" * 40 + "…" + "b" * 40


def test_a_name_is_printable() -> None:
    assert shortened("cat\n\x1b") == "cat\\n\\x1b"


def test_names_are_listed_in_order_and_at_most_ten() -> None:
    assert listed({"b", "a"}) == "'a', 'b'"
    assert listed([str(number) for number in range(10)]).endswith("'9'")
    assert joined(["x"] * 1_234) == ", ".join(["x"] * 10) + " and 1,224 more"
