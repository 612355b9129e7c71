"""What the room of a workshop says to its kernels: which solutions are not released yet."""

import json

from dltlab.paths import room_dir


def solutions_are_hidden(lab: str) -> bool:
    """Return whether this is a workshop whose instructor has not released a lab's solutions."""
    room = room_dir()
    if room is None:
        return False
    try:
        return lab in json.loads((room / "room.json").read_bytes())["hidden_solutions"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
