"""Commands that show and stop warm kernels."""

import typer

from dltlab.cli.common import examples, print_table

app = typer.Typer(help="Show and stop the processes behind warm kernels.", no_args_is_help=True)


@app.command(epilog=examples("dltlab kernels status"))
def status() -> None:
    """Show the processes that have TensorFlow loaded for your next kernel."""
    from datetime import datetime

    from rich.table import Table

    from dltlab.kernels import list_zygotes

    table = Table("process", "state", "since", "kernels", "memory", box=None, pad_edge=False)
    for zygote in list_zygotes():
        state = "retired" if zygote.retired else "ready" if zygote.ready else "warming up"
        since = f"{datetime.fromtimestamp(zygote.since):%H:%M:%S}" if zygote.ready else ""
        memory = f"{zygote.memory_bytes / 1e6:.0f} MB"
        table.add_row(str(zygote.pid), state, since, str(len(zygote.kernels)), memory)
    print_table(table)


@app.command(epilog=examples("dltlab kernels stop"))
def stop() -> None:
    """Stop these processes; running kernels go on."""
    from dltlab.kernels import stop_zygotes

    zygotes = stop_zygotes()
    num_busy = sum(bool(zygote.kernels) for zygote in zygotes)
    later = f" Stopping with their last kernel: {num_busy}." if num_busy else ""
    typer.echo(f"Stopped: {len(zygotes) - num_busy}.{later}")
