from .extra import require_extra
from .folder import WorkshopFolder
from .members import make_cards, make_link
from .new import new_workshop
from .supervisor import read_status, serve, stop

__all__ = [
    "WorkshopFolder",
    "make_cards",
    "make_link",
    "new_workshop",
    "read_status",
    "require_extra",
    "serve",
    "stop",
]
