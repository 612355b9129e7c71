from .attention_sampler import AttentionSampler
from .digit_pad import DigitPad
from .tensorboard import tensorboard
from .text_sampler import TextSampler
from .training_planner import TrainingPlanner

__all__ = [
    "AttentionSampler",
    "DigitPad",
    "TextSampler",
    "TrainingPlanner",
    "tensorboard",
]
