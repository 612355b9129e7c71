"""The limits of containers, with both versions of control groups."""

import pytest

from dltlab.devices import cgroups

GIB = 1 << 30
VERSION_2 = {
    "proc/self/cgroup": "0::/user/job\n",
    "sys/fs/cgroup/user/job/memory.max": "max\n",
    "sys/fs/cgroup/user/memory.max": "2147483648\n",
    "sys/fs/cgroup/user/job/memory.current": "1073741824\n",
    "sys/fs/cgroup/user/job/memory.stat": "anon 5\ninactive_file 536870912\n",
    "sys/fs/cgroup/user/job/cpu.max": "max 100000\n",
    "sys/fs/cgroup/user/cpu.max": "150000 100000\n",
}
VERSION_1 = {
    "proc/self/cgroup": "4:memory:/docker/1a\n2:cpu,cpuacct:/docker/1a\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "2147483648\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1073741824\n",
    "sys/fs/cgroup/memory/memory.stat": "cache 7\ninactive_file 536870912\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    "files",
    [VERSION_2, VERSION_1],
    ids=["version 2, limits of an outer group", "version 1, seen from inside the container"],
)
def test_limits_of_a_container_are_read(kernel_files, files):
    kernel_files(files)

    assert cgroups.cpu_quota() == 1.5
    assert cgroups.memory_limit() == 2 * GIB
    assert cgroups.memory_used() == GIB // 2


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"},
        {
            "proc/self/cgroup": "4:memory:/\n2:cpu:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
    ids=["no control groups", "version 2", "version 1"],
)
def test_without_limits_there_is_none(kernel_files, files):
    kernel_files(files)

    assert (cgroups.memory_limit(), cgroups.cpu_quota(), cgroups.memory_used()) == (None,) * 3
