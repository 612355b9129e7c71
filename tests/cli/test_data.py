"""The commands `dltlab data …`: what they print and how they end."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dltlab import data
from tests.course_cards import write_card
from tests.image_sources import image_files, write_files, write_odd_pets


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own working folder and store, and no mirror."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("DLTLAB_DATA_MIRROR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """The folder `my pets` with two classes of images."""
    return write_odd_pets(tmp_path / "my pets")


def test_list_names_every_data_set_and_its_location(dltlab: Callable, pets: Path) -> None:
    data.import_images(pets, "pets", size=8)
    answer = dltlab("data", "list")
    assert answer.code == 0
    assert "to download: 170.1 MB" in answer.out
    assert all(entry.name.partition("@")[0] in answer.out for entry in data.list_datasets())


def test_info_describes_the_card_or_the_imported_images(dltlab: Callable, pets: Path) -> None:
    assert "SHA-256 c4a38c50a1bc" in dltlab("data", "info", "cifar10").out
    assert "depends on the version of Python" in dltlab("data", "info", "python_docs").out
    data.import_images(pets, "pets", size=8)
    out = dltlab("data", "info", "pets").out
    assert "mean          red 0." in out
    assert "class" in out


def test_import_shows_classes_files_left_out_and_the_next_step(
    dltlab: Callable, pets: Path
) -> None:
    command = ("data", "import", pets, "--name", "pets", "--size", 8)
    answer = dltlab(*command)
    assert answer.code == 0
    assert "cat $x$ [red]            9          2          1  █████████\n" in answer.out
    assert r"dog \x1b[31m/broken\n.jpg is damaged or not an image" in answer.out
    assert "imbalanced" in answer.out
    assert "pets@1 is new: 52 images of 2 classes, 8×8 pixels, imported from my pets." in answer.out
    assert "\x1b" not in answer.out
    assert "pets@1 exists already, with the same images" in dltlab(*command).out


def test_import_takes_fractions(dltlab: Callable, pets: Path) -> None:
    options = ("--validation", 0.5, "--test", 0, "--size", 8)
    assert dltlab("data", "import", pets, "--name", "pets", *options).code == 0
    assert data.info("pets").counts == {"train": [6, 20], "validation": [6, 20], "test": [0, 0]}


def test_show_writes_a_contact_sheet_and_describes_it(
    dltlab: Callable, pets: Path, tmp_path: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    answer = dltlab("data", "show", "pets")
    assert (answer.code, answer.err) == (0, "")
    assert "cat $x$ [red] 12" in answer.out
    assert answer.out.endswith("Wrote pets.png.\n")
    with Image.open(tmp_path / "pets.png") as sheet:
        assert sheet.width > 800


def test_show_overwrites_only_the_file_that_it_is_told_to(
    dltlab: Callable, pets: Path, tmp_path: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    (tmp_path / "pets.png").write_text("mine")

    answer = dltlab("data", "show", "pets")

    assert answer.code == 2
    assert answer.err == (
        "dltlab: There is a file pets.png already; name the one to write with --out.\n"
    )
    assert (tmp_path / "pets.png").read_text() == "mine"
    assert dltlab("data", "show", "pets", "--out", "pets.png").out.endswith("Wrote pets.png.\n")


def test_fetch_says_where_the_files_are(dltlab: Callable) -> None:
    assert dltlab("data", "fetch", "digits").out == "digits has no files to download.\n"


def test_verify_exits_with_1_for_a_damaged_file(
    dltlab: Callable, pets: Path, tmp_path: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    answer = dltlab("data", "verify")
    assert (answer.code, answer.out) == (0, "All files in your store are intact.\n")
    path = tmp_path / "store" / "pets" / "1" / "labels.npy"
    path.write_bytes(b"damaged")
    answer = dltlab("data", "verify", "pets")
    expected = f"{path} does not have the SHA-256 of its manifest.\n"
    assert (answer.code, answer.out) == (1, expected)


def test_remove_asks_before_it_removes_what_a_run_used(
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


def test_remove_does_not_ask_where_no_run_used_it(dltlab: Callable, pets: Path) -> None:
    data.import_images(pets, "pets", size=8)
    answer = dltlab("data", "remove", "pets@1")
    assert (answer.code, answer.out) == (0, "Removed from your store: pets@1.\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere", "--name", "pets"], "nowhere does not exist"),
        (["import", "my pets", "--name", "Pets!"], "'Pets!' cannot be the name of a data set"),
        (["import", "my pets", "--name", "mnist"], "'mnist' is a data set of the course"),
        (["import", "my pets", "--name", "p", "--min-per-class", "20"], "has 12, but at least 20"),
        (["import", "my pets", "--name", "p", "--resize", "blur"], "one of crop, squash, fit"),
        (["import", "my pets", "--name", "p", "--test", "10"], "a fraction in [0, 1], such as 0.2"),
        (["info", "cats"], "There is no data set 'cats'. The data sets are: captioned_shapes"),
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


@pytest.fixture
def other_course(tmp_path: Path) -> Path:
    """A course with the data set `notes`, whose file is beside the card."""
    (tmp_path / "course" / "solutions").mkdir(parents=True)
    file = tmp_path / "course" / "datasets" / "notes.txt"
    file.parent.mkdir()
    file.write_text("some notes")
    write_card("notes", "text", file, "[splits.train]\nsize = 8\n[splits.test]\nsize = 2")
    return tmp_path / "course"


def test_the_data_sets_of_a_course_are_found_with_its_folder(
    dltlab: Callable, other_course: Path
) -> None:
    option = ("--course", other_course)
    out = dltlab("data", "list", *option).out
    assert "beside its card" in out
    assert "mnist" in out
    assert "SHA-256" in dltlab("data", "info", "notes", *option).out
    answer = dltlab("data", "fetch", "notes", *option)
    assert answer.out == "notes is beside its card; all hashes are correct.\n"
    assert dltlab("data", "verify", "notes", *option).code == 0
    assert dltlab("data", "remove", "notes", *option).code == 0
    assert (other_course / "datasets" / "notes.txt").exists()
    assert "There is no data set 'notes'" in dltlab("data", "info", "notes").err


def test_a_folder_that_is_no_course_is_named(dltlab: Callable, tmp_path: Path) -> None:
    answer = dltlab("data", "list", "--course", tmp_path)
    assert answer.code == 2
    assert f"{tmp_path} is not a course" in answer.err


def test_import_takes_the_layout_of_the_folders(dltlab: Callable, tmp_path: Path) -> None:
    source = write_files(tmp_path / "cars", image_files("train/red", "train/blue", "bus"))
    command = ("data", "import", source, "--name", "cars", "--size", 8)
    answer = dltlab(*command)
    assert answer.code == 2
    assert "can be read in two ways" in answer.err
    assert dltlab(*command, "--layout", "classes").code == 0
    assert data.info("cars").class_names == ["bus", "train"]
    assert dltlab(*command, "--layout", "splits/classes").code == 0
    assert data.info("cars").class_names == ["blue", "red"]


def test_every_command_has_a_help_text(dltlab: Callable) -> None:
    out = dltlab("data", "--help").out
    commands = ("list", "info", "import", "show", "fetch", "verify", "remove")
    assert all(command in out for command in commands)
