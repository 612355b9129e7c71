from .pool import list_zygotes, stop_zygotes
from .provisioner import PROVISIONER, WarmProvisioner, prestart
from .room import admit

__all__ = ["PROVISIONER", "WarmProvisioner", "admit", "list_zygotes", "prestart", "stop_zygotes"]
