"""Processes of a benchmark that take turns, so that other load affects all sides equally."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def parse_arguments(description: str, parts: Sequence[str], **numbers: int) -> argparse.Namespace:
    """Parse the command line of a benchmark: its parts, `--json`, and integer options.

    Args:
        description: The script's docstring; its first line is shown by `--help`.
        parts: The parts of the benchmark; by default all of them run.
        numbers: Further options, with their defaults.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=parts)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(parts)
    if unknown and not arguments.worker:
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(parts)}.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return arguments


class Worker:
    """A script in a process of its own that computes its next result when asked for it.

    Args:
        script: With `--worker` and `arguments`, it must call `serve_results`.
        arguments: The arguments of the script.
    """

    def __init__(self, script: str, *arguments: object) -> None:
        command = [sys.executable, script, "--worker", *map(str, arguments)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __iter__(self) -> "Worker":
        return self

    def __next__(self) -> Any:
        """Return the next result; raise `StopIteration` after the last one."""
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
            sys.exit(f"A part of the benchmark has failed with exit code {code}.")
        raise StopIteration

    def stop(self) -> None:
        """Stop the process before its last result."""
        self._process.terminate()
        self._process.wait()


def serve_results(results: Iterable[Any]) -> None:
    """Print the next result as a line of JSON for each line read from stdin."""
    for _, result in zip(sys.stdin, results, strict=False):
        print(json.dumps(result), flush=True)
