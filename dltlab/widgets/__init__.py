"""What a learner touches: `DigitPad`, `TextSampler`, `tensorboard`."""

from dltlab.widgets.digit_pad import DigitPad
from dltlab.widgets.tensorboard import tensorboard
from dltlab.widgets.text_sampler import TextSampler

__all__ = ["DigitPad", "TextSampler", "tensorboard"]
