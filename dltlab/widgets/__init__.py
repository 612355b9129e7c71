"""What a learner touches: `DigitPad`, `tensorboard`."""

from dltlab.widgets.digit_pad import DigitPad
from dltlab.widgets.tensorboard import tensorboard

__all__ = ["DigitPad", "tensorboard"]
