from .bandwidth import bandwidth
from .collectives import all_gather, all_reduce, broadcast, reduce, reduce_scatter

__all__ = ["all_gather", "all_reduce", "bandwidth", "broadcast", "reduce", "reduce_scatter"]
