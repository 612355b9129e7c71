"""What can be known to go wrong before, or while, a model is trained, each in a sentence."""

import math
import re
from typing import TYPE_CHECKING, Any

import keras

from dltlab.devices import list_gpus, memory_info
from dltlab.errors import LabError
from dltlab.models import cost, shape_text

if TYPE_CHECKING:
    import tensorflow as tf

_MARK = "dltlab says: "
_GB = 1e9


class Checked:
    """A data set whose batches are looked at as they are asked for.

    Args:
        dataset: Batches of images and labels.
        num_classes: How many the model tells apart; None where its labels are no such numbers.
    """

    def __init__(self, dataset: "tf.data.Dataset", num_classes: int | None) -> None:
        import tensorflow as tf

        self._num_classes = num_classes
        self._lowest = tf.Variable(tf.int64.max, trainable=False)
        self._highest = tf.Variable(tf.int64.min, trainable=False)
        self.dataset = dataset.map(self._look)

    def require_classes(self) -> None:
        """Refuse labels that were all the same so far.

        Raises:
            LabError: They were.
        """
        if self._num_classes is not None and int(self._lowest) == int(self._highest):
            raise LabError(
                f"Every label of the training data is {int(self._lowest)}: there is nothing to "
                "tell apart. Look at the labels, or at what divided the data."
            )

    def _look(self, images: "tf.Tensor", labels: Any, *rest: Any) -> Any:
        import tensorflow as tf

        looked = []
        if images.dtype.is_floating:
            fine = tf.reduce_all(tf.math.is_finite(images))
            broken = "some pixels are NaN or infinite: look for a division by 0 in what prepares"
            looked.append(tf.debugging.Assert(fine, [f"{_MARK}{broken} the images."]))
        if self._num_classes is not None:
            looked += self._look_at(tf.cast(tf.reshape(labels, [-1]), tf.int64))
        with tf.control_dependencies(looked):
            return (tf.identity(images), labels, *rest)

    def _look_at(self, labels: "tf.Tensor") -> list[Any]:
        import tensorflow as tf

        num = self._num_classes
        assert num is not None
        wrong = tf.boolean_mask(labels, (labels < 0) | (labels >= num))
        say = tf.strings.format(
            f"{_MARK}the label {{}} is none of the model's {num} classes, which are counted from 0 "
            f"to {num - 1}: give the model as many outputs as there are classes.",
            wrong[:1],
        )
        lowest = tf.minimum(self._lowest, tf.reduce_min(labels))
        highest = tf.maximum(self._highest, tf.reduce_max(labels))
        return [
            tf.debugging.Assert(tf.size(wrong) == 0, [say]),
            self._lowest.assign(lowest),
            self._highest.assign(highest),
        ]


def said(error: Exception) -> str | None:
    """The sentence of a check in an error of TensorFlow's; None if it is not one of a check."""
    found = re.search(rf"{_MARK}(.*?\.)[\s\]]", str(error).replace("\\'", "'") + " ", re.DOTALL)
    return re.sub(r"\[(-?\d+)\]", r"\1", found[1]) if found else None


def classes_of(model: keras.Model) -> int | None:
    """How many classes a model tells apart, where its labels are their numbers."""
    loss = getattr(model.loss, "name", None) or getattr(model.loss, "__name__", model.loss)
    shape = getattr(model, "output_shape", None)  # a subclassed model has none
    is_number = isinstance(loss, str) and loss.startswith("sparse_categorical")
    return int(shape[-1]) if is_number and isinstance(shape, tuple) and len(shape) == 2 else None


def require_trainable(model: keras.Model, batch: Any) -> None:
    """Refuse what cannot be trained: a model that is not compiled, data that do not fit it.

    Raises:
        LabError: Names the reason.
    """
    if not getattr(model, "compiled", False):
        raise LabError(
            "The model is not compiled: say how to train it, as in model.compile("
            '"adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)).'
        )
    if not isinstance(batch, tuple) or len(batch) < 2:
        raise LabError(
            "The training data hold no labels: the data set's elements must be (images, labels)."
        )
    images, labels = batch[:2]
    takes = getattr(model, "input_shape", None)
    if not isinstance(takes, tuple) or not hasattr(images, "shape"):
        return  # several inputs, or shapes that only the model's author knows
    has = tuple(images.shape)
    if len(has) == len(takes) - 1:
        raise LabError("The training data are not in batches: add .batch(64) to the data set.")
    if len(has) != len(takes) or any(
        one not in (None, other) for one, other in zip(takes[1:], has[1:], strict=True)
    ):
        raise LabError(
            f"The model takes inputs of shape {shape_text(takes[1:])} and the data's are "
            f"{shape_text(has[1:])}: build the model for that shape, or load the data in another."
        )
    gives = model.output_shape
    per_class = classes_of(model) is None and len(getattr(labels, "shape", ())) == 2
    if per_class and isinstance(gives, tuple) and len(gives) == 2 and gives[1] != labels.shape[1]:
        raise LabError(
            f"The labels have a value for each of {labels.shape[1]} classes, and the model gives "
            f"{gives[1]} numbers: end it in as many as there are classes."
        )


def require_memory(model: keras.Model, batch_size: int) -> None:
    """Refuse a training that does not fit into the memory that is free.

    Raises:
        LabError: Says what it takes at the least and what there is.
    """
    try:
        counted = cost(model)
    except LabError:
        return  # a model whose inputs are not known beforehand
    slots = _slots(model.optimizer)
    free = free_bytes()

    def needed(batch_size: int) -> float:  # the weights are in memory already
        return counted.training_bytes(batch_size, slots) - 4 * counted.params

    if needed(batch_size) <= free:
        return
    smaller = batch_size
    while smaller and needed(smaller) > free:
        smaller //= 2
    mend = f"take batches of {smaller}" if smaller else "take a smaller model, or smaller images"
    raise LabError(
        f"Training {model.name} in batches of {batch_size} takes at least "
        f"{needed(batch_size) / _GB:.1f} GB of memory, and {free / _GB:.1f} GB are free: {mend}."
    )


def free_bytes() -> float:
    """The memory that a program can still have: a GPU's where one is used, else the machine's."""
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return float(memory_info().available)
    usable = [gpu.usable_bytes for gpu in list_gpus()]
    return float(min(usable, default=math.inf))  # without NVML nobody tells


def _slots(optimizer: keras.optimizers.Optimizer) -> int:
    """How many numbers an optimizer keeps for each parameter: two, as most do, or what SGD does."""
    if isinstance(optimizer, keras.optimizers.SGD):
        return int(optimizer.momentum > 0)
    return 2
