"""The kernels that a zygote has forked: it reports their exit codes to the servers."""

import os
import selectors
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from dltlab.kernels import protocol


@dataclass(eq=False)
class ForkedKernel:
    """A forked kernel.

    Attributes:
        pid: Its process ID.
        pidfd: A descriptor of the process.
        connection: To the server that asked for it.
        user: Whose kernel it is.
        has_ended: Whether it has ended, and the server still holds the connection.
    """

    pid: int
    pidfd: int
    connection: socket.socket
    user: int
    has_ended: bool = False


class ForkedKernels:
    """Forked kernels, oldest first.

    Args:
        selector: Of the zygote; what it selects with a kernel as data is for `handle`.
    """

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._kernels: list[ForkedKernel] = []

    def __iter__(self) -> Iterator[ForkedKernel]:
        return iter(list(self._kernels))

    def __len__(self) -> int:
        return len(self._kernels)

    def add(self, pid: int, connection: socket.socket, user: int) -> None:
        """Watch a new kernel."""
        kernel = ForkedKernel(pid, os.pidfd_open(pid), connection, user)
        self._kernels.append(kernel)
        self._selector.register(kernel.pidfd, selectors.EVENT_READ, kernel)

    def handle(self, kernel: ForkedKernel) -> None:
        """Report that a kernel has ended; later, forget it: its server has closed the connection.

        Until then, its process ID is not used again.
        """
        if kernel.has_ended:
            self.forget(kernel)
            return
        kernel.has_ended = True
        self._selector.unregister(kernel.pidfd)
        end = os.waitid(os.P_PIDFD, kernel.pidfd, os.WEXITED | os.WNOWAIT)
        assert end
        code = end.si_status if end.si_code == os.CLD_EXITED else -end.si_status
        self._selector.register(kernel.connection, selectors.EVENT_READ, kernel)
        try:
            # The other end decides whether the connection blocks, and a fork shares this one.
            protocol.send(kernel.connection, {"exit": code}, flags=socket.MSG_DONTWAIT)
        except OSError:
            self.forget(kernel)

    def forget(self, kernel: ForkedKernel) -> None:
        """Release a kernel that has ended."""
        if kernel not in self._kernels:
            return
        self._selector.unregister(kernel.connection)
        os.close(kernel.pidfd)
        kernel.connection.close()
        os.waitpid(kernel.pid, 0)
        self._kernels.remove(kernel)

    def close(self) -> None:
        """Close all descriptors: in a fork, before their numbers are used again."""
        for kernel in self._kernels:
            os.close(kernel.pidfd)
            kernel.connection.close()
        self._kernels.clear()
