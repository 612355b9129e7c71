"""What workers write: whole lines on the terminal, each with its rank, and a file for each rank."""

import os
import select
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dltlab.paths import short_path

MAX_LINE_BYTES = 1 << 16  # a longer one is shown in parts
_COLORS = (34, 33, 32, 35, 36, 31)  # ANSI, in the order of display.PALETTE
_STDOUT, _STDERR = 1, 2


class Output:
    """The terminal and the log files of a launcher.

    Whatever cannot be written, because a disk is full or a reader has gone away, is left out with
    one message: the workers go on.

    Args:
        folder: The folder of the log files, `rank0.log` and so on; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder: Path | None = folder
        self._lock = threading.Lock()
        self._files: dict[int, BinaryIO] = {}
        self._broken: set[int] = set()
        no_color = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colored = {
            stream: not no_color and _is_terminal(stream) for stream in (_STDOUT, _STDERR)
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up_logs(folder, error)

    def note(self, text: str) -> None:
        """Show a message of the launcher itself."""
        self._show(_STDERR, "[launch]", text.encode(), None)

    def pump(self, rank: int, pipe: BinaryIO, stream: int) -> None:
        """Copy what a worker writes to its log file and to `stream` (1 or 2), until its end."""
        rest = b""
        while chunk := os.read(pipe.fileno(), MAX_LINE_BYTES):
            self.log(rank, chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            while len(rest) > MAX_LINE_BYTES:
                lines.append(rest[:MAX_LINE_BYTES])
                rest = rest[MAX_LINE_BYTES:]
            for line in lines:
                self.show(rank, line, stream)
        if rest:
            self.show(rank, rest, stream)
        pipe.close()

    def show(self, rank: int, line: bytes, stream: int = _STDERR) -> None:
        """Show a line of a worker; of a line written over itself, as by progress bars, the last."""
        line = line.rstrip(b"\r").rpartition(b"\r")[2]
        self._show(stream, f"[rank {rank}]", line, _COLORS[rank % len(_COLORS)])

    def log(self, rank: int, content: bytes) -> None:
        """Append to the log file of a worker."""
        with self._lock:
            folder = self.folder
            try:
                if folder is not None and rank not in self._files:
                    path = folder / f"rank{rank}.log"
                    self._files[rank] = path.open("ab", buffering=0)
                if folder is not None:
                    self._files[rank].write(content)
                return
            except OSError as error:
                reason = error
        assert folder is not None
        self._give_up_logs(folder, reason)

    def close(self) -> None:
        """Close the log files."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()

    def _give_up_logs(self, folder: Path, error: OSError) -> None:
        with self._lock:
            if self.folder is None:
                return
            self.folder = None
        self.note(
            f"{short_path(folder)} cannot be written ({error.strerror}): the workers go on "
            "without log files."
        )

    def _show(self, stream: int, prefix: str, line: bytes, color: int | None) -> None:
        if color is not None and self._colored[stream]:
            prefix = f"\033[{color}m{prefix}\033[0m"
        data = prefix.encode() + b" " + line + b"\n"
        with self._lock:
            if stream in self._broken:
                return
            try:
                while data:
                    try:
                        data = data[os.write(stream, data) :]
                    except BlockingIOError:
                        select.select([], [stream], [])
            except OSError:
                self._broken.add(stream)


def _is_terminal(stream: int) -> bool:
    with suppress(OSError):
        return os.isatty(stream)
    return False
