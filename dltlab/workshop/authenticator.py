"""The Hub's sign-in with the code on a card."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator
from tornado.web import HTTPError
from traitlets import Unicode

from dltlab.workshop.codes import CodeBook, Throttle, client_address
from dltlab.workshop.folder import WorkshopFolder
from dltlab.workshop.roster import read_members

_WRONG = "No card has this code. Compare it with your card and type it again."
_PREFIX_LENGTH = 4  # of a code: somebody who guesses the rest of a card's code is slowed down


class TooManyFailures(HTTPError):
    """Says after how many seconds to try again; the Hub sends the headers."""

    def __init__(self, seconds: int) -> None:
        super().__init__(429, f"Too many wrong codes. Try again in {seconds} s.")
        self.headers = {"Retry-After": str(seconds)}


class CardAuthenticator(Authenticator):  # type: ignore[misc]
    """Signs in a person who has a card's code.

    A right code always signs in, whatever others have tried before; only failures are slowed down.
    That is enough against guessing: there are 2^59 codes.
    """

    workshop = Unicode(config=True, help="The roster of the workshop.")

    def __init__(self, **options: Any) -> None:
        """Remember no failures."""
        super().__init__(**options)
        self._folder = WorkshopFolder.find(Path(self.workshop))
        self._codes = CodeBook(self._folder)
        self._by_address = Throttle(rate=0.5, burst=30)  # a class may share an address
        self._by_code = Throttle(rate=0.1, burst=10)

    async def authenticate(
        self, handler: Any, data: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the account that a code belongs to.

        Raises:
            HTTPError: No card has the code (403), or there were too many failures (429).
        """
        code = (data or {}).get("password", "")
        account = self._codes.account_of(code)
        member = next((m for m in read_members(self._folder) if m.account == account), None)
        if member and member.enrolled:
            return {"name": member.account, "admin": False}
        now, address = time.monotonic(), client_address(handler.request)
        wait = max(
            self._by_address.fail(address, now),
            self._by_code.fail(code.strip().lower()[:_PREFIX_LENGTH], now),
        )
        self.log.warning("A wrong code from %s", address)
        if wait:
            raise TooManyFailures(math.ceil(wait))
        raise HTTPError(403, _WRONG)
