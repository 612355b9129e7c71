"""Let a kernel handle its messages one after the other, in the order in which they were sent.

ipykernel 7.4 handles the messages of widgets while a cell has not ended yet, out of order, and
without reporting the status "idle" for them. ipywidgets waits for that status before it sends the
next change of a widget: a slider that was moved meanwhile would never send a change again.
"""

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipykernel.kernelapp import IPKernelApp


def handle_messages_in_order(app: "IPKernelApp") -> None:
    """Have a kernel handle messages in their order; call it before `app.initialize`."""
    from ipykernel.ipkernel import IPythonKernel

    class OrderedKernel(IPythonKernel):  # type: ignore[misc]
        """A kernel that begins with a message when it has ended with the one before."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self._locks: defaultdict[str | None, asyncio.Lock] = defaultdict(asyncio.Lock)

        async def shell_main(self, subshell_id: str | None, msg: Any) -> None:
            async with self._locks[subshell_id]:
                await super().shell_main(subshell_id, msg)

    app.kernel_class = OrderedKernel
