"""The leaderboard's file: the best first, nothing lost, nothing half-written."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dltlab.errors import LabError
from dltlab.exercises.leaderboard import Entry, enter, read


def entry(accuracy: float, who: str = "ada") -> Entry:
    return Entry(who, accuracy, 77_058, 27.4, "2017-06-27 09:30")


def test_what_was_entered_is_read_again_the_best_first(tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    enter(path, [entry(0.91), entry(0.93, 'grace, "the" first')])
    every = enter(path, [entry(0.92)])
    assert [each.accuracy for each in every] == [0.93, 0.92, 0.91]
    assert read(path) == every


def test_without_a_file_and_without_entries_there_is_nothing_and_no_file(tmp_path: Path) -> None:
    assert enter(tmp_path / "board.csv", []) == []
    assert list(tmp_path.iterdir()) == []


def test_an_entry_bears_the_name_that_the_hub_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    assert Entry.now(0.912345, 5, 1.26).who == "ada"
    monkeypatch.delenv("JUPYTERHUB_USER")
    assert Entry.now(0.912345, 5, 1.26).who == "you"


def test_many_at_once_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda place: enter(path, [entry(place / 100)]), range(40)))
    assert [each.accuracy for each in read(path)] == [place / 100 for place in reversed(range(40))]


@pytest.mark.parametrize(
    "content",
    [
        b"some,other,table\n1,2,3\n",
        b"who,accuracy,parameters,seconds,when\nada,high,1,1,now\n",
        b"who,accuracy,parameters,seconds,when\nada,0.9\n",
        b"\xff\xfe\x00",
    ],
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "board.csv"
    path.write_bytes(content)
    with pytest.raises(LabError, match=r"is no leaderboard .*Move it away, and a new one is begun"):
        enter(path, [entry(0.9)])
    assert path.read_bytes() == content


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        enter(tmp_path / "here" / "board.csv", [entry(0.9)])
