"""Let a Keras model train on several devices of one process: `Replicas`, `prepare_replicas`."""

import threading
from collections.abc import Callable, Sequence
from functools import cache
from itertools import count
from typing import Any

import keras
import tensorflow as tf

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
from dltlab.errors import Invalid

Gradients = Sequence[Any]  # tensors, tf.IndexedSlices or None

_KEYS_PER_STRATEGY = 1000  # more than there are groups of devices in it
_NUMBERS = count(1)


class Replicas(tf.distribute.MirroredStrategy):  # type: ignore[misc]
    """A `MirroredStrategy` that divides every batch by itself, as evenly as possible.

    TensorFlow's own joins the end of a short batch with the beginning of the next one, and may
    leave replicas without rows.
    """

    def __init__(self, devices: tuple[str, ...]) -> None:
        # TensorFlow gives the first groups of all strategies of a process the same keys.
        self._collective_key_base = _KEYS_PER_STRATEGY * next(_NUMBERS)
        super().__init__(devices)

    def experimental_distribute_dataset(
        self, dataset: tf.data.Dataset, options: Any = None
    ) -> tf.distribute.DistributedDataset:
        """Return the batches of a data set, each divided into one part for each replica."""
        num_parts = self.num_replicas_in_sync

        def parts(*batch: Any) -> tf.data.Dataset:
            num_rows = tf.shape(tf.nest.flatten(batch)[0], out_type=tf.int64)[0]

            def part(index: tf.Tensor) -> Any:
                start = index * num_rows // num_parts
                stop = (index + 1) * num_rows // num_parts
                rows = tf.nest.map_structure(lambda leaf: leaf[start:stop], batch)
                return rows if len(rows) > 1 else rows[0]

            return tf.data.Dataset.range(num_parts).map(part)

        divided = dataset.flat_map(parts).prefetch(2 * num_parts)
        return self.distribute_datasets_from_function(lambda context: divided, options)


@cache
def replicas_on(devices: tuple[str, ...]) -> Replicas:
    """Return the strategy of these devices, the same for each call."""
    return Replicas(devices)


def prepare_replicas(model: keras.Model) -> None:
    """Let the training of a compiled model be that of one device with the same batches.

    Without it, each replica counts the same, however many rows it has, gradients are clipped before
    they are added, and each replica keeps moving statistics of its own.

    Raises:
        Invalid: The model is prepared already, or a setting of it cannot be used with replicas.
    """
    require_unprepared(model)
    _Prepared(model)


class _Prepared:
    """The methods of a model that take the place of its own."""

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.replica = threading.local()  # each replica is computed by a thread
        self.own = {
            name: getattr(model, name)
            for name in ("fit", "train_step", "test_step", "compute_loss", "_maybe_symbolic_build")
        }
        self._attach()
        for name in self.own:
            # Keras' __setattr__ would track what it is given as a part of the model.
            object.__setattr__(model, name, getattr(self, name))

    def fit(self, *args: Any, **options: Any) -> keras.callbacks.History:
        """Train as `keras.Model.fit` does, also after the model was compiled again."""
        self._attach()
        return self.own["fit"](*args, **options)

    # What Keras calls for each batch, inside of a graph.

    def train_step(self, data: Any) -> Any:
        return self._on_rows("train_step", data)

    def test_step(self, data: Any) -> Any:
        return self._on_rows("test_step", data)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        loss = self.own["compute_loss"](x, y, y_pred, sample_weight, training=training)
        if not hasattr(self.replica, "weight") or loss is None:
            return loss
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        added = sum(self.model.losses) / num_replicas  # as Keras divides all losses but sums
        loss = (loss - added) * self._loss_factor(y_pred, num_replicas) + added
        return _weighted(loss, num_replicas * self.replica.weight)

    # How they do it.

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        """Create the variables; Keras' own averages a batch, whose parts may differ in size."""
        if iterator is not None:
            data_batch = iterator.data_adapter.get_tf_dataset().element_spec
        with self.model.distribute_strategy.scope():
            self.model._symbolic_build(data_batch=data_batch)

    def _on_rows(self, step: str, data: Any) -> Any:
        """Call a step of the model with this replica's rows, or with one that has no effect."""
        num_rows = tf.shape(next(leaf for leaf in tf.nest.flatten(data) if leaf is not None))[0]
        (total,) = _sum([num_rows])
        self.replica.weight = tf.cast(num_rows / total, tf.float32)
        variables = states_of_step(self.model, training=step == "train_step")
        before = [tf.identity(_local(variable)) for variable in variables]
        logs = self.own[step](tf.nest.map_structure(lambda leaf: _padded(leaf, num_rows), data))

        def restore() -> tf.Tensor:
            for variable, value in zip(variables, before, strict=True):
                _local(variable).assign(value)
            return tf.constant(0)

        tf.cond(num_rows > 0, lambda: tf.constant(0), restore)
        return logs

    def _attach(self) -> None:
        """Add the gradients of all replicas before they are checked, clipped and accumulated."""
        weigh_losses(self.model, lambda: getattr(self.replica, "weight", None))
        optimizer = self.model.optimizer
        if optimizer is None or "apply" in vars(optimizer):
            return
        if self.model.steps_per_execution > 1:
            raise Invalid(
                "TensorFlow cannot run several steps at once on replicas: compile the model with "
                "steps_per_execution=1."
            )
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if inner.gradient_accumulation_steps or inner.ema_overwrite_frequency:
            if inner is not optimizer:
                raise Invalid(
                    "A LossScaleOptimizer with gradient_accumulation_steps or "
                    "ema_overwrite_frequency cannot be used on replicas: leave them out, or "
                    "compute in bfloat16, which needs no loss scale."
                )
            object.__setattr__(inner, "apply", _once_for_all(inner.apply))
        object.__setattr__(inner, "_all_reduce_sum_gradients", lambda pairs: pairs)
        apply = optimizer.apply

        def apply_sum(grads: Gradients, trainable_variables: Any = None) -> None:
            apply(self._sum_gradients(grads), trainable_variables)

        object.__setattr__(optimizer, "apply", apply_sum)
        self.model.jit_compile = False  # XLA cannot compile a sum over replicas
        for layer in normalizations(self.model):
            if layer.synchronized:
                object.__setattr__(layer, "_moments", self._moments_of(layer))

    def _sum_gradients(self, grads: Gradients) -> Gradients:
        """Return the sums over the replicas, and average moving statistics by rows."""
        sums = list(grads)
        present = [index for index, grad in enumerate(sums) if grad is not None]
        statistics = moving_statistics(self.model)
        values = [sums[index] for index in present]
        values += [_local(variable) * self.replica.weight for variable in statistics]
        totals = _sum(values)
        for index, total in zip(present, totals[: len(present)], strict=True):
            sums[index] = total
        for variable, total in zip(statistics, totals[len(present) :], strict=True):
            _local(variable).assign(total)
        return sums

    def _loss_factor(self, y_pred: Any, num_replicas: int) -> Any:
        """Return a factor with which the mean over rows is the loss of the batch."""
        kind = kind_of_loss(self.model, y_pred, "replicas")
        if kind == "mean":
            return 1.0
        if kind == "sum":
            return tf.math.divide_no_nan(1.0 / num_replicas, self.replica.weight)
        own = num_valid(y_pred) * tf.sign(self.replica.weight)
        (total,) = _sum([own])
        return tf.math.divide_no_nan(own, total * self.replica.weight)

    def _moments_of(self, layer: keras.layers.BatchNormalization) -> Callable[..., Any]:
        """Return a function for mean and variance over the rows of all replicas that have some."""
        own = layer._moments

        def moments(inputs: tf.Tensor, mask: tf.Tensor | None) -> Any:
            if mask is not None or not hasattr(self.replica, "weight"):
                return own(inputs, mask)
            is_real = tf.sign(self.replica.weight)
            return global_moments(inputs, layer._reduction_axes, is_real, _sum)

        return moments


def _sum(values: list[Any]) -> list[Any]:
    context = tf.distribute.get_replica_context()
    return list(context.all_reduce(tf.distribute.ReduceOp.SUM, values))


def _local(variable: keras.Variable) -> Any:
    """Return the variable of this replica."""
    context = tf.distribute.get_replica_context()
    return context.strategy.experimental_local_results(variable.value)[context._replica_id]


def _once_for_all(apply: Callable[..., None]) -> Callable[..., None]:
    """Return a method of an optimizer that is called once for all replicas.

    It may then update variables under a condition, which replicas cannot.
    """

    def apply_once(grads: Gradients, trainable_variables: Any = None) -> None:
        present = [index for index, grad in enumerate(grads) if grad is not None]

        def in_all(strategy: tf.distribute.Strategy, *values: Any) -> None:
            merged: list[Any] = [None] * len(grads)
            for index, value in zip(present, values, strict=True):
                merged[index] = strategy.experimental_local_results(value)[0]
            # Keras' updates call merge_call otherwise, which is for replicas only.
            strategy.extended._use_merge_call = lambda: False
            try:
                apply(merged, trainable_variables)
            finally:
                del strategy.extended._use_merge_call

        context = tf.distribute.get_replica_context()
        context.merge_call(in_all, args=tuple(grads[index] for index in present))

    return apply_once


def _padded(leaf: Any, num_rows: tf.Tensor) -> Any:
    """Return the rows, or one of zeros if there are none."""
    if leaf is None:
        return None
    one = tf.concat([[1], tf.shape(leaf)[1:]], 0)
    rows = tf.cond(num_rows > 0, lambda: leaf, lambda: tf.zeros(one, leaf.dtype))
    return tf.ensure_shape(rows, [None, *leaf.shape[1:]])


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _weighted(loss: tf.Tensor, weight: tf.Tensor) -> Any:
    """Return the loss; its gradient is multiplied with the weight, also in what it goes through."""

    def gradient(upstream: tf.Tensor) -> Any:
        return tf.math.multiply_no_nan(upstream, tf.cast(weight, upstream.dtype)), None

    return tf.identity(loss), gradient
