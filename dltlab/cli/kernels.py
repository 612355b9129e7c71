"""Commands that show and stop warm kernels."""

import typer

from dltlab.cli.common import print_table

app = typer.Typer(help="See and stop warm kernels.", no_args_is_help=True)


@app.command()
def status() -> None:
    """Show the processes that have TensorFlow loaded for your next kernel."""
    from datetime import datetime

    from rich.table import Table

    from dltlab.kernels import pool

    table = Table("process", "state", "since", "kernels", "memory", box=None, pad_edge=False)
    for each in pool.zygotes():
        state = "retired" if each.retired else "ready" if each.ready else "warming up"
        since = f"{datetime.fromtimestamp(each.since):%H:%M:%S}" if each.ready else ""
        memory = f"{each.memory / 1e6:.0f} MB"
        table.add_row(str(each.pid), state, since, str(len(each.kernels)), memory)
    print_table(table)


@app.command()
def stop() -> None:
    """End them; kernels that run go on."""
    from dltlab.kernels import pool

    states = pool.stop()
    last = sum(bool(each.kernels) for each in states)
    typer.echo(
        f"Stopped: {len(states) - last}." + (f" With their last kernel: {last}." if last else "")
    )
