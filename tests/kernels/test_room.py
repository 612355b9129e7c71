"""The folder of a room: who may enter what."""

from dltlab.kernels.room import socket_of

ADMIT = """
import os, pwd, sys
from pathlib import Path
from dltlab.kernels import admit
room = Path("/run/room")
room.mkdir(exist_ok=True)
admit(room, pwd.getpwnam("ada"))
for path in (room / "kernels", room / "kernels" / str(pwd.getpwnam("ada").pw_uid)):
    status = path.stat()
    print(oct(status.st_mode & 0o777), status.st_uid, status.st_gid)
"""


def test_each_account_has_a_socket_of_its_own(tmp_path):
    assert socket_of(tmp_path, 1000) == tmp_path / "kernels" / "1000" / "kernels.socket"


def test_an_account_may_enter_its_folder_and_no_other_account_may(namespace):
    namespace.run(["useradd", "ada"])
    namespace.run(["useradd", "bob"])
    group = namespace.run(["id", "-g", "ada"]).stdout.strip()

    for _ in range(2):  # it may be admitted again
        lines = namespace.python(ADMIT).splitlines()

    assert lines == ["0o711 0 0", f"0o710 0 {group}"]
    folder = f"/run/room/kernels/{namespace.run(['id', '-u', 'ada']).stdout.strip()}"
    assert namespace.run(["sh", "-c", f"cd {folder}"], "bob").returncode != 0
    assert namespace.run(["sh", "-c", f"cd / && cd {folder} && ! touch x && ! ls"]).returncode != 0
