"""Start a workshop: a folder with commented settings and a roster to fill in."""

from pathlib import Path

from dltlab.errors import Invalid
from dltlab.files import write_atomically
from dltlab.paths import short_path
from dltlab.workshop.folder import WorkshopFolder

_TEMPLATES = Path(__file__).with_name("templates")
_ROSTER = """name,email,group
Ada Lovelace,ada@example.org,a
Alan Turing,alan@example.org,a
Grace Hopper,grace@example.org,b
"""


def new_workshop(path: Path) -> WorkshopFolder:
    """Write the settings and the roster of a new workshop.

    Raises:
        Invalid: There are settings or a roster already.
        Unavailable: The folder cannot be written.
    """
    folder = WorkshopFolder(path)
    contents = {
        folder.settings_file: (_TEMPLATES / "workshop.toml").read_text(),
        folder.roster_file: _ROSTER,
    }
    for file in contents:
        if file.exists():
            raise Invalid(f"{short_path(file)} exists already; choose another folder.")
    for file, text in contents.items():
        write_atomically(file, text)
    return folder
