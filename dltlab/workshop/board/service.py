"""The board as web services: one for the instructor's page, one for learners' servers."""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from dltlab.errors import Invalid, LabError, NotFound, Unavailable
from dltlab.workshop import hand_in
from dltlab.workshop.board import notebook_view
from dltlab.workshop.board.board import Board
from dltlab.workshop.board.identity import Identity
from dltlab.workshop.board.usage import UsageMeter
from dltlab.workshop.settings import BOARD_PATH

_PAGE = Path(__file__).parent / "page"
_SECONDS_BETWEEN_OVERVIEWS = 0.5
_LONGEST_SILENCE = 5.0  # seconds; then the page, and those who are away, are found out
_SECONDS_BETWEEN_SAMPLES = 10.0
_SECONDS_FOR_BODY = 60.0
_LARGEST_JSON = 1_000_000  # bytes
_REQUESTS_PER_SECOND, _REQUESTS_AT_ONCE = 10.0, 100.0  # of one account
_STATUS = {NotFound: 404, Invalid: 400, Unavailable: 503}
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
_NOTEBOOK_HEADERS = {
    "Content-Security-Policy": (
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "unsafe-none",  # browsers show no page with this and a sandbox
}
_EVENT_STREAM = {"X-Accel-Buffering": "no"}
_Body = TypeVar("_Body", bound="_Strict")
_Endpoint = Callable[[Request], Awaitable[Response]]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)


_Place = Annotated[int, Field(ge=0, lt=2**62)]
_Line = Annotated[str, Field(max_length=20_000)]


class _Records(_Strict):
    records: Annotated[list[tuple[_Place, _Line]], Field(max_length=200)]


class _Hand(_Strict):
    raised: bool
    lab: Annotated[str, Field(max_length=200)] = ""


class _Read(_Strict):
    number: Annotated[int, Field(ge=0, lt=2**31)]


class _Announcement(_Strict):
    text: str


class _Release(_Strict):
    lab: str
    released: bool


class _Helped(_Strict):
    account: str


def instructor_application(board: Board, identity: Identity) -> Starlette:
    """Return what serves the instructor's page."""
    return _application(
        Route("/", lambda request: RedirectResponse(BOARD_PATH)),
        Mount(BOARD_PATH.rstrip("/"), routes=_InstructorService(board, identity).routes),
    )


def learner_application(board: Board, identity: Identity) -> Starlette:
    """Return what serves learners' servers; while it runs, what learners use is measured."""
    routes = _LearnerService(board, identity).routes
    return _application(*routes, lifespan=lambda app: _measuring(board))


def _application(*routes: BaseRoute, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    return Starlette(
        routes=routes,
        middleware=[Middleware(_SecurityHeaders)],
        exception_handlers={LabError: _lab_error, ClientDisconnect: _disconnected},
        lifespan=lifespan,
    )


class _InstructorService:
    def __init__(self, board: Board, identity: Identity) -> None:
        self._board, self._identity = board, identity
        self._rendering: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/", self.page),
            Route("/board.js", lambda request: FileResponse(_PAGE / "board.js")),
            Route("/board.css", lambda request: FileResponse(_PAGE / "board.css")),
            Route("/oauth_callback", self._identity.signed_in),
            Route("/stream", self.stream),
            Route("/announce", self.announce, methods=["POST"]),
            Route("/release", self.release, methods=["POST"]),
            Route("/helped", self.helped, methods=["POST"]),
            Route("/notebook/{account}/{lab}", self.notebook),
        ]

    async def page(self, request: Request) -> Response:
        if await self._identity.instructor(request) is None:
            return self._identity.to_sign_in()
        return FileResponse(_PAGE / "board.html")

    async def stream(self, request: Request) -> Response:
        await self._identity.require_instructor(request)

        async def overviews() -> AsyncIterator[str]:
            while True:
                seen = self._board.num_changes
                yield _event(self._board.overview())
                await asyncio.sleep(_SECONDS_BETWEEN_OVERVIEWS)
                await self._board.wait(seen, _LONGEST_SILENCE)

        return StreamingResponse(overviews(), 200, _EVENT_STREAM, "text/event-stream")

    async def announce(self, request: Request) -> Response:
        self._board.announce((await self._command(request, _Announcement)).text)
        return Response(status_code=204)

    async def release(self, request: Request) -> Response:
        command = await self._command(request, _Release)
        self._board.release(command.lab, command.released)
        return Response(status_code=204)

    async def helped(self, request: Request) -> Response:
        command = await self._command(request, _Helped)
        self._board.set_hand(command.account, "", raised=False)
        return Response(status_code=204)

    async def notebook(self, request: Request) -> Response:
        name = await self._identity.require_instructor(request)
        account, lab = request.path_params["account"], request.path_params["lab"]
        async with self._rendering[name]:  # one at a time: rendering takes a core for seconds
            html = await notebook_view.render(await self._board.notebook(account, lab))
        return HTMLResponse(html, headers=_NOTEBOOK_HEADERS)

    async def _command(self, request: Request, kind: type[_Body]) -> _Body:
        self._identity.require_own_page(request)
        await self._identity.require_instructor(request)
        return _parse(await _read(request, _LARGEST_JSON), kind)


class _LearnerService:
    def __init__(self, board: Board, identity: Identity) -> None:
        self._board, self._identity = board, identity
        self._allowances: dict[str, tuple[float, float]] = {}

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/events", self.database, methods=["GET"]),
            Route("/events", self.events, methods=["POST"]),
            Route("/news", self.news),
            Route("/hand", self.hand, methods=["POST"]),
            Route("/read", self.read, methods=["POST"]),
            Route("/hand-in/{lab}", self.hand_in, methods=["PUT"]),
            Route("/view/{ticket}", self.view, methods=["PUT"]),
        ]

    async def database(self, request: Request) -> Response:
        await self._learner(request)
        return JSONResponse({"database": self._board.identifier})

    async def events(self, request: Request) -> Response:
        account, body = await self._message(request, _Records)
        self._board.record(account, body.records)
        return Response(status_code=204)

    async def hand(self, request: Request) -> Response:
        account, body = await self._message(request, _Hand)
        self._board.set_hand(account, body.lab, body.raised)
        return Response(status_code=204)

    async def read(self, request: Request) -> Response:
        account, body = await self._message(request, _Read)
        self._board.note_reader(account, body.number)
        return Response(status_code=204)

    async def hand_in(self, request: Request) -> Response:
        account = await self._learner(request)
        notebook = await _read(request, hand_in.LARGEST_MB * 1_000_000)
        receipt = await self._board.hand_in(account, request.path_params["lab"], notebook)
        return JSONResponse(receipt.as_dict())

    async def view(self, request: Request) -> Response:
        account = await self._learner(request)
        notebook = await _read(request, notebook_view.LARGEST_BYTES)
        self._board.receive(account, request.path_params["ticket"], notebook)
        return Response(status_code=204)

    async def news(self, request: Request) -> Response:
        account = await self._learner(request)
        self._board.require_room_for_link(account)

        async def messages() -> AsyncIterator[str]:
            with self._board.linked(account) as asked:
                last, sent = None, 0.0
                while True:
                    seen = self._board.num_changes
                    news = self._board.news(account)
                    if news != last:
                        yield _event({"news": news})
                        last, sent = news, time.monotonic()
                    elif time.monotonic() > sent + _LONGEST_SILENCE:
                        yield ": still here\n\n"
                        sent = time.monotonic()
                    while not asked.empty():
                        yield _event({"send": asked.get_nowait()})
                    await self._board.wait(seen, _LONGEST_SILENCE)

        return StreamingResponse(messages(), 200, _EVENT_STREAM, "text/event-stream")

    async def _message(self, request: Request, kind: type[_Body]) -> tuple[str, _Body]:
        """Return the account that sends a request, and what it sends."""
        account = await self._learner(request)
        return account, _parse(await _read(request, _LARGEST_JSON), kind)

    async def _learner(self, request: Request) -> str:
        """Return the account that the Hub knows by the request's token; slow down a flood."""
        account = await self._identity.learner(request)
        now = time.monotonic()
        allowance, since = self._allowances.get(account, (_REQUESTS_AT_ONCE, now))
        allowance = min(allowance + (now - since) * _REQUESTS_PER_SECOND, _REQUESTS_AT_ONCE)
        if allowance < 1:
            raise HTTPException(429, "Too many requests: wait a second.", {"Retry-After": "1"})
        self._allowances[account] = (allowance - 1, now)
        return account


class _SecurityHeaders:
    """Adds headers that keep browsers from running what others have written."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in _HEADERS.items()
                        if name.lower().encode() not in present
                    ),
                ]
            await send(message)

        await self._app(scope, receive, send_with_headers)


@asynccontextmanager
async def _measuring(board: Board) -> AsyncIterator[None]:
    """Measure what learners use while the service runs."""

    async def measure() -> None:
        meter = UsageMeter()
        while True:
            accounts = [member.account for member in board.learners]
            board.usage = await asyncio.to_thread(meter.sample, accounts)
            await asyncio.sleep(_SECONDS_BETWEEN_SAMPLES)

    task = asyncio.create_task(measure())
    yield
    task.cancel()
    board.close()


async def _lab_error(request: Request, error: Exception) -> Response:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    return PlainTextResponse(str(error), status)


async def _disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _read(request: Request, limit: int) -> bytes:
    """Return the body of a request, which ends in time and below the limit.

    Raises:
        HTTPException: It does not.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(_SECONDS_FOR_BODY):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise HTTPException(413, f"More than {limit / 1e6:g} MB were sent.")
    except TimeoutError:
        raise HTTPException(408, "The request takes too long.") from None
    return bytes(body)


def _parse(body: bytes, kind: type[_Body]) -> _Body:
    try:
        return kind.model_validate_json(body)
    except (ValidationError, RecursionError):
        raise HTTPException(400, "This is not what the board expects.") from None


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
