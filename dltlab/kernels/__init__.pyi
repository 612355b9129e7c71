from .account_forks import become_forks, fork_as
from .pool import list_zygotes, stop_zygotes
from .provisioner import PROVISIONER, WarmProvisioner, prestart
from .room import admit

__all__ = [
    "PROVISIONER",
    "WarmProvisioner",
    "admit",
    "become_forks",
    "fork_as",
    "list_zygotes",
    "prestart",
    "stop_zygotes",
]
