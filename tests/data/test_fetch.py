"""Where a file is looked for, and what happens when a source fails.

A data set of six images stands in for a real one; its server is a local one.
"""

import gzip
import hashlib
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest

from dltlab.data import arrays, fetch
from dltlab.errors import LabError

LABELS = {"train": [0, 1, 0, 1], "test": [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]}


def idx_files() -> dict[str, bytes]:
    """The unpacked files: images of 2×2 pixels, numbered by their pixels' values."""
    files = {}
    for split, labels in LABELS.items():
        pixels = bytes(np.repeat(np.arange(len(labels)), 4).tolist())
        header = struct.pack(">HBB3I", 0, 8, 3, len(labels), 2, 2)
        files[f"{split}-images.gz"] = header + pixels
        files[f"{split}-labels.gz"] = struct.pack(">HBBI", 0, 8, 1, len(labels)) + bytes(labels)
    return files


UNPACKED = idx_files()
PACKED = {name: gzip.compress(content, mtime=0) for name, content in UNPACKED.items()}

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


def whole(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def cut_short(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[:-5])


def other_bytes(request: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(request, gzip.compress(b"something else"))


def busy(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_error(503)


class World:
    """The places where the data set `tiny` may be found."""

    def __init__(self, folder: Path) -> None:
        self.answers: list[Answer] = [whole, whole]  # of the first address and of the second
        self.asked: list[str] = []
        self.course, self.mirror, self.store = (
            folder / name for name in ("course", "mirror", "store")
        )
        (self.course / "datasets").mkdir(parents=True)
        self.mirror.mkdir()

    def write_card(self, port: int) -> None:
        digits = (Path(__file__).parents[2] / "datasets" / "digits.toml").read_text()
        head = digits.split("files = []")[0].replace('name = "digits"', 'name = "tiny"')
        head = head.replace("sklearn_digits", "idx").replace("[8, 8, 1]", "[2, 2, 1]")
        lines = [head, "[hold_out]\nevery = 5\nseed = 1\n"]
        for split, labels in LABELS.items():
            lines += [f"[splits.{split}]", f"size = {len(labels)}"]
            lines += [f'images = "{split}-images.gz"', f'labels = "{split}-labels.gz"']
        for name, content in UNPACKED.items():
            urls = [f"http://127.0.0.1:{port}/{number}/{name}" for number in (0, 1)]
            lines += ["[[files]]", f'name = "{name}"', f"urls = {urls}"]
            lines += [f"size = {len(PACKED[name])}", f'sha256 = "{sha256(PACKED[name])}"']
            lines += [f'unpacked_sha256 = "{sha256(content)}"']
        (self.course / "datasets" / "tiny.toml").write_text("\n".join(lines))

    def stored(self, name: str) -> Path:
        return self.store / "tiny" / name

    def visible(self) -> list[str]:
        names = [path.name for path in self.stored("").iterdir()]
        return sorted(name for name in names if not name.startswith("."))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    found = World(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            _, number, name = self.path.split("/")
            found.answers[int(number)](self, PACKED[name])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    found.write_card(server.server_port)
    monkeypatch.setenv("DLTLAB_COURSE", str(found.course))
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(found.store))
    monkeypatch.delenv("DLTLAB_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield found
    server.shutdown()
    server.server_close()


def assert_is_tiny_test(arrays_of_test: tuple[np.ndarray, np.ndarray]) -> None:
    images, labels = arrays_of_test
    assert labels.tolist() == LABELS["test"]
    assert (images[:, 0, 0, 0] * 255).round().tolist() == list(range(10))


def test_a_file_is_fetched_once_and_kept(world: World) -> None:
    assert_is_tiny_test(arrays("tiny", "test"))
    assert_is_tiny_test(arrays("tiny", "test"))
    assert world.asked == ["/0/test-images.gz", "/0/test-labels.gz"]
    assert world.visible() == ["test-images.gz", "test-labels.gz"]


def test_all_is_train_then_test(world: World) -> None:
    assert arrays("tiny")[1].tolist() == LABELS["train"] + LABELS["test"]


def test_the_mirror_comes_before_the_network_and_is_read_in_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(world.mirror))
    for name, content in PACKED.items():
        (world.mirror / name).write_bytes(content)
    assert_is_tiny_test(arrays("tiny", "test"))
    assert world.asked == []
    assert not world.store.exists()


def test_the_network_serves_what_is_damaged_in_the_mirror(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(world.mirror))
    for name in PACKED:
        (world.mirror / name).write_bytes(b"damaged")
    assert_is_tiny_test(arrays("tiny", "test"))


def test_a_mirrors_file_that_was_compressed_anew_serves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(world.mirror))
    for name, content in UNPACKED.items():
        (world.mirror / name).write_bytes(gzip.compress(content, 1, mtime=99))
    assert_is_tiny_test(arrays("tiny", "test"))
    assert world.asked == []


def test_test_images_are_divided_only_while_the_mirror_has_no_others(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(world.mirror))
    for name in ("test-images.gz", "test-labels.gz"):
        (world.mirror / name).write_bytes(PACKED[name])
    assert [len(arrays("tiny", split)[1]) for split in ("train", "test", "all")] == [8, 2, 10]
    assert sorted(arrays("tiny", "test")[1]) == [0, 1]
    assert capsys.readouterr().out == (
        "tiny: the mirror folder holds only the 10 test images, so 8 of them train and 2 test.\n"
    )
    for name in ("train-images.gz", "train-labels.gz"):
        (world.mirror / name).write_bytes(PACKED[name])
    assert [len(arrays("tiny", split)[1]) for split in ("train", "test", "all")] == [4, 10, 14]


@pytest.mark.parametrize("damage", [b"", b"no gzip at all", PACKED["test-images.gz"][:-9]])
def test_a_damaged_file_in_the_store_is_fetched_again(world: World, damage: bytes) -> None:
    world.stored("").mkdir(parents=True)
    world.stored("test-images.gz").write_bytes(damage)
    assert_is_tiny_test(arrays("tiny", "test"))
    assert world.stored("test-images.gz").read_bytes() == PACKED["test-images.gz"]


@pytest.mark.parametrize("fault", [busy, other_bytes, cut_short])
def test_the_second_address_serves_when_the_first_fails(world: World, fault: Answer) -> None:
    world.answers[0] = fault
    assert_is_tiny_test(arrays("tiny", "test"))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(busy, "answered 503"), (other_bytes, "sent other bytes"), (cut_short, "broke off")],
)
def test_a_failure_names_the_file_each_source_and_the_mend(
    world: World, monkeypatch: pytest.MonkeyPatch, fault: Answer, reason: str
) -> None:
    world.answers = [fault, fault]
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(world.mirror / "gone"))
    with pytest.raises(LabError) as caught:
        arrays("tiny", "test")
    message = str(caught.value)
    assert "test-images.gz of the data set 'tiny'" in message
    assert f"{world.mirror / 'gone' / 'test-images.gz'} is missing" in message
    assert f"/0/test-images.gz {reason}" in message
    assert f"/1/test-images.gz {reason}" in message
    assert "DLTLAB_DATA_MIRROR" in message
    assert world.visible() == []


def test_without_a_network_each_address_is_named(world: World) -> None:
    world.write_card(port=9)  # nothing listens on the discard port
    with pytest.raises(LabError, match=r"/0/\S+ gave no answer; \S+/1/\S+ gave no answer"):
        arrays("tiny", "test")


def test_a_server_that_stalls_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up = Event()

    def stall(request: BaseHTTPRequestHandler, body: bytes) -> None:
        given_up.wait(60)

    world.answers[0] = stall
    monkeypatch.setattr(fetch, "_STALL_SECONDS", 0.2)
    try:
        assert_is_tiny_test(arrays("tiny", "test"))
    finally:
        given_up.set()
    assert "/1/test-images.gz" in world.asked


def test_a_store_that_cannot_be_written_is_named_with_the_variable(world: World) -> None:
    world.store.write_text("a file where the folder should be")
    with pytest.raises(LabError, match=rf"cannot be kept in {world.store}.*DLTLAB_DATA_DIR"):
        arrays("tiny", "test")


def test_a_full_disk_leaves_nothing_half_written(world: World) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "from dltlab.data import arrays; arrays('tiny', 'test')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert f"LabError: test-images.gz cannot be kept in {world.stored('')}" in result.stderr
    assert "set DLTLAB_DATA_DIR to a folder" in result.stderr
    assert world.visible() == []


def test_of_two_processes_at_once_one_fetches(world: World) -> None:
    one_is_here, both_are_here = Event(), Event()

    def slow(request: BaseHTTPRequestHandler, body: bytes) -> None:
        one_is_here.set()
        both_are_here.wait(60)
        whole(request, body)

    world.answers[0] = slow
    code = (
        "import filelock; acquire = filelock.FileLock.acquire\n"
        "filelock.FileLock.acquire = lambda *a, **k: (print('here', flush=True), acquire(*a, **k))"
        "[1]\n"
        "from dltlab.data import arrays; assert len(arrays('tiny', 'test')[1]) == 10"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    assert one_is_here.wait(60)
    both_are_here.set()
    messages = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], messages
    assert world.asked == ["/0/test-images.gz", "/0/test-labels.gz"]


def broken_off_at_first(world: World) -> Answer:
    """Half of the file at first; what is asked for from then on."""

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if "Range" not in request.headers:
            half = body[: len(body) // 2]
            request.send_response(200)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(half)
            return
        first = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        world.asked[-1] += f" from {first}"
        if first >= len(body):
            request.send_error(416)
            return
        request.send_response(206)
        request.send_header("Content-Length", str(len(body) - first))
        request.end_headers()
        request.wfile.write(body[first:])

    return answer


def test_a_download_that_broke_off_goes_on_from_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_CHUNK", 5)
    world.answers[0] = broken_off_at_first(world)
    assert_is_tiny_test(arrays("tiny", "test"))
    half = len(PACKED["test-images.gz"]) // 2
    assert world.asked[:2] == ["/0/test-images.gz", f"/0/test-images.gz from {half}"]
    assert world.visible() == ["test-images.gz", "test-labels.gz"]


@pytest.mark.parametrize("rest", [b"other bytes", PACKED["test-images.gz"] * 2])
def test_what_is_left_of_another_file_does_no_harm(world: World, rest: bytes) -> None:
    world.answers[0] = broken_off_at_first(world)
    world.stored(".fetching").mkdir(parents=True)
    world.stored(".fetching/test-images.gz.part").write_bytes(rest)
    assert_is_tiny_test(arrays("tiny", "test"))


def test_a_killed_download_leaves_nothing_visible_and_the_next_one_ends_it(world: World) -> None:
    world.answers[0] = broken_off_at_first(world)
    code = (
        "import os, signal, tqdm\n"
        "tqdm.tqdm.update = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from dltlab.data import arrays; arrays('tiny', 'test')"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert world.visible() == []
    assert_is_tiny_test(arrays("tiny", "test"))


def test_a_mirror_may_have_a_folder_for_each_data_set(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(world.mirror))
    (world.mirror / "tiny").mkdir()
    for name, content in PACKED.items():
        (world.mirror / name).write_bytes(b"a file of another data set")
        (world.mirror / "tiny" / name).write_bytes(content)
    assert_is_tiny_test(arrays("tiny", "test"))
    assert world.asked == []


def test_a_card_that_states_another_size_than_its_files_have_is_an_error(world: World) -> None:
    card = world.course / "datasets" / "tiny.toml"
    card.write_text(card.read_text().replace("size = 10\n", "size = 11\n"))
    with pytest.raises(LabError, match=r"images \(10, 2, 2, 1\).*card says \(11, 2, 2, 1\)"):
        arrays("tiny", "test")
