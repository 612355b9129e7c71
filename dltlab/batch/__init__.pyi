from .batch import run_batch
from .comparison import compare
from .control import pause, read_control, remove, resume, stop
from .junit import junit_xml
from .live import live_display
from .model_store import ModelStore, ModelVersion
from .panel import SweepPanel
from .parameters import parse_value
from .records import read_records, run_details, select_records, value_text
from .results import BatchResult
from .run_folder import RunFolder, Status, run_folders
from .sweep import run_sweep
from .template import read_template

__all__ = [
    "BatchResult",
    "ModelStore",
    "ModelVersion",
    "RunFolder",
    "Status",
    "SweepPanel",
    "compare",
    "junit_xml",
    "live_display",
    "parse_value",
    "pause",
    "read_control",
    "read_records",
    "read_template",
    "remove",
    "resume",
    "run_batch",
    "run_details",
    "run_folders",
    "run_sweep",
    "select_records",
    "stop",
    "value_text",
]
