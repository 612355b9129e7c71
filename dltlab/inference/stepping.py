"""A recurrent network as an engine that keeps its state: `step_engine`."""

from pathlib import Path

import keras
import numpy as np

from dltlab.errors import LabError
from dltlab.inference.backends import Arrays
from dltlab.inference.engine import Engine
from dltlab.inference.optimization import optimize
from dltlab.models import in_precision, step_model
from dltlab.models.loading import load_model

_SYMBOLS = 64  # that the engine is judged by, with the states that they lead to


class StepEngine:
    """A network that reads one symbol after the other; `step_engine` makes one.

    Args:
        engine: Of what `step_model` gives, with batch 1.
        num_symbols: That it can read.

    Attributes:
        engine: It may be measured and looked at as any other.
    """

    def __init__(self, engine: Engine, num_symbols: int) -> None:
        self.engine, self._num_symbols = engine, num_symbols
        self._lane = engine.lane()
        self._symbol = np.zeros((1, 1), np.int32)
        self.reset()

    def reset(self) -> None:
        """Forget what was read."""
        self._state: Arrays = [
            np.zeros((1, *each.shape), each.dtype)  # type: ignore[arg-type]
            for each in self.engine.manifest.inputs[1:]
        ]

    def __call__(self, symbol: int) -> np.ndarray:
        """Read one symbol.

        Args:
            symbol: Its number.

        Returns:
            What the network gives at that place, float32 `(outputs,)`.

        Raises:
            LabError: There is no such symbol.
        """
        if not 0 <= symbol < self._num_symbols:
            raise LabError(
                f"There is no symbol {symbol}: the network knows those from 0 to "
                f"{self._num_symbols - 1}."
            )
        self._symbol[0, 0] = symbol
        logits, *state = self._lane([self._symbol, *self._state])
        for old, new in zip(self._state, state, strict=True):
            old[:] = new  # the lane writes over what it returned
        return np.array(logits[0])


def step_engine(
    model: keras.Model | str | Path,
    *,
    backend: str = "auto",
    precision: str = "float32",
    tolerance: float = 0.01,
) -> StepEngine:
    """Compile a recurrent network for one symbol at a time.

    Args:
        model: An embedding of symbols, recurrent layers, and layers that act on each place by
            itself, in a row, as `models.char_rnn` gives it; or a `.keras` file.
        backend: As for `optimize`.
        precision: As for `optimize`, without int8. Errors add up from step to step.
        tolerance: As for `optimize`; outputs and states count.

    Raises:
        LabError: The precision is int8, or the model cannot be run step by step or optimized.
    """
    if precision == "int8":
        raise LabError(
            "A network is not read step by step in int8, since errors add up: choose float32, "
            "bfloat16, float16 or auto."
        )
    if not isinstance(model, keras.Model):
        model = load_model(Path(model))
    step = step_model(in_precision(model, "float32"))
    embeddings = (layer for layer in step.layers if isinstance(layer, keras.layers.Embedding))
    num_symbols = next(embeddings).input_dim
    validation = _read(step, num_symbols)
    engine = optimize(
        step, backend=backend, precision=precision, validation=validation, tolerance=tolerance
    )
    return StepEngine(engine.configured(threads=1), num_symbols)  # a step is too short to share


def _read(step: keras.Model, num_symbols: int) -> Arrays:
    """Random symbols, each with the states that those before it lead to."""
    symbols = np.random.default_rng(0).integers(num_symbols, size=(_SYMBOLS, 1), dtype=np.int32)
    states = [np.zeros((1, *each.shape[1:]), each.dtype) for each in step.inputs[1:]]
    seen: list[Arrays] = []
    for symbol in symbols:
        inputs = [symbol[np.newaxis], *states]
        seen.append(inputs)
        states = [np.asarray(each) for each in step.predict_on_batch(inputs)[1:]]
    return [np.concatenate(each) for each in zip(*seen, strict=True)]
