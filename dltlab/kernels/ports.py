"""End a kernel with a clear reason where another process has taken one of its ports.

ipykernel itself would neither end nor answer: at exit it waits for a socket that was never bound,
or it goes on without a heartbeat. Jupyter starts a kernel that has ended again, with other ports.
"""

import os
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from ipykernel.kernelapp import IPKernelApp


def end_where_port_is_taken(app: "IPKernelApp") -> None:
    """Have a kernel end where it cannot bind a socket; call it before `app.initialize`."""
    import zmq
    from ipykernel import heartbeat, kernelapp

    class Heartbeat(heartbeat.Heartbeat):  # type: ignore[misc]
        """The heartbeat of a kernel, which ends the kernel where its port is taken."""

        def _bind_socket(self) -> None:
            try:
                super()._bind_socket()
            except zmq.ZMQError as error:
                _end(error)

    bind_sockets = app.init_sockets

    def init_sockets() -> None:
        try:
            bind_sockets()
        except zmq.ZMQError as error:
            _end(error)

    app.init_sockets = init_sockets
    kernelapp.Heartbeat = Heartbeat


def _end(error: Exception) -> NoReturn:
    print(
        f"The kernel ends: {error}. Another process uses its port; start the kernel again.",
        file=sys.__stderr__,
        flush=True,
    )
    os._exit(1)
