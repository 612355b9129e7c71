"""What a zygote knows of its kernels, and how it reports their ends."""

import os
import selectors
import socket
from contextlib import suppress

import pytest

from dltlab.kernels import protocol
from dltlab.kernels.forked_kernels import ForkedKernels
from tests.deadlines import HANG_SECONDS


@pytest.fixture
def selector():
    with selectors.DefaultSelector() as selector:
        yield selector


@pytest.fixture
def kernels(selector):
    kernels = ForkedKernels(selector)
    yield kernels
    kernels.close()


@pytest.fixture
def pair():
    """The ends of a connection: the zygote's and the server's."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


def start(code: int) -> int:
    """Start a process that ends at once with an exit code; return its process ID."""
    return os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], os.environ)


def handle_next(selector, kernels):
    for key, _ in selector.select(HANG_SECONDS):
        kernels.handle(key.data)


def test_the_exit_code_is_sent_and_the_kernel_forgotten_when_the_server_has_closed(
    selector, kernels, pair
):
    kernels.add(start(3), pair[0], 1000)

    handle_next(selector, kernels)
    assert protocol.receive(pair[1])[0] == {"exit": 3}
    assert [kernel.has_ended for kernel in kernels] == [True]

    pair[1].close()
    handle_next(selector, kernels)
    assert len(kernels) == 0


def test_a_server_that_does_not_read_does_not_stop_the_zygote(selector, kernels, pair):
    pair[0].setblocking(False)
    with suppress(BlockingIOError):
        while True:
            pair[0].send(b"x" * 1000)
    pair[0].setblocking(True)  # a fork that shares the connection can do that
    kernels.add(start(0), pair[0], 1000)

    handle_next(selector, kernels)

    assert len(kernels) == 0


def test_a_kernel_is_forgotten_once(selector, kernels, pair):
    kernels.add(start(0), pair[0], 1000)
    handle_next(selector, kernels)
    (kernel,) = kernels

    kernels.forget(kernel)
    kernels.handle(kernel)

    assert len(kernels) == 0
