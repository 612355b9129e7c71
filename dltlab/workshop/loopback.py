"""Let learners reach each other's ports no more than each other's files.

What a learner's programs listen on, such as TensorBoard, is reached by that learner and by the
system, through the kernel's packet filter. Without it, every account of a machine can connect to
every port of the machine.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence

_RULES = """
table inet {table}
delete table inet {table}
table inet {table} {{
  set learners {{ type uid; elements = {{ {users} }} }}
  set own {{ type uid . mark; elements = {{ {own} }} }}
  map marks {{ type uid : mark; elements = {{ {marks} }} }}
  chain answers {{
    type filter hook output priority filter; policy accept;
    oif lo ct direction original ct state new meta skuid @learners ct mark set meta skuid map @marks
    oif lo ct direction original return
    ct mark 0 return
    oif lo meta skuid @learners meta skuid . ct mark != @own drop
  }}
}}
"""


def separate_loopback(users: Sequence[int], workshop: str) -> str | None:
    """Let no answer pass between the accounts of a workshop; replace what it has set before.

    Args:
        users: The user IDs of the accounts.
        workshop: Identifies the workshop.

    Returns:
        Why the system does not allow it, as a sentence; None where it does.
    """
    rules = _RULES.format(
        table=_table(workshop),
        users=", ".join(map(str, users)),
        own=", ".join(f"{user} . {user}" for user in users),
        marks=", ".join(f"{user} : {user}" for user in users),
    )
    reason = _nft(rules)
    return (
        f"Learners can connect to ports that other learners open, such as TensorBoard's ({reason})."
        if reason
        else None
    )


def join_loopback(workshop: str) -> None:
    """Remove what `separate_loopback` has set; nothing happens where there is none."""
    _nft(f"table inet {_table(workshop)}\ndelete table inet {_table(workshop)}")


def _table(workshop: str) -> str:
    return workshop.replace("-", "_")


def _nft(commands: str) -> str | None:
    """Run commands of nftables; return why that fails."""
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        return "nft is not installed; its package is nftables"
    done = subprocess.run([program, "-f", "-"], input=commands, capture_output=True, text=True)
    return done.stderr.strip().partition("\n")[0] or "nft failed" if done.returncode else None
