"""Choose how to train on the devices and workers there are: `strategy`."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dltlab import devices
from dltlab.distribute.cluster import worker
from dltlab.errors import Invalid

if TYPE_CHECKING:
    import keras

    from dltlab.distribute.group import Group

_AUTO = 'Use strategy("auto")'
_REFUSED = {
    "keras.distribution": "keras.distribution does nothing on TensorFlow: the model would train on "
    f"one device, without a message. {_AUTO}.",
    "parameter_server": "Keras' fit refuses ParameterServerStrategy, whose workers do not wait for "
    f"each other. {_AUTO}, which averages the gradients of all workers.",
    "multi_worker_mirrored": "Keras' fit fails with MultiWorkerMirroredStrategy. Start the workers "
    'with dltlab launch, and use strategy("auto").',
}


@dataclass(frozen=True, repr=False)
class Strategy:
    """How a training uses devices and workers; its repr says what was chosen, and why.

    Attributes:
        kind: "one device", "replicas" (of the model, one on each device of this process) or
            "workers" (processes with one device each).
        num_replicas: The number of parts that a batch is divided into.
        devices: The devices of this process.
        reason: Why.
    """

    kind: str
    num_replicas: int
    devices: tuple[str, ...]
    reason: str
    _mirrored: Any = field(default=None, compare=False)
    _group: "Group | None" = field(default=None, compare=False)

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which the model is created and compiled."""
        return nullcontext() if self._mirrored is None else self._mirrored.scope()

    def prepare(self, model: "keras.Model") -> "keras.Model":
        """Let `fit`, `evaluate` and `predict` of a compiled model use all devices and workers.

        The data are the batches of the whole training, whatever the number of replicas. The weights
        are then those of one device with the same batches, except for what a layer computes from
        its part of a batch: `BatchNormalization` without `synchronized=True`, and dropout.

        Returns:
            `model`.

        Raises:
            Invalid: The model is not compiled, or was not created in `scope`.
        """
        if not model.compiled:
            raise Invalid("Compile the model, in the scope of the strategy, before you prepare it.")
        if self._group is not None:
            from dltlab.distribute.prepare import prepare

            return prepare(model, self._group)
        if self._mirrored is not None:
            from dltlab.distribute.replicas import prepare_replicas

            if model.distribute_strategy is not self._mirrored:
                raise Invalid(
                    "Create and compile the model in the scope of the strategy: "
                    "`with plan.scope(): model = …; model.compile(…)`."
                )
            prepare_replicas(model)
        return model

    def __repr__(self) -> str:
        devices = ", ".join(self.devices)
        parts = {
            "one device": f"One device, {devices}",
            "replicas": f"{self.num_replicas} replicas, on {devices}",
            "workers": f"{self.num_replicas} workers, this one on {devices}",
        }
        return f"{parts[self.kind]}: {self.reason}."


def strategy(name: str = "auto", replicas: int | None = None) -> Strategy:
    """Choose how to train on the devices and workers there are.

    In a job of several workers, such as one of `dltlab launch`, all workers. In a single process,
    all GPUs, or the logical devices of the CPU; a model on one device is not changed. The same
    lines are then correct on a laptop and on a cluster:

        plan = distribute.strategy("auto")
        with plan.scope():
            model = models.small_resnet()
            model.compile("adam", loss)
        plan.prepare(model).fit(train, epochs=3)

    Args:
        name: "auto".
        replicas: The number of devices of a single process to use. If it has fewer, they are split
            into logical devices, which have the memory and the computation of one device together:
            for trying out, not for speed. A job of several workers ignores it.

    Raises:
        Invalid: An argument, or a way to distribute that does not work with Keras' fit on
            TensorFlow.
        Unavailable: Devices would have to be split, but TensorFlow has already begun to compute; or
            a worker did not come.
    """
    _check(name, replicas)
    job = worker()
    if job.world_size > 1:
        from dltlab.distribute.group import join

        names = _device_names()
        reason = "the job has several workers, each a process"
        return Strategy("workers", job.world_size, names[:1], reason, _group=join())
    names = _device_names()
    if replicas is not None and replicas > len(names):
        import keras

        policy = keras.config.dtype_policy().name
        devices.setup(precision=policy, logical_devices=replicas)
        names = _device_names()
    chosen = names[:replicas]
    if len(chosen) == 1:
        reason = "the process has no other" if len(names) == 1 else "one was asked for"
        return Strategy("one device", 1, chosen, reason)
    from dltlab.distribute.replicas import replicas_on

    are_logical = _num_physical() < len(names)
    reason = f"the process has {len(names)} {'logical ' if are_logical else ''}devices"
    if len(chosen) < len(names):
        reason += f", and {len(chosen)} were asked for"
    return Strategy("replicas", len(chosen), chosen, reason, replicas_on(chosen))


def _check(name: str, replicas: int | None) -> None:
    import keras
    import tensorflow as tf

    if name in _REFUSED:
        raise Invalid(_REFUSED[name])
    if name != "auto":
        raise Invalid(f'There is no strategy {name!r}; use "auto".')
    if replicas is not None and (not isinstance(replicas, int) or replicas < 1):
        raise Invalid(f"replicas is {replicas!r}; it must be a positive integer, or None.")
    if keras.distribution.distribution() is not None:
        raise Invalid(_REFUSED["keras.distribution"])
    if tf.distribute.has_strategy():
        raise Invalid("A strategy is in scope already; call strategy outside of its scope.")


def _physical() -> tuple[str, list[Any]]:
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    return ("GPU", gpus) if gpus else ("CPU", tf.config.get_visible_devices("CPU"))


def _num_physical() -> int:
    return len(_physical()[1])


def _device_names() -> tuple[str, ...]:
    """Return the names of the logical devices, without starting TensorFlow's runtime."""
    import tensorflow as tf

    kind, physical = _physical()
    parts = [tf.config.get_logical_device_configuration(device) or [None] for device in physical]
    return tuple(f"{kind}:{index}" for index in range(sum(map(len, parts))))
