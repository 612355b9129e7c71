"""The folder of a workshop: its settings, its roster, and what it keeps."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dltlab.errors import NotFound, Unavailable
from dltlab.paths import short_path

_ROSTER = "roster.csv"


@dataclass(frozen=True)
class WorkshopFolder:
    """The files of a workshop.

    Attributes:
        path: The folder.
        roster_name: The name of the roster in it.
    """

    path: Path
    roster_name: str = _ROSTER

    @classmethod
    def find(cls, path: Path) -> "WorkshopFolder":
        """Return the workshop in a folder, or that of a roster.

        Raises:
            NotFound: There is no such folder, or no roster.
        """
        path = path.absolute()
        folder = cls(path) if path.is_dir() else cls(path.parent, path.name)
        if not folder.roster_file.is_file():
            raise NotFound(
                f"There is no roster {short_path(folder.roster_file)}. Start a workshop with: "
                "dltlab workshop init DIR"
            )
        return folder

    @property
    def settings_file(self) -> Path:
        """The settings, `workshop.toml`; where it is missing, all have their defaults."""
        return self.path / "workshop.toml"

    @property
    def roster_file(self) -> Path:
        """The people: name, e-mail and group."""
        return self.path / self.roster_name

    @property
    def state(self) -> Path:
        """What the workshop keeps, readable by its owner only."""
        return self.path / "state"

    @property
    def accounts_file(self) -> Path:
        """Who has which account."""
        return self.state / "accounts.json"

    @property
    def hub_database(self) -> Path:
        """The Hub's database."""
        return self.state / "hub.sqlite"

    @property
    def board_database(self) -> Path:
        """The board's database: what learners did, and what the instructor announced."""
        return self.state / "board.sqlite"

    @property
    def keys(self) -> Path:
        """The folder of secret keys."""
        return self.state / "keys"

    @property
    def handed_in(self) -> Path:
        """The folder of what learners handed in."""
        return self.state / "handed-in"

    @property
    def logs(self) -> Path:
        """The folder of the logs."""
        return self.state / "logs"

    @property
    def runtime(self) -> Path:
        """A short folder for sockets and for `room.json`, which is gone after a reboot.

        Learners may read it.
        """
        mark = hashlib.sha256(os.fsencode(self.path.resolve())).hexdigest()[:8]
        if os.geteuid() == 0 and Path("/run").is_dir():
            return Path("/run") / f"dltlab-{mark}"
        return Path(tempfile.gettempdir()) / f"dltlab-{os.geteuid()}-{mark}"

    @property
    def server_socket(self) -> Path:
        """The socket of the zygote that forks learners' servers; root's only."""
        return self.runtime / "servers.socket"

    def create(self) -> None:
        """Make the folders that are missing.

        Raises:
            Unavailable: A folder cannot be made, or another user has made it.
        """
        private = (self.state, self.keys, self.handed_in, self.logs)
        for folder, mode in [*((folder, 0o700) for folder in private), (self.runtime, 0o755)]:
            try:
                folder.mkdir(mode=0o700, exist_ok=True)
                if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                    raise PermissionError(1, "it belongs to another user")
                folder.chmod(mode)
            except OSError as error:
                raise Unavailable(
                    f"The folder {folder} cannot be used ({error.strerror}). Remove it, or run the "
                    "workshop in a folder that you may write to."
                ) from error
