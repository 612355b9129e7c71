"""Widgets that a learner touches: a digit pad, a text sampler, a training planner, molecules."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
