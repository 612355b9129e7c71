from .classic import alexnet, googlenet, resnet50, vgg16
from .cost import Cost, cost
from .hashing import model_hash
from .loading import load_model
from .precision import in_precision
from .recurrent import char_rnn
from .small import small_inception, small_resnet, small_vgg
from .stepping import step_model

__all__ = [
    "Cost",
    "alexnet",
    "char_rnn",
    "cost",
    "googlenet",
    "in_precision",
    "load_model",
    "model_hash",
    "resnet50",
    "small_inception",
    "small_resnet",
    "small_vgg",
    "step_model",
    "vgg16",
]
