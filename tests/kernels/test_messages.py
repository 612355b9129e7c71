"""Messages of widgets that arrive while a cell runs."""

import pytest

from dltlab.paths import COLD_KERNELS
from tests.deadlines import HANG_SECONDS

COMM = """
import asyncio
from comm import create_comm

received = []
for number in range(4):
    comm = create_comm(target_name="test", comm_id=str(number))
    comm.on_msg(lambda message: received.append(message["content"]["data"]["number"]))
"""


@pytest.mark.parametrize("kind", ["warm", "cold"])
def test_they_are_handled_after_the_cell_in_their_order_and_each_ends_idle(
    zygote, launch, monkeypatch, kind
):
    if kind == "cold":
        monkeypatch.setenv(COLD_KERNELS, "1")
    kernel = launch()
    assert kernel.is_warm == (kind == "warm")
    kernel.run(COMM)

    cell = kernel.client.execute("await asyncio.sleep(0.5); received.append('end of the cell')")
    messages = [send(kernel.client, number) for number in (2, 0, 3, 1)]

    assert idle_in_order(kernel.client, {cell, *messages}) == [cell, *messages]
    assert kernel.evaluate("received") == ["end of the cell", 2, 0, 3, 1]


def send(client, number: int) -> str:
    """Send the message of a widget to the kernel, and return the message's ID."""
    content = {"comm_id": str(number), "data": {"number": number}}
    message = client.session.msg("comm_msg", content)
    client.shell_channel.send(message)
    return message["header"]["msg_id"]


def idle_in_order(client, expected: set[str]) -> list[str]:
    """Return the IDs of the expected messages in the order in which the kernel ended with them."""
    ended: list[str] = []
    while len(ended) < len(expected):
        message = client.get_iopub_msg(timeout=HANG_SECONDS)
        parent = message["parent_header"].get("msg_id")
        if message["content"].get("execution_state") == "idle" and parent in expected:
            ended.append(parent)
    return ended
