"""The commands of `dltlab data`, as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dltlab import data
from dltlab.cli import app, main
from dltlab.data import catalog, store
from dltlab.data.contact_sheet import contact_sheet
from dltlab.errors import LabError


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("DLTLAB_DATA_MIRROR", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "store"


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Images of two classes, one with a name that means something to a terminal."""
    folder = tmp_path / "my pets"
    random = np.random.default_rng(1)
    for name, number in (("cat $x$ [red]", 12), ("dog \x1b[31m", 40)):
        (folder / name).mkdir(parents=True)
        for place in range(number):
            pixels = random.integers(0, 255, (12, 10, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{place}.png")
    (folder / "dog \x1b[31m" / "broken\n.jpg").write_bytes(b"\xff\xd8")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit code of `dltlab data …`, and what it said on stdout and stderr."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["dltlab", "data", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_list_names_every_data_set_and_where_it_is(
    capsys: pytest.CaptureFixture[str], pets: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    lines = {line.name: line for line in catalog.shelf()}
    assert list(lines)[-1] == "pets@1"
    assert lines["cifar10"].where == "to fetch: 170.1 MB"
    assert lines["digits"].where == "comes with dltlab"
    assert lines["pets@1"].holds == "52 color images 8×8, 2 classes"
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert all(name.split("@")[0] in out for name in lines)


def test_import_shows_the_balance_what_is_left_out_and_how_to_go_on(
    capsys: pytest.CaptureFixture[str], pets: Path
) -> None:
    code, out, _ = run(capsys, "import", str(pets), "--name", "pets", "--size", "8")
    assert code == 0
    assert "cat $x$ [red]            9          2          1  █████████\n" in out
    assert r"dog \x1b[31m/broken\n.jpg is damaged or no image" in out
    assert "out of balance" in out
    assert "pets@1 is new: 52 images of 2 classes, 8×8 pixels, imported from my pets." in out
    assert "\x1b" not in out
    code, out, _ = run(capsys, "import", str(pets), "--name", "pets", "--size", "8")
    assert "pets@1 was there already" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["import", "nowhere", "--name", "pets"], "nowhere does not exist"),
        (["import", "my pets", "--name", "Pets!"], "'Pets!' cannot name a data set"),
        (["import", "my pets", "--name", "mnist"], "'mnist' is a data set of the course"),
        (["import", "my pets", "--name", "p", "--min-per-class", "20"], "has 12, and 20 is the"),
        (["import", "my pets", "--name", "p", "--resize", "blur"], "one of crop, squash, fit"),
        (["info", "cats"], "There is no data set 'cats'. The data sets are: cifar10"),
        (["show", "python_docs"], "holds text, no images to show"),
        (["remove", "cats"], "There is no data set 'cats'"),
        (["verify", "cats"], "There is no data set 'cats'"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], pets: Path, arguments: list[str], sentence: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.startswith("dltlab: ")
    assert err.count("\n") == 1
    assert store.imported() == []


def test_info_tells_the_card_or_the_manifest(
    capsys: pytest.CaptureFixture[str], pets: Path
) -> None:
    assert "SHA-256 c4a38c50a1bc" in run(capsys, "info", "cifar10")[1]
    assert "depends on the version of Python" in run(capsys, "info", "python_docs")[1]
    data.import_images(pets, "pets", size=8)
    out = run(capsys, "info", "pets")[1]
    assert "mean          red 0." in out
    assert "class" in out


def test_show_writes_a_contact_sheet_and_says_what_is_on_it(
    capsys: pytest.CaptureFixture[str], pets: Path, tmp_path: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    code, out, err = run(capsys, "show", "pets")
    assert (code, err) == (0, "")
    assert "cat $x$ [red] 12" in out
    with Image.open(tmp_path / "pets.png") as sheet:
        assert sheet.width > 800


def test_the_contact_sheet_shows_classes_and_counts() -> None:
    figure, alt = contact_sheet("digits")
    images, bars = figure.axes
    assert [label.get_text() for label in images.get_yticklabels()] == list("0123456789")
    assert len(bars.patches) == 20
    assert "1,797 images of 10 classes" in figure.get_suptitle()
    assert "0 178; 1 182;" in alt


def test_verify_finds_a_changed_byte(
    capsys: pytest.CaptureFixture[str], pets: Path, own_store: Path
) -> None:
    data.import_images(pets, "pets", size=8)
    assert run(capsys, "verify")[:2] == (0, "Every byte in your store is right.\n")
    shard = own_store / "pets" / "1" / "images-00000.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    (own_store / "mnist").mkdir()
    (own_store / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"cut")
    code, out, _ = run(capsys, "verify")
    assert code == 1
    assert f"{shard} has other bytes than its manifest says." in out
    assert "t10k-labels-idx1-ubyte.gz has other bytes than its card says" in out


def test_a_truncated_shard_or_manifest_is_named_with_the_mend(pets: Path, own_store: Path) -> None:
    data.import_images(pets, "pets", size=8)
    shard = own_store / "pets" / "1" / "images-00000.npy"
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(LabError, match=r"'pets@1' is damaged .*dltlab data remove pets@1"):
        data.load("pets")
    (own_store / "pets" / "1" / "manifest.json").write_text("{")
    with pytest.raises(LabError, match=r"manifest\.json is damaged\. Remove that version"):
        data.info("pets")
    assert catalog.remove("pets@1") == "Removed from your store: pets@1."
    assert store.versions("pets") == []


def test_a_run_records_its_data_and_what_it_used_is_not_removed_unasked(
    capsys: pytest.CaptureFixture[str],
    pets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data.import_images(pets, "pets", size=8)
    code = (
        "from dltlab import data\n"
        "data.arrays('pets'); data.arrays('digits'); data.record('runs/first')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    recorded = json.loads((tmp_path / "runs" / "first" / "data.json").read_text())
    assert [(each["name"], each["version"]) for each in recorded] == [
        ("pets", 1),
        ("digits", "1998"),
    ]
    assert recorded[0]["content_hash"] == data.info("pets").content_hash
    monkeypatch.setattr("typer.confirm", lambda question: False)
    status, out, err = run(capsys, "remove", "pets")
    assert status == 2
    assert f"The run {tmp_path / 'runs' / 'first'} used pets@1." in out
    assert "pets is kept" in err
    assert data.info("pets").version == 1
    assert run(capsys, "remove", "pets", "--yes")[:2] == (0, "Removed from your store: pets@1.\n")
    assert store.imported() == []


def test_what_no_run_used_is_removed_at_once_version_by_version(
    capsys: pytest.CaptureFixture[str], pets: Path, own_store: Path
) -> None:
    for size in (8, 16):
        data.import_images(pets, "pets", size=size)
    assert data.info("pets").version == 2
    assert run(capsys, "remove", "pets@1")[0] == 0
    assert (store.versions("pets"), data.info("pets").size) == ([2], 16)
    run(capsys, "remove", "pets")
    assert store.versions("pets") == []
    assert not list((own_store / "pets").glob("[!.]*"))


def test_the_number_of_a_removed_version_is_never_given_again(pets: Path) -> None:
    data.import_images(pets, "pets", size=8)
    data.import_images(pets, "pets", size=16)
    catalog.remove("pets@2")
    assert data.import_images(pets, "pets", size=32).manifest.version == 3
    catalog.remove("pets")
    assert data.import_images(pets, "pets", size=8).manifest.version == 4


def test_remove_gives_back_what_a_card_has_fetched(
    capsys: pytest.CaptureFixture[str], own_store: Path
) -> None:
    data.load("digits", "test", cache="disk")
    assert any((own_store / "digits").glob("decoded-*"))
    assert run(capsys, "remove", "digits")[0] == 0
    assert [path.name for path in (own_store / "digits").iterdir()] == [".lock"]
    assert len(data.load("digits", "test")) == 450


def test_every_command_explains_itself() -> None:
    from typer.testing import CliRunner

    said = CliRunner().invoke(app, ["data", "--help"]).output
    assert all(
        name in said for name in ("list", "info", "import", "show", "fetch", "verify", "remove")
    )
