"""The catalog: what is known of data sets, where their bytes are, and their removal."""

import os
from pathlib import Path
from typing import Any

import pytest

from dltlab import data
from dltlab.data import store
from dltlab.data.catalog import dataset_names
from dltlab.errors import Damaged, NotFound
from tests.image_sources import image_files, import_pets, write_files, write_odd_pets

pytestmark = pytest.mark.usefixtures("own_store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with images of two classes."""
    return write_files(tmp_path / "source", image_files("cat", "dog"))


def test_the_list_names_contents_and_location_of_every_data_set(source: Path) -> None:
    import_pets(source)
    entries = {entry.name: entry for entry in data.list_datasets()}
    assert [name.partition("@")[0] for name in entries] == dataset_names()
    assert list(entries)[-1] == "pets@1"
    assert entries["cifar10"].location == "to download: 170.1 MB"
    assert entries["digits"].location == "comes with dltlab"
    assert entries["pets@1"].contents == "20 color images 8×8, 2 classes"
    assert entries["mackey_glass"].contents == "12,000 values"
    assert entries["python_docs"].contents == "text"
    assert entries["tinyshakespeare"].contents == "1,115,394 characters"


def test_an_invalid_card_does_not_hide_the_others(own_cards: Path) -> None:
    (own_cards / "birds.toml").write_text('name = "birds"')
    entries = {entry.name: entry.contents for entry in data.list_datasets()}
    assert entries["digits"].startswith("1,797 gray images")
    assert entries["birds"].startswith(f"{own_cards / 'birds.toml'}: 'format': it must be one of")


def test_the_location_changes_with_the_files(
    own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def location() -> str:
        (entry,) = (e for e in data.list_datasets() if e.name == "tinyshakespeare")
        return entry.location

    assert location() == "to download: 1.1 MB"
    (tmp_path / "tinyshakespeare.txt").write_bytes(b"any")
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(tmp_path))
    assert location() == "in the mirror"
    (own_store / "tinyshakespeare").mkdir(parents=True)
    (own_store / "tinyshakespeare" / "tinyshakespeare.txt").write_bytes(b"any")
    assert location() == "in your store"


def test_a_card_is_described_with_its_license_and_files() -> None:
    facts = list(data.describe("cifar10"))
    assert ("license", data.info("cifar10").license) in facts
    assert ("train", "50,000") in facts
    assert facts[-1][1].startswith("cifar-10-binary.tar.gz, 170.05 MB, SHA-256 c4a38c50a1bc")


def test_of_many_classes_the_first_are_listed() -> None:
    facts = dict(data.describe("captioned_shapes"))
    assert facts["classes"].startswith("a small red circle in the center, a small red circle at")
    assert facts["classes"].endswith(", and 220 more")
    assert dict(data.describe("cifar10"))["classes"].endswith("ship, truck")


def test_an_imported_data_set_is_described_with_its_classes(tmp_path: Path) -> None:
    import_pets(write_odd_pets(tmp_path / "pets"))
    facts = dict(data.describe("pets"))
    assert facts["name"] == "pets@1"
    assert facts["mean"].startswith("red 0.")
    assert facts["imported"].endswith("crop to 8×8 pixels")
    assert facts[""].startswith("dog \\x1b[31m")


def test_fetch_gets_and_verifies_every_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(tmp_path))
    monkeypatch.setattr("dltlab.data.catalog.file_content", lambda card, file: files.append(file))
    (tmp_path / "tinyshakespeare.txt").write_bytes(b"any")
    expected = "tinyshakespeare is in the mirror; all hashes are correct."
    assert data.fetch("tinyshakespeare") == expected
    assert files == data.info("tinyshakespeare").files
    import_pets(source)
    for name in ("digits", "pets"):
        assert data.fetch(name) == f"{name} has no files to download."


def test_verify_reports_changed_and_missing_files(source: Path, own_store: Path) -> None:
    folder = import_pets(source).dataset.folder
    assert list(data.verify()) == []
    (folder / "images-00000.npy").write_bytes(b"changed")
    (folder / "splits.npy").unlink()
    (own_store / "mnist").mkdir()
    (own_store / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"truncated")
    changed, missing = data.verify("pets")
    assert changed == f"{folder / 'images-00000.npy'} does not have the SHA-256 of its manifest."
    assert missing == f"{folder / 'splits.npy'} is missing."
    (of_card,) = data.verify("mnist")
    assert "t10k-labels-idx1-ubyte.gz does not have the SHA-256 of its card" in of_card
    assert set(data.verify()) == {changed, missing, of_card}


def test_a_damaged_version_is_named_with_the_fix_and_can_be_removed(source: Path) -> None:
    folder = import_pets(source).dataset.folder
    (folder / "images-00000.npy").write_bytes(b"truncated")
    with pytest.raises(Damaged, match=r"'pets@1' is damaged .*dltlab data remove pets@1"):
        data.load("pets")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(Damaged, match=r"manifest\.json is damaged\. Remove that version"):
        data.info("pets")
    assert data.remove("pets@1") == "Removed from your store: pets@1."
    assert store.versions("pets") == []


def test_unknown_names_and_versions_are_answered_with_the_known_ones(source: Path) -> None:
    with pytest.raises(
        NotFound, match=r"no data set 'pets'\. The data sets are: .*cifar10, digits"
    ):
        data.info("pets")
    import_pets(source)
    with pytest.raises(NotFound, match=r"no version 3 of 'pets'\. Its versions: 1\."):
        data.info("pets@3")


def test_one_or_all_versions_are_removed(source: Path, own_store: Path) -> None:
    for size in (8, 9, 10):
        import_pets(source, size=size)
    assert data.info("pets").version == 3
    assert data.remove("pets@1") == "Removed from your store: pets@1."
    assert store.versions("pets") == [2, 3]
    assert data.remove("pets") == "Removed from your store: pets@2, pets@3."
    assert not list((own_store / "pets").glob("[!.]*"))
    with pytest.raises(NotFound, match="There is no data set 'pets'"):
        data.remove("pets")


def test_runs_are_named_for_the_versions_that_would_be_removed(
    source: Path, tmp_path: Path
) -> None:
    for size in (8, 9):
        import_pets(source, size=size)
    data.write_provenance(tmp_path / "run", ["pets@2"])
    expected = [f"The run {tmp_path / 'run'} used pets@2."]
    assert data.runs_using("pets") == data.runs_using("pets@2") == expected
    assert data.runs_using("pets@1") == data.runs_using("digits") == []
    assert ("used by", str(tmp_path / "run")) in list(data.describe("pets"))


def test_the_stored_files_of_a_card_are_removed(own_store: Path) -> None:
    assert data.remove("digits") == "Removed from your store: digits."
    data.load("digits", "test", cache="disk")
    assert any((own_store / "digits").glob("decoded-*"))
    (own_store / "digits" / "some.gz").write_bytes(b"downloaded")
    data.remove("digits")
    assert [path.name for path in (own_store / "digits").iterdir()] == [".lock"]
    assert len(data.load("digits", "test")) == 450


def test_a_store_that_this_user_may_not_enter_does_not_block_the_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stat = os.stat

    def forbid(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(f"{tmp_path}/"):
            raise PermissionError
        return stat(path, *args, **options)

    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("DLTLAB_DATA_MIRROR", raising=False)
    monkeypatch.setattr("os.stat", forbid)
    locations = {entry.name: entry.location for entry in data.list_datasets()}
    assert locations["mnist"].startswith("to download")
