"""Start a kernel as `python -m ipykernel_launcher` does, and end it where its ports are taken.

It runs as `python -m dltlab.kernels.cold`.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence

from dltlab.paths import room_dir

LAUNCHER = "ipykernel_launcher"


def command_of(command: Sequence[str]) -> list[str]:
    """Return the command that starts a cold kernel like `command`, with this module if possible."""
    if list(command[:3]) == [sys.executable, "-m", LAUNCHER]:
        return [sys.executable, "-m", __name__, *command[3:]]
    return list(command)


def main() -> None:
    """Run the kernel."""
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]  # IPython puts it back
    from ipykernel.kernelapp import IPKernelApp

    from dltlab.kernels.messages import handle_messages_in_order
    from dltlab.kernels.ports import end_where_port_is_taken
    from dltlab.kernels.room import turn_debugger_off

    if room_dir():
        turn_debugger_off()
    spec = importlib.util.find_spec(LAUNCHER)
    assert spec
    assert spec.origin
    sys.argv[0] = spec.origin
    sys.orig_argv[sys.orig_argv.index("-m") + 1] = LAUNCHER
    app = IPKernelApp.instance()
    end_where_port_is_taken(app)
    handle_messages_in_order(app)
    app.initialize()
    app.start()


if __name__ == "__main__":
    main()
