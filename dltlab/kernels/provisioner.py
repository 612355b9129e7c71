"""A Jupyter kernel provisioner: a fork of a zygote where there is one, else a cold start."""

import asyncio
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager, NoSuchKernel
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import LocalProvisioner

from dltlab.errors import Unavailable
from dltlab.kernels import cold, pool
from dltlab.kernels.request import KernelRequest, warm_kernels_enabled
from dltlab.kernels.warm_kernel import WarmKernel, fork_kernel, fork_kernel_in_room
from dltlab.paths import ROOM, room_dir

PROVISIONER = "dltlab-warm"  # the name under which Jupyter finds `WarmProvisioner`

reported_reasons: set[str] = set()  # why kernels of this process have started cold


class WarmProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Starts a Python kernel from a zygote, or cold, and never both.

    In a workshop, where `DLTLAB_ROOM` is set, the zygote is that of the room.

    `WarmKernel.accept` decides: before it, a fork does nothing but wait, and it ends when the
    connection is closed.
    """

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start the kernel `cmd`.

        Raises:
            TooManyKernels: In a workshop, the learner has too many.
        """
        request = self._read_request(cmd, kwargs)
        if request and await self._launch_warm(request):
            return self.connection_info
        await super().launch_kernel(cold.command_of(cmd), **kwargs)
        if request and not room_dir():
            threading.Thread(target=self._start_zygote, args=[request], daemon=True).start()
        return self.connection_info

    def _read_request(self, command: list[str], options: dict[str, Any]) -> KernelRequest | None:
        if not warm_kernels_enabled(os.environ):
            return None
        try:
            return KernelRequest.from_command(command, options)
        except OSError as error:
            self._report(error)
            return None

    async def _launch_warm(self, request: KernelRequest) -> bool:
        try:
            kernel = await asyncio.to_thread(_fork_kernel, request)
            if not kernel:
                return False
            kernel.accept()
        except (OSError, EOFError, Unavailable) as error:
            self._report(error)
            return False
        self.process = kernel
        self.pid = self.pgid = kernel.pid
        self.cwd = request.message["cwd"]
        await asyncio.to_thread(kernel.wait_until_listening)
        return True

    def _start_zygote(self, request: KernelRequest) -> None:
        """Start a zygote for later kernels."""
        try:
            pool.start_zygote(request.key, request.interpreter)
        except (OSError, Unavailable) as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        """Log why a kernel starts cold, each reason once however many kernels start."""
        reason = str(error).rstrip(".")
        if reason not in reported_reasons:
            reported_reasons.add(reason)
            self.log.warning("A kernel starts cold: %s.", reason)


def _fork_kernel(request: KernelRequest) -> WarmKernel | None:
    room = room_dir()
    return fork_kernel_in_room(room, request) if room else fork_kernel(request)


def prestart(environment: Mapping[str, str]) -> None:
    """Start the zygote that the Python kernels of a Jupyter server will need.

    The zygote imports its libraries in the background. Where kernels start cold, nothing starts. An
    error is left to the first kernel, which reports it.

    Args:
        environment: The server's environment variables.
    """
    if not warm_kernels_enabled(environment) or environment.get(ROOM):
        return
    folders = filter(None, environment.get("JUPYTER_PATH", "").split(os.pathsep))
    specs = KernelSpecManager()
    specs.kernel_dirs = [*(str(Path(folder, "kernels")) for folder in folders), *specs.kernel_dirs]
    with suppress(NoSuchKernel, OSError, Unavailable):
        manager = KernelManager(kernel_spec_manager=specs, kernel_name=NATIVE_KERNEL_NAME)
        variables = {**environment, **manager.kernel_spec.env}
        variables.pop("PYTHONEXECUTABLE", None)  # jupyter_client keeps it from kernels, too
        options = {"env": variables, "cwd": "/"}
        request = KernelRequest.from_command(manager.format_kernel_cmd(), options)
        if request:
            pool.start_zygote(request.key, request.interpreter)
