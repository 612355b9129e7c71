from .classification import classify
from .cudnn import check_cudnn
from .evaluation import evaluate
from .fitting import fit, resume
from .generation import TextGenerator, generate
from .inspection import inspect
from .interrupts import until_interrupted
from .lr_finder import lr_range_test
from .monitor import Monitor
from .schedules import one_cycle
from .text_metrics import bits_per_character
from .trace import read_trace

__all__ = [
    "Monitor",
    "TextGenerator",
    "bits_per_character",
    "check_cudnn",
    "classify",
    "evaluate",
    "fit",
    "generate",
    "inspect",
    "lr_range_test",
    "one_cycle",
    "read_trace",
    "resume",
    "until_interrupted",
]
