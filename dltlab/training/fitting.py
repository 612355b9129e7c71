"""Train a model with checks and a live figure, and resume a training: `fit`, `resume`."""

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.data import write_provenance
from dltlab.display import in_notebook
from dltlab.errors import Damaged, Invalid, NotFound
from dltlab.files import cannot_write, write_atomically
from dltlab.models import MODEL_FILE
from dltlab.training import sanity_checks
from dltlab.training.input_wait import InputWait
from dltlab.training.monitor import Monitor
from dltlab.training.schedules import restore_one_cycle
from dltlab.training.snapshot import snapshot
from dltlab.training.variables import create_variables

if TYPE_CHECKING:
    import tensorflow as tf

_BEST_FILE, _HISTORY_FILE = "best.keras", "history.json"
_INTERNAL = ("step", "seeds")  # in a row of the history, beside the logged values
Callbacks = Sequence[keras.callbacks.Callback]


def fit(
    model: keras.Model,
    train: "tf.data.Dataset",
    *,
    epochs: int,
    validation: "tf.data.Dataset | None" = None,
    title: str | None = "Training",
    run_dir: str | Path | None = None,
    patience: int | None = None,
    callbacks: Callbacks = (),
    data: Sequence[str] = (),
) -> keras.callbacks.History:
    """Train a model with Keras' `fit`, with checks and a live figure.

    Before training it checks that the data fit the model and that the training fits into memory,
    and at each batch that pixels are finite and labels are classes. A `Monitor` shows the loss, the
    speed, the remaining time and the fraction of time spent waiting for data. A loss that is not
    finite ends the training at that step.

    After Ctrl-C or a notebook's stop button the model has the weights of the last step, and
    `model.history` has the finished epochs. In a notebook `fit` then returns; elsewhere it raises
    KeyboardInterrupt.

    Args:
        model: A compiled model.
        train: Batches of images and labels.
        epochs: The number of passes over the training data.
        validation: Batches to evaluate the model on after each epoch.
        title: The beginning of the figure's title, or of each printed line; None: show nothing.
        run_dir: A new folder for this training. It gets records for TensorBoard, `data.json`, and
            after each epoch `model.keras` and `history.json`, from which `resume` continues.
        patience: Stop if the validation loss, or without validation the loss, has not improved for
            this number of epochs, and restore the weights of the best epoch.
        callbacks: Further Keras callbacks.
        data: Names of data sets to record in `data.json`. Those of batches from `dltlab.data.load`
            are recorded without being named.

    Returns:
        Keras' history: `history` has a list for each logged value, with one entry per epoch.

    Raises:
        Invalid: An argument, the data or the labels are wrong, the loss is not finite, or the
            folder already contains a training.
        Unavailable: The memory does not suffice, or the folder cannot be written.
    """
    for name, value in (("epochs", epochs), ("patience", patience)):
        if value is not None and value < 1:
            raise Invalid(f"{name} is {value}; it must be 1 or more.")
    folder = None if run_dir is None else Path(run_dir)
    if folder is not None and (folder / _HISTORY_FILE).exists():
        raise Invalid(
            f"{folder} already contains a training: continue it with "
            f"training.resume({str(folder)!r}, …), or name another folder."
        )
    state = _State(folder, epochs, patience)
    sources = [train, *([] if validation is None else [validation]), *data]
    return _train(model, state, train, validation, title, callbacks, sources)


def resume(
    run_dir: str | Path,
    train: "tf.data.Dataset",
    *,
    epochs: int | None = None,
    validation: "tf.data.Dataset | None" = None,
    title: str | None = "Training",
    callbacks: Callbacks = (),
) -> keras.callbacks.History:
    """Continue a training of `fit` after its last finished epoch.

    If `train` comes from `dltlab.data.load` with the same seed, the result is the same as without
    the interruption.

    Args:
        run_dir: The folder that was given to `fit`.
        train: The same batches.
        epochs: The total number of epochs; by default the number that `fit` was called with.
        validation: Batches to evaluate the model on after each epoch.
        title: The beginning of the figure's title, or of each printed line; None: show nothing.
        callbacks: Further Keras callbacks.

    Returns:
        Keras' history of all epochs, including the earlier ones; its `model` is the trained model.

    Raises:
        NotFound: The folder contains no training.
        Damaged: Its files cannot be read.
        Invalid: As for `fit`.
        Unavailable: As for `fit`.
    """
    state, model = _State.load(Path(run_dir))
    if epochs is not None:
        state.epochs = epochs
    if len(state.rows) >= state.epochs or (state.finished and epochs is None):
        print(f"{run_dir} is complete: {len(state.rows)} epochs.")  # noqa: T201
        return state.history(model)
    state.finished = False
    return _train(model, state, train, validation, title, callbacks)


@dataclass
class _State:
    """The progress of a training.

    Attributes:
        folder: The folder of the run, if it is saved.
        epochs: The total number of epochs.
        patience: The number of epochs without improvement after which to stop.
        rows: The values logged after each finished epoch, with the optimizer's step and the states
            of the layers' random seeds, which Keras does not save with a model.
        finished: Whether the training has ended.
        best: The weights of the best epoch; None without patience.
    """

    folder: Path | None
    epochs: int
    patience: int | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    best: list[Any] | None = None

    @classmethod
    def load(cls, folder: Path) -> tuple["_State", keras.Model]:
        """Read the state after the last finished epoch, and the model.

        The history is written before the model. If the process was killed between the two, the
        history has one row more than the optimizer's step tells, which is dropped.
        """
        if not (folder / _HISTORY_FILE).is_file():
            raise NotFound(
                f"{folder} contains no training: name the folder that was given to training.fit as "
                "run_dir, or begin with training.fit."
            )
        try:
            saved = json.loads((folder / _HISTORY_FILE).read_text(encoding="utf-8"))
            model = keras.saving.load_model(folder / MODEL_FILE)
            restore_one_cycle(model.optimizer)
            step = int(model.optimizer.iterations)
            rows = [row for row in saved["rows"] if row["step"] <= step]
            if rows:
                for variable, value in zip(_seed_states(model), rows[-1]["seeds"], strict=True):
                    variable.assign(value)
            finished = saved["finished"] and rows == saved["rows"]
            state = cls(folder, saved["epochs"], saved["patience"], rows, finished)
            best_file = folder / _BEST_FILE
            if state.patience and best_file.exists():
                state.best = keras.saving.load_model(best_file, compile=False).get_weights()
        except Exception as error:  # a damaged file can raise anything
            raise Damaged(
                f"The training in {folder} cannot be read ({type(error).__name__}): start again in "
                "another folder."
            ) from error
        return state, model

    def save(self, model: keras.Model) -> None:
        """Write the files that `load` reads, each atomically."""
        if self.folder is None:
            return
        content = {
            "epochs": self.epochs,
            "patience": self.patience,
            "finished": self.finished,
            "rows": self.rows,
        }
        write_atomically(self.folder / _HISTORY_FILE, json.dumps(content, indent=1))
        self._save_file(MODEL_FILE, model.save)

    def save_best(self, model: keras.Model) -> None:
        """Keep the weights of the last epoch if it is the best so far."""
        if self.patience is None or self._epochs_since_best:
            return
        self.best = model.get_weights()
        if self.folder is not None:
            self._save_file(_BEST_FILE, model.save)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the loss has not improved for `patience` epochs."""
        return self.patience is not None and self._epochs_since_best >= self.patience

    @property
    def _epochs_since_best(self) -> int:
        name = "val_loss" if "val_loss" in self.rows[-1] else "loss"
        losses = [row.get(name, math.inf) for row in self.rows]
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


class _Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Records every finished epoch, and ends a training whose loss is not finite."""

    def __init__(self, state: _State, checked: sanity_checks.CheckedDataset) -> None:
        super().__init__()
        self._state, self._checked = state, checked
        self.step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Copy the state of the model, to restore it if the epoch fails."""
        self.step = 0
        self._restore = snapshot(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check that the loss is finite."""
        self.step = batch + 1
        loss = (logs or {}).get("loss", 0.0)
        if math.isfinite(loss):
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._restore()
        done = len(self._state.rows)
        raise Invalid(
            f"The loss became {loss} at step {self.step} of epoch {done + 1}, with a learning rate "
            f"of {rate:.3g}: try a tenth of it, or clipnorm=1.0 in the optimizer; lr_range_test "
            "shows which rates work. The model was restored to its state "
            + (f"after epoch {done}." if done else "before training.")
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the epoch."""
        state = self._state
        if not state.rows:
            self._checked.require_several_classes()
        values = {name: float(value) for name, value in (logs or {}).items() if np.ndim(value) == 0}
        seeds = [keras.ops.convert_to_numpy(seed).tolist() for seed in _seed_states(self.model)]
        step = int(self.model.optimizer.iterations)
        state.rows.append({"step": step, "seeds": seeds, **values})
        state.finished = state.is_out_of_patience or len(state.rows) == state.epochs
        self.model.stop_training |= state.is_out_of_patience
        state.save_best(self.model)
        state.save(self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Restore the weights of the best epoch."""
        if self._state.best is not None:
            self.model.set_weights(self._state.best)
            self._state.save(self.model)


def _train(
    model: keras.Model,
    state: _State,
    train: "tf.data.Dataset",
    validation: "tf.data.Dataset | None",
    title: str | None,
    callbacks: Callbacks,
    sources: "Sequence[tf.data.Dataset | str] | None" = None,
) -> keras.callbacks.History:
    """Train from the epoch after `state` to the last one."""
    import tensorflow as tf

    batch = next(iter(train), None)
    if batch is None:
        raise Invalid("The training data are empty.")
    sanity_checks.require_trainable(model, batch)
    sanity_checks.require_memory(model, len(tf.nest.flatten(batch)[0]))
    for _ in state.rows:
        next(iter(train))  # each iterator of `data.load` has the order of the next epoch
    # One iterator for all epochs: the number of iterators that Keras creates is not specified.
    num_steps = int(train.cardinality())
    repeated = train.repeat() if num_steps > 0 else train
    num_classes = sanity_checks.num_label_classes(model)
    checked, input_wait = sanity_checks.CheckedDataset(repeated, num_classes), InputWait()
    recorder = _Recorder(state, checked)
    create_variables(model, batch)
    all_callbacks = [*callbacks, recorder]
    if title is not None:
        all_callbacks.append(Monitor(title, input_wait=input_wait))
    if state.folder is not None:
        if sources is not None:  # a resumed training has its record already
            write_provenance(state.folder, sources)
        all_callbacks.append(keras.callbacks.TensorBoard(state.folder, write_graph=False))
    try:
        model.fit(
            input_wait.measure(checked.dataset),
            steps_per_epoch=num_steps if num_steps > 0 else None,
            validation_data=validation,
            initial_epoch=len(state.rows),
            epochs=state.epochs,
            callbacks=all_callbacks,
            shuffle=False,  # the data set shuffles itself
            verbose=0,
        )
    except KeyboardInterrupt:
        print(_stop_message(state, recorder.step))  # noqa: T201
        state.history(model)
        if not in_notebook():
            raise
    except tf.errors.InvalidArgumentError as error:
        message = sanity_checks.message_in(error)
        if message is None:
            raise
        place = f"Step {recorder.step + 1} of epoch {len(state.rows) + 1}"
        raise Invalid(f"{place}: {message}") from None
    return state.history(model)


def _stop_message(state: _State, step: int) -> str:
    done = len(state.rows)
    advice = "call fit again to train it further"
    if state.folder is not None and done:
        advice = f"training.resume({str(state.folder)!r}, …) continues after epoch {done}"
    return (
        f"Stopped at step {step} of epoch {done + 1} of {state.epochs}. The model can be used as "
        f"it is; {advice}."
    )


def _seed_states(model: keras.Model) -> list[keras.Variable]:
    """Return the states of the random seeds of a model's layers, such as dropout's."""
    others = {id(variable) for variable in [*model.weights, *model.metrics_variables]}
    return [variable for variable in model.variables if id(variable) not in others]
