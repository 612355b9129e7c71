from .bandwidth import bandwidth

__all__ = ["bandwidth"]
