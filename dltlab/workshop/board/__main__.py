"""Serve the board of a workshop: `python -m dltlab.workshop.board FOLDER`, started by `serve`.

Two servers share one process: learners' servers reach the one on loopback, the instructor's browser
the other one, on an origin of its own.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

from dltlab.errors import LabError


async def serve(folder: Path) -> None:
    """Serve until the process is ended.

    Raises:
        LabError: The workshop cannot be read.
    """
    import uvicorn

    from dltlab.workshop.board.board import Board
    from dltlab.workshop.board.identity import Identity
    from dltlab.workshop.board.service import instructor_application, learner_application
    from dltlab.workshop.connection import read_connection
    from dltlab.workshop.folder import WorkshopFolder
    from dltlab.workshop.settings import read_settings
    from dltlab.workshop.tls import certificate_files

    workshop = WorkshopFolder.find(folder)
    settings, connection = read_settings(workshop).content, read_connection(workshop)
    certificate, key = certificate_files(workshop, settings.tls, settings.host) or (None, None)
    board, identity = Board(workshop, connection.board), Identity(settings, connection)
    options: dict[str, Any] = {
        "log_level": "warning",
        "timeout_graceful_shutdown": 1,
        "ws": "none",
    }
    learners = uvicorn.Config(
        learner_application(board, identity), port=connection.board_port, **options
    )
    instructor = uvicorn.Config(
        instructor_application(board, identity),
        host=settings.address.host,
        port=settings.address.board_port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        **options,
    )
    # A signal ends the last one first, and then, sent again, the first one, which has the board.
    await asyncio.gather(uvicorn.Server(learners).serve(), uvicorn.Server(instructor).serve())


def main() -> None:
    """Serve the workshop that the command line names."""
    try:
        asyncio.run(serve(Path(sys.argv[1])))
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
