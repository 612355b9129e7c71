"""What a training step costs: FLOPs, memory and bytes moved. `Cost.training` returns it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from dltlab.display import Result

if TYPE_CHECKING:
    import pandas as pd

FLOAT32_BYTES = 4

# Operations of an optimizer for each parameter, by the numbers that it keeps for one. SGD: scale
# and subtract. Momentum: two more for the velocity. Adam (D. Kingma and J. Ba, 2014,
# arXiv:1412.6980, algorithm 1, its corrections of the bias folded into the rate): 3 for the first
# moment, 4 for the second, 5 for the update.
_OPTIMIZER_FLOPS = (2, 4, 12)
MAX_SLOTS = len(_OPTIMIZER_FLOPS) - 1


@dataclass(frozen=True)
class LayerTraining:
    """One call of a layer in a training step, for the whole batch.

    The layer computes `passes` times about the same: its output, the gradient of its weights, and
    the gradient of each input that needs one. Each pass reads or writes the inputs, the outputs and
    the weights once.

    Attributes:
        name: The layer's name.
        kind: The layer's class.
        macs: Multiply-adds of one pass; 0 if the layer has none, NaN if they are not known.
        weight_bytes: The size of the weights.
        activation_bytes: The size of the inputs and outputs.
        weight_gradients: Passes for the gradient of the weights: 0 or 1.
        input_gradients: Passes for gradients of inputs: 0, 1 or 2.
    """

    name: str
    kind: str
    macs: float
    weight_bytes: int
    activation_bytes: int
    weight_gradients: int
    input_gradients: int

    @property
    def flops(self) -> float:
        """FLOPs of one pass, two for a multiply-add."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """Bytes that one pass moves at least between memory and processor."""
        return self.weight_bytes + self.activation_bytes

    @property
    def backward_passes(self) -> int:
        """Passes in the backward pass of the network."""
        return self.weight_gradients + self.input_gradients


@dataclass(frozen=True, repr=False)
class TrainingCost(Result):
    """What one training step costs; see `Cost.training` for what is counted.

    Attributes:
        name: The name of the model.
        batch_size: Examples in the step.
        layers: One row per call of a layer, in the order of the forward pass.
        params: The number of parameters.
        trainable_params: The number of those that training changes.
        slots: Numbers that the optimizer keeps for each of them.
        activation_bytes: The outputs of all layers and the inputs, which the backward pass needs.
        workspace_bytes: The gradient of the largest output, which exists for a moment.
        uncounted: The layers whose multiply-adds are not known; the FLOPs lack them.
    """

    name: str
    batch_size: int
    layers: tuple[LayerTraining, ...]
    params: int
    trainable_params: int
    slots: int
    activation_bytes: int
    workspace_bytes: int
    uncounted: tuple[str, ...]

    _formats: ClassVar[Mapping[str, Callable[[Any], str]]] = {
        "GFLOP": "{:,.3f}".format,
        "MB moved": "{:,.1f}".format,
        "FLOP/byte": "{:,.1f}".format,
    }

    @property
    def forward_flops(self) -> float:
        """FLOPs of the forward pass, in convolutions, matrix products and the like."""
        return sum(row.flops for row in self._counted)

    @property
    def backward_flops(self) -> float:
        """FLOPs of the backward pass: at most twice those of the forward pass."""
        return sum(row.backward_passes * row.flops for row in self._counted)

    @property
    def optimizer_flops(self) -> float:
        """FLOPs of the update of the weights."""
        return _OPTIMIZER_FLOPS[self.slots] * self.trainable_params

    @property
    def flops(self) -> float:
        """FLOPs of the step, without those of the layers in `uncounted`."""
        return self.forward_flops + self.backward_flops + self.optimizer_flops

    @property
    def optimizer_bytes_moved(self) -> int:
        """Bytes of the update: gradients, weights and state are read, the last two written."""
        return FLOAT32_BYTES * (3 + 2 * self.slots) * self.trainable_params

    @property
    def bytes_moved(self) -> float:
        """Bytes that must at least move between memory and processor in the step."""
        passes = sum((1 + row.backward_passes) * row.bytes for row in self.layers)
        return passes + self.optimizer_bytes_moved

    @property
    def weight_bytes(self) -> int:
        """Memory of the weights, in float32."""
        return FLOAT32_BYTES * self.params

    @property
    def gradient_bytes(self) -> int:
        """Memory of the gradients of the weights, in float32."""
        return FLOAT32_BYTES * self.trainable_params

    @property
    def optimizer_bytes(self) -> int:
        """Memory of what the optimizer keeps, in float32."""
        return FLOAT32_BYTES * self.slots * self.trainable_params

    @property
    def memory_bytes(self) -> int:
        """Memory of the weights, gradients and state, and of the activations if all are kept.

        A framework's own workspace comes on top; one that frees outputs that no gradient needs
        gets along with fewer activations. `benchmarks/predictions.py` compares.
        """
        weights = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes
        return weights + self.activation_bytes + self.workspace_bytes

    @property
    def table(self) -> "pd.DataFrame":
        """A row for each part of the step: `GFLOP`, `MB moved` and `FLOP/byte`."""
        import pandas as pd

        forward = sum(row.bytes for row in self.layers)
        backward = sum(row.backward_passes * row.bytes for row in self.layers)
        parts = [
            ("forward", self.forward_flops, forward),
            ("backward", self.backward_flops, backward),
            ("optimizer", self.optimizer_flops, self.optimizer_bytes_moved),
            ("step", self.flops, self.bytes_moved),
        ]
        rows = [(name, f / 1e9, b / 1e6, f / b if b else float("nan")) for name, f, b in parts]
        return pd.DataFrame(rows, columns=["part", *self._formats])

    @property
    def summary(self) -> str:
        """The totals in two sentences."""
        at_least = "at least " if self.uncounted else ""
        missing = f" Not counted: {', '.join(self.uncounted)}." if self.uncounted else ""
        parts = {
            "weights": self.weight_bytes,
            "gradients": self.gradient_bytes,
            "optimizer state": self.optimizer_bytes,
            "activations": self.activation_bytes + self.workspace_bytes,
        }
        memory = ", ".join(f"{size / 1e6:,.1f} MB of {name}" for name, size in parts.items())
        return (
            f"{self.name}, a step with a batch of {self.batch_size}: {at_least}"
            f"{self.flops / 1e9:,.2f} GFLOP, {self.bytes_moved / 1e6:,.0f} MB moved. Memory of "
            f"{self.memory_bytes / 1e6:,.0f} MB: {memory}.{missing}"
        )

    @property
    def _counted(self) -> list[LayerTraining]:
        return [row for row in self.layers if row.macs == row.macs]  # without NaN
