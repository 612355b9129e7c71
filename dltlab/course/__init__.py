"""A course as files: front matter, sources, notebooks, and a learner's workspace."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
