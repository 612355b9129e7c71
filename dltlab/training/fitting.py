"""Train a model so that nothing is lost: `fit`, and `resume` after whatever stopped it."""

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.data import write_provenance
from dltlab.display import in_notebook
from dltlab.errors import LabError
from dltlab.files import cannot_write, write_atomically
from dltlab.training import checks
from dltlab.training.input_wait import Waiting
from dltlab.training.monitor import Monitor
from dltlab.training.snapshot import snapshot

if TYPE_CHECKING:
    import tensorflow as tf

_MODEL, _BEST, _HISTORY = "model.keras", "best.keras", "history.json"
_OURS = ("step", "seeds")  # what a row has beside the logged values
Callbacks = Sequence[keras.callbacks.Callback]


def fit(
    model: keras.Model,
    train: "tf.data.Dataset",
    *,
    epochs: int,
    validation: "tf.data.Dataset | None" = None,
    title: str | None = "Training",
    run: str | Path | None = None,
    patience: int | None = None,
    callbacks: Callbacks = (),
    data: Sequence[str] = (),
) -> keras.callbacks.History:
    """Keras' `fit`, watched over.

    Before it begins it looks whether the data fit the model and the training fits into memory, and
    then at each batch whether its pixels are finite and its labels are classes. A `Monitor` shows
    loss, speed, the time left and the share of time in which the device waited for data. A loss
    that is no finite number any more ends the training at that step.

    Stopped by Ctrl-C or a notebook's stop button, the model is as it was after the last step, and
    `model.history` holds the epochs that were finished. In a notebook `fit` then returns;
    elsewhere the interruption goes on.

    Args:
        model: Compiled.
        train: Batches of images and labels.
        epochs: How often to go through them.
        validation: Batches to judge by after each epoch.
        title: Opens the figure's title, and each line; None: show nothing.
        run: A new folder for this training. It gets records for TensorBoard, `data.json`, and after
            each epoch `model.keras` and `history.json`, from which `resume` goes on.
        patience: Stop when the validation loss, or without validation the loss, has not fallen for
            so many epochs, and give the model the weights of its best epoch.
        callbacks: More of Keras' callbacks.
        data: Names of data sets to record in `data.json`. Those of batches from `dltlab.data.load`
            are recorded without being named.

    Returns:
        Keras' history: in `history` a list for each logged value, with an entry for each epoch.

    Raises:
        LabError: An argument, the data or the labels are wrong, the loss is not finite, memory does
            not suffice, or the folder holds a training already or cannot be written.
    """
    for name, value in (("epochs", epochs), ("patience", patience)):
        if value is not None and value < 1:
            raise LabError(f"{name} is {value}; it must be 1 or more.")
    folder = None if run is None else Path(run)
    if folder is not None and (folder / _HISTORY).exists():
        raise LabError(
            f"{folder} holds a training already: go on with training.resume({str(folder)!r}, …), "
            "or name another folder."
        )
    state = _State(folder, epochs, patience)
    sources = [train, *([] if validation is None else [validation]), *data]
    return _train(model, state, train, validation, title, callbacks, sources)


def resume(
    run: str | Path,
    train: "tf.data.Dataset",
    *,
    epochs: int | None = None,
    validation: "tf.data.Dataset | None" = None,
    title: str | None = "Training",
    callbacks: Callbacks = (),
) -> keras.callbacks.History:
    """Go on with a training of `fit` after its last finished epoch.

    With a data set that `dltlab.data.load` has made with the same seed, the model comes out as it
    would have without the interruption.

    Args:
        run: The folder that was given to `fit`.
        train: The same batches.
        epochs: How many in all; by default as many as `fit` was asked for.
        validation: Batches to judge by after each epoch.
        title: Opens the figure's title, and each line; None: show nothing.
        callbacks: More of Keras' callbacks.

    Returns:
        Keras' history of all epochs, those before among them; its `model` is the trained model.

    Raises:
        LabError: There is no such training, its files are damaged, or it fails as `fit` may.
    """
    state, model = _State.load(Path(run))
    if epochs is not None:
        state.epochs = epochs
    if len(state.rows) >= state.epochs or (state.finished and epochs is None):
        print(f"{run} is complete: {len(state.rows)} epochs.")  # noqa: T201
        return state.history(model)
    state.finished = False
    return _train(model, state, train, validation, title, callbacks)


@dataclass
class _State:
    """Where a training stands.

    Attributes:
        folder: Where it is kept, if it is.
        epochs: How many are asked for.
        patience: Epochs without progress after which it ends.
        rows: What was logged after each finished epoch, with the optimizer's step and the states of
            the layers' random seeds, which Keras does not save with a model.
        finished: Whether it came to its end.
        best: The weights of the best epoch, where there is patience.
    """

    folder: Path | None
    epochs: int
    patience: int | None
    rows: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False
    best: list[Any] | None = None

    @classmethod
    def load(cls, folder: Path) -> tuple["_State", keras.Model]:
        """The state of the last finished epoch, and the model as it was then.

        The history is written first. Where the process was killed before the model was, it is one
        epoch ahead, which the optimizer's step tells.
        """
        if not (folder / _HISTORY).is_file():
            raise LabError(
                f"{folder} holds no training: name the folder that was given to training.fit as "
                "run, or begin with training.fit."
            )
        try:
            found = json.loads((folder / _HISTORY).read_text(encoding="utf-8"))
            model = keras.saving.load_model(folder / _MODEL)
            step = int(model.optimizer.iterations)
            rows = [row for row in found["rows"] if row["step"] <= step]
            if rows:
                for variable, value in zip(_seeds(model), rows[-1]["seeds"], strict=True):
                    variable.assign(value)
            finished = found["finished"] and rows == found["rows"]
            state = cls(folder, found["epochs"], found["patience"], rows, finished)
            if state.patience and (folder / _BEST).exists():
                state.best = keras.saving.load_model(folder / _BEST, compile=False).get_weights()
        except Exception as error:  # as many as there are ways to be damaged
            raise LabError(
                f"The training in {folder} cannot be read ({type(error).__name__}): begin anew in "
                "another folder."
            ) from error
        return state, model

    def save(self, model: keras.Model) -> None:
        """Write what `load` reads, each file whole or not at all."""
        if self.folder is None:
            return
        content = {
            "epochs": self.epochs,
            "patience": self.patience,
            "finished": self.finished,
            "rows": self.rows,
        }
        write_atomically(self.folder / _HISTORY, json.dumps(content, indent=1))
        self._write(_MODEL, model.save)

    def keep_best(self, model: keras.Model) -> None:
        """Keep the weights of this epoch if it is the best so far."""
        if self.patience is None or self._epochs_since_best:
            return
        self.best = model.get_weights()
        if self.folder is not None:
            self._write(_BEST, model.save)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the loss has not fallen for too long."""
        return self.patience is not None and self._epochs_since_best >= self.patience

    @property
    def _epochs_since_best(self) -> int:
        name = "val_loss" if "val_loss" in self.rows[-1] else "loss"
        losses = [row.get(name, math.inf) for row in self.rows]
        return len(losses) - 1 - losses.index(min(losses))

    def history(self, model: keras.Model) -> keras.callbacks.History:
        """All epochs in Keras' own form."""
        history = keras.callbacks.History()
        history.set_model(model)
        history.epoch = list(range(len(self.rows)))
        names = dict.fromkeys(name for row in self.rows for name in row if name not in _OURS)
        history.history = {name: [row[name] for row in self.rows if name in row] for name in names}
        model.history = history
        return history

    def _write(self, name: str, save: Any) -> None:
        assert self.folder is not None
        beside = Path(tempfile.mkdtemp(prefix=".", dir=self.folder))
        try:
            save(beside / name)
            (beside / name).replace(self.folder / name)
        except OSError as error:
            raise cannot_write(self.folder / name, error) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps every finished epoch, and ends a training that goes wrong."""

    def __init__(self, state: _State, checked: checks.Checked) -> None:
        super().__init__()
        self._state, self._checked = state, checked
        self.step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note how the model is, to be able to go back to it."""
        self.step = 0
        self._restore = snapshot(self.model)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """End a training whose loss is no finite number."""
        self.step = batch + 1
        loss = (logs or {}).get("loss", 0.0)
        if math.isfinite(loss):
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._restore()
        done = len(self._state.rows)
        raise LabError(
            f"The loss became {loss} at step {self.step} of epoch {done + 1}, with a learning rate "
            f"of {rate:.3g}: try a tenth of it, or clipnorm=1.0 in the optimizer; lr_range_test "
            "shows which rates work. The model is again as it was "
            + (f"after epoch {done}." if done else "before training.")
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write down the epoch."""
        state = self._state
        if not state.rows:
            self._checked.require_classes()
        numbers = {name: float(value) for name, value in (logs or {}).items() if _is_number(value)}
        seeds = [keras.ops.convert_to_numpy(each).tolist() for each in _seeds(self.model)]
        step = int(self.model.optimizer.iterations)
        state.rows.append({"step": step, "seeds": seeds, **numbers})
        state.finished = state.is_out_of_patience or len(state.rows) == state.epochs
        self.model.stop_training |= state.is_out_of_patience
        state.keep_best(self.model)
        state.save(self.model)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Go back to the best epoch."""
        if self._state.best is not None:
            self.model.set_weights(self._state.best)
            self._state.save(self.model)


def _make_variables(model: keras.Model, batch: Any) -> None:
    """Have optimizer, loss and metrics make their variables before the first step.

    Where a step makes some, TensorFlow traces it twice, and to begin takes twice as long.
    """
    if not getattr(model, "inputs", None):  # a subclassed model, whose outputs nobody knows
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    images, labels = batch[:2]
    shapes = keras.tree.map_structure(
        lambda each: keras.KerasTensor(each.shape, keras.backend.standardize_dtype(each.dtype)),
        images,
    )
    scores = keras.tree.map_structure(
        lambda each: keras.ops.zeros(each.shape, each.dtype), model.compute_output_spec(shapes)
    )
    labels = keras.tree.map_structure(keras.ops.zeros_like, labels)
    model.compute_loss(images, labels, scores)
    model.compute_metrics(images, labels, scores)
    model.reset_metrics()


def _train(
    model: keras.Model,
    state: _State,
    train: "tf.data.Dataset",
    validation: "tf.data.Dataset | None",
    title: str | None,
    callbacks: Callbacks,
    sources: "Sequence[tf.data.Dataset | str] | None" = None,
) -> keras.callbacks.History:
    """Train from where `state` stands to its last epoch."""
    import tensorflow as tf

    batch = next(iter(train), None)
    if batch is None:
        raise LabError("The training data are empty: there is nothing to learn from.")
    checks.require_trainable(model, batch)
    checks.require_memory(model, len(tf.nest.flatten(batch)[0]))
    for _ in state.rows:
        next(iter(train))  # each iterator of `load` has the order of one epoch
    # One iterator for all epochs: how many Keras would begin is its own affair.
    steps = int(train.cardinality())
    endless = train.repeat() if steps > 0 else train
    checked, waiting = checks.Checked(endless, checks.classes_of(model)), Waiting()
    keeper = _Keeper(state, checked)
    _make_variables(model, batch)
    watching = [*callbacks, keeper]
    if title is not None:
        watching.append(Monitor(title, waiting=waiting))
    if state.folder is not None:
        if sources is not None:  # else the training is resumed, and its record exists
            write_provenance(state.folder, sources)
        watching.append(keras.callbacks.TensorBoard(state.folder, write_graph=False))
    try:
        model.fit(
            waiting.watch(checked.dataset),
            steps_per_epoch=steps if steps > 0 else None,
            validation_data=validation,
            initial_epoch=len(state.rows),
            epochs=state.epochs,
            callbacks=watching,
            shuffle=False,  # the data set's own affair
            verbose=0,
        )
    except KeyboardInterrupt:
        print(_stopped(state, keeper.step))  # noqa: T201
        state.history(model)
        if not in_notebook():
            raise
    except tf.errors.InvalidArgumentError as error:
        sentence = checks.said(error)
        if sentence is None:
            raise
        place = f"Step {keeper.step + 1} of epoch {len(state.rows) + 1}"
        raise LabError(f"{place}: {sentence}") from None
    return state.history(model)


def _stopped(state: _State, step: int) -> str:
    done = len(state.rows)
    mend = "call fit again to go on with it"
    if state.folder is not None and done:
        mend = f"training.resume({str(state.folder)!r}, …) goes on after epoch {done}"
    return (
        f"Stopped at step {step} of epoch {done + 1} of {state.epochs}. The model can be used as "
        f"it is; {mend}."
    )


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """The states of the random seeds of a model's layers, such as dropout's."""
    saved = {id(each) for each in [*model.weights, *model.metrics_variables]}
    return [each for each in model.variables if id(each) not in saved]


def _is_number(value: Any) -> bool:
    return bool(np.ndim(value) == 0)
