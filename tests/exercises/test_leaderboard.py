"""The leaderboard file: the best entry first, no entry lost, no file half-written."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dltlab.errors import Damaged, Unavailable
from dltlab.exercises import LeaderboardEntry, add_to_leaderboard, show_leaderboard
from dltlab.exercises.leaderboard import read_leaderboard


def entry(accuracy: float, who: str = "ada") -> LeaderboardEntry:
    return LeaderboardEntry(who, accuracy, 77_058, 27.4, "2017-06-27 09:30")


def test_entries_are_read_with_the_best_first(tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    add_to_leaderboard(path, [entry(0.91), entry(0.93, 'grace, "the" first')])
    entries = add_to_leaderboard(path, [entry(0.92)])
    assert [row.accuracy for row in entries] == [0.93, 0.92, 0.91]
    assert read_leaderboard(path) == entries


def test_no_entries_make_no_file(tmp_path: Path) -> None:
    assert add_to_leaderboard(tmp_path / "board.csv", []) == []
    assert list(tmp_path.iterdir()) == []


def test_an_entry_has_the_name_of_the_hub_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ada")
    assert LeaderboardEntry.now(0.912345, 5, 1.26).who == "ada"
    monkeypatch.delenv("JUPYTERHUB_USER")
    assert LeaderboardEntry.now(0.912345, 5, 1.26).who == "you"


def test_simultaneous_writers_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "board.csv"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_to_leaderboard(path, [entry(number / 100)]), range(40)))
    assert [row.accuracy for row in read_leaderboard(path)] == [
        number / 100 for number in reversed(range(40))
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"some,other,table\n1,2,3\n",
        b"who,accuracy,parameters,seconds,when\nada,high,1,1,now\n",
        b"who,accuracy,parameters,seconds,when\nada,0.9\n",
        b"\xff\xfe\x00",
    ],
)
def test_a_file_that_is_not_a_leaderboard_is_left_unchanged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "board.csv"
    path.write_bytes(content)
    with pytest.raises(Damaged, match=r"is not a leaderboard .*Move it away, and a new one is"):
        add_to_leaderboard(path, [entry(0.9)])
    assert path.read_bytes() == content


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        add_to_leaderboard(tmp_path / "here" / "board.csv", [entry(0.9)])


def test_a_leaderboard_is_shown_as_a_table_numbered_from_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_leaderboard([entry(0.93, "grace"), entry(0.91)])

    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["who", "accuracy", "parameters", "seconds", "when"]
    assert first.split()[:3] == ["1", "grace", "0.93"]
    assert second.split()[:3] == ["2", "ada", "0.91"]
