"""A learner's server with one kernel, as far as tests need it.

It starts the kernel, prints what it is, then runs each line of stdin, JSON of a cell, and prints
the outcome. It shuts the kernel down when stdin is closed.
"""

import json
import logging
import os
import sys
import time
from typing import Any

from jupyter_client.manager import KernelManager

from tests.deadlines import HANG_SECONDS


def answer(**content: Any) -> None:
    """Write a line for the test."""
    print(json.dumps(content), flush=True)


def main() -> None:
    """Run the server."""
    logging.basicConfig(level=logging.WARNING)
    manager = KernelManager(transport="ipc", transport_encryption="auto")
    manager.ip = f"{os.environ['HOME']}/kernel"  # a Jupyter server has a name for each kernel
    start = time.perf_counter()
    try:
        manager.start_kernel(cwd=os.environ["HOME"])
    except Exception as error:
        answer(failure=f"{type(error).__name__}: {error}")
        return
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=HANG_SECONDS)
    seconds = time.perf_counter() - start
    kind = type(manager.provisioner.process).__name__
    answer(pid=manager.provisioner.pid, is_warm=kind == "WarmKernel", seconds=seconds)
    for line in sys.stdin:
        output: list[str] = []

        def add(message: dict[str, Any], output: list[str] = output) -> None:
            if message["msg_type"] == "stream":
                output.append(message["content"]["text"])

        reply = client.execute_interactive(json.loads(line), timeout=HANG_SECONDS, output_hook=add)
        content = reply["content"]
        answer(status=content["status"], error=content.get("ename"), output="".join(output))
    manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
