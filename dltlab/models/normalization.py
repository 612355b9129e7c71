"""Local response normalization, which came before batch normalization."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("dltlab")
class LocalResponseNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Divides each number by a power of what its neighbors among the channels have.

    y = x / (bias + alpha * s) ** beta, where s is the sum of squares over `size` channels at the
    same place, the number's own in the middle. The defaults are those of AlexNet's paper (A.
    Krizhevsky and others, NeurIPS 2012, section 3.3). Maps are `(b, height, width, channels)`, and
    so is the result. Nothing is learned.

    Args:
        size: How many channels, an odd number.
        bias: Keeps the divisor from 0.
        alpha: The weight of the sum.
        beta: The power.
    """

    def __init__(
        self,
        size: int = 5,
        bias: float = 2.0,
        alpha: float = 1e-4,
        beta: float = 0.75,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.size, self.bias, self.alpha, self.beta = size, bias, alpha, beta

    def call(self, maps: Any) -> Any:
        """The maps, normalized."""
        channels, reach = maps.shape[-1], self.size // 2
        padded = ops.pad(ops.square(maps), [[0, 0], [0, 0], [0, 0], [reach, reach]])
        total = sum(padded[..., first : first + channels] for first in range(self.size))
        # As a power it takes compilers for inference half as long again.
        return maps * ops.exp(-self.beta * ops.log(self.bias + self.alpha * total))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """That of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """What the layer is made from."""
        own = {"size": self.size, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}
