"""Check the batches of a training while they are read: `CheckedDataset`."""

import re
from typing import TYPE_CHECKING, Any

import keras

from dltlab.errors import Invalid

if TYPE_CHECKING:
    import tensorflow as tf

_MARK = "dltlab: "  # opens our messages among those of TensorFlow
_WRONG_LABEL = (  # in the error of a check, and in that of TensorFlow's loss on a CPU
    rf"{_MARK}label \[(-?\d+)\] of (\d+)",
    r"label value of (-?\d+) which is outside the valid range of \[0, (\d+)\)",
)
_WRONG_SHAPE = re.compile(  # of a generator
    r"yielded an element of shape (\(.*?\)) where an element of shape (\(.*?\)) was expected"
)


class CheckedDataset:
    """A data set whose batches are checked as they are read.

    Inputs and targets must be finite, and labels must be classes of the model. A violation raises
    TensorFlow's InvalidArgumentError; `message_in` extracts the sentence from it.

    Args:
        dataset: Batches of inputs, targets and weights, of which the last two may be missing.
        num_classes: The number of classes of the model; None if labels are not class numbers.
        ignored: A label that the loss ignores.
        are_probabilities: Whether targets must be between 0 and 1.

    Attributes:
        dataset: The same batches, with the checks.
    """

    def __init__(
        self,
        dataset: "tf.data.Dataset",
        num_classes: int | None,
        ignored: int | None = None,
        *,
        are_probabilities: bool = False,
    ) -> None:
        import tensorflow as tf

        self._num_classes, self._ignored = num_classes, ignored
        self._are_probabilities = are_probabilities
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

    def _check(self, *batch: Any) -> Any:
        import tensorflow as tf

        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(batch)
        is_image = tf.is_tensor(inputs) and inputs.shape.rank == 4
        checks = [
            *_finite_checks(inputs, "pixels" if is_image else "inputs"),
            *_finite_checks(targets, "targets"),
        ]
        if self._num_classes is not None and targets is not None:
            labels = tf.nest.flatten(targets, expand_composites=True)[0]
            checks += self._label_checks(tf.cast(tf.reshape(labels, [-1]), tf.int64))
        if self._are_probabilities and targets is not None:
            checks += map(_between_check, tf.nest.flatten(targets, expand_composites=True))
        with tf.control_dependencies(checks):
            checked = tf.nest.map_structure(tf.identity, batch)
        return checked if len(checked) > 1 else checked[0]

    def _label_checks(self, labels: "tf.Tensor") -> list[Any]:
        import tensorflow as tf

        if self._ignored is not None:
            labels = tf.boolean_mask(labels, labels != self._ignored)
        wrong = tf.boolean_mask(labels, (labels < 0) | (labels >= self._num_classes))
        message = tf.strings.format(f"{_MARK}label {{}} of {self._num_classes}.", wrong[:1])
        lowest = tf.minimum(self._lowest, tf.reduce_min(labels))
        highest = tf.maximum(self._highest, tf.reduce_max(labels))
        return [
            tf.debugging.Assert(tf.size(wrong) == 0, [message]),
            self._lowest.assign(lowest),
            self._highest.assign(highest),
        ]


def _between_check(labels: "tf.Tensor") -> Any:
    import tensorflow as tf

    numbers = tf.cast(labels, tf.float32)  # booleans cannot be compared
    return tf.debugging.Assert(
        tf.reduce_all((numbers >= 0) & (numbers <= 1)),
        [
            f"{_MARK}some labels are not between 0 and 1, as a cross-entropy needs them: number "
            "two classes 0 and 1."
        ],
    )


def message_in(error: Exception) -> str | None:
    """Return the sentence of a failed check in a TensorFlow error; None if it is another error."""
    text = str(error)
    for pattern in _WRONG_LABEL:
        if match := re.search(pattern, text):
            return _label_message(*map(int, match.groups()))
    if match := _WRONG_SHAPE.search(text):
        return (
            f"a batch has the shape {match[1]}, and the first ones have {match[2]}: pass what "
            "tf.data.Dataset.from_generator returns with an output_signature, whose shapes have "
            "None for each axis that varies."
        )
    match = re.search(rf"{_MARK}(.*?\.)[\s\]']", text + " ", re.DOTALL)
    return match[1] if match else None


def _label_message(label: int, num_classes: int) -> str:
    fix = "give the model as many outputs as there are classes, and number them from 0"
    if label < 0:
        fix = (
            "number the classes from 0, and remove examples without a label, or let the loss "
            f"ignore them with ignore_class={label}"
        )
    return (
        f"the label {label} is not one of the model's {num_classes} classes, which are numbered "
        f"from 0 to {num_classes - 1}: {fix}."
    )


def _finite_checks(tensors: Any, noun: str) -> list[Any]:
    """Return the checks that all floating-point numbers among the tensors are finite."""
    import tensorflow as tf

    message = f"some {noun} are NaN or infinite: look for a division by 0 or a missing value"
    return [
        tf.debugging.Assert(
            tf.reduce_all(tf.math.is_finite(tensor)),
            [f"{_MARK}{message} in what prepares the data."],
        )
        for tensor in tf.nest.flatten(tensors, expand_composites=True)
        if tensor is not None and tensor.dtype.is_floating
    ]
