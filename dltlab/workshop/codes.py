"""The codes with which people sign in; only keyed hashes of them are kept."""

import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from dltlab.errors import Damaged
from dltlab.files import lock_folder, write_atomically
from dltlab.paths import short_path
from dltlab.workshop.folder import WorkshopFolder

# 31 signs, none to be mistaken for another: 12 of them are 59 bits.
SIGNS = "23456789abcdefghjkmnpqrstuvwxyz"
_GROUPS, _GROUP_LENGTH = 3, 4
_LINK_BYTES = 24
_LINK_SECONDS = 24 * 3600
_MAX_LENGTH = 64  # of what somebody types


class CodeBook:
    """Who has which code.

    A code is printed on a card and holds for the whole workshop; a link holds once, for a day.

    Args:
        folder: Of the workshop; its folders exist.
    """

    def __init__(self, folder: WorkshopFolder) -> None:
        self._folder = folder
        self._file = folder.state / "codes.json"
        self._key_file = folder.keys / "codes.key"

    def issue(self, accounts: Iterable[str]) -> dict[str, str]:
        """Make a code for each account that has none, and return the new codes."""
        return self._make(lambda known: [account for account in accounts if account not in known])

    def renew(self, accounts: Iterable[str]) -> dict[str, str]:
        """Make a new code for each account; the old ones hold no longer."""
        return self._make(lambda _: list(accounts))

    def link(self, account: str) -> str:
        """Make a code for one sign-in within a day, for a link."""
        code = secrets.token_urlsafe(_LINK_BYTES)
        with lock_folder(self._folder.state):
            book = self._read()
            book["links"][self._hash(code)] = [account, time.time() + _LINK_SECONDS]
            self._write(book)
        return code

    def forget(self, account: str) -> None:
        """Remove the codes and links of an account."""
        with lock_folder(self._folder.state):
            book = self._read()
            book["codes"].pop(account, None)
            book["links"] = {
                code: entry for code, entry in book["links"].items() if entry[0] != account
            }
            self._write(book)

    def hashes(self, accounts: Iterable[str]) -> dict[str, Any]:
        """Return the key and the hashes of codes, for a Hub elsewhere."""
        codes = self._read()["codes"]
        return {"key": self._key.hex(), "codes": {name: codes[name] for name in accounts}}

    def account_of(self, code: str) -> str | None:
        """Return whose code this is, or None. Case, spaces and hyphens make no difference.

        A link is used up.
        """
        book = self._read()
        typed = self._hash(_plain(code))
        for account, known in book["codes"].items():
            if hmac.compare_digest(known, typed):
                return str(account)
        return self._account_of_link(code) if self._hash(code) in book["links"] else None

    def _account_of_link(self, code: str) -> str | None:
        with lock_folder(self._folder.state):
            book = self._read()
            entry = book["links"].pop(self._hash(code), None)
            self._write(book)
        return str(entry[0]) if entry and entry[1] > time.time() else None

    def _make(self, choose: Any) -> dict[str, str]:
        with lock_folder(self._folder.state):
            book = self._read()
            codes = {account: _new_code() for account in choose(book["codes"])}
            book["codes"] |= {account: self._hash(_plain(code)) for account, code in codes.items()}
            if codes:
                self._write(book)
        return codes

    def _read(self) -> dict[str, Any]:
        try:
            book = json.loads(self._file.read_bytes())
            return {"codes": dict(book["codes"]), "links": dict(book["links"])}
        except FileNotFoundError:
            return {"codes": {}, "links": {}}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise Damaged(
                f"{short_path(self._file)} cannot be read ({error}). Remove it and print new cards "
                "with: dltlab workshop cards --new"
            ) from error

    def _write(self, book: dict[str, Any]) -> None:
        write_atomically(self._file, json.dumps(book, indent=1) + "\n")

    def _hash(self, code: str) -> str:
        return hmac.new(self._key, code[:_MAX_LENGTH].encode(), hashlib.sha256).hexdigest()

    @property
    def _key(self) -> bytes:
        if not self._key_file.exists():
            write_atomically(self._key_file, secrets.token_bytes(32))
        return self._key_file.read_bytes()


class Throttle:
    """How long one must wait after failures: `burst` at once are free, then `rate` a second.

    Args:
        rate: Failures a second that are allowed in the long run.
        burst: Failures that are allowed at once.
        size: Of how many keys failures are remembered.
    """

    def __init__(self, rate: float, burst: int, size: int = 10_000) -> None:
        self._rate, self._burst, self._size = rate, burst, size
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def fail(self, key: str, now: float) -> float:
        """Count a failure of `key`, and return the seconds to wait; 0 where none are needed."""
        level, before = self._levels.pop(key, (0.0, now))
        level = max(0.0, level - (now - before) * self._rate) + 1
        self._levels[key] = min(level, 2.0 * self._burst), now
        while len(self._levels) > self._size:
            self._levels.popitem(last=False)
        return max(0.0, (level - self._burst) / self._rate)


def client_address(request: Any) -> str:
    """Return where a request of Tornado's comes from: what the proxy has written last.

    What stands before it, and X-Real-Ip, may be from the client.
    """
    forwarded = str(request.headers.get("X-Forwarded-For", ""))
    return forwarded.rpartition(",")[2].strip() or str(request.remote_ip)


def _new_code() -> str:
    groups = ("".join(secrets.choice(SIGNS) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
    return "-".join(groups)


def _plain(code: str) -> str:
    return "".join(sign for sign in code[:_MAX_LENGTH].lower() if sign in SIGNS)
