"""The progress of a training, and its files in the folder of the run: `RunState`."""

import json
import math
import numbers
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.files import cannot_write, write_atomically
from dltlab.models import MODEL_FILE, load_model, load_weights
from dltlab.training.schedules import restore_one_cycle

HISTORY_FILE = "history.json"
_BEST_FILE = "best.keras"
_INTERNAL = ("step", "seeds")  # in a row of the history, beside the logged values


@dataclass
class RunState:
    """The progress of a training.

    Attributes:
        folder: The folder of the run, if it is saved.
        epochs: The total number of epochs.
        patience: The number of epochs without improvement after which to stop.
        batch_size: The number of examples in a batch of arrays.
        steps_per_epoch: The number of batches in an epoch; None: all.
        class_weight: The weight of each class number, if classes are weighted.
        rows: The values logged after each finished epoch, with the optimizer's step and the states
            of the layers' random seeds, which Keras does not save with a model.
        finished: Whether the training has ended.
        best: The weights of the best epoch; None without patience.
    """

    folder: Path | None
    epochs: int
    patience: int | None = None
    batch_size: int | None = None
    steps_per_epoch: int | None = None
    class_weight: Mapping[int, float] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    best: list[Any] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size", "steps_per_epoch"):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, numbers.Integral) or value < 1:
                raise Invalid(f"{name} is {value!r}; it must be a whole number, 1 or more.")
            setattr(self, name, int(value))

    @classmethod
    def load(
        cls, folder: Path, *, trusted: bool, custom_objects: Mapping[str, Any] | None
    ) -> tuple["RunState", keras.Model]:
        """Read the state after the last finished epoch, and the model.

        The history is written before the model. If the process was killed between the two, the
        history has one row more than the optimizer's step tells, which is dropped.

        Args:
            folder: The folder of the run.
            trusted: As for `models.load_model`.
            custom_objects: As for `models.load_model`.

        Raises:
            NotFound: The folder contains no training.
            Damaged: Its files cannot be read.
            LabError: The model cannot be loaded.
        """
        if not (folder / HISTORY_FILE).is_file():
            raise NotFound(
                f"{folder} contains no training: name the folder that was given to training.fit as "
                "run_dir, or begin with training.fit."
            )
        state = cls._read(folder)
        if state.class_weight is not None:  # the keys in JSON are text
            state.class_weight = {int(key): value for key, value in state.class_weight.items()}
        options: dict[str, Any] = {"trusted": trusted, "custom_objects": custom_objects}
        model = load_model(folder / MODEL_FILE, compile=True, **options)
        state._continue_from(model)
        if state.patience and (folder / _BEST_FILE).exists():
            state.best = load_model(folder / _BEST_FILE, **options).get_weights()
        return state, model

    @classmethod
    def _read(cls, folder: Path) -> "RunState":
        path = folder / HISTORY_FILE
        try:
            return cls(folder, **json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise Damaged(f"{path} cannot be read: start again in another folder.") from error

    def restore(self, model: keras.Model) -> None:
        """Continue from the files in the folder with a model that a program has built anew.

        Args:
            model: A compiled model, like the one that was saved. It gets the saved weights, the
                optimizer's state and the states of the random seeds.

        Raises:
            Damaged: A file cannot be read.
            Invalid: The saved model has other weights.
        """
        assert self.folder is not None
        saved = self._read(self.folder)
        self.rows, self.finished = saved.rows, saved.finished and saved.epochs == self.epochs
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        if self.patience and (self.folder / _BEST_FILE).exists():
            load_weights(model, self.folder / _BEST_FILE)
            self.best = model.get_weights()
        load_weights(model, self.folder / MODEL_FILE)
        self._continue_from(model)

    @property
    def is_complete(self) -> bool:
        """Whether there is no epoch left."""
        return self.finished or len(self.rows) >= self.epochs

    def _continue_from(self, model: keras.Model) -> None:
        """Drop a row that is ahead of the model, and restore what Keras does not save."""
        if not hasattr(model, "optimizer"):
            raise Invalid(
                f"The class {type(model).__name__} of the model has a compile method of its own, "
                "which Keras cannot repeat: define get_compile_config and compile_from_config."
            )
        if model.optimizer is not None:
            restore_one_cycle(model.optimizer)
        step = _step(model)
        rows = [row for row in self.rows if row["step"] <= step]
        self.finished = self.finished and rows == self.rows
        self.rows = rows
        if rows:
            for variable, value in zip(seed_states(model), rows[-1]["seeds"], strict=True):
                variable.assign(value)

    def save(self, model: keras.Model) -> None:
        """Write the files that `load` reads, each atomically."""
        if self.folder is None:
            return
        names = ("epochs", "patience", "batch_size", "steps_per_epoch", "class_weight")
        content = {name: getattr(self, name) for name in (*names, "rows", "finished")}
        write_atomically(self.folder / HISTORY_FILE, json.dumps(content, indent=1, default=float))
        self._save_file(MODEL_FILE, model.save)

    def add_epoch(self, model: keras.Model, values: dict[str, Any]) -> None:
        """Record a finished epoch, and keep its weights if it is the best so far."""
        seeds = [keras.ops.convert_to_numpy(seed).tolist() for seed in seed_states(model)]
        self.rows.append({"step": _step(model), "seeds": seeds, **values})
        if self.patience is not None and self.monitored is None:
            raise Invalid(
                f"patience needs a logged loss, and the model logs {', '.join(values)}: name one "
                "of them loss, or leave patience out."
            )
        self.finished = self.is_out_of_patience or len(self.rows) == self.epochs
        if self.patience is not None and not self._epochs_since_best:
            self.best = model.get_weights()
            if self.folder is not None:
                self._save_file(_BEST_FILE, model.save)
        self.save(model)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the loss has not improved for `patience` epochs."""
        return self.patience is not None and self._epochs_since_best >= self.patience

    @property
    def monitored(self) -> str | None:
        """The loss that must improve: that of the validation if there is one."""
        return next((name for name in ("val_loss", "loss") if name in self.rows[-1]), None)

    @property
    def _epochs_since_best(self) -> int:
        losses = [row.get(self.monitored or "loss", math.inf) for row in self.rows]
        return len(losses) - 1 - losses.index(min(losses))

    def history(self, model: keras.Model) -> keras.callbacks.History:
        """Return all epochs as Keras' history."""
        history = keras.callbacks.History()
        history.set_model(model)
        history.epoch = list(range(len(self.rows)))
        names = dict.fromkeys(name for row in self.rows for name in row if name not in _INTERNAL)
        history.history = {name: [row[name] for row in self.rows if name in row] for name in names}
        model.history = history
        return history

    def _save_file(self, name: str, save: Callable[[Path], None]) -> None:
        assert self.folder is not None
        temporary = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        try:
            save(temporary / name)  # Keras chooses the format by the file's suffix
            (temporary / name).replace(self.folder / name)
        except OSError as error:
            raise cannot_write(self.folder / name, error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _step(model: keras.Model) -> int:
    """Return the number of training steps; 0 for a model with optimizers of its own."""
    optimizer = model.optimizer
    return 0 if optimizer is None else int(keras.ops.convert_to_numpy(optimizer.iterations))


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the random seeds of a model's layers, such as dropout's."""
    others = {id(variable) for variable in [*model.weights, *model.metrics_variables]}
    return [variable for variable in model.variables if id(variable) not in others]
