"""The all-reduce of every transport against Open MPI, by size, on the cores of this machine.

The transports take turns in the same processes. The last column is the limit that memory sets: the
time in which each worker copies as many bytes as it must send, 2(n−1)/n of the array, while the
others do the same. On a CPU shared memory shall need at most twice the time of Open MPI from 1 MB
on.
Open MPI needs `pip install 'dltlab[mpi]'` and the package openmpi-bin.

    python benchmarks/collectives.py [--json] [--workers 2]
"""

import json
import os

import pandas as pd
from turns import parse_arguments

from dltlab.devices import inventory
from dltlab.distribute import benchmark_collectives

OURS = "shared_memory"
BAR = 2.0
BAR_BYTES = 1 << 20


def main() -> None:
    """Measure, and print a table or JSON."""
    arguments = parse_arguments(__doc__, ["all_reduce"], workers=2)
    load = os.getloadavg()[0]
    result = benchmark_collectives(arguments.workers, max_bytes=64 << 20)
    cpu = inventory(ask_tensorflow=False).cpu
    table = compare(result.table, arguments.workers)
    if arguments.json:
        columns = json.loads(table.reset_index().to_json(orient="records"))
        hardware = [cpu.model, f"{cpu.cores:g} cores"]
        print(json.dumps({"hardware": hardware, "load": load, "all_reduce": columns}, indent=1))
        return
    print(f"{cpu.model}, {cpu.cores:g} cores, {arguments.workers} workers; load before: {load:.1f}")
    print(table.to_string(float_format="{:,.2f}".format))
    for name, reason in result.left_out.items():
        print(f"{name} is left out: {reason}")
    if f"{OURS} / mpi" in table:
        worst = table[f"{OURS} / mpi"][table.index >= BAR_BYTES].max()
        verdict = "met" if worst <= BAR else "missed"
        print(f"{OURS} / Open MPI from 1 MB on: at most {worst:.2f} (bar {BAR:g}): {verdict}.")
    print(f"Wrong elements: {result.num_wrong}")


def compare(times: pd.DataFrame, workers: int) -> pd.DataFrame:
    """Return one row for each size, with the microseconds of each transport."""
    table = times.pivot(index="size (B)", columns="transport", values="time (us)")
    table = table[list(dict.fromkeys(times["transport"]))]
    for name in table.columns.drop("mpi") if "mpi" in table else ():
        table[f"{name} / mpi"] = table[name] / table["mpi"]
    copies = times.groupby("size (B)")["memory copy (us)"].first()
    table["memory copy (us)"] = copies * 2 * (workers - 1) / workers
    return table.rename_axis(columns=None)


if __name__ == "__main__":
    main()
