from .pool import list_zygotes, stop_zygotes
from .provisioner import PROVISIONER, WarmProvisioner, prestart

__all__ = ["PROVISIONER", "WarmProvisioner", "list_zygotes", "prestart", "stop_zygotes"]
