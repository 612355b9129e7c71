from .digit_pad import DigitPad
from .tensorboard import tensorboard
from .text_sampler import TextSampler

__all__ = [
    "DigitPad",
    "TextSampler",
    "tensorboard",
]
