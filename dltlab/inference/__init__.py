"""Compile a trained network into a fast engine, measure it and serve it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
