from .attention_sampler import AttentionSampler
from .caption_painter import CaptionPainter
from .digit_pad import DigitPad
from .molecule_movie import MoleculeMovie
from .tensorboard import tensorboard
from .text_sampler import TextSampler
from .training_planner import TrainingPlanner

__all__ = [
    "AttentionSampler",
    "CaptionPainter",
    "DigitPad",
    "MoleculeMovie",
    "TextSampler",
    "TrainingPlanner",
    "tensorboard",
]
