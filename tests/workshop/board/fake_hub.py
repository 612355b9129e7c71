"""A Hub that answers what the board asks a Hub, and a board that it has started."""

import json
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx
import nbformat
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from dltlab.workshop.connection import free_ports, read_connection
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.roster import Person, enroll
from dltlab.workshop.settings import Settings, read_settings
from tests.deadlines import HANG_SECONDS, spawn, wait_for_port, wait_until

ACCESS = "access:services!service=board"
LAB = "01_first_network"
MORNING = "2026-01-05T09:00:00+00:00"
SCRIPT = "<script>alert(1)</script>"
NAMES = ("Ada Lovelace", "<img src=x onerror=alert(1)>", "=cmd|' /C calc'!A0")


class FakeHub:
    """A Hub with one signed-in person at a time, and a token for each account."""

    def __init__(self) -> None:
        self.signed_in = "instructor01"
        self.is_up = True
        self.codes: dict[str, tuple[str, str]] = {}
        self.sessions: dict[str, str] = {}
        self.app = Starlette(
            routes=[
                Route("/hub/api/user", self.user),
                Route("/hub/api/oauth2/authorize", self.authorize),
                Route("/hub/api/oauth2/token", self.token, methods=["POST"]),
            ]
        )

    async def user(self, request: Request) -> Response:
        if not self.is_up:
            return Response(status_code=503)
        token = request.headers["authorization"].removeprefix("token ")
        name = self.sessions.get(token) or token.removeprefix("token-of-")
        if token not in self.sessions and not token.startswith("token-of-"):
            return JSONResponse({"message": "Forbidden"}, 403)
        kind = "service" if name == "a-service" else "user"
        scopes = [ACCESS] if name.startswith("instructor") else ["access:servers!server=x/"]
        return JSONResponse({"name": name, "kind": kind, "scopes": scopes})

    async def authorize(self, request: Request) -> Response:
        query = request.query_params
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = (self.signed_in, query["code_challenge"])
        back = urlencode({"code": code, "state": query["state"]})
        return RedirectResponse(f"{query['redirect_uri']}?{back}", 302)

    async def token(self, request: Request) -> Response:
        form = dict(
            pair.split("=", 1) for pair in (await request.body()).decode().split("&") if pair
        )
        if form["code"] not in self.codes or not form["code_verifier"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        name, _ = self.codes.pop(form["code"])
        session = secrets.token_urlsafe(16)
        self.sessions[session] = name
        return JSONResponse({"access_token": session})


@dataclass
class RunningBoard:
    """A board that is served.

    Attributes:
        folder: Of the workshop.
        settings: Of the workshop.
        hub: Its Hub.
        process: That serves it.
    """

    folder: WorkshopFolder
    settings: Settings
    hub: FakeHub
    process: "subprocess.Popen[str]"

    @property
    def address(self) -> str:
        """The address of its page."""
        return self.settings.board_url

    @property
    def learner_address(self) -> str:
        """Where learners' servers reach it."""
        return f"{read_connection(self.folder).board}/"

    def learner(self, account: str) -> httpx.Client:
        """Return a client with the token of a learner's server."""
        headers = {"Authorization": f"token token-of-{account}"}
        return httpx.Client(base_url=self.learner_address, headers=headers, timeout=HANG_SECONDS)

    @contextmanager
    def browser(self, account: str = "instructor01") -> Iterator[httpx.Client]:
        """Yield a client that signs in as a browser does."""
        self.hub.signed_in = account
        with httpx.Client(
            base_url=self.address,
            headers={"Origin": self.settings.board_origin, "Sec-Fetch-Site": "same-origin"},
            follow_redirects=True,
            timeout=HANG_SECONDS,
        ) as client:
            client.get("")
            yield client

    def overview(self, client: httpx.Client) -> dict:
        """Return what the page shows now."""
        with client.stream("GET", "stream") as response:
            assert response.status_code == 200, response.read()
            return next(messages(response))


def messages(response: httpx.Response) -> Iterator[dict]:
    """Yield the messages of a stream of events."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def make_folder(path, settings: str = 'labs = ["01", "02"]') -> WorkshopFolder:
    """Return the folder of a workshop with three learners and an instructor.

    Its Hub has one port for browsers and for the board.
    """
    path.mkdir(exist_ok=True)
    (path / "roster.csv").write_text("name,email,group\n")
    folder = WorkshopFolder.find(path)
    folder.create()
    port, board_port = read_connection(folder).hub_port, free_ports(1)[0]
    address = f"[address]\nport = {port}\nboard_port = {board_port}\n"
    folder.settings_file.write_text(f"{settings}\n{address}")
    people = [Person(name, group="A") for name in NAMES]
    enroll(folder, people, [Person("Grace Hopper")])
    return folder


@contextmanager
def served(app: Starlette, port: int) -> Iterator[None]:
    """Serve an application in a thread."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_for_port(port)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(HANG_SECONDS)


@contextmanager
def running_board(folder: WorkshopFolder) -> Iterator[RunningBoard]:
    """Run the board's process, and its Hub."""
    hub, settings, connection = FakeHub(), read_settings(folder).content, read_connection(folder)
    ports = connection.board_port, settings.address.board_port
    command: list[str | Path] = [sys.executable, "-m", "dltlab.workshop.board", folder.path]
    with served(hub.app, connection.hub_port), spawn(command) as process:
        wait_until(lambda: all(map(is_open, ports)) or process.poll() is not None)
        assert process.poll() is None
        try:
            yield RunningBoard(folder, settings, hub, process)
        finally:
            process.terminate()
            process.wait(HANG_SECONDS)


def is_open(port: int) -> bool:
    """Return whether a server listens on a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def line(exercise="softmax", outcome="not yet", message="", lab=LAB, time=MORNING) -> str:
    """Return a line of a learner's progress."""
    record = {"time": time, "lab": lab, "exercise": exercise, "outcome": outcome}
    return json.dumps(record | {"message": message})


def post(client: httpx.Client, *lines: str, start: int = 0) -> int:
    """Send lines of a learner's progress, and return the status of the reply."""
    records = [[start + 1000 * number, text] for number, text in enumerate(lines)]
    return client.post("events", json={"records": records}).status_code


def notebook(*outputs, source="x = 1") -> bytes:
    """Return a notebook with a script in its text."""
    cells = [
        nbformat.v4.new_markdown_cell(f"# Mine {SCRIPT}"),
        nbformat.v4.new_code_cell(source, outputs=list(outputs)),
    ]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells)).encode()


def results(board: RunningBoard, instructor: httpx.Client, account: str) -> list:
    """Return what the board shows of a learner."""
    learners = board.overview(instructor)["learners"]
    return next(one["results"] for one in learners if one["account"] == account)
