"""Importing damaged, hostile and unusual images, and on a machine that fails.

Whatever happens, all visible versions are complete, and no unfinished files are left.
"""

import csv
import gzip
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dltlab.data import import_images, store
from dltlab.data.catalog import dataset_names
from dltlab.data.image_import import ImportResult
from dltlab.data.importing import decoding
from dltlab.data.importing.candidates import Listing
from dltlab.data.importing.folder import FolderSource
from dltlab.errors import LabError, NotFound
from dltlab.files import lock_folder
from dltlab.paths import data_dir
from tests.archives import write_tar, write_zip
from tests.deadlines import HANG_SECONDS, drop_root_permissions

Files = dict[str, bytes]
Write = Callable[[Path, Files], Path]
PIXELS = 8 * 8 * 3


@pytest.fixture(autouse=True)
def store_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own store."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


def png(number: int) -> bytes:
    """Return the file of an image of 8×8 pixels that is different for each number."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (struct.pack(">I", number) * (PIXELS // 4))[:PIXELS]
    lines = b"".join(b"\0" + rows[first : first + 24] for first in range(0, PIXELS, 24))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(lines, 1))
        + chunk(b"IEND", b"")
    )


def image_files(*folders: str, count: int = 10) -> Files:
    names = [f"{folder}/{number:03}.png" for folder in folders for number in range(count)]
    return {name: png(zlib.crc32(os.fsencode(name))) for name in names}


def write_folder(path: Path, files: Files) -> Path:
    for name, content in files.items():
        file = os.path.join(os.fsencode(path), os.fsencode(name))
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "wb") as opened:
            opened.write(content)
    return path


WRITERS: dict[str, Write] = {".tar": write_tar, ".tar.gz": write_tar, ".zip": write_zip}


def import_pets(source: Path, **options: Any) -> ImportResult:
    return import_images(source, "pets", **{"size": 8, **options})


def refusal(source: Path, **options: Any) -> str:
    """Return the error message of an import that must fail and leave nothing."""
    before = store.imported_datasets()
    with pytest.raises(LabError) as caught:
        import_pets(source, **options)
    assert store.imported_datasets() == before
    assert_nothing_unfinished()
    message = str(caught.value)
    assert message.isprintable()
    return message


def assert_nothing_unfinished() -> None:
    folder = data_dir() / "pets"
    if folder.is_dir():
        extra = {path.name for path in folder.iterdir()} - {".lock"}
        assert extra == set(map(str, store.versions("pets")))


def assert_all_complete() -> None:
    for dataset in store.imported_datasets():
        assert dataset.problems() == []


# Damaged archives


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_archive_that_is_truncated_anywhere_is_damaged(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"complete{suffix}", image_files("cat", "dog"))
    content = path.read_bytes()
    truncated = tmp_path / f"truncated{suffix}"
    needed = len(content) - (0 if suffix == ".zip" else len(content) % 512 + 8)
    if suffix == ".tar":
        needed = 20 * 1024 - 1  # the rest is the end-of-archive marker
    ends = {1, 5, 17, 100, 511, 512, 513, 1024, 1300, 1536, needed - 1}
    ends |= set(np.linspace(1, needed - 1, 25).astype(int).tolist())
    for end in sorted(end for end in ends if end < needed):
        truncated.write_bytes(content[:end])
        message = refusal(truncated)
        assert message.startswith(str(truncated)), (end, message)
        assert message.endswith("download it again."), (end, message)


def test_a_tar_archive_that_ends_between_two_members_is_damaged(tmp_path: Path) -> None:
    content = write_tar(tmp_path / "a.tar", image_files("cat", "dog")).read_bytes()
    truncated = tmp_path / "truncated.tar"
    truncated.write_bytes(content[: 19 * 1024])
    assert "is damaged or cut off (empty header): download it again." in refusal(truncated)


def test_a_damaged_header_does_not_end_a_tar_archive(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files("cat", "dog"))
    content = bytearray(archive.read_bytes())
    content[18 * 1024 + 3] ^= 1
    archive.write_bytes(content)
    assert "is damaged or cut off (bad checksum): download it again." in refusal(archive)


def test_only_the_damaged_member_of_a_zip_archive_is_left_out(tmp_path: Path) -> None:
    files = image_files("cat", "dog")
    archive = write_zip(tmp_path / "a.zip", files)
    content = bytearray(archive.read_bytes())
    content[content.index(b"cat/004.png") + 30] ^= 255
    archive.write_bytes(content)
    result = import_pets(archive)
    assert result.left_out == [("cat/004.png", "is damaged in the archive")]
    assert result.dataset.num_images == 19


@pytest.mark.parametrize("suffix", WRITERS)
def test_changed_bytes_in_an_archive_never_lead_to_a_traceback(tmp_path: Path, suffix: str) -> None:
    archive = WRITERS[suffix](tmp_path / f"a{suffix}", image_files("cat", "dog", count=5))
    content = archive.read_bytes()
    random_numbers = np.random.default_rng(0)
    for _ in range(120):
        damaged = bytearray(content)
        for position in random_numbers.integers(0, len(content), 4):
            damaged[position] = random_numbers.integers(256)
        archive.write_bytes(damaged)
        with suppress(LabError):
            import_pets(archive, min_per_class=1)
    assert_nothing_unfinished()
    assert_all_complete()


# Bombs


def test_a_zip_bomb_is_refused_unread(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    zeros = bytes(1 << 20)
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("cat/1.png", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(zeros)
    message = refusal(bomb)
    assert message == (
        f"{bomb} has 0.3 MB and would unpack to 0.3 GB or more: a decompression bomb. Nothing was "
        "read from it."
    )


def test_a_tar_gz_bomb_is_refused_unread(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.tar.gz"
    member = tarfile.TarInfo("cat/1.png")
    member.size = 5000 << 20
    bomb.write_bytes(gzip.compress(member.tobuf()) + gzip.compress(bytes(1 << 20)) * 5000)
    assert "would unpack to 5.2 GB or more: a decompression bomb" in refusal(bomb)


def test_a_member_that_unpacks_to_more_than_its_stated_size_is_damaged(tmp_path: Path) -> None:
    files = image_files("cat", "dog") | {"cat/large.png": bytes(50 << 20)}
    archive = write_zip(tmp_path / "a.zip", files)
    content = archive.read_bytes()
    size = struct.pack("<I", 50 << 20)
    assert content.count(size) == 2
    archive.write_bytes(content.replace(size, struct.pack("<I", 100)))
    assert import_pets(archive).left_out == [("cat/large.png", "is damaged in the archive")]


# Hostile and unusual names

EVIL = ["../evil.png", "/evil.png", "cat/../../evil.png", "..\\evil.png", "\\evil.png"]


@pytest.mark.parametrize("suffix", WRITERS)
def test_members_that_lead_outside_are_left_out_and_written_nowhere(
    tmp_path: Path, store_dir: Path, suffix: str
) -> None:
    folder = tmp_path / "one" / "two"
    folder.mkdir(parents=True)
    evil = {name: png(number) for number, name in enumerate(EVIL)}
    archive = WRITERS[suffix](folder / f"a{suffix}", image_files("cat", "dog") | evil)
    result = import_pets(archive)
    assert result.left_out == [(name, "leads outside the archive") for name in sorted(EVIL)]
    assert [path for path in tmp_path.rglob("*") if "evil" in path.name] == []
    assert not Path("/evil.png").exists()


def test_links_and_devices_in_a_tar_archive_are_left_out(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files("cat", "dog"))
    kinds = {"fifo": tarfile.FIFOTYPE, "hard": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE}
    with tarfile.open(archive, "a") as opened:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f"cat/{name}.png")
            member.type, member.linkname = kind, "/etc/hostname"
            opened.addfile(member)
    reason = "is a link or a device"
    assert import_pets(archive).left_out == [(f"cat/{name}.png", reason) for name in kinds]


def test_links_and_encrypted_files_in_a_zip_archive_are_left_out(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", image_files("cat", "dog"))
    with zipfile.ZipFile(archive, "a") as opened:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/hostname")
        opened.writestr("cat/secret.png", png(1))
    content = bytearray(archive.read_bytes())
    entry = content.rindex(b"cat/secret.png") - 46
    content[entry + 8] |= 1
    archive.write_bytes(content)
    assert import_pets(archive).left_out == [
        ("cat/link.png", "is a link"),
        ("cat/secret.png", "is encrypted"),
    ]


UNUSUAL = [
    "a name with spaces", "quotes ' \" `", "emoji 🐈", "line\nbreak", "return\r", "comma, and ;",
    "escape \x1b[31m red", "caf\udce9", "=1+1", "very " * 30,
]  # fmt: skip


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_unusual_file_names_are_kept(tmp_path: Path, write: Write) -> None:
    names = [name for name in UNUSUAL if write is not write_zip or name.isascii()]
    files = {f"cat/{name}.png": png(number) for number, name in enumerate(names)}
    result = import_pets(write(tmp_path / "source", files | image_files("dog")))
    path = result.dataset.folder / "images.csv"
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = {row["name"] for row in csv.DictReader(file)}
    assert result.left_out == []
    assert files.keys() <= rows


@pytest.mark.parametrize("write", [write_folder, write_tar])
def test_unusual_class_names_are_kept_with_invalid_bytes_escaped(
    tmp_path: Path, write: Write
) -> None:
    dataset = import_pets(write(tmp_path / "source", image_files(*UNUSUAL))).dataset
    expected = sorted(name.replace("\udce9", "\\xe9") for name in UNUSUAL)
    assert sorted(dataset.class_names) == expected
    assert store.read_imported("pets") == dataset


def test_messages_and_reasons_have_no_control_characters(tmp_path: Path) -> None:
    files = image_files("cat", "dog\x1b[2J\nx", count=6)
    same = files["cat/003.png"]
    files["cat/\x1b[31m.png"] = files["cat/zzz.png"] = same
    result = import_pets(write_folder(tmp_path / "source", files))
    reasons = [reason for _, reason in result.left_out]
    assert reasons == ["is the same image as cat/\\x1b[31m.png"] * 2
    message = refusal(tmp_path / "source", min_per_class=9)
    assert "'dog\\x1b[2J\\nx' has 6" in message


def test_a_source_whose_name_has_invalid_bytes_is_imported(tmp_path: Path) -> None:
    result = import_pets(write_folder(tmp_path / "caf\udce9", image_files("cat", "dog")))
    assert result.dataset.source == "caf\\xe9"
    assert store.read_imported("pets") == result.dataset


def test_members_without_a_name_are_ignored(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files("cat", "dog") | {".": b"x", "": b"y"})
    assert import_pets(archive).left_out == []


# Unusual sources


def test_a_missing_source_is_named_with_the_fix(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert refusal(gone) == (
        f"{gone} does not exist. Name a folder, a tar or zip archive, or a list."
    )


@pytest.mark.parametrize("files", [{}, {"readme.txt": b"x"}, {"1.png": png(1)}])
def test_a_source_without_classes_is_refused_with_the_fix(tmp_path: Path, files: Files) -> None:
    (tmp_path / "source").mkdir()
    message = refusal(write_folder(tmp_path / "source", files))
    assert message.startswith(
        f"{tmp_path / 'source'} has no images in folders of classes: put JPEG, PNG, TIFF, BMP or "
        "WebP files into one folder per class."
    )
    assert ("Left out: " in message) == bool(files)


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_empty_archive_is_refused_with_the_fix(tmp_path: Path, suffix: str) -> None:
    assert "has no images in folders of" in refusal(WRITERS[suffix](tmp_path / f"a{suffix}", {}))


@pytest.mark.parametrize("suffix", ["", ".tar", ".zip", ".tar.gz", ".png", ".pdf"])
@pytest.mark.parametrize("content", [b"", b"no archive", bytes(3000), png(1)])
def test_another_file_is_refused_by_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfea\0,\0b\0", bytes(range(256)), b"\n\n\n"])
def test_a_file_that_is_not_a_list_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"list{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_list_of_images_that_are_elsewhere_says_where_they_are_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{number}.png {'ab'[number % 2]}\n" for number in range(12)))
    assert refusal(path) == (
        f"{path} cannot be read as a list of images: none of its 12 images exists in {tmp_path}; "
        "paths are relative to the folder of the list. It begins with '0.png a', '1.png b', "
        "'2.png a'."
    )


@pytest.mark.parametrize(
    "text", ["../\x1b[31m.png,cat", 'a.png\t"cat"\x1b\nb.png\tdog', "a.png,x\n\0.png,\x1b\n"]
)
def test_messages_about_lists_have_no_control_characters(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    assert "cannot be read as a list of images" in refusal(path)


def test_images_that_vanish_while_they_are_read_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog"))
    list_folder = FolderSource.listing

    def list_then_remove(folder: FolderSource) -> Listing:
        listing = list_folder(folder)
        (source / "cat" / "003.png").unlink()
        return listing

    monkeypatch.setattr(FolderSource, "listing", list_then_remove)
    assert import_pets(source).left_out == [("cat/003.png", "does not exist")]


def test_many_broken_files_in_a_row_are_left_out(tmp_path: Path) -> None:
    broken = {f"cat/{number}.png": b"broken" for number in range(200)}
    files = broken | image_files("dog", "emu", "cat/z")
    result = import_pets(write_folder(tmp_path / "source", files))
    assert len(result.left_out) == 200


def test_pipes_devices_and_huge_files_are_not_read(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog"))
    os.mkfifo(source / "cat" / "pipe.png")
    (source / "cat" / "zero.png").symlink_to("/dev/zero")
    with (source / "dog" / "huge.png").open("wb") as huge:
        huge.truncate(5 << 30)
    assert import_pets(source).left_out == [
        ("cat/pipe.png", "is not a regular file"),
        ("cat/zero.png", "is not a regular file"),
        ("dog/huge.png", "is too large: 5,369 MB"),
    ]


# A machine that fails

SETUP = """
import os, resource, signal, sys
from dltlab.data import import_images, store
from dltlab.data.imported import ImportedDataset
from dltlab.data.importing.shards import ShardWriter
from dltlab.errors import LabError
source = sys.argv[1]
"""


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


KILLED = """
import json

def audit(event, arguments):
    # Called whenever a file or folder of the store is opened, made, renamed or removed.
    if is_counting and event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        if str(arguments[0]).startswith(os.environ["DLTLAB_DATA_DIR"]):
            count_down()

def count_down():
    global remaining
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def before_and_after(function):
    def wrapped(*arguments, **options):
        count_down()
        result = function(*arguments, **options)
        count_down()
        return result
    return wrapped

sys.addaudithook(audit)
is_counting = False
for line in sys.stdin:
    remaining, seed = map(int, line.split())
    child = os.fork()
    if child == 0:
        is_counting, first = True, remaining
        ShardWriter.append = before_and_after(ShardWriter.append)
        ImportedDataset.model_dump_json = before_and_after(ImportedDataset.model_dump_json)
        import_images(source, "pets", size=8, seed=seed)
        is_counting = False
        os.write(1, b"finished %d\\n" % (first - remaining))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        os.write(1, b"killed %d\\n" % os.WTERMSIG(status))
"""


def test_an_import_that_is_killed_at_any_moment_leaves_only_complete_versions(
    tmp_path: Path,
) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog", count=100))
    import_pets(source)

    process = python(KILLED, source)
    assert process.stdin is not None
    assert process.stdout is not None

    def import_until(event: int, seed: int) -> list[str]:
        """Import in a process that is killed at its event of this number."""
        print(event, seed, file=process.stdin, flush=True)
        return process.stdout.readline().split()

    outcome, num_events = import_until(10**9, 2)
    assert outcome == "finished"
    assert int(num_events) > 20
    events = random.Random(0).choices(range(1, int(num_events) + 1), k=18)
    for seed, event in enumerate([*events, int(num_events) - 1, int(num_events)], 3):
        before = store.versions("pets")
        assert import_until(event, seed) == ["killed", str(int(signal.SIGKILL))]
        assert store.versions("pets")[: len(before)] == before
        versions = [dataset.version for dataset in store.imported_datasets()]
        assert versions == store.versions("pets")
        assert dataset_names().count("pets") == 1
        assert_all_complete()
    process.communicate(timeout=HANG_SECONDS)

    assert import_pets(source, seed=99).is_new
    assert_nothing_unfinished()
    assert_all_complete()


def test_a_first_import_that_is_killed_at_its_end_is_not_visible(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog"))
    code = """
from pathlib import Path
Path.replace = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
import_images(source, "pets", size=8)
"""
    process = python(code, source)
    process.communicate(timeout=HANG_SECONDS)
    assert process.returncode == -signal.SIGKILL
    assert list((data_dir() / "pets").glob(".1.*/new/manifest.json"))
    assert store.versions("pets") == store.imported_datasets() == []
    assert "pets" not in dataset_names()
    with pytest.raises(NotFound):
        store.read_imported("pets")
    assert import_pets(source).dataset.version == 1
    assert_nothing_unfinished()


@pytest.mark.parametrize("limit", [20, 3000, 20_000])
def test_a_full_disk_is_one_sentence_and_keeps_older_versions(tmp_path: Path, limit: int) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog", count=100))
    first = import_pets(source, max_per_class=5).dataset
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    import_images(source, "pets", size=8)
except LabError as error:
    sys.exit(str(error))
"""
    process = python(code, source, limit)
    _, error = process.communicate(timeout=HANG_SECONDS)
    assert error == (
        f"{first.folder.with_name('2')} cannot be written (File too large); nothing was changed. "
        "Free some space or choose a folder you may write to, then run the command again.\n"
    )
    assert store.imported_datasets() == [first]
    assert_nothing_unfinished()
    assert_all_complete()


def test_a_file_where_the_store_should_be_is_named(tmp_path: Path, store_dir: Path) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog"))
    store_dir.write_text("in the way")
    assert refusal(source) == (
        f"{store_dir / 'pets'} cannot be written (Not a directory); nothing was changed. There "
        "is a file where a folder must be: choose another place, or move the file."
    )
    assert store_dir.read_text() == "in the way"


def test_a_store_without_write_permission_is_named_and_can_be_read(
    tmp_path: Path, store_dir: Path
) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog"))
    first = import_pets(source).dataset
    folders = [store_dir, store_dir / "pets", first.folder]
    for folder in folders:
        folder.chmod(0o500)
    code = """
for name in ("pets", "others"):
    try:
        import_images(source, name, size=8, seed=2)
    except LabError as error:
        print(error)
print(store.imported_datasets()[0].tag)
"""
    process = python(code, source, preexec_fn=drop_root_permissions)
    lines = process.communicate(timeout=HANG_SECONDS)[0].strip().splitlines()
    for folder in folders:
        folder.chmod(0o700)
    assert lines[0].startswith(f"{store_dir / 'pets' / '2'} cannot be written (Permission denied)")
    assert lines[1].startswith(f"{store_dir / 'others'} cannot be written (Permission denied)")
    assert lines[2] == "pets@1"
    assert store.imported_datasets() == [first]


def test_two_concurrent_imports_of_the_same_images_make_one_version(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog"))
    code = """
locked = store.locked
def print_then_lock(name):
    print("waiting", flush=True)
    return locked(name)
store.locked = print_then_lock
result = import_images(source, "pets", size=8)
print(result.dataset.tag, result.is_new)
"""
    with lock_folder(data_dir() / "pets"):
        processes = [python(code, source) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
    results = sorted(process.communicate(timeout=HANG_SECONDS)[0].strip() for process in processes)
    assert results == ["pets@1 False", "pets@1 True"]
    assert store.versions("pets") == [1]
    assert_nothing_unfinished()


def test_two_concurrent_imports_of_different_images_make_two_versions(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog", count=50))
    code = 'import_images(source, "pets", size=8, seed=int(sys.argv[2]))'
    processes = [python(code, source, seed) for seed in (1, 2)]
    assert [process.communicate(timeout=HANG_SECONDS)[1] for process in processes] == ["", ""]
    assert sorted(dataset.seed for dataset in store.imported_datasets()) == [1, 2]
    assert_nothing_unfinished()
    assert_all_complete()


# Several processes


def test_several_processes_decode_to_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = image_files("cat", "dog", count=200) | {"cat/empty.png": b"", "dog/x.png": b"broken"}
    files["dog/copy.png"] = files["dog/150.png"]
    first = import_pets(write_tar(tmp_path / "a.tar", files))
    monkeypatch.setattr(decoding, "SINGLE_PROCESS_SECONDS", 0)
    again = import_pets(tmp_path / "a.tar")
    assert (again.is_new, again.left_out) == (False, first.left_out)


def test_a_killed_process_is_one_sentence_and_the_next_import_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "source", image_files("cat", "dog", count=100))
    monkeypatch.setattr(decoding, "SINGLE_PROCESS_SECONDS", 0)
    parent, decode = os.getpid(), decoding.decode

    def decode_or_die(*arguments: Any) -> decoding.Decoded:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "decode", decode_or_die)
        assert refusal(source) == (
            "A process that decoded images was killed, as happens when memory runs out. Close "
            "other programs and import again."
        )
    assert import_pets(source).is_new
    assert_all_complete()


def test_an_archive_that_fails_during_decoding_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_tar(tmp_path / "a.tar", image_files("cat", "dog", count=150))
    monkeypatch.setattr(decoding, "SINGLE_PROCESS_SECONDS", 0)
    extract, members = tarfile.TarFile.extractfile, []

    def fail_at_last(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Any:
        members.append(member)
        if len(members) == 200:
            raise OSError(5, "Input/output error")
        return extract(archive, member)

    monkeypatch.setattr(tarfile.TarFile, "extractfile", fail_at_last)
    assert "is damaged or cut off ([Errno 5] Input/output error)" in refusal(archive)


# Many files


def test_the_memory_of_an_import_does_not_grow_with_the_pixels(tmp_path: Path) -> None:
    code = """
from dltlab.data.importing import decoding
decoding.SINGLE_PROCESS_SECONDS = 0
result = import_images(source, "pets", size=64)
print(result.dataset.num_images, len(result.left_out))
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""
    two_processes = {**os.environ, "LOKY_MAX_CPU_COUNT": "2"}
    kilobytes = []
    for count in (1_000, 4_000):
        archive = tmp_path / f"{count}.tar"
        with archive.open("wb") as file:
            for number in range(count):
                member = tarfile.TarInfo(f"class{number % 10}/{number}.png")
                content = png(number)
                member.size = len(content)
                padding = bytes(-len(content) % 512)
                file.write(member.tobuf(tarfile.USTAR_FORMAT) + content + padding)
            file.write(bytes(1024))
        output = (
            python(code, archive, env=two_processes).communicate(timeout=HANG_SECONDS)[0].split()
        )
        assert output[:2] == [str(count), "0"]
        kilobytes.append(int(output[2]))
    growth = 1024 * (kilobytes[1] - kilobytes[0]) / 3_000
    assert growth < 64 * 64 * 3 / 3, "bytes of memory for each further image"
