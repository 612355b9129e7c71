"""Who sends a request, as the Hub says: a learner's server, or an instructor who signed in."""

import hmac
import re
from typing import Any
from urllib.parse import urlencode

from jupyterhub.services.auth import HubOAuth
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from tornado.web import HTTPError as HubError

from dltlab.workshop.connection import BOARD, Connection
from dltlab.workshop.roster import ACCOUNT
from dltlab.workshop.settings import BOARD_PATH, Settings

_SESSION, _STATE = "dltlab-board", "dltlab-board-state"  # cookies, with a prefix where encrypted
_STATE_SECONDS = 600
_CACHE_SECONDS = 60  # how long what the Hub said is believed
_NOT_OWN_PAGE = "This request does not come from the board's page."
_TOKEN = re.compile(r"[\w.~+/=-]{8,512}", re.ASCII)


class Identity:
    """Tells who sends a request.

    Args:
        settings: Of the workshop.
        connection: Of the workshop.
    """

    def __init__(self, settings: Settings, connection: Connection) -> None:
        self._origin = settings.board_origin
        self._auth = HubOAuth(
            api_token=connection.board_token,
            api_url=connection.hub_api,
            hub_host=settings.url,
            base_url=BOARD_PATH,
            oauth_client_id=f"service-{BOARD}",
            oauth_redirect_uri=f"{settings.board_url}oauth_callback",
            access_scopes={f"access:services!service={BOARD}"},
            cache_max_age=_CACHE_SECONDS,
        )

    async def learner(self, request: Request) -> str:
        """Return the account whose token the request carries, whatever its body says.

        Raises:
            HTTPException: There is no valid token, or the Hub cannot be asked.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        user = await self._user(token) if scheme.lower() in ("token", "bearer") else None
        if user is None or user.get("kind") != "user" or not ACCOUNT.fullmatch(user["name"]):
            raise HTTPException(403, "The Hub knows no learner with this token.")
        return str(user["name"])

    async def instructor(self, request: Request) -> str | None:
        """Return the instructor who has signed in with this browser, or None.

        Raises:
            HTTPException: Somebody else has signed in, or the Hub cannot be asked.
        """
        user = await self._user(self._cookie(request, _SESSION))
        if user is None:
            return None
        if not self._auth.check_scopes(self._auth.access_scopes, user):
            raise HTTPException(403, "This page is for instructors: sign in with their card.")
        return str(user["name"])

    async def require_instructor(self, request: Request) -> str:
        """Return the instructor who has signed in with this browser.

        Raises:
            HTTPException: Nobody has, or somebody else, or the Hub cannot be asked; or a page of
                another origin has sent the request.
        """
        if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            raise HTTPException(403, _NOT_OWN_PAGE)
        name = await self.instructor(request)
        if name is None:
            raise HTTPException(403, "Sign in first: open the board's page.")
        return name

    def require_own_page(self, request: Request) -> None:
        """Raise unless a page of the board has sent the request.

        Raises:
            HTTPException: A page of another origin has, or no page.
        """
        if request.headers.get("origin") != self._origin:
            raise HTTPException(403, _NOT_OWN_PAGE)
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind != "application/json":  # which no form of another site can send
            raise HTTPException(415, "Send JSON.")

    def to_sign_in(self) -> Response:
        """Return the answer that leads a browser to the Hub's page for signing in."""
        verifier, challenge, method = self._auth.generate_pkce_code_challenge()
        state = self._auth.generate_state(BOARD_PATH, code_verifier=verifier)
        query = {
            "client_id": self._auth.oauth_client_id,
            "redirect_uri": self._auth.oauth_redirect_uri,
            "response_type": "code",
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": method,
        }
        url = f"{self._auth.oauth_authorization_url}?{urlencode(query)}"
        response = RedirectResponse(url, status_code=302)
        self._set_cookie(response, _STATE, state, _STATE_SECONDS)
        return response

    async def signed_in(self, request: Request) -> Response:
        """Keep the token of who comes back from the Hub's page, and lead on to the board.

        Raises:
            HTTPException: The browser has not been sent there from here, or the Hub refuses.
        """
        state = request.query_params.get("state", "")
        expected = self._cookie(request, _STATE)
        verifier = self._auth.get_code_verifier(state)
        if not state or not hmac.compare_digest(state.encode(), expected.encode()) or not verifier:
            raise HTTPException(400, "This sign-in has expired: open the board again.")
        self._auth.clear_oauth_state(state)
        code = request.query_params.get("code", "")
        try:
            token = await self._auth.token_for_code(code, code_verifier=verifier, sync=False)
        except HubError as error:
            raise HTTPException(403, "The Hub refuses this sign-in.") from error
        # Not a redirect: after a link on another site, browsers would not send the new cookie.
        page = f'<!DOCTYPE html><meta http-equiv="refresh" content="0; url={BOARD_PATH}">'
        response = HTMLResponse(page)
        self._set_cookie(response, _STATE, "", 0)
        self._set_cookie(response, _SESSION, token)
        return response

    async def _user(self, token: str) -> dict[str, Any] | None:
        if not _TOKEN.fullmatch(token):
            return None
        try:
            user = await self._auth.user_for_token(token, sync=False)
        except HubError as error:
            raise HTTPException(503, "The Hub does not answer; try again.") from error
        return user  # type: ignore[no-any-return]

    @property
    def _is_encrypted(self) -> bool:
        return self._origin.startswith("https:")

    def _cookie_name(self, name: str) -> str:
        return f"__Secure-{name}" if self._is_encrypted else name

    def _cookie(self, request: Request, name: str) -> str:
        return request.cookies.get(self._cookie_name(name), "")

    def _set_cookie(
        self, response: Response, name: str, value: str, seconds: int | None = None
    ) -> None:
        response.set_cookie(
            self._cookie_name(name),
            value,
            max_age=seconds,
            path=BOARD_PATH,
            secure=self._is_encrypted,
            httponly=True,
            samesite="strict" if name == _SESSION else "lax",
        )
