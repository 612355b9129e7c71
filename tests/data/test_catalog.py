"""The catalog of data sets, by its functions and by the commands `dltlab data …`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltlab import data
from dltlab.data import store
from dltlab.data.catalog import dataset_names
from dltlab.errors import Damaged, NotFound


@pytest.fixture(autouse=True)
def own_folder(own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own store and working folder."""
    monkeypatch.chdir(tmp_path)
    return own_store


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Images of two classes, one with a name that a terminal would interpret."""
    folder = tmp_path / "my pets"
    random = np.random.default_rng(1)
    for name, count in (("cat $x$ [red]", 12), ("dog \x1b[31m", 40)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 255, (12, 10, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / "dog \x1b[31m" / "broken\n.jpg").write_bytes(b"\xff\xd8")
    return folder


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_list_names_every_data_set_and_its_location(dltlab: Callable, pets: Path) -> None:
    data.import_images(pets, "pets", size=8)
    entries = {entry.name: entry for entry in data.list_datasets()}
    assert [name.partition("@")[0] for name in entries] == dataset_names()
    assert entries["cifar10"].location == "to download: 170.1 MB"
    assert entries["digits"].location == "comes with dltlab"
    assert entries["pets@1"].contents == "52 color images 8×8, 2 classes"
    assert entries["mackey_glass"].contents == "12,000 values"
    assert entries["python_docs"].contents == "text"
    answer = dltlab("data", "list")
    assert answer.code == 0
    assert all(name.partition("@")[0] in answer.out for name in entries)


def test_the_location_changes_with_the_files(
    own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def location() -> str:
        return next(e.location for e in data.list_datasets() if e.name == "tinyshakespeare")

    assert location() == "to download: 1.1 MB"
    (tmp_path / "tinyshakespeare.txt").write_bytes(b"any")
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(tmp_path))
    assert location() == "in the mirror"
    (own_store / "tinyshakespeare").mkdir(parents=True)
    (own_store / "tinyshakespeare" / "tinyshakespeare.txt").write_bytes(b"any")
    assert location() == "in your store"


def test_import_shows_classes_files_left_out_and_the_next_step(
    dltlab: Callable, pets: Path
) -> None:
    answer = dltlab("data", "import", pets, "--name", "pets", "--size", 8)
    assert answer.code == 0
    assert "cat $x$ [red]            9          2          1  █████████\n" in answer.out
    assert r"dog \x1b[31m/broken\n.jpg is damaged or not an image" in answer.out
    assert "imbalanced" in answer.out
    assert "pets@1 is new: 52 images of 2 classes, 8×8 pixels, imported from my pets." in answer.out
    assert "\x1b" not in answer.out
    again = dltlab("data", "import", pets, "--name", "pets", "--size", 8)
    assert "pets@1 exists already, with the same images" in again.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere", "--name", "pets"], "nowhere does not exist"),
        (["import", "my pets", "--name", "Pets!"], "'Pets!' cannot be the name of a data set"),
        (["import", "my pets", "--name", "mnist"], "'mnist' is a data set of the course"),
        (["import", "my pets", "--name", "p", "--min-per-class", "20"], "has 12, but at least 20"),
        (["import", "my pets", "--name", "p", "--resize", "blur"], "one of crop, squash, fit"),
        (["import", "my pets", "--name", "p", "--test", "10"], "a fraction in [0, 1], such as 0.2"),
        (["info", "cats"], "There is no data set 'cats'. The data sets are: cifar10"),
        (["show", "python_docs"], "holds text, not images"),
        (["remove", "cats"], "There is no data set 'cats'"),
        (["verify", "cats"], "There is no data set 'cats'"),
        (["fetch", "cats"], "There is no data set 'cats'"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_2(
    dltlab: Callable, pets: Path, arguments: list[str], message: str
) -> None:
    answer = dltlab("data", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert answer.err.startswith("dltlab: ")
    assert answer.err.count("\n") == 1
    assert store.imported_datasets() == []


def test_info_describes_the_card_or_the_imported_images(dltlab: Callable, pets: Path) -> None:
    assert "SHA-256 c4a38c50a1bc" in dltlab("data", "info", "cifar10").out
    assert "depends on the version of Python" in dltlab("data", "info", "python_docs").out
    data.import_images(pets, "pets", size=8)
    out = dltlab("data", "info", "pets").out
    assert "mean          red 0." in out
    assert "class" in out


def test_show_writes_a_contact_sheet_and_describes_it(
    dltlab: Callable, pets: Path, tmp_path: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    answer = dltlab("data", "show", "pets")
    assert (answer.code, answer.err) == (0, "")
    assert "cat $x$ [red] 12" in answer.out
    with Image.open(tmp_path / "pets.png") as sheet:
        assert sheet.width > 800


def test_fetch_says_where_the_files_are(
    dltlab: Callable, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert data.fetch("digits") == "digits has no files to download."
    data.import_images(pets, "pets", size=8)
    assert data.fetch("pets") == "pets has no files to download."
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(tmp_path))
    monkeypatch.setattr("dltlab.data.catalog.file_content", lambda card, file: b"")
    (tmp_path / "tinyshakespeare.txt").write_bytes(b"any")
    expected = "tinyshakespeare is in the mirror; all hashes are correct."
    assert dltlab("data", "fetch", "tinyshakespeare").out == f"{expected}\n"


def test_verify_reports_changed_and_missing_files(
    dltlab: Callable, pets: Path, own_store: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    answer = dltlab("data", "verify")
    assert (answer.code, answer.out) == (0, "All files in your store are intact.\n")
    shard = own_store / "pets" / "1" / "images-00000.npy"
    flip_last_bit(shard)
    (own_store / "pets" / "1" / "splits.npy").unlink()
    (own_store / "mnist").mkdir()
    (own_store / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"truncated")
    answer = dltlab("data", "verify")
    assert answer.code == 1
    assert f"{shard} does not have the SHA-256 of its manifest." in answer.out
    assert "splits.npy is missing." in answer.out
    assert "t10k-labels-idx1-ubyte.gz does not have the SHA-256 of its card" in answer.out
    assert len(list(data.verify("pets"))) == 2
    assert len(list(data.verify("mnist"))) == 1


def test_a_damaged_version_is_named_with_the_fix(pets: Path, own_store: Path) -> None:
    data.import_images(pets, "pets", size=8)
    shard = own_store / "pets" / "1" / "images-00000.npy"
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(Damaged, match=r"'pets@1' is damaged .*dltlab data remove pets@1"):
        data.load("pets")
    (own_store / "pets" / "1" / "manifest.json").write_text("{")
    with pytest.raises(Damaged, match=r"manifest\.json is damaged\. Remove that version"):
        data.info("pets")
    assert data.remove("pets@1") == "Removed from your store: pets@1."
    assert store.versions("pets") == []


def test_an_unknown_version_is_answered_with_the_known_ones(pets: Path) -> None:
    data.import_images(pets, "pets", size=8)
    with pytest.raises(NotFound, match=r"no version 3 of 'pets'\. Its versions: 1\."):
        data.info("pets@3")


def test_a_version_that_a_run_used_is_removed_only_on_request(
    dltlab: Callable, pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.import_images(pets, "pets", size=8)
    data.write_provenance("runs/first", ["pets", "digits"])
    assert f"used by       {tmp_path / 'runs' / 'first'}" in dltlab("data", "info", "pets").out
    monkeypatch.setattr("typer.confirm", lambda question: False)
    answer = dltlab("data", "remove", "pets")
    assert answer.code == 2
    assert f"The run {tmp_path / 'runs' / 'first'} used pets@1." in answer.out
    assert "pets was not removed" in answer.err
    assert data.info("pets").version == 1
    answer = dltlab("data", "remove", "pets", "--yes")
    assert (answer.code, answer.out) == (0, "Removed from your store: pets@1.\n")
    assert store.imported_datasets() == []


def test_versions_without_a_run_are_removed_at_once(
    dltlab: Callable, pets: Path, own_store: Path
) -> None:
    for size in (8, 16):
        data.import_images(pets, "pets", size=size)
    assert data.info("pets").version == 2
    assert dltlab("data", "remove", "pets@1").code == 0
    assert (store.versions("pets"), data.info("pets").size) == ([2], 16)
    dltlab("data", "remove", "pets")
    assert store.versions("pets") == []
    assert not list((own_store / "pets").glob("[!.]*"))


def test_remove_deletes_what_a_card_has_stored(dltlab: Callable, own_store: Path) -> None:
    assert data.remove("digits") == "Removed from your store: digits."
    data.load("digits", "test", cache="disk")
    assert any((own_store / "digits").glob("decoded-*"))
    (own_store / "digits" / "some.gz").write_bytes(b"downloaded")
    assert dltlab("data", "remove", "digits").code == 0
    assert [path.name for path in (own_store / "digits").iterdir()] == [".lock"]
    assert len(data.load("digits", "test")) == 450


def test_every_command_has_a_help_text(dltlab: Callable) -> None:
    out = dltlab("data", "--help").out
    commands = ("list", "info", "import", "show", "fetch", "verify", "remove")
    assert all(command in out for command in commands)
