"""Workshop: an instructor, a room of learners, what they hand in, results and certificates."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
