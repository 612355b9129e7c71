"""The places where a file is looked up, and what happens when one of them fails.

The tests use a small data set and a server on this machine.
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

from dltlab.data import arrays, info, list_datasets, verified_files
from dltlab.errors import Invalid, Unavailable
from tests.deadlines import HANG_SECONDS

LABELS = {"train": [0, 1, 0, 1], "test": [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]}


def idx_files() -> dict[str, bytes]:
    """Return the unpacked files: images of 2×2 pixels whose value is their number."""
    files = {}
    for split, labels in LABELS.items():
        pixels = bytes(np.repeat(np.arange(len(labels)), 4).tolist())
        header = struct.pack(">HBB3I", 0, 8, 3, len(labels), 2, 2)
        files[f"{split}-images.gz"] = header + pixels
        files[f"{split}-labels.gz"] = struct.pack(">HBBI", 0, 8, 1, len(labels)) + bytes(labels)
    return files


UNPACKED = idx_files()
PACKED = {name: gzip.compress(content, mtime=0) for name, content in UNPACKED.items()}

Reply = Callable[[BaseHTTPRequestHandler, bytes], None]


def send_all(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def send_truncated(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body[:-5])


OTHER_BYTES = gzip.compress(b"something else", mtime=0)
OTHER_SHA256 = hashlib.sha256(OTHER_BYTES).hexdigest()


def send_other_bytes(request: BaseHTTPRequestHandler, body: bytes) -> None:
    send_all(request, OTHER_BYTES)


def send_error_503(request: BaseHTTPRequestHandler, body: bytes) -> None:
    request.send_error(503)


class Sources:
    """The places where the data set `tiny` may be."""

    def __init__(self, folder: Path) -> None:
        self.replies: list[Reply] = [send_all, send_all]  # of the first URL and of the second
        self.requests: list[str] = []  # the paths of all requests
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
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sources]:
    sources = Sources(tmp_path)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            sources.requests.append(self.path)
            _, number, name = self.path.split("/")
            sources.replies[int(number)](self, PACKED[name])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    sources.write_card(server.server_port)
    monkeypatch.setenv("DLTLAB_COURSE", str(sources.course))
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(sources.store))
    for variable in ("DLTLAB_DATA_MIRROR", "DLTLAB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield sources
    server.shutdown()
    server.server_close()


def assert_is_tiny_test(images: np.ndarray, labels: np.ndarray) -> None:
    assert labels.tolist() == LABELS["test"]
    assert (images[:, 0, 0, 0] * 255).round().tolist() == list(range(10))


def test_a_file_is_downloaded_once(sources: Sources) -> None:
    assert_is_tiny_test(*arrays("tiny", "test"))
    assert_is_tiny_test(*arrays("tiny", "test"))
    assert sources.requests == ["/0/test-images.gz", "/0/test-labels.gz"]
    assert sources.visible() == ["test-images.gz", "test-labels.gz"]


def test_all_is_train_then_test(sources: Sources) -> None:
    assert arrays("tiny")[1].tolist() == LABELS["train"] + LABELS["test"]


def test_the_mirror_is_used_before_the_network_and_read_in_place(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(sources.mirror))
    for name, content in PACKED.items():
        (sources.mirror / name).write_bytes(content)
    assert_is_tiny_test(*arrays("tiny", "test"))
    assert sources.requests == []
    assert not sources.store.exists()


@pytest.mark.parametrize("content", [None, b"damaged"])
def test_with_a_mirror_no_host_is_contacted(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(sources.mirror))
    for name in PACKED:
        if content is not None:
            (sources.mirror / name).write_bytes(content)
    with pytest.raises(Unavailable) as caught:
        arrays("tiny", "test")
    message = str(caught.value)
    assert str(sources.mirror / "test-images.gz") in message
    assert message.endswith(
        "Nothing is downloaded because DLTLAB_DATA_MIRROR is set: unset it, or put the file into "
        "one of these places."
    )
    assert sources.requests == []


def test_offline_no_host_is_contacted(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLTLAB_OFFLINE", "1")
    with pytest.raises(Unavailable, match="Nothing is downloaded because DLTLAB_OFFLINE is set"):
        arrays("tiny", "test")
    assert sources.requests == []
    monkeypatch.setenv("DLTLAB_OFFLINE", "0")
    assert_is_tiny_test(*arrays("tiny", "test"))
    monkeypatch.setenv("DLTLAB_OFFLINE", "1")
    assert_is_tiny_test(*arrays("tiny", "test"))


def test_a_file_beside_the_card_needs_no_url(sources: Sources) -> None:
    card = sources.course / "datasets" / "tiny.toml"
    lines = [line for line in card.read_text().splitlines() if not line.startswith("urls")]
    card.write_text("\n".join(lines))
    assert location_of("tiny") == "missing beside its card"
    with pytest.raises(Unavailable) as caught:
        arrays("tiny", "test")
    path = card.with_name("test-images.gz")
    assert str(caught.value).startswith(
        f"The file test-images.gz of the data set 'tiny' is not available: {path} is missing"
    )
    assert "Put it beside its card, with the size and the SHA-256 hash" in str(caught.value)
    for name, content in PACKED.items():
        card.with_name(name).write_bytes(content)
    assert_is_tiny_test(*arrays("tiny", "test"))
    assert location_of("tiny") == "beside its card"
    assert not sources.store.exists()
    card.with_name("test-images.gz").write_bytes(OTHER_BYTES)
    with pytest.raises(Unavailable, match=f"{path} is damaged .*SHA-256 {OTHER_SHA256}"):
        arrays("tiny", "test")


def location_of(name: str) -> str:
    return next(entry.location for entry in list_datasets() if entry.name == name)


def test_a_file_in_the_mirror_may_be_compressed_again(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(sources.mirror))
    for name, content in UNPACKED.items():
        (sources.mirror / name).write_bytes(gzip.compress(content, 1, mtime=99))
    assert_is_tiny_test(*arrays("tiny", "test"))
    assert sources.requests == []


def test_test_images_are_divided_only_while_the_mirror_has_no_training_images(
    sources: Sources, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(sources.mirror))
    for name in ("test-images.gz", "test-labels.gz"):
        (sources.mirror / name).write_bytes(PACKED[name])
    assert [len(arrays("tiny", split)[1]) for split in ("train", "test", "all")] == [8, 2, 10]
    assert sorted(arrays("tiny", "test")[1]) == [0, 1]
    assert capsys.readouterr().out == (
        "tiny: the mirror folder holds only the 10 test images, so 8 of them train and 2 test.\n"
    )
    for name in ("train-images.gz", "train-labels.gz"):
        (sources.mirror / name).write_bytes(PACKED[name])
    assert [len(arrays("tiny", split)[1]) for split in ("train", "test", "all")] == [4, 10, 14]


@pytest.mark.parametrize("damage", [b"", b"no gzip at all", PACKED["test-images.gz"][:-9]])
def test_a_damaged_file_in_the_store_is_downloaded_again(sources: Sources, damage: bytes) -> None:
    sources.stored("").mkdir(parents=True)
    sources.stored("test-images.gz").write_bytes(damage)
    assert_is_tiny_test(*arrays("tiny", "test"))
    assert sources.stored("test-images.gz").read_bytes() == PACKED["test-images.gz"]


@pytest.mark.parametrize("fault", [send_error_503, send_other_bytes, send_truncated])
def test_the_second_url_is_used_when_the_first_fails(sources: Sources, fault: Reply) -> None:
    sources.replies[0] = fault
    assert_is_tiny_test(*arrays("tiny", "test"))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (send_error_503, "answered 503"),
        (send_other_bytes, f"sent bytes that do not have the card's SHA-256 but {OTHER_SHA256}"),
        (send_truncated, "broke off"),
    ],
)
def test_a_failure_names_the_file_each_source_and_the_fix(
    sources: Sources, fault: Reply, reason: str
) -> None:
    sources.replies = [fault, fault]
    with pytest.raises(Unavailable) as caught:
        arrays("tiny", "test")
    message = str(caught.value)
    assert "test-images.gz of the data set 'tiny'" in message
    assert f"{sources.stored('test-images.gz')} is missing" in message
    assert f"/0/test-images.gz {reason}" in message
    assert f"/1/test-images.gz {reason}" in message
    assert "DLTLAB_DATA_MIRROR" in message
    assert sources.visible() == []


def test_without_a_network_each_url_is_named(sources: Sources) -> None:
    sources.write_card(port=9)  # nothing listens on the discard port
    with pytest.raises(Unavailable, match=r"/0/\S+ did not answer; \S+/1/\S+ did not answer"):
        arrays("tiny", "test")


def test_a_stalling_server_is_given_up(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    is_given_up = Event()

    def stall(request: BaseHTTPRequestHandler, body: bytes) -> None:
        is_given_up.wait(HANG_SECONDS)

    sources.replies[0] = stall
    monkeypatch.setattr(verified_files, "STALL_SECONDS", 0.2)
    try:
        assert_is_tiny_test(*arrays("tiny", "test"))
    finally:
        is_given_up.set()
    assert "/1/test-images.gz" in sources.requests


def test_a_store_that_cannot_be_written_is_named_with_the_variable(sources: Sources) -> None:
    sources.store.write_text("a file where the folder should be")
    with pytest.raises(
        Unavailable, match=rf"cannot be written to {sources.store}.*DLTLAB_DATA_DIR"
    ):
        arrays("tiny", "test")


def test_a_full_disk_leaves_no_unfinished_file(sources: Sources) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))\n"
        "from dltlab.data import arrays; arrays('tiny', 'test')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert f"Unavailable: test-images.gz cannot be written to {sources.stored('')}" in result.stderr
    assert "set DLTLAB_DATA_DIR to a folder" in result.stderr
    assert sources.visible() == []


def test_of_two_processes_only_one_downloads(sources: Sources) -> None:
    one_has_asked, both_have_started = Event(), Event()

    def send_later(request: BaseHTTPRequestHandler, body: bytes) -> None:
        one_has_asked.set()
        both_have_started.wait(HANG_SECONDS)
        send_all(request, body)

    sources.replies[0] = send_later
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
    assert one_has_asked.wait(HANG_SECONDS)
    both_have_started.set()
    messages = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], messages
    assert sources.requests == ["/0/test-images.gz", "/0/test-labels.gz"]


def interrupt_once(sources: Sources) -> Reply:
    """Send half of the file at first; send what is requested from then on."""

    def answer(request: BaseHTTPRequestHandler, body: bytes) -> None:
        if "Range" not in request.headers:
            half = body[: len(body) // 2]
            request.send_response(200)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(half)
            return
        first = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        sources.requests[-1] += f" from {first}"
        if first >= len(body):
            request.send_error(416)
            return
        request.send_response(206)
        request.send_header("Content-Length", str(len(body) - first))
        request.end_headers()
        request.wfile.write(body[first:])

    return answer


def test_an_interrupted_download_is_continued(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified_files, "CHUNK_BYTES", 5)
    sources.replies[0] = interrupt_once(sources)
    assert_is_tiny_test(*arrays("tiny", "test"))
    half = len(PACKED["test-images.gz"]) // 2
    assert sources.requests[:2] == ["/0/test-images.gz", f"/0/test-images.gz from {half}"]
    assert sources.visible() == ["test-images.gz", "test-labels.gz"]


@pytest.mark.parametrize("rest", [b"other bytes", PACKED["test-images.gz"] * 2])
def test_the_part_of_another_file_does_no_harm(sources: Sources, rest: bytes) -> None:
    sources.replies[0] = interrupt_once(sources)
    sources.stored(".fetching").mkdir(parents=True)
    sources.stored(".fetching/test-images.gz.part").write_bytes(rest)
    assert_is_tiny_test(*arrays("tiny", "test"))


def test_a_killed_download_leaves_no_visible_file_and_is_continued(sources: Sources) -> None:
    sources.replies[0] = interrupt_once(sources)
    code = (
        "import os, signal, tqdm\n"
        "tqdm.tqdm.update = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from dltlab.data import arrays; arrays('tiny', 'test')"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert sources.visible() == []
    assert_is_tiny_test(*arrays("tiny", "test"))


def test_a_mirror_may_have_a_folder_for_each_data_set(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(sources.mirror))
    (sources.mirror / "tiny").mkdir()
    for name, content in PACKED.items():
        (sources.mirror / name).write_bytes(b"a file of another data set")
        (sources.mirror / "tiny" / name).write_bytes(content)
    assert_is_tiny_test(*arrays("tiny", "test"))
    assert sources.requests == []


def test_a_card_with_another_size_than_its_files_is_invalid(sources: Sources) -> None:
    card = sources.course / "datasets" / "tiny.toml"
    card.write_text(card.read_text().replace("size = 10\n", "size = 11\n"))
    with pytest.raises(Invalid, match=r"images \(10, 2, 2, 1\).*card says \(11, 2, 2, 1\)"):
        arrays("tiny", "test")


def test_a_file_of_another_size_than_its_card_says_is_invalid(sources: Sources) -> None:
    card = sources.course / "datasets" / "tiny.toml"
    size = len(PACKED["test-images.gz"])
    card.write_text(card.read_text().replace(f"size = {size}\n", "size = 7\n"))
    with pytest.raises(Invalid, match=rf"has {size} bytes; its card says 7: correct 'size'"):
        arrays("tiny", "test")


def test_another_file_in_the_mirror_is_named_with_its_hash(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(sources.mirror))
    (sources.mirror / "test-images.gz").write_bytes(OTHER_BYTES)
    with pytest.raises(
        Unavailable, match=f"damaged or another file, with the SHA-256 {OTHER_SHA256}"
    ):
        arrays("tiny", "test")


def test_the_content_hash_says_whether_the_test_images_are_divided(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = info("tiny").content_hash
    monkeypatch.setenv("DLTLAB_DATA_MIRROR", str(sources.mirror))
    for name in ("test-images.gz", "test-labels.gz"):
        (sources.mirror / name).write_bytes(PACKED[name])
    assert info("tiny").content_hash != complete
