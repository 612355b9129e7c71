"""A download that is killed at any moment, and a store that cannot be written."""

import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from dltlab import data
from dltlab.data import verified_files
from dltlab.errors import Unavailable
from tests.deadlines import HANG_SECONDS

TEXT = "".join(random.Random(1).choices("abc \n", k=600_000)).encode()
CARD = """
name = "letters"
title = "Letters."
format = "text"
license = "CC0-1.0"
citation = "None."
version = "1"
[splits.train]
size = 500000
[splits.test]
size = 100000
[[files]]
name = "letters.txt"
urls = ["http://127.0.0.1:{port}/letters.txt"]
size = {size}
sha256 = "{sha256}"
"""
DOWNLOADS = """
import os, signal, sys
import pooch, requests, tqdm, filelock
from dltlab.data import text

def audit(event, arguments):
    # Called whenever a file or folder of the store is opened, made, renamed or removed.
    if is_counting and event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        if str(arguments[0]).startswith(os.environ["DLTLAB_DATA_DIR"]):
            count_down()

def count_down(*arguments):
    global remaining
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(audit)
is_counting = False
for line in sys.stdin:
    remaining = first = int(line)
    child = os.fork()
    if child == 0:
        os.dup2(2, 1)
        is_counting = True
        tqdm.tqdm.update = count_down  # after each chunk of the file
        assert len(text("letters")) == 600_000
        is_counting = False
        os.write(answers, b"finished %d\\n" % (first - remaining))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        os.write(answers, b"ended %d\\n" % status)
"""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty store, and a server on this machine that supports range requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested = self.headers.get("Range", "bytes=0-")
            body = TEXT[int(requested.removeprefix("bytes=").removesuffix("-")) :]
            self.send_response(206 if "Range" in self.headers else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the client was killed

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    (tmp_path / "course" / "datasets").mkdir(parents=True)
    card = CARD.format(
        port=server.server_port, size=len(TEXT), sha256=hashlib.sha256(TEXT).hexdigest()
    )
    (tmp_path / "course" / "datasets" / "letters.toml").write_text(card)
    monkeypatch.setenv("DLTLAB_COURSE", str(tmp_path / "course"))
    monkeypatch.setenv("DLTLAB_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.delenv("DLTLAB_DATA_MIRROR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield tmp_path / "store" / "letters"
    server.shutdown()
    server.server_close()


def visible(store: Path) -> list[str]:
    return sorted(path.name for path in store.glob("[!.]*"))


def test_a_download_that_is_killed_at_any_moment_leaves_no_unfinished_file(store: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import os; answers = os.dup(1)\n" + DOWNLOADS],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip

    def download_until(event: int) -> list[str]:
        """Download in a process that is killed at its event of this number."""
        assert process.stdin is not None
        assert process.stdout is not None
        print(event, file=process.stdin, flush=True)
        return process.stdout.readline().split()

    outcome, num_events = download_until(10**9)
    assert outcome == "finished"
    assert int(num_events) > 15
    for event in random.Random(0).choices(range(1, int(num_events) + 1), k=20):
        (store / "letters.txt").unlink()
        assert download_until(event) == ["ended", str(int(signal.SIGKILL))]
        assert visible(store) in ([], ["letters.txt"])
        if visible(store):
            assert (store / "letters.txt").read_bytes() == TEXT
        assert download_until(10**9)[0] == "finished"
        assert (store / "letters.txt").read_bytes() == TEXT
        assert visible(store) == ["letters.txt"]
    process.communicate(timeout=HANG_SECONDS)


def test_a_store_that_cannot_be_written_can_be_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    assert data.text("letters", "train").encode() == TEXT[:500_000]
    monkeypatch.setattr(verified_files, "lock_folder", fail)
    assert data.text("letters", "test").encode() == TEXT[500_000:]
    (store / "letters.txt").unlink()
    with pytest.raises(Unavailable) as caught:
        data.text("letters", "test")
    assert str(caught.value) == (
        f"letters.txt cannot be written to {store} (Permission denied); free some space there, or "
        "set DLTLAB_DATA_DIR to a folder you may write to."
    )
