"""Let a Keras model train on several workers: `prepare`."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from dltlab.distribute.checkpoint import optimizers_of
from dltlab.distribute.group import Group, join
from dltlab.distribute.weighting import (
    global_moments,
    kind_of_loss,
    moving_statistics,
    normalizations,
    num_valid,
    require_unprepared,
    states_of_step,
    weigh_losses,
)
from dltlab.errors import Invalid, WorkerLost

if TYPE_CHECKING:
    import tensorflow as tf

_WRITERS = (  # of files: one worker writes them
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.BackupAndRestore,
    keras.callbacks.CSVLogger,
    keras.callbacks.TensorBoard,
)
Gradients = Sequence[Any]  # tensors, tf.IndexedSlices or None

_BATCH_SIZE = 32  # of arrays, as in Keras
_SEED_STRIDE = 7919  # between the random seeds of two workers


def prepare(
    model: keras.Model, group: Group | None = None, *, seed: int = 0, sharded: bool = False
) -> keras.Model:
    """Let `fit`, `evaluate` and `predict` of a compiled model run on all workers of a job.

    Every worker calls them with the same arguments: the data are the global batches, in the same
    order everywhere, of which each worker computes its share of rows. The model's weights, history
    and metrics are then the same on all workers, and those of one process with the same batches:
    gradients are averaged with the number of rows before they are clipped, accumulated or applied,
    and the states of metrics are summed when they are read. `BatchNormalization` uses the
    statistics of the worker's rows, with `synchronized=True` those of the global batch.

    Callbacks run on every worker, except for those that write files, which run on worker 0:
    `ModelCheckpoint`, `BackupAndRestore`, `CSVLogger`, `TensorBoard`, and those with an attribute
    `first_worker_only = True`. The logs of a batch are those of the worker's rows. What worker 0
    restored is sent to the others when training begins.

    Args:
        model: A compiled model; it is changed and may be saved, loaded and compiled as before.
        group: The workers; by default those of `join()`.
        seed: Determines, with the number of the epoch, the order in which `fit` shuffles arrays.
        sharded: Whether the data are this worker's own batches instead of the global ones, as from
            `dltlab.data.load(…, shard=(group.rank, group.size))`; then no worker reads the rows of
            another one, and `predict` returns the outputs for its own rows. All workers must have
            the same number of batches.

    Returns:
        `model`.

    Raises:
        Invalid: The model is prepared already, or `join` refuses the environment.
        Unavailable: A worker does not come in time.
    """
    group = group or join()
    if group.size > 1:
        require_unprepared(model)
        _Prepared(model, group, seed, sharded)
    return model


class _Prepared:
    """The methods of a model that take the place of its own."""

    def __init__(self, model: keras.Model, group: Group, seed: int, sharded: bool) -> None:
        import tensorflow as tf

        self.model, self.group, self.seed, self.sharded = model, group, seed, sharded
        self.epoch = tf.Variable(0, trainable=False)
        self.own = {
            name: getattr(model, name)
            for name in (
                *("fit", "evaluate", "predict", "train_step", "test_step", "predict_step"),
                *("compute_loss", "get_metrics_result"),
            )
        }
        self.share: _Share | None = None  # of the batch that is being computed
        self.weighted: set[int] = set()  # optimizers whose loss was multiplied by its weight
        for name in self.own:
            # Keras' __setattr__ would track what it is given as a part of the model.
            object.__setattr__(model, name, getattr(self, name))
        object.__setattr__(model, "worker_rank", group.rank)  # read by `dltlab.training.fit`

    # What is called on every worker with the same arguments.

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        **options: Any,
    ) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does; arrays are shuffled in the same way on all workers."""
        import tensorflow as tf

        self._attach()
        skip_epochs: Callable[[int], None] | None = None
        if isinstance(x, tf.data.Dataset):
            shuffle = False  # it shuffles itself
            if options.get("steps_per_epoch") is None:
                skip_epochs = _skip_epochs(x)
        elif isinstance(x, keras.utils.PyDataset) and shuffle and x.num_batches is not None:
            x, shuffle = _Shuffled(x, self.seed, self.epoch), False
        elif _are_arrays(x):
            arrays = tuple(part for part in (x, y, sample_weight) if part is not None)
            if validation_split and validation_data is None:
                arrays, validation_data = _split(arrays, validation_split)
            batch_size = batch_size or _BATCH_SIZE
            x, y, sample_weight = self._batches(arrays, batch_size, shuffle), None, None
            shuffle = False
            options.setdefault("validation_batch_size", batch_size)
        callbacks = _on_this_worker(callbacks, self.group.rank)
        stops_in_epoch = any(map(_may_stop_in_epoch, callbacks))
        synchronize = _Synchronize(self.group, self.epoch, stops_in_epoch, skip_epochs)
        with self._lost_workers_named():
            return self.own["fit"](
                x,
                y,
                epochs=epochs,
                verbose=0 if self.group.rank else verbose,
                callbacks=[*callbacks, synchronize],
                validation_split=0.0 if y is None else validation_split,
                validation_data=validation_data,
                shuffle=shuffle,
                class_weight=class_weight,
                sample_weight=sample_weight,
                **options,
            )

    def _batches(self, arrays: Any, batch_size: int, shuffle: bool) -> "tf.data.Dataset":
        """Return the batches of an epoch, in an order that depends on seed and epoch only."""
        import tensorflow as tf

        tensors = keras.tree.map_structure(tf.convert_to_tensor, arrays)
        num_rows = int(keras.tree.flatten(tensors)[0].shape[0])

        def rows_of_epoch(_: "tf.Tensor") -> "tf.data.Dataset":
            rows = tf.range(num_rows)
            if shuffle:
                seed = tf.stack([self.seed, self.epoch])
                rows = tf.random.experimental.stateless_shuffle(rows, seed)
            return tf.data.Dataset.from_tensor_slices(rows)

        def read(rows: "tf.Tensor") -> Any:
            return tf.nest.map_structure(lambda tensor: tf.gather(tensor, rows), tensors)

        rows = tf.data.Dataset.from_tensors(0).flat_map(rows_of_epoch)
        num_batches = tf.data.experimental.assert_cardinality(-(-num_rows // batch_size))
        options = tf.data.Options()
        options.autotune.enabled = (
            False  # or its iterators may be slow to end, see training.batches
        )
        dataset = rows.batch(batch_size).map(read).apply(num_batches).prefetch(2)
        return dataset.with_options(options)

    def evaluate(self, *args: Any, verbose: Any = "auto", **options: Any) -> Any:
        """Evaluate as `keras.Model.evaluate` does."""
        self._attach()
        with self._lost_workers_named():
            return self.own["evaluate"](*args, verbose=0 if self.group.rank else verbose, **options)

    def predict(self, *args: Any, verbose: Any = "auto", **options: Any) -> Any:
        """Return the outputs for all rows, as `keras.Model.predict` does, on every worker."""
        self._attach()
        with self._lost_workers_named():
            return self.own["predict"](*args, verbose=0 if self.group.rank else verbose, **options)

    # What Keras calls for each batch, inside of a graph.

    def train_step(self, data: Any) -> Any:
        return self._on_share("train_step", data)

    def test_step(self, data: Any) -> Any:
        return self._on_share("test_step", data)

    def predict_step(self, data: Any) -> Any:
        import tensorflow as tf

        if self.sharded:
            return self.own["predict_step"](data)
        share = _share_of_global_batch(data, self.group)
        outputs = self.own["predict_step"](share.data)
        return tf.nest.map_structure(
            lambda rows: self.group.gather_rows(rows[: share.num_rows]), outputs
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = self.own["compute_loss"](x, y, y_pred, sample_weight, training=training)
        if self.share is None or loss is None:
            return loss
        factor = self._loss_factor(y_pred)
        if factor is None:
            return loss
        added = sum(self.model.losses)
        return (loss - added) * factor + added

    def get_metrics_result(self) -> dict[str, Any]:
        """Return the results of the states of all workers together.

        Inside of a step, they are those of this worker.
        """
        import tensorflow as tf

        own_result: Callable[[], dict[str, Any]] = self.own["get_metrics_result"]
        if self.share is not None:
            return own_result()
        variables = self.model.metrics_variables
        states = [tf.identity(variable) for variable in variables]
        for variable, total in zip(variables, self.group.sum(states), strict=True):
            variable.assign(total)
        result = own_result()
        for variable, state in zip(variables, states, strict=True):
            variable.assign(state)
        return result

    # How they do it.

    @contextlib.contextmanager
    def _lost_workers_named(self) -> Iterator[None]:
        """Raise `WorkerLost` where TensorFlow raises an error of its own for it."""
        import tensorflow as tf

        try:
            yield
        except tf.errors.OpError as error:
            if not self.group.failure:
                raise
            raise WorkerLost(self.group.failure) from error

    def _attach(self) -> None:
        """Average the gradients, also after the model was compiled again."""
        weigh_losses(self.model, lambda: self.share.weight if self.share else None)
        optimizers = [
            optimizer for optimizer in optimizers_of(self.model) if "apply" not in vars(optimizer)
        ]
        if not optimizers:
            return
        for optimizer in optimizers:
            self._attach_optimizer(optimizer)
        self.model.jit_compile = False  # XLA cannot compile a sum over workers
        self.model.train_function = self.model.test_function = self.model.predict_function = None
        for layer in normalizations(self.model):
            if layer.synchronized:
                object.__setattr__(layer, "_moments", self._global_moments(layer))

    def _attach_optimizer(self, optimizer: keras.Optimizer) -> None:
        apply, clip, scale_loss = optimizer.apply, optimizer._clip_gradients, optimizer.scale_loss
        # The scaled gradients of all workers must be known before they are found finite.
        sums_at_once = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        accumulates = not sums_at_once and bool(optimizer.gradient_accumulation_steps)

        def weighted_loss(loss: "tf.Tensor") -> Any:
            if self.share is None:
                return scale_loss(loss)
            self.weighted.add(id(optimizer))  # and so will be the gradients
            return scale_loss(_times(loss, self.share.weight))

        def apply_share(grads: Gradients, trainable_variables: Any = None) -> None:
            if id(optimizer) in self.weighted:
                self.weighted.remove(id(optimizer))
            else:
                grads = self._weighted(grads)
            if sums_at_once:
                grads = self._sum_with_statistics(grads)
            elif accumulates:
                self._sum_with_statistics([])
            apply(grads, trainable_variables)

        def clip_sum(grads: Gradients) -> Any:
            return clip(self.group.sum(grads) if accumulates else self._sum_with_statistics(grads))

        object.__setattr__(optimizer, "scale_loss", weighted_loss)
        object.__setattr__(optimizer, "apply", apply_share)
        if not sums_at_once:
            # Keras calls it when gradients have been accumulated: once for each update.
            object.__setattr__(optimizer, "_clip_gradients", clip_sum)

    def _on_share(self, step: str, data: Any) -> Any:
        """Call a step of the model with this worker's rows of a batch."""
        import tensorflow as tf

        share_of = _share_of_own_rows if self.sharded else _share_of_global_batch
        share = self.share = share_of(data, self.group)
        states = states_of_step(self.model, training=step == "train_step")
        before = [tf.convert_to_tensor(variable) for variable in states]
        try:
            logs = self.own[step](share.data)
        finally:
            self.share = None

        def restore() -> "tf.Tensor":
            """Undo what a row did that stands in for none."""
            for variable, state in zip(states, before, strict=True):
                variable.assign(state)
            return tf.constant(0)

        tf.cond(share.num_rows > 0, lambda: tf.constant(0), restore)
        return logs

    def _weighted(self, tensors: Gradients) -> Gradients:
        """Multiply means over this worker's rows such that their sum is that over the batch."""
        weight = self._weight()
        return [None if tensor is None else _times(tensor, weight) for tensor in tensors]

    def _sum_with_statistics(self, grads: Gradients) -> Gradients:
        """Return the sums of weighted gradients, and average moving statistics with them."""
        import tensorflow as tf

        present = [index for index, grad in enumerate(grads) if grad is not None]
        statistics = moving_statistics(self.model)
        states = self._weighted([tf.convert_to_tensor(variable) for variable in statistics])
        sums = self.group.sum([*(grads[index] for index in present), *states])
        for variable, mean in zip(statistics, sums[len(present) :], strict=True):
            variable.assign(mean)
        summed = dict(zip(present, sums, strict=False))
        return [summed.get(index) for index in range(len(grads))]

    def _weight(self) -> "tf.Tensor":
        """Return the fraction of the batch's rows that this worker has."""
        import tensorflow as tf

        return self.share.weight if self.share else tf.constant(1 / self.group.size)

    def _loss_factor(self, y_pred: Any) -> "tf.Tensor | None":
        """Return a factor with which the mean over rows is the loss of the batch; None for 1."""
        import tensorflow as tf

        assert self.share is not None
        kind = kind_of_loss(self.model, y_pred, "workers")
        if kind == "mean":
            return None
        if kind == "sum":
            return tf.math.divide_no_nan(tf.constant(1.0), self.share.weight)
        own = num_valid(y_pred) * self.share.is_real
        (total,) = self.group.sum([own])
        return tf.math.divide_no_nan(own, total * self.share.weight)

    def _global_moments(self, layer: keras.Layer) -> Callable[..., Any]:
        """Return a function for mean and variance over the rows of all workers."""
        import tensorflow as tf

        def moments(inputs: "tf.Tensor", mask: "tf.Tensor | None") -> Any:
            if mask is not None:
                raise Invalid(
                    f"The layer {layer.name} is synchronized and has a mask, which several workers "
                    "cannot do: set synchronized=False."
                )
            is_real = self.share.is_real if self.share else tf.constant(1.0)
            weight = self._weight()

            @tf.custom_gradient  # type: ignore[untyped-decorator]
            def total(*parts: "tf.Tensor") -> Any:
                def gradient(*upstream: "tf.Tensor") -> list["tf.Tensor"]:
                    if self.weighted:
                        return self.group.sum(upstream)
                    weighted = self.group.sum([_times(part, weight) for part in upstream])
                    return [tf.math.divide_no_nan(part, weight) for part in weighted]

                return tuple(self.group.sum(parts)), gradient

            return global_moments(
                inputs, layer._reduction_axes, is_real, lambda parts: total(*parts)
            )

        return moments


@dataclass
class _Share:
    """A worker's rows of a batch.

    Attributes:
        data: The batch with these rows only, or with its last row where there are none.
        num_rows: Their number, int32.
        weight: The fraction of the batch's rows, float32.
        is_real: 0.0 where there are none, else 1.0.
    """

    data: Any
    num_rows: "tf.Tensor"
    weight: "tf.Tensor"
    is_real: "tf.Tensor"


def _share_of_global_batch(batch: Any, group: Group) -> _Share:
    import tensorflow as tf

    total = tf.shape(_first_tensor(batch))[0]
    start, stop = group.rank * total // group.size, (group.rank + 1) * total // group.size
    first_row = tf.minimum(start, total - 1)
    last_row = tf.maximum(stop, first_row + 1)
    rows = keras.tree.map_structure(
        lambda leaf: None if leaf is None else leaf[first_row:last_row], batch
    )
    weight = tf.cast(stop - start, tf.float32) / tf.cast(total, tf.float32)
    return _Share(rows, stop - start, weight, tf.cast(stop > start, tf.float32))


def _share_of_own_rows(batch: Any, group: Group) -> _Share:
    import tensorflow as tf

    num_rows = tf.shape(_first_tensor(batch))[0]
    (total,) = group.sum([tf.cast(num_rows, tf.float32)])
    return _Share(batch, num_rows, tf.cast(num_rows, tf.float32) / total, tf.constant(1.0))


def _first_tensor(batch: Any) -> "tf.Tensor":
    return next(leaf for leaf in keras.tree.flatten(batch) if leaf is not None)


class _Synchronize(keras.callbacks.Callback):  # type: ignore[misc]
    """Begins the training on all workers with the state of worker 0, and ends it on all at once."""

    def __init__(
        self,
        group: Group,
        epoch: "tf.Variable",
        stops_in_epoch: bool,
        skip_epochs: Callable[[int], None] | None,
    ) -> None:
        super().__init__()
        self.group, self.epoch, self.skip_epochs = group, epoch, skip_epochs
        self.stops_in_epoch = any(group.exchange(stops_in_epoch))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        import tensorflow as tf

        model = self.model
        if not model.built:
            raise Invalid(
                "The shapes of the model are not known, so its weights cannot be sent to the other "
                "workers: begin it with keras.Input, or call it on a batch before fit."
            )
        if model.optimizer is not None and not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        states = [state for optimizer in optimizers_of(model) for state in optimizer.variables]
        variables = [*{id(value): value for value in [*model.variables, *states]}.values()]
        self.group.require_same(
            {
                "version of Keras": keras.__version__,
                "number of batches": self.params.get("steps"),
                "number of epochs": self.params.get("epochs"),
                "model": [[variable.path, list(variable.shape)] for variable in variables],
            }
        )
        is_first = self.group.rank == 0
        values = [tf.convert_to_tensor(variable) for variable in variables]
        sent = [value if is_first else tf.zeros_like(value) for value in values]
        for variable, value in zip(variables, self.group.sum(sent), strict=True):
            variable.assign(value)
        # BackupAndRestore sets it, on the worker that has read the backup.
        model._initial_epoch = self.group.exchange(model._initial_epoch)[0]
        if model._initial_epoch and self.skip_epochs:
            self.skip_epochs(model._initial_epoch)
        self._seeds = [
            (variable, int(tf.convert_to_tensor(variable)[0]))
            for variable in variables
            if "seed_generator_state" in variable.path
        ]

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Let dropout depend on seed, epoch and worker only, so that a restart repeats it."""
        self.epoch.assign(epoch)
        for variable, seed in self._seeds:
            variable.assign([seed + _SEED_STRIDE * self.group.rank, epoch << 20])

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.stops_in_epoch:
            self._agree()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._agree()

    def _agree(self) -> None:
        """Stop on all workers where one stops."""
        self.model.stop_training = any(self.group.exchange(bool(self.model.stop_training)))


class _Shuffled(keras.utils.PyDataset):  # type: ignore[misc]
    """The batches of a `PyDataset` in an order that depends on seed and epoch only."""

    def __init__(self, batches: keras.utils.PyDataset, seed: int, epoch: "tf.Variable") -> None:
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self.batches, self.seed, self.variable = batches, seed, epoch
        self.num_batches = batches.num_batches
        self.order: list[int] = [*range(self.num_batches)]

    num_batches = 0  # in Keras a property, which an instance cannot set

    def __getitem__(self, index: int) -> Any:
        return self.batches[self.order[index]]

    def on_epoch_begin(self) -> None:
        generator = np.random.default_rng([self.seed, int(self.variable.numpy())])
        self.order = generator.permutation(self.num_batches).tolist()
        self.batches.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self.batches.on_epoch_end()


def _skip_epochs(dataset: "tf.data.Dataset") -> Callable[[int], None]:
    """Return a function after which a data set has the order of a later epoch.

    Where a data set shuffles, each of its iterators has another order, and Keras' `fit` creates two
    for each epoch, but one for the first if it does not know the number of batches.
    """

    def skip(num_epochs: int) -> None:
        for _ in range(2 * num_epochs - (int(dataset.cardinality()) < 0)):
            next(iter(dataset), None)

    return skip


def _are_arrays(x: Any) -> bool:
    leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
    return bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)


def _split(arrays: Any, fraction: float) -> tuple[Any, Any]:
    """Return the arrays without their last rows, and these: data for training and validation."""
    num_rows = len(keras.tree.flatten(arrays)[0])
    stop = int(num_rows * (1 - fraction))
    first = keras.tree.map_structure(lambda array: array[:stop], arrays)
    return first, keras.tree.map_structure(lambda array: array[stop:], arrays)


def _on_this_worker(callbacks: Any, rank: int) -> list[keras.callbacks.Callback]:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    elif isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    return [
        callback
        for callback in callbacks or []
        if rank == 0
        or not (isinstance(callback, _WRITERS) or getattr(callback, "first_worker_only", False))
    ]


def _may_stop_in_epoch(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback may set `stop_training` after a batch, which costs a message."""
    if isinstance(callback, keras.callbacks.TerminateOnNaN | keras.callbacks.LambdaCallback):
        return True
    kind = type(callback)
    return not kind.__module__.startswith("keras.") and any(
        getattr(kind, name) is not getattr(keras.callbacks.Callback, name)
        for name in (
            *("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end"),
            *("on_test_begin", "on_test_end", "on_test_batch_begin", "on_test_batch_end"),
        )
    )


def _times(value: "tf.Tensor", factor: "tf.Tensor") -> "tf.Tensor":
    """Return the product, 0 where the factor is 0."""
    import tensorflow as tf

    if isinstance(value, tf.IndexedSlices):
        return tf.IndexedSlices(_times(value.values, factor), value.indices, value.dense_shape)
    return tf.math.multiply_no_nan(value, tf.cast(factor, value.dtype))
