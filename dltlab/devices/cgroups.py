"""The limits of a container: the memory and the processor time that its control group allows.

Source: the Linux kernel's documentation of control groups, version 1 (`memory.limit_in_bytes`,
`cpu.cfs_quota_us`) and version 2 (`memory.max`, `cpu.max`).
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
_UNLIMITED = 1 << 60  # version 1 writes a huge number where there is no limit


def memory_limit() -> int | None:
    """Return the smallest memory limit in bytes of this process's group and those above it.

    Returns:
        None where there is no limit.
    """
    limits = [
        int(text)
        for name in ("memory.max", "memory.limit_in_bytes")
        for text in _read("memory", name)
        if text.isdigit() and int(text) < _UNLIMITED
    ]
    return min(limits, default=None)


def memory_used() -> int | None:
    """Return the bytes that this process's group uses, without caches that the kernel can drop.

    Returns:
        None where there is no control group.
    """
    used = [
        int(text)
        for name in ("memory.current", "memory.usage_in_bytes")
        for text in _read("memory", name)
    ]
    if not used:
        return None
    counters = dict(
        line.split() for text in _read("memory", "memory.stat") for line in text.split("\n")
    )
    return used[0] - int(counters.get("inactive_file", 0))


def cpu_quota() -> float | None:
    """Return the processor time that this process's group may use, in cores; 0.5 is half a core.

    Returns:
        None where there is no limit.
    """
    pairs = [tuple(text.split()) for text in _read("cpu", "cpu.max")]
    pairs += zip(_read("cpu", "cpu.cfs_quota_us"), _read("cpu", "cpu.cfs_period_us"), strict=False)
    quotas = [int(quota) / int(period) for quota, period in pairs if quota.isdigit()]
    return min(quotas, default=None)


def _read(controller: str, name: str) -> Iterator[str]:
    """Yield the file `name` of this process's group and of each group above it, innermost first."""
    for mount, group in _groups(controller):
        group_folder = mount / group
        # A container sees its own group as the mount's root, whatever the path says.
        for folder in (group_folder, *group_folder.parents):
            if folder == mount.parent:
                break
            with suppress(OSError):
                yield (folder / name).read_text().strip()


def _groups(controller: str) -> Iterator[tuple[Path, str]]:
    """Yield where the controller is mounted, and the path of this process's group below."""
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
