from .provisioner import PROVISIONER, WarmProvisioner

__all__ = ["PROVISIONER", "WarmProvisioner"]
