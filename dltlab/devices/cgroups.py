"""What a container may use: the memory and the processor time that its control group allows.

Source: the kernel's documentation of control groups, version 1 (`memory.limit_in_bytes`,
`cpu.cfs_quota_us`) and version 2 (`memory.max`, `cpu.max`).
"""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
_UNLIMITED = 1 << 60  # version 1 writes a huge number where there is no limit


def memory_limit() -> int | None:
    """The smallest memory limit in bytes on the way up from this process's group, else None."""
    found = [
        int(text)
        for name in ("memory.max", "memory.limit_in_bytes")
        for text in _read("memory", name)
        if text.isdigit() and int(text) < _UNLIMITED
    ]
    return min(found, default=None)


def memory_used() -> int | None:
    """The bytes that this process's group holds and the kernel cannot drop at once, else None."""
    used = [
        int(text)
        for name in ("memory.current", "memory.usage_in_bytes")
        for text in _read("memory", name)
    ]
    if not used:
        return None
    counts = dict(
        line.split() for text in _read("memory", "memory.stat") for line in text.split("\n")
    )
    return used[0] - int(counts.get("inactive_file", 0))


def cpu_quota() -> float | None:
    """The processor time this process's group may use, in cores (0.5 is half a core), else None."""
    pairs = [tuple(text.split()) for text in _read("cpu", "cpu.max")]
    pairs += zip(_read("cpu", "cpu.cfs_quota_us"), _read("cpu", "cpu.cfs_period_us"), strict=False)
    found = [int(quota) / int(period) for quota, period in pairs if quota.isdigit()]
    return min(found, default=None)


def _read(controller: str, name: str) -> Iterator[str]:
    """The file `name` of this process's group and of each group above it, innermost first."""
    for mount, group in _groups(controller):
        folder = mount / group
        # A container sees its own group as the mount's root, whatever the path says.
        for each in (folder, *folder.parents):
            if each == mount.parent:
                break
            try:
                yield (each / name).read_text().strip()
            except OSError:
                continue


def _groups(controller: str) -> Iterator[tuple[Path, str]]:
    """Where the controller is mounted, and the path of this process's group below."""
    try:
        lines = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, group = line.split(":", 2)
        mounts = ROOT / "sys/fs/cgroup"
        if controller in controllers.split(","):
            yield mounts / controller, group.lstrip("/")
        elif number == "0" and not controllers:
            yield mounts, group.lstrip("/")
