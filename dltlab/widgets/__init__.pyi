from .attention_sampler import AttentionSampler
from .caption_painter import CaptionPainter
from .digit_pad import DigitPad
from .tensorboard import tensorboard
from .text_sampler import TextSampler
from .training_planner import TrainingPlanner

__all__ = [
    "AttentionSampler",
    "CaptionPainter",
    "DigitPad",
    "TextSampler",
    "TrainingPlanner",
    "tensorboard",
]
