"""Serve the board of a workshop: `python -m dltlab.workshop.board FOLDER`, started by the Hub.

The Hub's environment for services says where to listen, and who the service is.
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from dltlab.errors import LabError


def main() -> None:
    """Serve until the process is ended."""
    import uvicorn

    from dltlab.workshop.board.board import Board
    from dltlab.workshop.board.identity import Identity
    from dltlab.workshop.board.service import application
    from dltlab.workshop.folder import WorkshopFolder

    address = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"])
    identity = Identity()
    try:
        board = Board(
            WorkshopFolder.find(Path(sys.argv[1])),
            f"{address.scheme}://{address.netloc}{identity.prefix.rstrip('/')}",
        )
    except LabError as error:
        sys.exit(str(error))
    uvicorn.run(
        application(board, identity),
        host=address.hostname or "127.0.0.1",
        port=address.port or 0,
        log_level="warning",
        timeout_graceful_shutdown=1,
        ws="none",
    )


if __name__ == "__main__":
    main()
