"""A learner as a browser's protocol shows one: sign in, server, kernel, cells. For rehearsals."""

import asyncio
import json
import re
import uuid
from typing import Any

import aiohttp
import yarl

from dltlab.errors import LabError

_PAUSE_SECONDS = 0.25
_TIMEOUT = aiohttp.ClientTimeout(total=300)
_XSRF = re.compile(r'name="_xsrf" value="([^"]*)"')
_ERROR = re.compile(r'class="login_error"[^>]*>([^<]*)<')


class RehearsalError(LabError):
    """Something did not go as it goes for a learner."""


class LearnerClient:
    """A learner's browser, without the browser.

    Used as `async with LearnerClient(url) as learner`.

    Args:
        url: Where people sign in, without a slash at the end.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.account = ""

    async def __aenter__(self) -> "LearnerClient":
        self.session = aiohttp.ClientSession(
            cookie_jar=aiohttp.CookieJar(unsafe=True, quote_cookie=False),
            connector=aiohttp.TCPConnector(ssl=False),  # the certificate may be self-signed
            timeout=_TIMEOUT,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def sign_in(self, code: str, headers: dict[str, str] | None = None) -> None:
        """Type a code on the sign-in page.

        Raises:
            RehearsalError: The code is refused; the message is that of the page.
        """
        login = f"{self.url}/hub/login"
        async with self.session.get(login) as response:
            token = _XSRF.search(await response.text())
            if response.status != 200 or token is None:
                raise RehearsalError(f"The sign-in page answers {response.status}.")
        form = {"_xsrf": token[1], "username": "", "password": code}
        async with self.session.post(
            f"{login}?next=%2Fhub%2Fhome", data=form, headers=headers
        ) as response:
            page = await response.text()
            if response.url.path != "/hub/home":
                error = _ERROR.search(page)
                raise RehearsalError(error[1] if error else f"{response.status} {response.url}")
        self.account = re.findall(r'user: "([^"]*)"', page)[0]

    async def open_server(self, seconds: float = 240) -> None:
        """Open JupyterLab, and start the learner's server where it is down.

        Raises:
            RehearsalError: There is no server after some seconds.
        """
        home = f"/user/{self.account}/lab"
        end = asyncio.get_running_loop().time() + seconds
        while True:
            async with self.session.get(self.url + home) as response:
                await response.read()
                if response.status == 200 and response.url.path.startswith(home):
                    return
            if asyncio.get_running_loop().time() > end:
                raise RehearsalError(f"{self.account} has no server after {seconds:.0f} s.")
            async with self.session.get(f"{self.url}/hub/spawn/{self.account}") as response:
                await response.read()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def start_kernel(self) -> str:
        """Start a kernel, and return its id.

        Raises:
            RehearsalError: The server refuses.
        """
        async with self.session.post(
            self._api("kernels"), json={"name": "python3"}, headers=self._headers()
        ) as response:
            text = await response.text()
            if response.status != 201:
                raise RehearsalError(f"No kernel: {response.status} {text[:200]}")
            return str(json.loads(text)["id"])

    async def connect(self, kernel: str) -> "KernelSocket":
        """Open the web socket of a kernel."""
        url = f"{self._api('kernels')}/{kernel}/channels?session_id={uuid.uuid4().hex}"
        return KernelSocket(await self.session.ws_connect(url, max_msg_size=0))

    def _api(self, path: str) -> str:
        return f"{self.url}/user/{self.account}/api/{path}"

    def _headers(self) -> dict[str, str]:
        page = yarl.URL(f"{self.url}/user/{self.account}/")
        cookie = self.session.cookie_jar.filter_cookies(page).get("_xsrf")
        return {"X-XSRFToken": cookie.value} if cookie else {}


class KernelSocket:
    """The web socket of a kernel."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse") -> None:
        self._socket = socket

    async def run(self, code: str, seconds: float = 300) -> str:
        """Run a cell, and return what it prints.

        Raises:
            RehearsalError: It raises, or the socket is closed.
        """
        request = _message(code)
        await self._socket.send_str(json.dumps(request))
        printed, failed, pending = "", False, {"reply", "idle"}
        while pending:
            received = await self._socket.receive(timeout=seconds)
            if received.type is not aiohttp.WSMsgType.TEXT:
                raise RehearsalError(f"The kernel's socket was closed ({received.type.name}).")
            message = json.loads(received.data)
            if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    printed += content["text"]
                case "error":
                    printed, failed = f"{content['ename']}: {content['evalue']}", True
                case "execute_reply":
                    pending.discard("reply")
                case "status" if content["execution_state"] == "idle":
                    pending.discard("idle")
        if failed:
            raise RehearsalError(printed)
        return printed.strip()

    async def close(self) -> None:
        """Close the socket; the kernel goes on."""
        await self._socket.close()


def _message(code: str) -> dict[str, Any]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "session": uuid.uuid4().hex,
        "username": "",
        "msg_type": "execute_request",
        "version": "5.3",
        "date": "2026-01-01T00:00:00Z",
    }
    content = {
        "code": code,
        "silent": False,
        "store_history": True,
        "user_expressions": {},
        "allow_stdin": False,
        "stop_on_error": True,
    }
    return {
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "channel": "shell",
        "buffers": [],
    }
