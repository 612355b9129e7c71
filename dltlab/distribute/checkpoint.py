"""Save a training after each epoch, and continue it after a failure: `Checkpoint`."""

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from dltlab.errors import Damaged, Invalid
from dltlab.files import write_atomically

_NUM_KEPT = 2  # the newest one, and the one before it in case the newest is damaged
_EPOCH, _VERSION = "epoch", "version"
_FORMAT_VERSION = 1


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback for `fit` that continues from the last saved epoch when the program runs again.

    After each epoch it saves weights, the optimizer's state and the layers' random states in one
    file, written completely or not at all; the two newest files are kept. When `fit` begins, it
    restores the newest one that can be read. The training then ends with the weights that it would
    have had without the interruption, if the order of its data is that of the epoch: as for arrays
    with `prepare`, and for `dltlab.data.load` with a seed. On several workers, worker 0 saves and
    restores, and `prepare` sends what it has restored to the others.

    Keras' `BackupAndRestore` writes weights and epoch into two files, which do not belong together
    if the process is killed in between, and has no random states.

    Args:
        folder: Where the files are. A folder is for one training: `fit` does nothing if the folder
            already has its last epoch.

    Raises:
        Invalid: When `fit` begins: the newest file is of another model or optimizer.
        Damaged: When `fit` begins: there are files, and none can be read.
        Unavailable: After an epoch: the folder or the disk cannot be written. The earlier files
            are unchanged.
    """

    first_worker_only = True  # read by `prepare`

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.folder = Path(folder).expanduser()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the newest checkpoint."""
        paths = self._paths()
        for path in paths:
            try:
                values = _read(path)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                warnings.warn(f"{path} is damaged; an earlier epoch is restored.", stacklevel=2)
                continue
            self._restore(path, values)
            return
        if paths:
            raise Damaged(
                f"None of the checkpoints in {self.folder} can be read: remove the folder to begin "
                "again, or restore it from a backup."
            )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Save the state after an epoch."""
        values = {_VERSION: np.array(_FORMAT_VERSION), _EPOCH: np.array(epoch + 1)}
        for name, variable in self._variables().items():
            # Raw bytes: a NumPy file cannot hold bfloat16.
            value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))
            values[name] = value.reshape(-1).view(np.uint8)
        content = io.BytesIO()
        np.savez(content, **values)  # type: ignore[arg-type]
        write_atomically(self.folder / f"epoch-{epoch + 1:06}.npz", content.getvalue())
        for path in self._paths()[_NUM_KEPT:]:
            path.unlink(missing_ok=True)

    def _paths(self) -> list[Path]:
        """Return the files, the newest first."""
        return sorted(self.folder.glob("epoch-*.npz"), reverse=True)

    def _variables(self) -> dict[str, keras.Variable]:
        """Return what training changes, by names that are the same in every process."""
        model = self.model
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        metrics = {id(variable) for variable in model.metrics_variables}
        own = [variable for variable in model.variables if id(variable) not in metrics]
        states = [state for optimizer in optimizers_of(model) for state in optimizer.variables]
        unique = {id(variable): variable for variable in [*own, *states]}
        return {
            f"{index}:{tuple(variable.shape)}:{variable.dtype}": variable
            for index, variable in enumerate(unique.values())
        }

    def _restore(self, path: Path, values: dict[str, np.ndarray]) -> None:
        variables = self._variables()
        if {*values} - {_VERSION, _EPOCH} != {*variables}:
            raise Invalid(
                f"{path} is the checkpoint of another model or optimizer: name another folder, or "
                "remove this one."
            )
        for name, variable in variables.items():
            like = keras.ops.convert_to_numpy(variable.value)
            variable.assign(values[name].view(like.dtype).reshape(like.shape))
        self.model._initial_epoch = int(values[_EPOCH])  # Keras' fit begins with it


def optimizers_of(model: keras.Model) -> list[keras.Optimizer]:
    """Return the optimizer of a compiled model, and those that a model of its own class has."""
    values = [model.optimizer, *vars(model).values()]
    return [*{id(value): value for value in values if isinstance(value, keras.Optimizer)}.values()]


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file, np.load(file) as arrays:  # which checks their CRC-32
        values = {name: arrays[name] for name in arrays.files}
    if int(values[_VERSION]) != _FORMAT_VERSION:
        raise ValueError("unknown version")
    return values
