"""How long a class waits that starts all at once, and what it costs: real Hub, accounts, kernels.

Run it as root on a machine with nothing else to do: it makes accounts `rehearsal-learner01`, … and
removes them. Each learner signs in with a code, opens JupyterLab, starts a kernel and imports
TensorFlow, over the protocols that a browser uses, on loopback. `--cold` turns warm kernels off.
`--recovery` kills one process after the other instead, and tells how long a learner waits then.
"""

import argparse
import asyncio
import json
import os
import pwd
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import aiohttp
import psutil

from dltlab.errors import LabError
from dltlab.paths import COLD_KERNELS, cold_kernels
from dltlab.workshop import (
    LearnerClient,
    RehearsalRoom,
    Settings,
    read_status,
    rehearsal_room,
    rehearse,
)

STEPS = ("signed_in", "server", "kernel", "imported")


def processes(room: RehearsalRoom) -> dict[str, list[psutil.Process]]:
    """Return the processes of a workshop by what they are."""
    status = asyncio.run(read_status(room.folder))
    found = defaultdict(list)
    for name, process in status["processes"].items():
        if process["pid"]:
            found[name].append(psutil.Process(process["pid"]))
    found["supervisor"].append(psutil.Process(room.pid))
    accounts = {account.pw_uid for account in pwd.getpwall() if "rehearsal-" in account.pw_name}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real in accounts:
                is_server = process.name() == "learner-server"
                found["server" if is_server else "kernel"].append(process)
    return found


def cpu_seconds(found: dict[str, list[psutil.Process]]) -> float:
    """Return the processor time that processes have used so far."""
    times = [process.cpu_times() for group in found.values() for process in group]
    return sum(time.user + time.system for time in times)


def memory_gb(found: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """Return the memory of each kind of process; what several share is divided among them."""
    sizes = {}
    for name, group in found.items():
        with suppress(psutil.Error):
            sizes[name] = sum(process.memory_full_info().pss for process in group) / 1e9
    return sizes


def measure(num_learners: int) -> dict[str, Any]:
    """Let a class start at once, and return its times, processor time and memory."""
    with rehearsal_room(num_learners, Settings(labs=["01"])) as room:
        while not cold_kernels() and not list(room.folder.runtime.glob("kernels/*/*.socket")):
            time.sleep(1)  # the process that forks kernels still imports TensorFlow
        before = cpu_seconds(processes(room))
        rehearsal = asyncio.run(rehearse(room))
        found = processes(room)
        used = cpu_seconds(found) - before
        memory = memory_gb(found)
    table = rehearsal.table.set_index("seconds until")
    waits = sorted(
        learner.kernel - learner.server for learner in rehearsal.learners if learner.kernel
    )
    row: dict[str, Any] = {"learners": num_learners, "failures": len(rehearsal.failures)}
    row["errors"] = sorted({learner.error for learner in rehearsal.failures})
    row["servers started beforehand in (s)"] = rehearsal.start_seconds
    for step, name in zip(table.index, STEPS, strict=True):
        row[f"{name} p50 (s)"] = table.loc[step, "median"]
        row[f"{name} p95 (s)"] = table.loc[step, "p95"]
    row["kernel alone p95 (s)"] = waits[int(0.95 * (len(waits) - 1))] if waits else None
    row["CPU (s)"] = used
    row["memory (GB)"] = sum(memory.values())
    row |= {
        f"memory of a {kind} (MB)": 1000 * memory[kind] / max(len(found[kind]), 1)
        for kind in sorted(memory)
    }
    return row


async def recovery(room: RehearsalRoom) -> dict[str, float]:
    """Kill each process of a workshop, and return after how many seconds a learner gets on."""
    account, code = next(iter(room.codes.items()))
    seconds = {}
    async with LearnerClient(room.url) as learner:
        await learner.sign_in(code)
        await learner.open_server()

        async def run_a_cell() -> None:
            socket = await learner.connect(await learner.start_kernel())
            await socket.run("1")

        async def sign_in() -> None:
            async with LearnerClient(room.url) as another:
                await another.sign_in(code)

        async def ask_board() -> None:
            address = json.loads((room.folder.runtime / "room.json").read_bytes())["board"]
            async with learner.session.get(f"{address}/events"):
                pass

        steps = {
            "proxy": sign_in,
            "hub": sign_in,
            "board": ask_board,
            "zygote": run_a_cell,
            "servers": learner.open_server,
            "server": learner.open_server,
        }
        await run_a_cell()
        for name, step in steps.items():
            found = await asyncio.to_thread(processes, room)
            for process in found[name]:
                if name != "server" or process.username() == account:
                    process.kill()
            start = time.monotonic()
            await _until_done(step)
            seconds[name] = time.monotonic() - start
            await asyncio.sleep(15)
    return seconds


async def _until_done(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            return await step()
        except (LabError, OSError, TimeoutError, aiohttp.ClientError):
            await asyncio.sleep(0.1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, nargs="+", default=[5, 15, 30])
    parser.add_argument("--cold", action="store_true", help="turn warm kernels off")
    parser.add_argument("--recovery", action="store_true", help="kill processes, not all at once")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("Run it as root: each learner gets an account.")
    if arguments.cold:
        os.environ[COLD_KERNELS] = "1"
    if arguments.recovery:
        with rehearsal_room(arguments.learners[0], Settings(labs=["01"])) as room:
            for name, seconds in asyncio.run(recovery(room)).items():
                print(f"{name}: {seconds:.1f} s")
        return
    rows = [measure(num_learners) for num_learners in arguments.learners]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    columns = [row["learners"] for row in rows]
    print("| learners | " + " | ".join(map(str, columns)) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for name in dict.fromkeys(key for row in rows for key in row if key not in ("learners",)):
        values = [row.get(name, "") for row in rows]
        texts = [f"{value:.1f}" if isinstance(value, float) else str(value) for value in values]
        print(f"| {name} | " + " | ".join(texts) + " |")


if __name__ == "__main__":
    main()
