"""The ports and tokens of a workshop's processes, which stay the same when it is started again.

Learners' servers go on while the Hub is down; they must find it where it was.
"""

import contextlib
import json
import random
import secrets
import socket
from dataclasses import asdict, dataclass

from dltlab.errors import Damaged
from dltlab.files import lock_folder, write_atomically
from dltlab.paths import short_path
from dltlab.workshop.folder import WorkshopFolder

BOARD = "board"  # the Hub's name for this service
SERVER_PORTS = range(20_000, 30_000)  # of which `free_ports` chooses


@dataclass(frozen=True)
class Connection:
    """How the processes reach each other, on loopback.

    Attributes:
        hub_port: Of the Hub.
        proxy_port: Of the proxy's interface for the Hub.
        board_port: Of the board, for learners' servers.
        hub_token: With which the supervisor speaks to the Hub.
        proxy_token: With which the Hub speaks to the proxy.
        board_token: With which the board speaks to the Hub.
    """

    hub_port: int
    proxy_port: int
    board_port: int
    hub_token: str
    proxy_token: str
    board_token: str

    @property
    def hub_api(self) -> str:
        """The URL of the Hub's interface."""
        return f"http://127.0.0.1:{self.hub_port}/hub/api"

    @property
    def board(self) -> str:
        """The URL at which learners' servers reach the board."""
        return f"http://127.0.0.1:{self.board_port}"


def read_connection(folder: WorkshopFolder) -> Connection:
    """Return the connection of a workshop, whose folders exist; choose it the first time.

    Raises:
        Damaged: The file cannot be read.
    """
    path = folder.keys / "connection.json"
    with lock_folder(folder.state):
        try:
            return Connection(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            hub, proxy, board = free_ports(3)
            tokens = (secrets.token_hex(32) for _ in range(3))
            connection = Connection(hub, proxy, board, *tokens)
            write_atomically(path, json.dumps(asdict(connection), indent=1) + "\n")
            return connection
        except (OSError, ValueError, TypeError) as error:
            raise Damaged(
                f"{short_path(path)} cannot be read ({error}). Stop the workshop, remove the file, "
                "and start it again."
            ) from error


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nothing listens on.

    They are below those that a system gives to outgoing connections (from 32768 on Linux, from
    49152 elsewhere), which could take a port before its server does.
    """
    free: list[int] = []
    for port in random.SystemRandom().sample(SERVER_PORTS, len(SERVER_PORTS)):
        if len(free) == count:
            break
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            free.append(port)
    return free
