"""The command that starts the workers of a distributed training."""

from pathlib import Path
from typing import Annotated

import typer

from dltlab.cli.common import examples

app = typer.Typer()


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "dltlab launch -n 2 -- train.py --epochs 3",
        "dltlab launch -n 2 -- -m package.train",
        "dltlab launch -n 2 -- notebook.ipynb -p epochs 3",
        "dltlab launch --nodes 2 --node-rank 0 --rendezvous host0:29400 -- train.py",
        "dltlab launch --nodes 2 -n 4 --dry-run slurm -- train.py > job.sh",
    ),
)
def launch(
    command: Annotated[
        list[str], typer.Argument(help="A script, a notebook, or -m and a module; and arguments.")
    ],
    num_workers: Annotated[
        int, typer.Option("-n", "--num-workers", min=1, help="Workers on this host.")
    ] = 1,
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help="Hosts; by default from Slurm, Open MPI, Kubeflow or TF_CONFIG."),
    ] = None,
    node_rank: Annotated[
        int | None, typer.Option(min=0, help="The number of this host, from 0.")
    ] = None,
    rendezvous: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where node 0 waits for the others.")
    ] = None,
    max_restarts: Annotated[
        int, typer.Option(min=0, help="How often to restart all workers after a failure.")
    ] = 0,
    start_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for the other hosts.")
    ] = 300,
    log_dir: Annotated[
        Path | None, typer.Option(help="Folder of the log files; by default in runs/launch.")
    ] = None,
    dry_run: Annotated[
        str | None,
        typer.Option(metavar="slurm|kubernetes", help="Print a job script or a manifest instead."),
    ] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Cores for each worker, for --dry-run.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=0, help="GPUs for each worker, for --dry-run.")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="Container image, for --dry-run kubernetes.")
    ] = None,
) -> None:
    """Run a program in several processes that train together.

    Each worker gets its own cores and GPUs; when one fails, the others end, and the exit code is
    that of the one that failed first. Under Slurm: srun dltlab launch -- train.py
    """
    from dltlab.distribute import job_script, launch
    from dltlab.errors import Invalid

    if dry_run is None and any(option is not None for option in (cores, gpus, image)):
        raise Invalid("--cores, --gpus and --image are for --dry-run.")
    if dry_run is not None:
        if any(option is not None for option in (node_rank, rendezvous)):
            raise Invalid(
                "With --dry-run omit --node-rank and --rendezvous: the cluster sets them."
            )
        script = job_script(
            dry_run,
            command,
            num_workers=num_workers,
            nodes=nodes or 1,
            max_restarts=max_restarts,
            start_timeout=start_timeout,
            log_dir=log_dir,
            cores=cores,
            gpus=gpus,
            image=image,
        )
        typer.echo(script, nl=False)
        return
    code = launch(
        command,
        num_workers=num_workers,
        nodes=nodes,
        node_rank=node_rank,
        rendezvous=rendezvous,
        max_restarts=max_restarts,
        start_timeout=start_timeout,
        log_dir=log_dir,
    )
    raise typer.Exit(code)
