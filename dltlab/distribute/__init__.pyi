from .bandwidth import bandwidth
from .benchmarking import benchmark_collectives
from .checkpoint import Checkpoint
from .cluster import worker
from .collectives import all_gather, all_reduce, broadcast, reduce, reduce_scatter
from .dask_scheduler import dask_scheduler
from .fits import fit_alpha_beta, fit_scaling
from .group import join
from .job_scripts import job_script
from .launching import launch
from .launching_plan import usable_gpus
from .prepare import prepare
from .scaling import measure_scaling
from .simulation import LayerTime, layer_times, simulate
from .strategies import strategy
from .topologies import CubeMesh, FatTree, Link, Ring, Tree

__all__ = [
    "Checkpoint",
    "CubeMesh",
    "FatTree",
    "LayerTime",
    "Link",
    "Ring",
    "Tree",
    "all_gather",
    "all_reduce",
    "bandwidth",
    "benchmark_collectives",
    "broadcast",
    "dask_scheduler",
    "fit_alpha_beta",
    "fit_scaling",
    "job_script",
    "join",
    "launch",
    "layer_times",
    "measure_scaling",
    "prepare",
    "reduce",
    "reduce_scatter",
    "simulate",
    "strategy",
    "usable_gpus",
    "worker",
]
