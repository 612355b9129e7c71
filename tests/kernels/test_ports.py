"""Kernels whose ports are taken; test_child.py has such processes, cold and warm."""

import subprocess
import sys

CODE = """
import errno
import zmq
from ipykernel import kernelapp
from dltlab.kernels.ports import end_where_port_is_taken

class App:
    def init_sockets(self):
        raise zmq.ZMQError(errno.EADDRINUSE)

app = App()
end_where_port_is_taken(app)
print(kernelapp.Heartbeat.__module__, flush=True)
app.init_sockets()
print("still here")
"""


def test_a_socket_that_cannot_be_bound_ends_the_process():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)

    assert (done.returncode, done.stdout) == (1, "dltlab.kernels.ports\n")
    assert "The kernel ends: Address already in use." in done.stderr
