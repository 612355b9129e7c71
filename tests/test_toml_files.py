from typing import Any

import pytest
from pydantic import Field

from dltlab.errors import Invalid, NotFound
from dltlab.toml_files import Table, TomlFile, read_toml


class Inner(Table):
    sizes: list[int] = Field(default=[])


class Example(Table):
    name: str
    inner: Inner = Inner()


def read(folder: Any, text: str) -> TomlFile[Example]:
    (folder / "x.toml").write_text(text)
    return read_toml(folder / "x.toml", Example, "example")


def test_a_valid_file_has_its_content_and_the_line_of_each_key(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    file = read(tmp_path, 'name = "a"\n\n[inner]\nsizes = [1,\n  2]\n')

    assert file.content == Example(name="a", inner=Inner(sizes=[1, 2]))
    assert file.place("name") == "x.toml:1"
    assert file.place("inner", "sizes", 1) == "x.toml:4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "x.toml:1: Invalid value"),
        ("inner = {}", "x.toml:1: The key 'name' is missing. Add it."),
        ('name = "a"\nage = 3', "x.toml:2: Unknown key 'age'. Correct or remove it."),
        ('name = "a"\ninner = 3', "x.toml:2: 'inner' must be a table."),
        ('name = "a"\n[inner]\nsizes = ["b"]', "x.toml:3: 'inner.sizes.0': it must be a valid int"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Invalid) as error:
        read(tmp_path, text)

    assert str(error.value).startswith(message)


def test_a_file_that_is_missing_or_no_text_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"There is no example .*none\.toml"):
        read_toml(tmp_path / "none.toml", Example, "example")
    (tmp_path / "binary.toml").write_bytes(b"\xff")
    with pytest.raises(Invalid, match=r"binary\.toml cannot be read"):
        read_toml(tmp_path / "binary.toml", Example, "example")
