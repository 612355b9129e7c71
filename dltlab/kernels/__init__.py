"""Warm kernels: a process with TensorFlow loaded, the zygote, forks each new kernel.

`WarmProvisioner` starts kernels, `pool.zygotes` and `pool.stop` see to the zygotes of this user.
"""

from typing import Any

PROVISIONER = "dltlab-warm"
COLD = "DLTLAB_COLD_KERNELS"  # the environment variable that turns warm kernels off

__all__ = ["COLD", "PROVISIONER", "WarmProvisioner"]


def __getattr__(name: str) -> Any:
    if name == "WarmProvisioner":
        from dltlab.kernels.provisioner import WarmProvisioner

        return WarmProvisioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
