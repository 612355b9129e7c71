"""Check the model, the data and the memory before and during a training."""

import math
import re
from typing import TYPE_CHECKING, Any

import keras

from dltlab.devices import list_gpus, memory_info
from dltlab.errors import Invalid, LabError, Unavailable
from dltlab.models import cost, shape_text
from dltlab.training.probabilities import fits

if TYPE_CHECKING:
    import tensorflow as tf

_MARK = "dltlab: "  # opens our messages among those of TensorFlow
_GB = 1e9


class CheckedDataset:
    """A data set whose batches are checked as they are read.

    Pixels must be finite, and labels must be classes of the model. A violation raises TensorFlow's
    InvalidArgumentError; `message_in` extracts the sentence from it.

    Args:
        dataset: Batches of images and labels.
        num_classes: The number of classes of the model; None if labels are not class numbers.

    Attributes:
        dataset: The same batches, with the checks.
    """

    def __init__(self, dataset: "tf.data.Dataset", num_classes: int | None) -> None:
        import tensorflow as tf

        self._num_classes = num_classes
        self._lowest = tf.Variable(tf.int64.max, trainable=False)
        self._highest = tf.Variable(tf.int64.min, trainable=False)
        self.dataset = dataset.map(self._check)

    def require_several_classes(self) -> None:
        """Raise Invalid if all labels so far were equal."""
        if self._num_classes is not None and int(self._lowest) == int(self._highest):
            raise Invalid(
                f"Every label of the training data is {int(self._lowest)}, so there is nothing to "
                "learn: check the labels, and how the data were split."
            )

    def _check(self, images: "tf.Tensor", labels: Any, *rest: Any) -> Any:
        import tensorflow as tf

        checks = []
        if images.dtype.is_floating:
            is_finite = tf.reduce_all(tf.math.is_finite(images))
            message = "some pixels are NaN or infinite: look for a division by 0 in what prepares"
            checks.append(tf.debugging.Assert(is_finite, [f"{_MARK}{message} the images."]))
        if self._num_classes is not None:
            checks += self._check_labels(tf.cast(tf.reshape(labels, [-1]), tf.int64))
        with tf.control_dependencies(checks):
            return (tf.identity(images), labels, *rest)

    def _check_labels(self, labels: "tf.Tensor") -> list[Any]:
        import tensorflow as tf

        num_classes = self._num_classes
        assert num_classes is not None
        wrong = tf.boolean_mask(labels, (labels < 0) | (labels >= num_classes))
        message = tf.strings.format(
            f"{_MARK}the label {{}} is not one of the model's {num_classes} classes, which are "
            f"numbered from 0 to {num_classes - 1}: give the model as many outputs as there are "
            "classes.",
            wrong[:1],
        )
        lowest = tf.minimum(self._lowest, tf.reduce_min(labels))
        highest = tf.maximum(self._highest, tf.reduce_max(labels))
        return [
            tf.debugging.Assert(tf.size(wrong) == 0, [message]),
            self._lowest.assign(lowest),
            self._highest.assign(highest),
        ]


def message_in(error: Exception) -> str | None:
    """Return the sentence of a failed check in a TensorFlow error; None if it is another error."""
    text = str(error).replace("\\'", "'") + " "
    match = re.search(rf"{_MARK}(.*?\.)[\s\]]", text, re.DOTALL)
    return re.sub(r"\[(-?\d+)\]", r"\1", match[1]) if match else None


def num_label_classes(model: keras.Model) -> int | None:
    """Return the number of classes if the model's loss takes class numbers as labels, else None."""
    loss = getattr(model.loss, "name", None) or getattr(model.loss, "__name__", model.loss)
    shape = getattr(model, "output_shape", None)  # a subclassed model has none
    is_sparse = isinstance(loss, str) and loss.startswith("sparse_categorical")
    return int(shape[-1]) if is_sparse and isinstance(shape, tuple) and len(shape) == 2 else None


def require_trainable(model: keras.Model, batch: Any) -> None:
    """Check that a model is compiled and that a batch of its data fits it.

    Raises:
        Invalid: It is not, or does not; the message says why.
    """
    if not getattr(model, "compiled", False):
        raise Invalid(
            "The model is not compiled: say how to train it, as in model.compile("
            '"adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)).'
        )
    if not isinstance(batch, tuple) or len(batch) < 2:
        raise Invalid(
            "The training data have no labels: the data set's elements must be (images, labels)."
        )
    images, labels = batch[:2]
    input_shape = getattr(model, "input_shape", None)
    if not isinstance(input_shape, tuple) or not hasattr(images, "shape"):
        return  # several inputs, or shapes that only the model's author knows
    shape = tuple(images.shape)
    if len(shape) == len(input_shape) - 1:
        raise Invalid("The training data are not in batches: add .batch(64) to the data set.")
    if not fits(shape, input_shape):
        raise Invalid(
            f"The model takes inputs of shape {shape_text(input_shape[1:])} and those of the data "
            f"are {shape_text(shape[1:])}: build the model for that shape, or load the data in "
            "another."
        )
    outputs = model.output_shape
    are_vectors = (
        isinstance(outputs, tuple) and len(outputs) == len(getattr(labels, "shape", ())) == 2
    )
    if are_vectors and num_label_classes(model) is None and outputs[1] != labels.shape[1]:
        raise Invalid(
            f"The labels have a value for each of {labels.shape[1]} classes, and the model has "
            f"{outputs[-1]} outputs: build it with one output per class."
        )


def require_memory(model: keras.Model, batch_size: int) -> None:
    """Check that a training fits into the free memory.

    Raises:
        Unavailable: It does not; the message names a batch size that fits.
    """
    try:
        model_cost = cost(model)
    except LabError:
        return  # the model's input shape is not known
    slots = _num_slots(model.optimizer)
    free = free_bytes()

    def needed(batch_size: int) -> float:  # the weights are in memory already
        return model_cost.training_bytes(batch_size, slots) - 4 * model_cost.params

    if needed(batch_size) <= free:
        return
    smaller = batch_size
    while smaller and needed(smaller) > free:
        smaller //= 2
    fix = f"use batches of {smaller}" if smaller else "use a smaller model, or smaller images"
    raise Unavailable(
        f"Training {model.name} in batches of {batch_size} needs at least "
        f"{needed(batch_size) / _GB:.1f} GB of memory, and {free / _GB:.1f} GB are free: {fix}."
    )


def free_bytes() -> float:
    """Return the memory that can still be allocated: on the GPU if there is one, else in RAM.

    Without NVML the free memory of a GPU is not known: the result is infinity.
    """
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return float(memory_info().available)
    return float(min((gpu.usable_bytes for gpu in list_gpus()), default=math.inf))


def _num_slots(optimizer: keras.optimizers.Optimizer) -> int:
    """Return how many numbers an optimizer keeps per parameter: two, except for SGD."""
    if isinstance(optimizer, keras.optimizers.SGD):
        return int(optimizer.momentum > 0)
    return 2
