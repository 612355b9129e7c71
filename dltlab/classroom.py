"""A learner's server in a workshop: it tells the board what happens, and the page what is new.

An extension of Jupyter's server, turned on in `dltlab/course/jupyter`; it is active where
`DLTLAB_ROOM` names the room of a workshop. No kernel talks to the board: what is checked is in the
learner's progress, which this follows. The script `classroom.js` in
`dltlab/course/jupyter/labextensions` shows what the page is told.
"""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.web import authenticated

from dltlab.course import Course, Workspace
from dltlab.errors import Invalid, LabError, Unavailable
from dltlab.paths import progress_file, room_dir

_SECONDS_BETWEEN_LOOKS = 0.5  # at the learner's progress
_SECONDS_TO_RETRY = 2.0
_SECONDS_TO_ANSWER = 60.0
_SECONDS_OF_NEWS = 600.0  # then the connection is made anew
_MOST_LINES, _LONGEST_LINE = 100, 8_000  # of the progress, in one request
_LARGEST_MB = 20  # of a notebook
_CLIENT_ERRORS = range(400, 500)


class BoardClient:
    """Sends requests to the board of a workshop with the token of this server.

    Args:
        room: The folder of the room, whose file `room.json` says where the board is.
        token: What the Hub has given to this server.
    """

    def __init__(self, room: Path, token: str) -> None:
        self._room, self._token = room, token
        self._client = AsyncHTTPClient(force_instance=True)

    async def send(self, method: str, path: str, content: bytes | object = None) -> Any:
        """Send a request, and return the JSON of its answer; None if it is empty.

        Args:
            method: GET, POST or PUT.
            path: Below the board's URL.
            content: Bytes, or what is sent as JSON.

        Raises:
            Invalid: The board refuses what was sent; the message is the board's.
            Unavailable: The board cannot be reached, or asks to wait.
        """
        options: dict[str, Any] = {"method": method, "request_timeout": _SECONDS_TO_ANSWER}
        if method != "GET":
            is_raw = isinstance(content, bytes)
            options["body"] = content if is_raw else json.dumps(content)
        answer = await self._fetch(self._request(path, **options))
        return json.loads(answer) if answer else None

    async def follow_news(self, receive: Callable[[dict[str, Any]], None]) -> None:
        """Hand over each message that the board sends, until the connection ends.

        Raises:
            Unavailable: The board cannot be reached.
        """
        buffer = b""

        def split(chunk: bytes) -> None:
            nonlocal buffer
            *messages, buffer = (buffer + chunk).split(b"\n\n")
            for message in messages:
                if message.startswith(b"data: "):
                    receive(json.loads(message.removeprefix(b"data: ")))

        await self._fetch(
            self._request("news", request_timeout=_SECONDS_OF_NEWS, streaming_callback=split)
        )

    def _request(self, path: str, **options: Any) -> HTTPRequest:
        try:
            address = json.loads((self._room / "room.json").read_bytes())["board"]
        except (OSError, ValueError, KeyError) as error:
            raise Unavailable("The board of this workshop does not run.") from error
        headers = {"Authorization": f"token {self._token}", "Content-Type": "application/json"}
        return HTTPRequest(f"{address}/{path}", headers=headers, connect_timeout=5.0, **options)

    async def _fetch(self, request: HTTPRequest) -> bytes:
        try:
            return bytes((await self._client.fetch(request)).body or b"")
        except HTTPClientError as error:
            if error.code in _CLIENT_ERRORS and error.code != 429 and error.response:
                text = (error.response.body or b"").decode(errors="replace")
                raise Invalid(text or f"The board answers {error.code}.") from error
            raise Unavailable("The board does not answer; try again.") from error
        except OSError as error:
            raise Unavailable("The board does not answer; try again.") from error


class ProgressFollower:
    """Sends each record of the learner's progress to the board, also those of before.

    A board that has a record ignores it; nothing is lost while the board is down.

    Args:
        client: Reaches the board.
        path: The learner's progress.
    """

    def __init__(self, client: BoardClient, path: Path) -> None:
        self._client, self._path = client, path
        self._position, self._database = 0, None

    async def follow(self) -> None:
        """Send records until the board cannot be reached.

        Raises:
            LabError: The board cannot be reached, or refuses.
        """
        database = (await self._client.send("GET", "events"))["database"]
        if database != self._database:
            self._position, self._database = 0, database
        while True:
            lines, position = self._read(self._position)
            if lines:
                await self._client.send("POST", "events", {"records": lines})
            else:
                await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            self._position = position

    def _read(self, position: int) -> tuple[list[tuple[int, str]], int]:
        """Return the complete lines from `position` on, with their places, and where they end."""
        size = self._size()
        if size == position:
            return [], position
        if size < position:  # the file was begun anew
            position = 0
        lines: list[tuple[int, str]] = []
        with self._path.open("rb") as file:
            file.seek(position)
            while len(lines) < _MOST_LINES and (line := file.readline()).endswith(b"\n"):
                if len(line) <= _LONGEST_LINE:
                    lines.append((position, line.decode(errors="replace")))
                position += len(line)
        return lines, position

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


class Classroom:
    """A learner's side of a workshop.

    Args:
        client: Reaches the board; None outside a workshop.
        workspace: The learner's folder.
    """

    def __init__(self, client: BoardClient | None, workspace: Workspace) -> None:
        self._client, self._workspace = client, workspace
        self._news: dict[str, Any] = {"announcements": [], "hand_raised": False}
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def state(self) -> dict[str, Any]:
        """What the page is told."""
        return {"active": self._client is not None, **self._news}

    async def run(self) -> None:
        """Follow the progress and the news for as long as the server runs."""
        if self._client is not None:
            follower = ProgressFollower(self._client, progress_file())
            news = self._client.follow_news
            await asyncio.gather(_repeat(follower.follow), _repeat(lambda: news(self._receive)))

    async def set_hand(self, raised: bool, lab: str) -> None:
        """Ask for help, or no longer.

        Raises:
            LabError: The board cannot be reached.
        """
        await self._send("POST", "hand", {"raised": raised, "lab": lab})
        self._news["hand_raised"] = raised

    async def note_read(self, number: int) -> None:
        """Note that the announcements up to `number` were shown.

        Raises:
            LabError: The board cannot be reached.
        """
        await self._send("POST", "read", {"number": number})
        unread = [one for one in self._news["announcements"] if one["number"] > number]
        self._news["announcements"] = unread

    async def hand_in(self, lab: str) -> str:
        """Hand in the learner's copy of a lab, and return what to tell the learner.

        Raises:
            LabError: There is no such lab, or the board cannot be reached or refuses.
        """
        receipt = await self._send("PUT", f"hand-in/{quote(lab)}", self._notebook(lab))
        received = datetime.fromisoformat(receipt["time"]).astimezone()
        return f"Lab {lab[:2]} was handed in at {received:%H:%M}. Receipt: {receipt['number']}."

    def _notebook(self, lab: str) -> bytes:
        if lab not in self._workspace.course.lab_names():
            raise Invalid(f"{lab!r} is not a lab of this course.")
        try:
            path = self._workspace.copy(lab)
            if path.stat().st_size > _LARGEST_MB * 1_000_000:
                raise Invalid(
                    f"{path.name} has more than {_LARGEST_MB} MB. Clear its outputs (Edit, Clear "
                    "Outputs of All Cells), save it, and try again."
                )
            return path.read_bytes()
        except OSError as error:
            raise Invalid(f"{path.name} cannot be read ({error.strerror}).") from error

    async def _send(self, method: str, path: str, content: bytes | object) -> Any:
        if self._client is None:
            raise Unavailable("This is not a workshop.")
        return await self._client.send(method, path, content)

    def _receive(self, message: dict[str, Any]) -> None:
        if "news" in message:
            self._news = message["news"]
        if "send" in message:
            task = asyncio.ensure_future(self._show(**message["send"]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _show(self, lab: str, ticket: str) -> None:
        """Send a notebook that the instructor looks at; nothing where there is none."""
        try:
            notebook = self._notebook(lab)
        except LabError:
            notebook = b""
        try:
            await self._send("PUT", f"view/{quote(ticket)}", notebook)
        except LabError:
            return  # the instructor is told that nothing came


class ClassroomHandler(JupyterHandler):  # type: ignore[misc]
    """Answers the requests of the page."""

    def initialize(self, classroom: Classroom) -> None:
        """Keep the classroom, which all requests share."""
        self._classroom = classroom

    @authenticated
    async def get(self, action: str) -> None:
        """Send what is new."""
        self.finish(self._classroom.state)

    @authenticated
    async def post(self, action: str) -> None:
        """Do what the learner asks for; the answer has a sentence for them."""
        body = self.get_json_body() or {}
        sentence = ""
        try:
            match action:
                case "/hand":
                    raised, lab = bool(body.get("raised")), str(body.get("lab", ""))
                    await self._classroom.set_hand(raised, lab)
                case "/read":
                    await self._classroom.note_read(int(body.get("number", 0)))
                case "/hand-in":
                    sentence = await self._classroom.hand_in(str(body.get("lab", "")))
                case _:
                    raise Invalid(f"There is no action {action!r}.")
        except LabError as error:
            self.set_status(503 if isinstance(error, Unavailable) else 400)
            sentence = str(error)
        self.finish({"sentence": sentence})


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Add the classroom to a Jupyter server: the hook that it calls."""
    room, token = room_dir(), os.environ.get("JUPYTERHUB_API_TOKEN", "")
    client = BoardClient(room, token) if room and token else None
    classroom = Classroom(client, Workspace(Path(server.root_dir), Course.find()))
    url = url_path_join(server.base_url, "dltlab/classroom(/[a-z-]+)?")
    server.web_app.add_handlers(".*$", [(url, ClassroomHandler, {"classroom": classroom})])
    server.io_loop.add_callback(classroom.run)


async def _repeat(follow: Callable[[], Any]) -> None:
    """Follow again and again; the board may be down for a while."""
    while True:
        try:
            await follow()
        except (LabError, OSError):
            await asyncio.sleep(_SECONDS_TO_RETRY)
