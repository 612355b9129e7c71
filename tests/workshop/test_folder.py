import os
import stat
from pathlib import Path

import pytest

from dltlab.errors import NotFound, Unavailable
from dltlab.workshop.folder import WorkshopFolder


def test_a_workshop_is_named_by_its_folder_or_its_roster(tmp_path):
    (tmp_path / "roster.csv").touch()
    (tmp_path / "class.csv").touch()

    assert WorkshopFolder.find(tmp_path) == WorkshopFolder(tmp_path)
    assert WorkshopFolder.find(tmp_path / "class.csv").roster_file == tmp_path / "class.csv"
    with pytest.raises(NotFound, match=r"There is no roster .*none\.csv"):
        WorkshopFolder.find(tmp_path / "none.csv")


def test_what_is_kept_is_private_and_the_runtime_folder_is_not(tmp_path):
    folder = WorkshopFolder(tmp_path)

    folder.create()
    folder.create()

    for path in (folder.state, folder.keys, folder.handed_in, folder.logs):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.runtime.stat().st_mode) == 0o755
    assert len(str(folder.runtime)) < 40
    folder.runtime.rmdir()


def test_the_runtime_folder_of_another_user_is_refused(tmp_path):
    folder = WorkshopFolder(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.runtime.symlink_to(elsewhere)

    with pytest.raises(Unavailable, match="it belongs to another user"):
        folder.create()

    folder.runtime.unlink()


def test_two_workshops_have_two_runtime_folders(tmp_path):
    assert WorkshopFolder(tmp_path / "a").runtime != WorkshopFolder(tmp_path / "b").runtime
    assert os.path.isabs(WorkshopFolder(Path("a")).runtime)
