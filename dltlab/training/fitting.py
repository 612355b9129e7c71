"""Train a model with checks and a live figure, and resume a training: `fit`, `resume`."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.data import write_provenance
from dltlab.display import in_notebook
from dltlab.errors import Invalid
from dltlab.training import sanity_checks
from dltlab.training.batches import Batches, Data, with_class_weight
from dltlab.training.checked_dataset import CheckedDataset, message_in
from dltlab.training.input_wait import InputWait
from dltlab.training.interrupts import is_handled_by_caller
from dltlab.training.memory import require_memory
from dltlab.training.monitor import Monitor
from dltlab.training.recorder import Recorder
from dltlab.training.run_state import HISTORY_FILE, RunState
from dltlab.training.variables import create_variables

if TYPE_CHECKING:
    import tensorflow as tf

Callbacks = Any  # a callback, a sequence of callbacks, or None; Keras is not typed


def fit(
    model: keras.Model,
    train: Data,
    *,
    epochs: int,
    validation: Data | None = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    class_weight: Mapping[int, float] | None = None,
    title: str | None = "Training",
    run_dir: str | Path | None = None,
    resume: bool = False,
    patience: int | None = None,
    callbacks: Callbacks = None,
    data: Sequence[str] = (),
) -> keras.callbacks.History:
    """Train a model with Keras' `fit`, with checks and a live figure.

    Before training it checks that the data fit the model and that the training fits into memory,
    and at each batch that inputs and targets are finite and labels are classes. A `Monitor` shows
    the loss, the speed, the remaining time and the fraction of time spent waiting for data. A loss
    that is not finite ends the training at that step.

    After Ctrl-C or a notebook's stop button the model has the weights of the last step, and
    `model.history` has the finished epochs. In a notebook `fit` then returns; elsewhere, and in the
    check of an exercise, it raises KeyboardInterrupt.

    A model of `dltlab.distribute.prepare` is trained on all workers. Only worker 0 shows the
    progress and writes into `run_dir`, from which all workers read when a training is resumed.

    Args:
        model: A compiled model.
        train: A `tf.data.Dataset`, a `keras.utils.PyDataset` or a generator of batches `(x, y)`, or
            a pair of arrays, as `dltlab.data.arrays` returns. `x` and `y` may be a tuple or dict of
            several inputs or targets; a third part is a weight for each example. A model that
            computes its own loss needs no `y`. Arrays, and the batches of a `PyDataset`, are
            shuffled in each epoch. On machines of up to 16 threads, data are autotuned only if
            their options choose it: on a busy machine TensorFlow may need a minute to end that.
        epochs: The number of passes over the training data.
        validation: Data to evaluate the model on after each epoch.
        batch_size: The number of examples in a batch of arrays, 32 by default.
        steps_per_epoch: The number of batches in an epoch, for data without an end and generators.
            By default all batches; where there are fewer, they are repeated.
        class_weight: The weight of each class number in the loss; 1 for those it does not name.
        title: The beginning of the figure's title, or of each printed line; None: show nothing.
        run_dir: A new folder for this training. It gets records for TensorBoard, `data.json`, and
            after each epoch `model.keras` and `history.json`, from which `resume` continues.
        resume: Whether to continue a training that `run_dir` contains, with the same model, instead
            of refusing the folder: for a program that is run again until it has finished.
        patience: Stop if the validation loss, or without validation the loss, has not improved for
            this number of epochs, and restore the weights of the best epoch.
        callbacks: Further Keras callbacks, or a single one.
        data: Names of data sets to record in `data.json`. Those of batches from `dltlab.data.load`
            are recorded without being named.

    Returns:
        Keras' history: `history` has a list for each logged value, with one entry per epoch.

    Raises:
        Invalid: An argument, the data or the labels are wrong, the loss is not finite, or the
            folder already contains a training, or that of another model.
        Damaged: The files of a training to resume cannot be read.
        Unavailable: The memory does not suffice, or the folder cannot be written.
    """
    folder = None if run_dir is None else Path(run_dir).expanduser()
    state = RunState(folder, epochs, patience, batch_size, steps_per_epoch, class_weight)
    if folder is not None and (folder / HISTORY_FILE).exists():
        if not resume:
            raise Invalid(
                f"{folder} already contains a training: continue it with "
                f"training.resume({str(folder)!r}, …), or name another folder."
            )
        state.restore(model)
    is_first = getattr(model, "worker_rank", 0) == 0  # which `distribute.prepare` sets
    if state.is_complete:
        if is_first:
            _report_completion(state)
        return state.history(model)
    if not is_first:
        state.folder, title = None, None
    return _train(model, state, train, validation, title, callbacks, data)


def resume(
    run_dir: str | Path,
    train: Data,
    *,
    epochs: int | None = None,
    validation: Data | None = None,
    title: str | None = "Training",
    callbacks: Callbacks = None,
    custom_objects: Mapping[str, Any] | None = None,
    trusted: bool = False,
) -> keras.callbacks.History:
    """Continue a training of `fit` after its last finished epoch.

    `batch_size`, `steps_per_epoch`, `class_weight` and `patience` are those of `fit`. If `train`
    comes from `dltlab.data.load` with the same seed, the result is the same as without the
    interruption.

    Args:
        run_dir: The folder that was given to `fit`.
        train: The same data.
        epochs: The total number of epochs; by default the number that `fit` was called with.
        validation: Data to evaluate the model on after each epoch.
        title: The beginning of the figure's title, or of each printed line; None: show nothing.
        callbacks: Further Keras callbacks, or a single one.
        custom_objects: The model's classes and functions that are neither part of Keras nor
            registered with it, by their names.
        trusted: Whether Python code in the saved model, that of a Lambda layer, may run.

    Returns:
        Keras' history of all epochs, including the earlier ones; its `model` is the trained model.

    Raises:
        NotFound: The folder contains no training.
        Damaged: Its files cannot be read.
        Invalid: As for `fit`; or the model contains Python code and is not trusted.
        Unavailable: As for `fit`; or the model needs a class or function that is not known.
    """
    folder = Path(run_dir).expanduser()
    state, model = RunState.load(folder, trusted=trusted, custom_objects=custom_objects)
    if epochs is not None:
        state.epochs, state.finished = epochs, False
    if state.is_complete:
        _report_completion(state)
        return state.history(model)
    return _train(model, state, train, validation, title, callbacks)


def _report_completion(state: RunState) -> None:
    print(f"{state.folder} is complete: {len(state.rows)} epochs.")  # noqa: T201


def _train(
    model: keras.Model,
    state: RunState,
    train: Data,
    validation: Data | None,
    title: str | None,
    callbacks: Callbacks,
    sources: Sequence[str] | None = None,
) -> keras.callbacks.History:
    """Train from the epoch after `state` to the last one; without `sources` none are recorded."""
    batches = Batches.of(train, "training", batch_size=state.batch_size, shuffle=True)
    if state.steps_per_epoch is None:
        batches.require_end("pass steps_per_epoch, the number of batches in an epoch")
    first = batches.first()
    sanity_checks.require_trainable(model, first)
    validation_batches = _validation_batches(model, state, validation)
    require_memory(model, keras.tree.flatten(first)[0].shape[0])
    create_variables(model, first)
    num_steps = state.steps_per_epoch or _num_steps(model, batches)
    checked, input_wait = _checked(model, _epochs(batches, state, num_steps)), InputWait()
    recorder = Recorder(state, None if state.steps_per_epoch else checked)
    if state.folder is not None and sources is not None:
        known = [part.dataset for part in (batches, validation_batches) if part]
        write_provenance(state.folder, [*known, *sources])
    dataset = checked.dataset
    if state.class_weight is not None:
        are_numbers = sanity_checks.num_label_classes(model) is not None
        dataset = with_class_weight(dataset, state.class_weight, are_class_numbers=are_numbers)
    checked_validation = None
    if validation_batches is not None:
        checked_validation = _checked(model, validation_batches.dataset).dataset
    with _reported(model, state, recorder):
        model.fit(
            input_wait.measure(dataset),
            steps_per_epoch=num_steps,
            validation_data=checked_validation,
            initial_epoch=len(state.rows),
            epochs=state.epochs,
            callbacks=_all_callbacks(callbacks, state, recorder, title, input_wait),
            shuffle=False,  # the data set shuffles itself
            verbose=0,
        )
    return state.history(model)


def _all_callbacks(
    callbacks: Callbacks,
    state: RunState,
    recorder: Recorder,
    title: str | None,
    input_wait: InputWait,
) -> list[keras.callbacks.Callback]:
    """Return the user's callbacks and those of `fit`."""
    is_single = isinstance(callbacks, keras.callbacks.Callback)
    result = [*([callbacks] if is_single else callbacks or ()), recorder]
    if title is not None:
        result.append(Monitor(title, input_wait=input_wait))
    if state.folder is not None:
        result.append(_TensorBoard(state.folder, write_graph=False))
    for callback in result:
        if isinstance(callback, Monitor):
            callback.stops_training = False  # `_reported` handles interrupts
    return result


class _TensorBoard(keras.callbacks.TensorBoard):  # type: ignore[misc]
    """Records the logged values that are single numbers: Keras' own fails on others."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_train_batch_end(batch, _single_numbers(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        super().on_epoch_end(epoch, _single_numbers(logs))

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        super().on_test_end(_single_numbers(logs))


def _single_numbers(logs: dict[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (logs or {}).items() if np.ndim(value) == 0}


def _validation_batches(
    model: keras.Model, state: RunState, validation: Data | None
) -> Batches | None:
    """Return the validation data, once they are known to fit the model."""
    if validation is None:
        return None
    batches = Batches.of(validation, "validation", batch_size=state.batch_size)
    batches.require_end("pass arrays, or a part of the data, as in validation.take(100)")
    sanity_checks.require_trainable(model, batches.first(), "validation")
    return batches


def _num_steps(model: keras.Model, batches: Batches) -> int | None:
    """Return the number of batches in an epoch; None if only their end ends it.

    A model that runs several steps at a time would go on beyond a number that is no multiple.
    """
    num_steps = batches.num_steps
    return None if num_steps is None or num_steps % model.steps_per_execution else num_steps


def _epochs(batches: Batches, state: RunState, num_steps: int | None) -> "tf.data.Dataset":
    """Return the batches of the epochs that are left; only of one if its length is not known.

    One iterator reads all epochs: the number of iterators that Keras creates is not specified.
    """
    done = len(state.rows)
    if state.steps_per_epoch is not None:
        return batches.endless().skip(0 if batches.is_generator else done * state.steps_per_epoch)
    for _ in range(done):
        next(iter(batches.dataset))  # each iterator of `data.load` has the order of the next epoch
    return batches.endless() if num_steps else batches.dataset


def _checked(model: keras.Model, dataset: "tf.data.Dataset") -> CheckedDataset:
    return CheckedDataset(
        dataset,
        sanity_checks.num_label_classes(model),
        sanity_checks.ignored_label(model),
        are_probabilities=sanity_checks.takes_probabilities(model),
    )


@contextmanager
def _reported(model: keras.Model, state: RunState, recorder: Recorder) -> Iterator[None]:
    """Report an interrupt, and the errors of data and loss, in one sentence."""
    import tensorflow as tf

    try:
        with warnings.catch_warnings():
            # Where the length of an epoch is not known, its end is no surprise.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            yield
    except KeyboardInterrupt:
        state.history(model)
        if is_handled_by_caller():
            raise
        print(_stop_message(state, recorder.step))  # noqa: T201
        if not in_notebook():
            raise
    except tf.errors.InvalidArgumentError as error:
        message = message_in(error)
        if message is None:
            raise
        raise Invalid(f"{recorder.place}: {message}") from None
    except ValueError as error:
        explanation = sanity_checks.explanation(error)
        if explanation is None:
            raise
        raise Invalid(explanation) from None


def _stop_message(state: RunState, step: int) -> str:
    done = len(state.rows)
    advice = "call fit again to train it further"
    if state.folder is not None and done:
        advice = f"training.resume({str(state.folder)!r}, …) continues after epoch {done}"
    return (
        f"Stopped at step {step} of epoch {done + 1} of {state.epochs}. The model can be used as "
        f"it is; {advice}."
    )
