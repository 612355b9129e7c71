"""Processes of a benchmark that take turns, so that what slows the machine slows all alike."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any


def arguments(about: str, parts: Sequence[str], **numbers: int) -> argparse.Namespace:
    """What a script is asked for: `parts`, `json`, `one`, and each of the numbers.

    Args:
        about: The script's docstring.
        parts: What it can do; by default all of it.
        numbers: Other options, with their defaults.
    """
    options = argparse.ArgumentParser(description=about.partition("\n")[0])
    options.add_argument("parts", nargs="*", default=parts)
    options.add_argument("--json", action="store_true")
    options.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    for name, default in numbers.items():
        options.add_argument(f"--{name}", type=int, default=default)
    found = options.parse_args()
    unknown = set(found.parts) - set(parts)
    if unknown and not found.one:
        options.error(f"there is no {', '.join(unknown)}; choose from {', '.join(parts)}.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return found


class Worker:
    """A script in a process of its own; it goes on when it is asked for its next line.

    Args:
        script: It answers `--one` and the arguments with a line of JSON for each line it reads.
        arguments: What it is to do.
    """

    def __init__(self, script: str, *arguments: object) -> None:
        command = [sys.executable, script, "--one", *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __iter__(self) -> "Worker":
        return self

    def __next__(self) -> Any:
        """What it prints next, from JSON; at its end `StopIteration`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write("\n")
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return json.loads(line)
        if code := self._process.wait():
            sys.exit(f"A part has ended with exit code {code}.")
        raise StopIteration

    def stop(self) -> None:
        """End it before its end."""
        self._process.terminate()
        self._process.wait()


def answer(lines: Any) -> None:
    """Be such a script: a line of JSON for each line that is read."""
    for _, found in zip(sys.stdin, lines, strict=False):
        print(json.dumps(found), flush=True)
