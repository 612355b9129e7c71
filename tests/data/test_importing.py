"""From a user's own images to a version: what is taken, under which label, in which split."""

import csv
import io
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import write_tar, write_zip
from PIL import Image

from dltlab.data import import_images, store
from dltlab.data.importing import Import
from dltlab.data.store import Manifest
from dltlab.errors import LabError

SIZE = 8
Files = dict[str, bytes]


@pytest.fixture(autouse=True)
def kept_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "source"


def values(what: object) -> np.ndarray:
    """The pixels of an image that only `what` decides."""
    random = np.random.default_rng(zlib.crc32(str(what).encode()))
    return random.integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def images(*folders: str, count: int = 10) -> Files:
    names = [f"{folder}/{number:03}.png" for folder in folders for number in range(count)]
    return {name: png(values(name)) for name in names}


def write(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def run(source: Path, **options: Any) -> Import:
    return import_images(source, "pets", **{"size": SIZE, **options})


def rows(manifest: Manifest, file: str = "images.csv") -> list[dict[str, str]]:
    with (manifest.folder / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def labels(found: Import) -> dict[str, str]:
    return {row["name"]: row["class"] for row in rows(found.manifest)}


def splits(found: Import) -> dict[str, str]:
    return {row["name"]: row["split"] for row in rows(found.manifest)}


def pixels(manifest: Manifest) -> np.ndarray:
    shards = sorted(manifest.folder.glob("images-*.npy"))
    return np.concatenate([np.load(shard) for shard in shards])


# What is taken, and under which label


def test_each_folder_is_a_class_and_each_image_is_kept_with_its_label(source: Path) -> None:
    files = images("cat", "dog", "emu")
    manifest = run(write(source, files)).manifest
    assert manifest.classes == ["cat", "dog", "emu"]
    found = np.load(manifest.folder / "labels.npy")
    assert found.dtype == np.int64
    assert len(rows(manifest)) == len(files)
    for row, label, image in zip(rows(manifest), found, pixels(manifest), strict=True):
        assert row["class"] == manifest.classes[label] == row["name"].partition("/")[0]
        assert np.array_equal(image, values(row["name"]))


@pytest.mark.parametrize("above", ["", "photos/", "download/photos/", "train/"])
def test_folders_around_those_of_the_classes_do_not_matter(source: Path, above: str) -> None:
    files = {f"{above}{name}": content for name, content in images("cat", "dog").items()}
    found = run(write(source, files))
    assert found.manifest.classes == ["cat", "dog"]
    assert set(splits(found).values()) == {"train", "validation", "test"}


def test_folders_below_a_class_are_part_of_it(source: Path) -> None:
    found = run(write(source, images("cat/old", "cat/new", "dog/old", "dog/new", "dog")))
    assert Counter(labels(found).values()) == {"cat": 20, "dog": 30}


@pytest.mark.parametrize("above", ["", "data/"])
@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "validation", "test"), ["train", "validation", "test"]),
        (("Training", "VAL", "testing"), ["train", "validation", "test"]),
        (("train", "valid"), ["train", "validation", "test"]),
    ],
)
def test_folders_that_name_a_split_decide_it(
    source: Path, above: str, folders: tuple[str, ...], expected: list[str]
) -> None:
    classes = [f"{above}{split}/{label}" for split in folders for label in ("cat", "dog")]
    found = run(write(source, images(*classes)))
    assert found.manifest.classes == ["cat", "dog"]
    assert set(splits(found).values()) == set(expected)
    known = dict(zip(folders, expected, strict=False))
    for name, split in splits(found).items():
        given = known[name.removeprefix(above).partition("/")[0]]
        assert split == given or (given == "train" and len(folders) == 2)


def test_where_only_a_test_is_given_validation_is_taken_from_the_rest(source: Path) -> None:
    folders = [f"{split}/{label}" for split in ("train", "test") for label in ("cat", "dog")]
    found = run(write(source, images(*folders)), validation=20, test=50)
    assert found.manifest.counts == {"train": [8, 8], "validation": [2, 2], "test": [10, 10]}


def test_hidden_files_are_passed_over_and_strangers_are_named(source: Path) -> None:
    strangers = {"cat/notes.md": b"x", "dog/clip.gif": b"x", "logo.png": png(values("logo"))}
    hidden = {"cat/._1.png": b"x", ".git/a.png": b"x", "__MACOSX/cat/1.png": b"x"}
    hidden |= {"cat/Thumbs.db": b"x", "dog/desktop.ini": b"x", ".DS_Store": b"x"}
    found = run(write(source, images("cat", "dog") | strangers | hidden))
    assert found.left_out == [
        ("cat/notes.md", "is no image file"),
        ("dog/clip.gif", "is no image file"),
        ("logo.png", "is in no class's folder"),
    ]


def test_what_cannot_serve_is_left_out_with_a_reason_and_kept_on_record(source: Path) -> None:
    broken = {
        "cat/empty.png": b"",
        "cat/text.jpg": b"no image",
        "dog/cut.png": png(values("cut"))[:-60],
        "dog/tiny.png": png(np.zeros((3, 4, 3), np.uint8)),
    }
    found = run(write(source, images("cat", "dog") | broken))
    assert found.left_out == [
        ("cat/empty.png", "is empty"),
        ("cat/text.jpg", "is damaged or no image"),
        ("dog/cut.png", "is damaged or no image"),
        ("dog/tiny.png", "is tiny: 4×3 pixels"),
    ]
    kept = [tuple(row.values()) for row in rows(found.manifest, "left_out.csv")]
    assert kept == found.left_out
    assert len(labels(found)) == 20


def test_a_wrong_suffix_and_upper_case_do_no_harm(source: Path) -> None:
    files = {name.replace(".png", ".JPG"): file for name, file in images("cat", "dog").items()}
    assert len(labels(run(write(source, files)))) == 20


def test_a_linked_image_is_taken_and_a_linked_folder_is_named(source: Path) -> None:
    write(source, images("cat", "dog"))
    (source.parent / "else.png").write_bytes(png(values("else")))
    (source / "cat" / "linked.png").symlink_to(source.parent / "else.png")
    (source / "dog" / "gone.png").symlink_to(source.parent / "gone.png")
    (source / "emu").symlink_to(source / "dog")
    (source / "dog" / "round").symlink_to(source)
    found = run(source)
    assert labels(found)["cat/linked.png"] == "cat"
    assert found.left_out == [
        ("dog/gone.png", "cannot be read (No such file or directory)"),
        ("dog/round", "is a link to a folder"),
        ("emu", "is a link to a folder"),
    ]


# Archives


@pytest.mark.parametrize("suffix", [".tar", ".gz", ".bz2", ".xz", ".zip"])
def test_an_archive_gives_the_same_version_as_its_folder(source: Path, suffix: str) -> None:
    files = images("cat", "dog") | {"cat/empty.png": b"", "dog/notes.md": b"x"}
    files |= {"dog/twin.png": files["dog/003.png"]}
    first = run(write(source, files))
    write_archive = write_zip if suffix == ".zip" else write_tar
    backward = dict(reversed(files.items()))
    again = run(write_archive(source.with_suffix(suffix), backward))
    assert (again.is_new, again.manifest) == (False, first.manifest)
    assert again.left_out == first.left_out


def test_an_archive_is_known_by_its_bytes_and_not_by_its_suffix(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "images.zip", images("cat", "dog"))
    assert len(labels(run(archive.rename(tmp_path / "images")))) == 20


def test_in_an_archive_as_in_a_folder_a_image_of_the_test_stays_there(tmp_path: Path) -> None:
    train = images("train/cat", "train/dog")
    test = images("test/cat", "test/dog") | {"test/cat/same.png": train["train/cat/004.png"]}
    found = run(write_tar(tmp_path / "images.tar", train | test))
    assert splits(found)["test/cat/same.png"] == "test"
    assert "train/cat/004.png" not in splits(found)


# Lists


LINES = {
    ".txt": "{0} {1}\n",
    ".csv": '"{0}",{1}\n',
    ".tsv": "{0}\t{1}\n",
}


@pytest.mark.parametrize("suffix", LINES)
def test_a_list_names_images_and_labels(source: Path, suffix: str) -> None:
    files = images("first heap", "second, heap")
    wanted = {name: ("odd", "even")[place % 2] for place, name in enumerate(files)}
    write(source, files)
    listed = source / f"list{suffix}"
    listed.write_text("".join(LINES[suffix].format(*each) for each in wanted.items()))
    found = run(listed)
    assert labels(found) == wanted
    assert found.manifest.classes == ["even", "odd"]
    assert found.left_out == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_list_may_come_from_another_system(source: Path, mark: str, end: str) -> None:
    names = list(write_and_name(source))
    lines = mark + end.join(f"{name},{name[:3]}" for name in names) + end + end
    (source / "list.csv").write_bytes(lines.encode())
    assert len(labels(run(source / "list.csv"))) == len(names)


def write_and_name(source: Path) -> Files:
    files = images("cat", "dog")
    write(source, files)
    return files


def test_a_heading_is_no_image(source: Path) -> None:
    names = write_and_name(source)
    lines = ["path,label", *(f"{name},{name[:3]}" for name in names)]
    (source / "list.csv").write_text("\n".join(lines))
    found = run(source / "list.csv")
    assert found.manifest.classes == ["cat", "dog"]
    assert found.left_out == [("line 1", "is the heading")]


def test_lines_that_lead_nowhere_or_outside_are_left_out(source: Path) -> None:
    names = write_and_name(source)
    (source.parent / "else.png").write_bytes(png(values("else")))
    odd = ["../else.png,cat", f"{source.parent}/else.png,cat", "cat/gone.png,cat", "only", ",dog"]
    odd += ["a\0b.png,cat"]
    lines = [*(f"{name},{name[:3]}" for name in names), *odd]
    (source / "list.csv").write_text("\n".join(lines))
    assert dict(run(source / "list.csv").left_out) == {
        "../else.png": "leads outside the list's folder",
        f"{source.parent}/else.png": "leads outside the list's folder",
        "cat/gone.png": "cannot be read (No such file or directory)",
        "line 24": "names no image and label",
        "line 25": "names no image and label",
        "line 26": "names no image and label",
    }


# Equal images


def test_of_equal_images_in_a_class_one_stays(source: Path) -> None:
    files = images("cat", "dog")
    found = run(write(source, files | {"cat/again.png": files["cat/003.png"]}))
    assert found.left_out == [("cat/again.png", "is the same image as cat/003.png")]


def test_equal_pixels_in_another_file_format_are_the_same_image(source: Path) -> None:
    files = images("cat", "dog")
    file = io.BytesIO()
    Image.fromarray(values("cat/003.png")).save(file, "BMP")
    found = run(write(source, files | {"cat/again.bmp": file.getvalue()}))
    assert found.left_out == [("cat/again.bmp", "is the same image as cat/003.png")]


def test_equal_images_in_two_classes_are_said_to_be_wrong(source: Path) -> None:
    files = images("cat", "dog")
    found = run(write(source, files | {"dog/cat.png": files["cat/003.png"]}))
    assert found.left_out == [
        (
            "dog/cat.png",
            "is the same image as cat/003.png, which is in another class: one of the two is wrong",
        )
    ]


def test_of_a_image_in_train_and_test_that_of_the_test_stays_and_a_note_says_so(
    source: Path,
) -> None:
    files = images("train/cat", "train/dog", "test/cat", "test/dog")
    files["train/cat/000.png"] = files["test/cat/009.png"]
    found = run(write(source, files))
    reason = "is the same image as test/cat/009.png, which is in the test split"
    assert found.left_out == [("train/cat/000.png", reason)]
    assert splits(found)["test/cat/009.png"] == "test"
    assert found.notes == [
        "1 image was in two splits. Each is kept in one of them: a test with images from "
        "training tests memory."
    ]


def test_no_image_is_in_two_splits(source: Path) -> None:
    files = images("train/cat", "train/dog", "validation/cat", "validation/dog")
    files |= images("test/cat", "test/dog")
    same = png(values("same"))
    files |= {f"{split}/dog/x.png": same for split in ("train", "validation", "test")}
    found = run(write(source, files))
    digests = [row["digest"] for row in rows(found.manifest)]
    assert len(set(digests)) == len(digests) == 61
    assert splits(found)["test/dog/x.png"] == "test"


# Splits


def test_every_class_is_divided_in_the_same_shares(source: Path) -> None:
    files = images("cat", count=100) | images("dog", count=40)
    assert run(write(source, files)).manifest.counts == {
        "train": [70, 28],
        "validation": [20, 8],
        "test": [10, 4],
    }


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [
        (0, 0, (20, 0, 0)),
        (100, 0, (0, 20, 0)),
        (0, 100, (0, 0, 20)),
        (1, 1, (18, 1, 1)),
        (99, 1, (1, 18, 1)),
        (50, 50, (1, 9, 10)),
    ],
)
def test_none_are_held_out_for_nought_percent_only_and_all_for_a_hundred_only(
    source: Path, validation: int, test: int, expected: tuple[int, int, int]
) -> None:
    write(source, images("cat", "dog", count=20))
    counts = run(source, validation=validation, test=test).manifest.counts
    assert [counts[split] for split in ("train", "validation", "test")] == [
        [count, count] for count in expected
    ]


def test_the_split_depends_on_the_seed_and_on_nothing_else(source: Path, tmp_path: Path) -> None:
    files = images("cat", "dog", count=30)
    first = splits(run(write(source, files), seed=1))
    assert splits(run(source, seed=1)) == first
    assert splits(run(source, seed=2)) != first
    renamed = write(tmp_path / "else", {f"{name[:-4]}b.png": file for name, file in files.items()})
    again = {name.replace("b.png", ".png"): split for name, split in splits(run(renamed)).items()}
    assert again == first


def test_a_new_image_moves_few_of_the_others_to_another_split(source: Path) -> None:
    files = images("cat", "dog", count=50)
    first = splits(run(write(source, files)))
    second = splits(run(write(source, {"cat/new.png": png(values("new"))})))
    assert sum(second[name] != split for name, split in first.items()) <= 2


# Statistics and files


def test_mean_and_deviation_are_those_of_the_training_images(source: Path) -> None:
    found = run(write(source, images("cat", "dog", count=30)), size=13).manifest
    train = pixels(found)[np.load(found.folder / "splits.npy") == 0] / 255
    assert found.mean == pytest.approx(train.mean((0, 1, 2)), rel=1e-6)
    assert found.std == pytest.approx(train.std((0, 1, 2)), rel=1e-5)


def test_the_deviation_of_a_color_that_never_changes_is_nought(source: Path) -> None:
    files = {}
    for number in range(20):
        pixels = np.full((9, 9, 3), (number, 201, 77), np.uint8)
        files[f"{('cat', 'dog')[number % 2]}/{number}.png"] = png(pixels)
    found = run(write(source, files), size=60).manifest
    assert found.std[1:] == pytest.approx([0, 0], abs=1e-3)
    assert store.manifest("pets") == found


def test_without_training_images_the_statistics_are_those_of_all(source: Path) -> None:
    found = run(write(source, images("cat", "dog")), validation=0, test=100).manifest
    assert found.mean == pytest.approx((pixels(found) / 255).mean((0, 1, 2)), rel=1e-6)


def test_shards_hold_the_images_in_order(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images("cat", "dog", count=45)
    whole = run(write(source, files)).manifest
    monkeypatch.setattr(store.Shards, "ROWS_BYTES", 7 * SIZE * SIZE * 3 + 5)
    parts = import_images(source, "parts", size=SIZE).manifest
    shards = sorted(parts.folder.glob("images-*.npy"))
    lengths = [len(np.load(shard, mmap_mode="r")) for shard in shards]
    assert lengths == [7] * 12 + [6]
    assert np.array_equal(pixels(parts), pixels(whole))
    assert store.damage(parts) == []


def test_the_manifest_says_what_the_version_is(source: Path) -> None:
    write(source, images("cat", "dog"))
    found = run(source, resize="fit", seed=3).manifest
    assert store.manifest("pets") == store.manifest("pets@1") == found
    assert (found.tag, found.source, found.seed) == ("pets@1", "source", 3)
    assert (found.size, found.resize, found.shape) == (SIZE, "fit", [SIZE, SIZE, 3])
    assert found.title == "20 images of 2 classes, 8×8 pixels, imported from source."
    named = {path.name for path in found.folder.iterdir()} - {"manifest.json"}
    assert set(found.files) == named
    assert store.damage(found) == []
    assert store.imported() == [found]


def test_the_files_beside_the_pixels_agree(source: Path) -> None:
    found = run(write(source, images("cat", "dog", "emu"))).manifest
    codes = np.load(found.folder / "splits.npy")
    assert codes.dtype == np.int8
    names = ["train", "validation", "test"]
    assert [row["split"] for row in rows(found)] == [names[code] for code in codes]
    counted = Counter((row["split"], row["class"]) for row in rows(found))
    assert found.counts == {
        split: [counted[split, label] for label in found.classes] for split in names
    }


# Versions


def test_the_same_images_again_are_the_same_version(source: Path, kept_in: Path) -> None:
    first = run(write(source, images("cat", "dog")))
    before = {path: path.stat().st_mtime_ns for path in kept_in.rglob("*.npy")}
    again = run(source)
    assert (first.is_new, again.is_new) == (True, False)
    assert again.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in kept_in.rglob("*.npy")} == before
    assert store.versions("pets") == [1]


def test_changed_images_are_a_new_version_beside_the_old_one(source: Path) -> None:
    first = run(write(source, images("cat", "dog"))).manifest
    write(source, {"cat/new.png": png(values("new"))})
    second = run(source).manifest
    assert store.versions("pets") == [1, 2]
    assert store.manifest("pets") == second
    assert store.manifest("pets@1") == first
    assert store.damage(first) == store.damage(second) == []


@pytest.mark.parametrize("change", [{"size": 9}, {"resize": "fit"}, {"seed": 2}, {"test": 40}])
def test_other_settings_are_another_version(source: Path, change: dict[str, Any]) -> None:
    write(source, images("cat", "dog", count=20))
    run(source)
    assert run(source, **change).is_new
    assert not run(source).is_new
    assert store.versions("pets") == [1, 2]


def test_going_back_to_older_images_finds_the_older_version(source: Path) -> None:
    first = run(write(source, images("cat", "dog"))).manifest
    write(source, {"cat/new.png": png(values("new"))})
    run(source)
    (source / "cat" / "new.png").unlink()
    assert run(source).manifest == first


# Options


def test_few_images_are_enough_where_one_says_so(source: Path) -> None:
    write(source, images("cat", "dog", count=2))
    with pytest.raises(LabError, match=r"'cat' has 2, 'dog' has 2, and 5 is the least\. Add"):
        run(source)
    assert run(source, min_per_class=2).manifest.counts["train"] == [1, 1]


def test_a_class_that_is_too_small_without_its_broken_files_says_which(source: Path) -> None:
    files = images("cat", "dog", count=6)
    files["cat/000.png"] = files["cat/001.png"] = b""
    with pytest.raises(LabError) as caught:
        run(write(source, files))
    assert str(caught.value) == (
        "Too few images: 'cat' has 4, and 5 is the least. Add some, remove the folder, or lower "
        "min_per_class (--min-per-class). Left out: cat/000.png is empty (and 1 more)."
    )
    assert store.versions("pets") == []


def test_no_more_than_max_per_class_are_taken_and_the_seed_chooses(source: Path) -> None:
    write(source, images("cat", count=30) | images("dog", count=8))
    first = run(source, max_per_class=10)
    assert Counter(labels(first).values()) == {"cat": 10, "dog": 8}
    assert labels(run(source, max_per_class=10)) == labels(first)
    assert labels(run(source, max_per_class=10, seed=2)) != labels(first)


def test_like_takes_the_classes_of_another_data_set_in_their_order(
    source: Path, tmp_path: Path
) -> None:
    known = import_images(write(source, images("ant", "cat", "dog")), "known", size=SIZE)
    other = write(tmp_path / "other", images("cat"))
    found = run(other, like="known", validation=0, test=100).manifest
    assert found.classes == known.manifest.classes == ["ant", "cat", "dog"]
    assert set(np.load(found.folder / "labels.npy")) == {1}
    assert found.counts["test"] == [0, 10, 0]


def test_like_takes_the_size_and_the_way_of_the_other_data_set_too(
    source: Path, tmp_path: Path
) -> None:
    import_images(write(source, images("ant", "cat")), "known", size=SIZE, resize="fit")
    other = write(tmp_path / "other", images("cat"))
    same = import_images(other, "pets", like="known").manifest
    assert (same.size, same.resize) == (SIZE, "fit")
    own = import_images(other, "pets", like="known", size=SIZE + 1, resize="squash").manifest
    assert (own.size, own.resize) == (SIZE + 1, "squash")


def test_like_refuses_a_class_that_the_other_does_not_have(source: Path, tmp_path: Path) -> None:
    import_images(write(source, images("ant", "cat")), "known", size=SIZE)
    other = write(tmp_path / "other", images("cat", "emu\x1b[31m"))
    with pytest.raises(LabError) as caught:
        run(other, like="known")
    assert str(caught.value) == "No such class: emu\\x1b[31m. The classes are: ant, cat."


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ("tinyshakespeare", "The data set 'tinyshakespeare' holds text; name one of images"),
        ("nothing", "There is no data set 'nothing'"),
        ("pets@4", "There is no data set 'pets@4'"),
    ],
)
def test_like_names_a_data_set_of_images(source: Path, like: str, message: str) -> None:
    with pytest.raises(LabError, match=message):
        run(write(source, images("cat", "dog")), like=like)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": -1}, "validation is -1; it must be a percentage from 0 to 100."),
        ({"validation": 101}, "validation is 101; it must be a percentage from 0 to 100."),
        ({"test": -1}, "test is -1; it must be a percentage, and together with validation at most"),
        ({"validation": 60, "test": 50}, "test is 50; it must be a percentage, and together with"),
        ({"size": 7}, "size is 7; it must be from 8 to 2048 pixels."),
        ({"size": 2049}, "size is 2049; it must be from 8 to 2048 pixels."),
        ({"resize": "zoom"}, "resize is zoom; it must be one of crop, squash, fit."),
        ({"min_per_class": 0}, "min_per_class is 0; it must be 1 or more."),
        ({"max_per_class": 4}, "max_per_class is 4; it must be at least min_per_class, which is 5"),
        ({"max_per_class": 0}, "max_per_class is 0; it must be at least min_per_class, which is 5"),
        ({"seed": -1}, "seed is -1; it must be 0 or more."),
    ],
)
def test_a_setting_without_sense_is_refused_before_anything_is_written(
    source: Path, kept_in: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(LabError) as caught:
        run(write(source, images("cat", "dog")), **options)
    assert str(caught.value).startswith(message)
    assert not kept_in.exists()


@pytest.mark.parametrize(
    "name", ["", "Pets", "my pets", "../pets", ".pets", "-pets", "pets@1", "p" * 65, "pets\n"]
)
def test_a_name_that_cannot_be_one_is_refused(source: Path, kept_in: Path, name: str) -> None:
    with pytest.raises(LabError, match="cannot name a data set: use up to 64 of a-z"):
        import_images(write(source, images("cat", "dog")), name, size=SIZE)
    assert not kept_in.exists()


def test_the_name_of_a_card_is_refused(source: Path) -> None:
    with pytest.raises(LabError, match="'mnist' is a data set of the course: choose another name"):
        import_images(write(source, images("cat", "dog")), "mnist", size=SIZE)


def test_a_single_class_is_refused_with_the_mend(source: Path) -> None:
    with pytest.raises(LabError) as caught:
        run(write(source, images("cat")))
    assert str(caught.value) == (
        f"{source} holds a single class, 'cat': there is nothing to tell apart. Name the folder "
        "that holds the classes' folders."
    )


def test_classes_out_of_balance_are_noted(source: Path) -> None:
    write(source, images("cat", count=40) | images("dog", count=10))
    (note,) = run(source).notes
    assert note.startswith(
        "The classes are out of balance: 'cat' has 40 images, 'dog' has 10. Accuracy will speak"
    )
    assert run(source, max_per_class=30).notes == []
