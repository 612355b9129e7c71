from .model_store import ModelStore
from .run_folder import Metric, Run, RunFolder, State, Status, run_folders

__all__ = ["Metric", "ModelStore", "Run", "RunFolder", "State", "Status", "run_folders"]
