from .assessment import assess
from .certificate import certify_here, verify_certificate
from .check import check_labs, check_workshop, hold_rehearsal
from .erase import erase
from .export import export_workshop
from .extra import require_extra
from .folder import WorkshopFolder
from .kubernetes import write_values
from .learner_client import LearnerClient
from .members import make_cards, make_link
from .new import new_workshop
from .rehearsal import RehearsalRoom, rehearsal_room, rehearse
from .settings import Settings
from .supervisor import read_status, serve, stop

__all__ = [
    "LearnerClient",
    "RehearsalRoom",
    "Settings",
    "WorkshopFolder",
    "assess",
    "certify_here",
    "check_labs",
    "check_workshop",
    "erase",
    "export_workshop",
    "hold_rehearsal",
    "make_cards",
    "make_link",
    "new_workshop",
    "read_status",
    "rehearsal_room",
    "rehearse",
    "require_extra",
    "serve",
    "stop",
    "verify_certificate",
    "write_values",
]
