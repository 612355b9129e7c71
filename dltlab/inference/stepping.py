"""Run a network one symbol at a time, in an engine with a state: `step_engine`."""

from pathlib import Path

import keras
import numpy as np

from dltlab.errors import Invalid
from dltlab.inference.backends.base import Arrays
from dltlab.inference.engine import Engine
from dltlab.inference.optimization import optimize
from dltlab.models import in_precision, load_model, step_model

_CHECKED_SYMBOLS = 64  # that the engine's accuracy is checked on, with the states they lead to


class StepEngine:
    """A network that reads one symbol after another; `step_engine` builds one.

    Args:
        engine: The engine of a `models.step_model`, with batch size 1.
        num_symbols: The number of symbols that it can read.

    Attributes:
        engine: It can be measured as any other.
    """

    def __init__(self, engine: Engine, num_symbols: int) -> None:
        self.engine, self._num_symbols = engine, num_symbols
        self._run = engine.runner()
        self._symbol = np.zeros((1, 1), np.int32)
        self.reset()

    def reset(self) -> None:
        """Forget all symbols that were read."""
        self._states: Arrays = [
            np.zeros((1, *spec.shape), spec.dtype)  # type: ignore[arg-type]
            for spec in self.engine.manifest.inputs[1:]
        ]

    def __call__(self, symbol: int) -> np.ndarray:
        """Read one symbol.

        Args:
            symbol: Its number.

        Returns:
            The network's output after it, float32 `(outputs,)`.

        Raises:
            Invalid: There is no such symbol.
        """
        if not 0 <= symbol < self._num_symbols:
            raise Invalid(
                f"There is no symbol {symbol}: the network has symbols from 0 to "
                f"{self._num_symbols - 1}."
            )
        self._symbol[0, 0] = symbol
        output, *states = self._run([self._symbol, *self._states])
        for old, new in zip(self._states, states, strict=True):
            old[:] = new  # the runner reuses the arrays that it returned
        return np.array(output[0])


def step_engine(
    model: keras.Model | str | Path,
    *,
    backend: str = "auto",
    precision: str = "float32",
    max_accuracy_drop: float = 0.01,
) -> StepEngine:
    """Compile a recurrent network or a Transformer to read one symbol at a time.

    Args:
        model: A sequence of an embedding of symbols, recurrent layers or blocks of a Transformer,
            and layers that act on each position alone, as `models.char_rnn` and
            `models.char_transformer` build it; or a `.keras` file.
        backend: As for `optimize`.
        precision: As for `optimize`, but not int8, since errors add up from step to step.
        max_accuracy_drop: As for `optimize`; outputs and states count.

    Raises:
        Invalid: The precision is int8, or the model cannot be run step by step or optimized.
        Unavailable: As for `optimize`.
    """
    if precision == "int8":
        raise Invalid(
            "A network cannot run step by step in int8, since errors add up: choose float32, "
            "bfloat16, float16 or auto."
        )
    if not isinstance(model, keras.Model):
        model = load_model(Path(model))
    step = step_model(in_precision(model, "float32"))
    embeddings = (layer for layer in step.layers if isinstance(layer, keras.layers.Embedding))
    num_symbols = next(embeddings).input_dim
    engine = optimize(
        step,
        backend=backend,
        precision=precision,
        validation=_read_random_symbols(step, num_symbols),
        max_accuracy_drop=max_accuracy_drop,
    )
    # A step is too short to share between threads.
    return StepEngine(engine.configured(threads=1), num_symbols)


def _read_random_symbols(step: keras.Model, num_symbols: int) -> Arrays:
    """Return random symbols, each with the states that the symbols before it lead to."""
    symbols = np.random.default_rng(0).integers(
        num_symbols, size=(_CHECKED_SYMBOLS, 1), dtype=np.int32
    )
    states = [np.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in step.inputs[1:]]
    steps: list[Arrays] = []
    for symbol in symbols:
        inputs = [symbol[np.newaxis], *states]
        steps.append(inputs)
        states = [np.asarray(state) for state in step.predict_on_batch(inputs)[1:]]
    return [np.concatenate(arrays) for arrays in zip(*steps, strict=True)]
