"""Importing images from what is damaged, hostile or strange, and on a machine that fails.

Whatever happens, the versions that can be seen are whole, and nothing else is left.
"""

import ctypes
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
from archives import write_tar, write_zip

from dltlab.data import decoding, import_images, sources, store
from dltlab.data.importing import Import
from dltlab.errors import LabError
from dltlab.files import lock_folder
from dltlab.paths import data_dir

Files = dict[str, bytes]
Write = Callable[[Path, Files], Path]
PIXELS = 8 * 8 * 3


@pytest.fixture(autouse=True)
def kept_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the test's own."""
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


def png(number: int) -> bytes:
    """An image of 8×8 pixels like no other."""

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


def images(*folders: str, count: int = 10) -> Files:
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


def run(source: Path, **options: Any) -> Import:
    return import_images(source, "pets", **{"size": 8, **options})


def refusal(source: Path, **options: Any) -> str:
    """The sentence with which an import is refused; nothing is to be seen of it."""
    before = store.imported()
    with pytest.raises(LabError) as caught:
        run(source, **options)
    assert store.imported() == before
    assert_nothing_is_hidden()
    message = str(caught.value)
    assert message.isprintable()
    return message


def assert_nothing_is_hidden() -> None:
    folder = data_dir() / "pets"
    if folder.is_dir():
        extra = {path.name for path in folder.iterdir()} - {".lock"}
        assert extra == set(map(str, store.versions("pets")))


def assert_whole() -> None:
    for found in store.imported():
        assert store.damage(found) == []


# Damaged archives


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_archive_that_is_cut_off_anywhere_is_refused_as_damaged(
    tmp_path: Path, suffix: str
) -> None:
    whole = WRITERS[suffix](tmp_path / f"whole{suffix}", images("cat", "dog")).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    content = len(whole) - (0 if suffix == ".zip" else len(whole) % 512 + 8)
    if suffix == ".tar":
        content = 20 * 1024 - 1  # the rest is the mark of the end
    ends = {1, 5, 17, 100, 511, 512, 513, 1024, 1300, 1536, content - 1}
    ends |= set(np.linspace(1, content - 1, 25).astype(int).tolist())
    for end in sorted(end for end in ends if end < content):
        cut.write_bytes(whole[:end])
        message = refusal(cut)
        assert message.startswith(str(cut)), (end, message)
        assert message.endswith("get it anew."), (end, message)


def test_a_tar_archive_that_ends_between_two_members_is_not_taken_for_whole(
    tmp_path: Path,
) -> None:
    whole = write_tar(tmp_path / "a.tar", images("cat", "dog")).read_bytes()
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole[: 19 * 1024])
    assert "is damaged or cut off (empty header): get it anew." in refusal(cut)


def test_a_damaged_header_does_not_end_a_tar_archive(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", images("cat", "dog"))
    whole = bytearray(archive.read_bytes())
    whole[18 * 1024 + 3] ^= 1
    archive.write_bytes(whole)
    assert "is damaged or cut off (bad checksum): get it anew." in refusal(archive)


def test_a_damaged_member_of_a_zip_archive_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    files = images("cat", "dog")
    archive = write_zip(tmp_path / "a.zip", files)
    whole = bytearray(archive.read_bytes())
    whole[whole.index(b"cat/004.png") + 30] ^= 255
    archive.write_bytes(whole)
    found = run(archive)
    assert found.left_out == [("cat/004.png", "is damaged in the archive")]
    assert sum(map(sum, found.manifest.counts.values())) == 19


@pytest.mark.parametrize("suffix", WRITERS)
def test_flipped_bytes_in_an_archive_never_lead_to_a_traceback(tmp_path: Path, suffix: str) -> None:
    archive = WRITERS[suffix](tmp_path / f"a{suffix}", images("cat", "dog", count=5))
    whole = archive.read_bytes()
    chance = np.random.default_rng(0)
    for _ in range(120):
        damaged = bytearray(whole)
        for place in chance.integers(0, len(whole), 4):
            damaged[place] = chance.integers(256)
        archive.write_bytes(damaged)
        with suppress(LabError):
            run(archive, min_per_class=1)
    assert_nothing_is_hidden()
    assert_whole()


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


def test_a_member_that_unpacks_to_more_than_it_says_is_damaged(tmp_path: Path) -> None:
    files = images("cat", "dog") | {"cat/large.png": bytes(50 << 20)}
    archive = write_zip(tmp_path / "a.zip", files)
    content = archive.read_bytes()
    size = struct.pack("<I", 50 << 20)
    assert content.count(size) == 2
    archive.write_bytes(content.replace(size, struct.pack("<I", 100)))
    assert run(archive).left_out == [("cat/large.png", "is damaged in the archive")]


# Hostile and strange names

EVIL = ["../evil.png", "/evil.png", "cat/../../evil.png", "..\\evil.png", "\\evil.png"]


@pytest.mark.parametrize("suffix", WRITERS)
def test_members_that_lead_outside_are_left_out_and_written_nowhere(
    tmp_path: Path, kept_in: Path, suffix: str
) -> None:
    inside = tmp_path / "one" / "two"
    inside.mkdir(parents=True)
    evil = {name: png(number) for number, name in enumerate(EVIL)}
    archive = WRITERS[suffix](inside / f"a{suffix}", images("cat", "dog") | evil)
    found = run(archive)
    assert found.left_out == [(name, "leads outside the archive") for name in sorted(EVIL)]
    assert [path for path in tmp_path.rglob("*") if "evil" in path.name] == []
    assert not Path("/evil.png").exists()


def test_links_and_devices_in_a_tar_archive_are_left_out(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", images("cat", "dog"))
    kinds = {"fifo": tarfile.FIFOTYPE, "hard": tarfile.LNKTYPE, "soft": tarfile.SYMTYPE}
    with tarfile.open(archive, "a") as opened:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(f"cat/{name}.png")
            member.type, member.linkname = kind, "/etc/hostname"
            opened.addfile(member)
    reason = "is a link or a device"
    assert run(archive).left_out == [(f"cat/{name}.png", reason) for name in kinds]


def test_links_and_encrypted_files_in_a_zip_archive_are_left_out(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", images("cat", "dog"))
    with zipfile.ZipFile(archive, "a") as opened:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/hostname")
        opened.writestr("cat/secret.png", png(1))
    content = bytearray(archive.read_bytes())
    entry = content.rindex(b"cat/secret.png") - 46
    content[entry + 8] |= 1
    archive.write_bytes(content)
    assert run(archive).left_out == [
        ("cat/link.png", "is a link"),
        ("cat/secret.png", "is encrypted"),
    ]


STRANGE = [
    "a name with spaces", "quotes ' \" `", "emoji 🐈", "line\nbreak", "return\r", "comma, and ;",
    "escape \x1b[31m red", "caf\udce9", "=1+1", "very " * 30,
]  # fmt: skip


@pytest.mark.parametrize("write", [write_folder, write_tar, write_zip])
def test_strange_names_of_files_are_kept_as_they_are(tmp_path: Path, write: Write) -> None:
    names = [name for name in STRANGE if write is not write_zip or name.isascii()]
    wanted = {f"cat/{name}.png": png(number) for number, name in enumerate(names)}
    found = run(write(tmp_path / "source", wanted | images("dog")))
    path = found.manifest.folder / "images.csv"
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = {row["name"] for row in sources.csv.DictReader(file)}
    assert found.left_out == []
    assert wanted.keys() <= rows


@pytest.mark.parametrize("write", [write_folder, write_tar])
def test_strange_names_of_classes_are_kept_and_bytes_that_are_no_text_are_escaped(
    tmp_path: Path, write: Write
) -> None:
    found = run(write(tmp_path / "source", images(*STRANGE))).manifest
    assert sorted(found.classes) == sorted(name.replace("\udce9", "\\xe9") for name in STRANGE)
    assert store.manifest("pets") == found


def test_messages_and_reasons_hold_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    files = images("cat", "dog\x1b[2J\nx", count=6)
    same = files["cat/003.png"]
    files["cat/\x1b[31m.png"] = files["cat/zzz.png"] = same
    found = run(write_folder(tmp_path / "source", files))
    reasons = [reason for _, reason in found.left_out]
    assert reasons == ["is the same image as cat/\\x1b[31m.png"] * 2
    message = refusal(tmp_path / "source", min_per_class=9)
    assert "'dog\\x1b[2J\\nx' has 6" in message


def test_a_source_whose_own_name_is_no_text_is_imported(tmp_path: Path) -> None:
    found = run(write_folder(tmp_path / "caf\udce9", images("cat", "dog")))
    assert found.manifest.source == "caf\\xe9"
    assert store.manifest("pets") == found.manifest


def test_members_without_a_name_are_passed_over(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "a.tar", images("cat", "dog") | {".": b"x", "": b"y"})
    assert run(archive).left_out == []


# Odd sources


def test_a_missing_source_is_named_with_the_mend(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    assert refusal(gone) == (
        f"{gone} does not exist. Name a folder, a tar or zip archive, or a list."
    )


@pytest.mark.parametrize("files", [{}, {"readme.txt": b"x"}, {"1.png": png(1)}])
def test_a_source_without_classes_is_refused_with_the_mend(tmp_path: Path, files: Files) -> None:
    (tmp_path / "source").mkdir()
    message = refusal(write_folder(tmp_path / "source", files))
    assert message.startswith(
        f"{tmp_path / 'source'} holds no images in folders of their class: put JPEG, PNG, BMP or "
        "WebP files into one folder a class."
    )
    assert ("Left out: " in message) == bool(files)


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_empty_archive_is_refused_with_the_mend(tmp_path: Path, suffix: str) -> None:
    assert "holds no images in folders of" in refusal(WRITERS[suffix](tmp_path / f"a{suffix}", {}))


@pytest.mark.parametrize("suffix", ["", ".tar", ".zip", ".tar.gz", ".png", ".pdf"])
@pytest.mark.parametrize("content", [b"", b"no archive", bytes(3000), png(1)])
def test_another_file_is_refused_with_the_mend(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfea\0,\0b\0", bytes(range(256)), b"\n\n\n"])
def test_a_list_that_is_none_is_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"list{suffix}"
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_list_of_images_that_are_elsewhere_names_the_first(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{number}.png {'ab'[number % 2]}\n" for number in range(12)))
    assert refusal(listed).endswith(
        "Left out: 0.png cannot be read (No such file or directory) (and 11 more)."
    )


def test_images_that_vanish_while_they_are_read_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog"))
    listing = sources.Folder.listing

    def then_remove(folder: sources.Folder) -> sources.Listing:
        found = listing(folder)
        (source / "cat" / "003.png").unlink()
        return found

    monkeypatch.setattr(sources.Folder, "listing", then_remove)
    reason = "cannot be read (No such file or directory)"
    assert run(source).left_out == [("cat/003.png", reason)]


def test_a_hundred_broken_files_in_a_row_are_left_out(tmp_path: Path) -> None:
    broken = {f"cat/{number}.png": b"broken" for number in range(200)}
    found = run(write_folder(tmp_path / "source", broken | images("dog", "emu", "cat/z")))
    assert len(found.left_out) == 200


def test_what_is_no_file_or_far_too_large_is_not_read(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog"))
    os.mkfifo(source / "cat" / "pipe.png")
    (source / "cat" / "zero.png").symlink_to("/dev/zero")
    with (source / "dog" / "huge.png").open("wb") as huge:
        huge.truncate(5 << 30)
    assert run(source).left_out == [
        ("cat/pipe.png", "is no file"),
        ("cat/zero.png", "is no file"),
        ("dog/huge.png", "is too large: 5,369 MB"),
    ]


# A machine that fails

BEGIN = """
import os, resource, signal, sys
from dltlab.data import decoding, import_images, importing, store
from dltlab.errors import LabError
source = sys.argv[1]
"""


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", BEGIN + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


KILLED = """
import json

def moment(event, arguments):
    # Every time that a file or folder of the store is opened, made, renamed or removed.
    if armed and event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        if str(arguments[0]).startswith(os.environ["DLTLAB_DATA_DIR"]):
            strike()

def strike():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def before_and_after(function):
    def wrapped(*arguments, **options):
        strike()
        result = function(*arguments, **options)
        strike()
        return result
    return wrapped

sys.addaudithook(moment)
armed = False
for order in sys.stdin:
    left, seed = map(int, order.split())
    child = os.fork()
    if child == 0:
        armed, first = True, left
        store.Shards.append = before_and_after(store.Shards.append)
        store.Manifest.model_dump_json = before_and_after(store.Manifest.model_dump_json)
        import_images(source, "pets", size=8, seed=seed)
        armed = False
        os.write(1, b"finished %d\\n" % (first - left))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        os.write(1, b"killed %d\\n" % os.WTERMSIG(status))
"""


def test_an_import_that_is_killed_at_any_moment_leaves_nothing_half_made(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog", count=100))
    run(source)

    process = python(KILLED, source)
    assert process.stdin is not None
    assert process.stdout is not None

    def order(left: int, seed: int) -> list[str]:
        print(left, seed, file=process.stdin, flush=True)
        return process.stdout.readline().split()

    word, moments = order(10**9, 2)
    assert word == "finished"
    assert int(moments) > 20
    chosen = random.Random(0).choices(range(1, int(moments) + 1), k=18)
    for seed, left in enumerate([*chosen, int(moments) - 1, int(moments)], 3):
        before = store.versions("pets")
        assert order(left, seed) == ["killed", str(int(signal.SIGKILL))]
        assert store.versions("pets")[: len(before)] == before
        assert [found.version for found in store.imported()] == store.versions("pets")
        assert store.names().count("pets") == 1
        assert_whole()
    process.communicate(timeout=60)

    assert run(source, seed=99).is_new
    assert_nothing_is_hidden()
    assert_whole()


def test_a_first_import_that_is_killed_at_its_end_is_not_to_be_seen(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog"))
    code = """
from pathlib import Path
Path.rename = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
import_images(source, "pets", size=8)
"""
    process = python(code, source)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert list((data_dir() / "pets").glob(".new-*/manifest.json"))
    assert store.versions("pets") == store.imported() == []
    assert "pets" not in store.names()
    with pytest.raises(LabError, match="There is no data set 'pets'"):
        store.manifest("pets")
    assert run(source).manifest.version == 1
    assert_nothing_is_hidden()


@pytest.mark.parametrize("limit", [20, 3000, 20_000])
def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(tmp_path: Path, limit: int) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog", count=100))
    first = run(source, max_per_class=5).manifest
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    import_images(source, "pets", size=8)
except LabError as error:
    sys.exit(str(error))
"""
    process = python(code, source, limit)
    _, error = process.communicate(timeout=60)
    assert error == (
        f"{first.folder.parent} cannot be written (File too large); nothing was changed. Free some "
        "space or choose a folder you may write to, then run the command again.\n"
    )
    assert store.imported() == [first]
    assert_nothing_is_hidden()
    assert_whole()


def test_a_file_where_the_store_should_be_is_named(tmp_path: Path, kept_in: Path) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog"))
    kept_in.write_text("in the way")
    assert refusal(source) == (
        f"{kept_in / 'pets'} cannot be written (Not a directory); nothing was changed. There "
        "is a file where a folder must be: choose another place, or move the file."
    )
    assert kept_in.read_text() == "in the way"


def test_a_store_that_may_not_be_written_is_named_and_can_still_be_read(
    tmp_path: Path, kept_in: Path
) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog"))
    first = run(source).manifest
    folders = [kept_in, kept_in / "pets", first.folder]
    for folder in folders:
        folder.chmod(0o500)
    code = """
for name in ("pets", "others"):
    try:
        import_images(source, name, size=8, seed=2)
    except LabError as error:
        print(error)
print(store.imported()[0].tag)
"""
    process = python(code, source, preexec_fn=_obey_permissions)
    said = process.communicate(timeout=60)[0].strip().splitlines()
    for folder in folders:
        folder.chmod(0o700)
    told = [line for line in said if line]
    assert told[0].startswith(f"{kept_in / 'pets'} cannot be written (Permission denied); nothing")
    assert told[1].startswith(f"{kept_in / 'others'} cannot be written (Permission denied)")
    assert told[2] == "pets@1"
    assert store.imported() == [first]


def _obey_permissions() -> None:
    """Take from root the capability to write where the permissions forbid it."""
    drop_from_bounding_set, dac_override = 24, 1  # linux/prctl.h, linux/capability.h
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)


def test_two_imports_at_once_both_finish_and_make_one_version(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog"))
    code = """
hidden_folder = store.hidden_folder
def told(name):
    print("here", flush=True)
    return hidden_folder(name)
store.hidden_folder = told
found = import_images(source, "pets", size=8)
print(found.manifest.tag, found.is_new)
"""
    with lock_folder(data_dir() / "pets"):
        both = [python(code, source) for _ in range(2)]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
    said = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert said == ["pets@1 False", "pets@1 True"]
    assert store.versions("pets") == [1]
    assert_nothing_is_hidden()


def test_two_imports_of_different_images_at_once_make_two_versions(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog", count=50))
    code = 'import_images(source, "pets", size=8, seed=int(sys.argv[2]))'
    both = [python(code, source, seed) for seed in (1, 2)]
    assert [process.communicate(timeout=60)[1] for process in both] == ["", ""]
    assert sorted(found.seed for found in store.imported()) == [1, 2]
    assert_nothing_is_hidden()
    assert_whole()


# Other processes that decode


def test_other_processes_decode_to_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = images("cat", "dog", count=200) | {"cat/empty.png": b"", "dog/x.png": b"broken"}
    files["dog/twin.png"] = files["dog/150.png"]
    first = run(write_tar(tmp_path / "a.tar", files))
    monkeypatch.setattr(decoding, "_ALONE_SECONDS", 0)
    again = run(tmp_path / "a.tar")
    assert (again.is_new, again.left_out) == (False, first.left_out)


def test_a_killed_worker_is_one_sentence_and_the_next_import_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "source", images("cat", "dog", count=100))
    monkeypatch.setattr(decoding, "_ALONE_SECONDS", 0)
    here, decode = os.getpid(), decoding._decode

    def deadly(*arguments: Any) -> decoding.Decoded:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(decoding, "_decode", deadly)
        assert refusal(source) == (
            "A process that decoded images was killed, as it happens when memory runs out. Close "
            "other programs and import again."
        )
    assert run(source).is_new
    assert_whole()


def test_an_archive_that_fails_while_others_decode_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = write_tar(tmp_path / "a.tar", images("cat", "dog", count=150))
    monkeypatch.setattr(decoding, "_ALONE_SECONDS", 0)
    whole, read = sources._whole, []

    def fails(file: Any, size: int) -> bytes:
        read.append(size)
        if len(read) == 200:
            raise OSError(5, "Input/output error")
        return whole(file, size)

    monkeypatch.setattr(sources, "_whole", fails)
    assert "is damaged or cut off ([Errno 5] Input/output error)" in refusal(archive)


# Very many


def test_a_hundred_thousand_files_are_imported_in_little_memory(tmp_path: Path) -> None:
    archive = tmp_path / "many.tar"
    with archive.open("wb") as file:
        for number in range(100_000):
            member = tarfile.TarInfo(f"class{number % 10}/{number}.png")
            content = png(number)
            member.size = len(content)
            file.write(member.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512))
        file.write(bytes(1024))
    code = """
found = import_images(source, "pets", size=8)
print(sum(map(sum, found.manifest.counts.values())), len(found.left_out))
print(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
"""
    said = python(code, archive).communicate(timeout=200)[0].split()
    assert said[:2] == ["100000", "0"]
    assert int(said[2]) < 500_000, "kilobytes"
