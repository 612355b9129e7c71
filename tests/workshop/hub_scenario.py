"""A workshop that is attacked and killed in parts: run inside a namespace, prints facts as JSON."""

import asyncio
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import psutil
import yarl

from dltlab.errors import LabError
from dltlab.workshop.board.store import BoardStore
from dltlab.workshop.codes import CodeBook
from dltlab.workshop.connection import free_ports
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.hand_in import last_receipts
from dltlab.workshop.learner_client import KernelSocket, LearnerClient
from dltlab.workshop.roster import read_members
from dltlab.workshop.servers import HUB_ERRORS
from dltlab.workshop.supervisor import read_status

COMMAND = [sys.executable, "-c", "from dltlab.cli import main; main()", "workshop"]
NAMES = ["name", "Ada", "Eve <b>x</b>"]
LAB = "01_first_network"
ANSWER = f"""{{"time": "2026-01-05T09:00:00+00:00", "lab": "{LAB}", "exercise": "softmax", \
"outcome": "passed", "message": ""}}
"""
HANG_SECONDS = 300
MANY = 45  # wrong codes


class Facts(dict[str, object]):
    """What was seen; what was seen last is also told at once, in case the rest hangs."""

    def __setitem__(self, name: str, value: object) -> None:
        print(f"{time.monotonic():.1f} {name}: {value}", file=sys.stderr, flush=True)
        super().__setitem__(name, value)


facts = Facts()


class Scenario:
    """One workshop and what happens to it."""

    def __init__(self, path: Path) -> None:
        self.folder = WorkshopFolder(path)
        port, board_port = free_ports(2)
        self.url = f"https://127.0.0.1:{port}"
        self.board = f"https://127.0.0.1:{board_port}/board/"
        self.folder.settings_file.write_text(
            f'labs = ["01"]\n[address]\nport = {port}\nboard_port = {board_port}\n'
            "[tls]\nself_signed = true\n"
        )
        self.enroll(*NAMES)

    def enroll(self, *lines: str) -> None:
        self.folder.roster_file.write_text("\n".join([*lines, ""]))

    def serve(self) -> "subprocess.Popen[bytes]":
        log = (self.folder.path / "serve.log").open("a")
        return subprocess.Popen([*COMMAND, "serve", self.folder.path], stdout=log, stderr=log)

    async def wait_for_servers(self, count: int) -> None:
        await until(lambda: self._has_servers(count))

    async def _has_servers(self, count: int) -> bool:
        return (await read_status(self.folder)).get("servers", {}).get("ready", 0) >= count

    async def pid(self, name: str) -> int:
        """Return the process of this name, once it runs."""
        pids: list[int] = []

        async def is_there() -> bool:
            status = await read_status(self.folder)
            pids[:] = filter(None, [status.get("processes", {}).get(name, {}).get("pid")])
            return bool(pids)

        await until(is_there)
        return pids[0]

    async def kill(self, name: str) -> None:
        """Kill a process, and wait until another one has taken its place."""
        before = await self.pid(name)
        os.kill(before, signal.SIGKILL)

        async def is_new() -> bool:
            return await self.pid(name) != before

        await until(is_new)


async def until(condition) -> None:
    end = time.monotonic() + HANG_SECONDS
    while not await condition():
        assert time.monotonic() < end, "it never happened"
        await asyncio.sleep(0.2)


def servers(account: str) -> list[int]:
    """Return the processes of a learner's server."""
    uid = pwd.getpwnam(account).pw_uid
    pids = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().real == uid and process.name() == "learner-server":
                pids.append(process.pid)
    return pids


async def leave_results(scenario: Scenario, learner: LearnerClient, socket: KernelSocket) -> None:
    """Record a checked answer, and hand in the lab."""
    await socket.run(
        "from dltlab.paths import progress_file; path = progress_file(); "
        f"path.parent.mkdir(parents=True, exist_ok=True); path.write_text({ANSWER!r})"
    )
    url = f"{learner.url}/user/{learner.account}/"
    cookies = learner.session.cookie_jar.filter_cookies(yarl.URL(url))
    async with learner.session.post(
        f"{url}dltlab/classroom/hand-in",
        json={"lab": LAB},
        headers={"X-XSRFToken": cookies["_xsrf"].value},
    ) as response:
        facts["handed in"] = await response.text()

    async def is_recorded() -> bool:
        with closing(BoardStore(scenario.folder.board_database)) as board:
            return bool(board.outcomes())

    await until(is_recorded)


def traces(folder: WorkshopFolder, account: str, name: str, owns: bool, code: str) -> list[str]:
    """Return what there still is of a member, who may own files."""
    with closing(BoardStore(folder.board_database)) as board:
        results = [result for result in board.outcomes() if result.account == account]
    hub = folder.hub_database.read_bytes()
    contents = [path.read_bytes() for path in folder.state.rglob("*.json")]
    kinds = {
        "account": account in {entry.pw_name for entry in pwd.getpwall()},
        "files": owns,
        "code": CodeBook(folder).account_of(code) == account,
        "results": results,
        "handed in": list(last_receipts(folder.handed_in, account)),
        "the Hub": account.encode() in hub,
        "name": any(json.dumps(name).encode() in content for content in contents),
    }
    return [kind for kind, there in kinds.items() if there]


def erase(scenario: Scenario, codes: dict[str, str]) -> None:
    """Erase one member, then all; note what there is before and after."""
    folder = scenario.folder
    names = {member.account: member.name for member in read_members(folder)}
    uids = {account: pwd.getpwnam(account).pw_uid for account in names}

    def all_traces() -> dict[str, list[str]]:
        find = ["find", "/home", "/run", "/dev/shm", "/tmp", "-printf", "%U\n"]
        owners = set(subprocess.run(find, capture_output=True, text=True).stdout.splitlines())
        return {
            account: traces(folder, account, name, str(uids[account]) in owners, codes[account])
            for account, name in names.items()
        }

    seen = [all_traces()]
    for what in ("learner01", "--all"):
        command = [*COMMAND, "erase", str(folder.path), what]
        done = subprocess.run(command, capture_output=True, text=True)
        facts[f"erase {what}"] = [done.returncode, done.stderr]
        seen.append(all_traces())
    facts["traces"] = seen


async def value_of_x(learner: LearnerClient, kernel: str) -> str:
    """Return x in a kernel, over a new socket."""
    value: list[str] = []

    async def answers() -> bool:
        with suppress(LabError, *HUB_ERRORS):
            socket = await learner.connect(kernel)
            value.append(await socket.run("print(x)"))
            await socket.close()
        return bool(value)

    await until(answers)
    return value[0]


async def refusal(client: LearnerClient, code: str, headers: dict[str, str] | None = None) -> str:
    try:
        await client.sign_in(code, headers)
    except LabError as error:
        return str(error)
    return "signed in"


async def try_codes(scenario: Scenario, codes: dict[str, str]) -> None:
    """Guess codes, with forged addresses; meanwhile a neighbor signs in."""
    async with LearnerClient(scenario.url) as guesser, LearnerClient(scenario.url) as neighbor:
        facts["wrong code"] = await refusal(guesser, "2222-3333-4444")
        refusals = []
        for number in range(MANY):
            forged = dict.fromkeys(("X-Forwarded-For", "X-Real-Ip"), f"9.9.9.{number}")
            refusals.append(await refusal(guesser, f"{number:04d}-3333-4444", forged))
        facts["after many"] = refusals[-1]
        facts["neighbor"] = await refusal(neighbor, codes["learner02"].upper().replace("-", " "))
    link = CodeBook(scenario.folder).link("learner02")
    async with LearnerClient(scenario.url) as first, LearnerClient(scenario.url) as second:
        facts["link"] = [await refusal(first, link), await refusal(second, link)]


async def play(scenario: Scenario) -> None:
    process = scenario.serve()
    await scenario.wait_for_servers(3)
    codes = CodeBook(scenario.folder).renew(["learner01", "learner02", "instructor01"])
    again = subprocess.run(
        [*COMMAND, "serve", scenario.folder.path], capture_output=True, text=True
    )
    facts["served twice"] = [again.returncode, again.stderr]
    await try_codes(scenario, codes)
    async with LearnerClient(scenario.url) as ada, LearnerClient(scenario.url) as eve:
        await ada.sign_in(codes["learner01"])
        await eve.sign_in(codes["learner02"])
        await ada.open_server()
        kernel = await ada.start_kernel()
        socket = await ada.connect(kernel)
        facts["account"] = await socket.run(
            "import os, pwd; x = 42; print(pwd.getpwuid(os.getuid()).pw_name, os.getcwd(), "
            "oct(os.stat(os.environ['HOME']).st_mode)[-3:])"
        )
        secret = scenario.folder.keys / "connection.json"
        facts["secrets"] = await socket.run(f"print(os.access({str(secret)!r}, os.R_OK))")
        async with eve.session.get(f"{scenario.url}/user/learner01/api/kernels") as response:
            facts["neighbor's server"] = response.status
        async with LearnerClient(scenario.url) as instructor:
            await instructor.sign_in(codes["instructor01"])
            async with instructor.session.get(
                f"{scenario.url}/user/learner01/api/kernels"
            ) as response:
                facts["instructor in a learner's server"] = response.status
            async with instructor.session.get(f"{scenario.url}/hub/admin") as response:
                facts["instructor in the Hub's admin page"] = response.status

            async def shows_board() -> bool:
                with suppress(*HUB_ERRORS):
                    async with instructor.session.get(f"{scenario.url}/hub/") as response:
                        return response.status == 200 and str(response.url) == scenario.board
                return False

            await until(shows_board)
            await scenario.kill("board")
            await until(shows_board)
            facts["the board comes first, and back"] = True
        async with ada.session.get(f"{scenario.url}/services/board/") as response:
            facts["the board on the Hub's origin"] = response.status
        async with ada.session.get(scenario.board) as response:
            facts["learner at the board"] = response.status

        await scenario.kill("zygote")
        facts["x after the zygote"] = await socket.run("print(x)")
        facts["a new kernel after the zygote"] = await (
            await ada.connect(await ada.start_kernel())
        ).run("print(1)")
        before = servers("learner01")
        os.kill(await scenario.pid("hub"), signal.SIGKILL)
        facts["x while the Hub is down"] = await socket.run("print(x)")
        await scenario.wait_for_servers(3)
        facts["x after the Hub"] = await value_of_x(ada, kernel)
        await scenario.kill("proxy")
        facts["x after the proxy"] = await value_of_x(ada, kernel)
        await scenario.kill("servers")
        log = scenario.folder.logs / "servers.log"

        async def is_ready() -> bool:
            return log.read_text().splitlines().count("ready") == 2

        await until(is_ready)
        facts["server outlives Hub, proxy and zygote"] = servers("learner01") == before

        for pid in before:
            os.kill(pid, signal.SIGKILL)

        async def has_server() -> bool:
            return bool(servers("learner01")) and servers("learner01") != before

        await until(has_server)
        await ada.open_server()
        (server,) = servers("learner01")
        is_fork = psutil.Process(server).ppid() == await scenario.pid("servers")
        facts["the new server is a fork"] = is_fork
        kernel = await ada.start_kernel()
        socket = await ada.connect(kernel)
        await socket.run("x = 43")
        await leave_results(scenario, ada, socket)

        scenario.enroll("name", "Ada", "Grace")
        grace: list[str] = []

        async def enrolled() -> bool:
            grace[:] = [m.account for m in read_members(scenario.folder) if m.name == "Grace"]
            return bool(grace)

        await until(enrolled)

        async def eve_is_out() -> bool:
            async with eve.session.get(
                f"{scenario.url}/hub/home", allow_redirects=False
            ) as response:
                return response.status == 302

        await until(eve_is_out)
        facts["whoever leaves the roster is signed out"] = True
        async with LearnerClient(scenario.url) as learner:
            facts["left the roster"] = await refusal(learner, codes["learner02"])
        async with LearnerClient(scenario.url) as learner:
            codes |= CodeBook(scenario.folder).renew(grace)
            await learner.sign_in(codes[grace[0]])
            await learner.open_server()
            facts["joined the roster"] = learner.account

        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process = scenario.serve()
        await scenario.wait_for_servers(3)
        facts["x after the supervisor"] = await value_of_x(ada, kernel)
    stopped = subprocess.run([*COMMAND, "stop", scenario.folder.path], capture_output=True)
    facts["stopped"] = [stopped.returncode, process.wait()]
    facts["left over"] = sum(map(len, map(servers, ("learner01", "learner02", "learner03"))))
    erase(scenario, codes)
    facts["cards"] = sorted(path.name for path in scenario.folder.path.glob("cards*.html"))
    facts["script in a card"] = "<b>" in (scenario.folder.path / "cards.html").read_text()
    lines = log.read_text().splitlines()
    facts["faults of servers"] = [line for line in lines if re.search(r"Traceback|\] 500 ", line)]
    text = (scenario.folder.logs / "hub.log").read_text()
    facts["codes in the log"] = [code for code in codes.values() if code in text]


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    asyncio.run(play(Scenario(folder)))
    print(json.dumps(facts))
