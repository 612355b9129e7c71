"""Commands that measure this machine."""

from typing import Annotated

import typer

from dltlab.cli.common import examples

app = typer.Typer(help="Measure this machine.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Take a subcommand, also while there is only one."""


@app.command(
    epilog=examples(
        "dltlab bench collectives -n 4",
        "dltlab bench collectives --transport ring -b 1048576 -e 100000000 -f 2",
    )
)
def collectives(
    num_workers: Annotated[
        int, typer.Option("-n", "--num-workers", min=2, help="Workers on this host.")
    ] = 2,
    transport: Annotated[
        list[str] | None,
        typer.Option(
            help="ring, shared_memory, mpi or tensorflow; may be repeated; by default all."
        ),
    ] = None,
    min_bytes: Annotated[
        int, typer.Option("-b", "--min-bytes", min=4, help="The smallest size.")
    ] = 1024,
    max_bytes: Annotated[
        int, typer.Option("-e", "--max-bytes", min=4, help="The largest size.")
    ] = 16 << 20,
    step_factor: Annotated[
        int, typer.Option("-f", "--step-factor", min=2, help="From one size to the next.")
    ] = 4,
) -> None:
    """Measure the all-reduce of workers on this host, in the columns of nccl-tests.

    The exit code is 1 if a value is wrong.
    """
    from dltlab.distribute import benchmark_collectives

    result = benchmark_collectives(num_workers, transport, min_bytes, max_bytes, step_factor)
    typer.echo(result.report())
    raise typer.Exit(1 if result.num_wrong else 0)
