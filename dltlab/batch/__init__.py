"""Batch: many runs of notebooks, in parallel and resumable, their metrics, and a report."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
