"""Text from a trained network, symbol by symbol: `generate`."""

import itertools
import math
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import keras
import numpy as np
from keras import layers

from dltlab.data import Vocabulary
from dltlab.errors import LabError
from dltlab.models.stepping import row_of
from dltlab.training.probabilities import ends_in_probabilities

if TYPE_CHECKING:
    import tensorflow as tf

_SEEDS = 2**31  # as many different ones
_AT_A_TIME = 16  # symbols to a call of what is compiled

_GENERATORS: WeakKeyDictionary[keras.Model, "Generator"] = WeakKeyDictionary()

State = list[list[Any]]  # of each recurrent layer, its tensors


def generate(
    model: keras.Model,
    vocabulary: Vocabulary,
    prompt: str = "",
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> Iterator[str]:
    """Go on with a text, character by character, without end.

    The network keeps its state: for each character it reads one symbol, however long the text has
    become. `itertools.islice(generate(…), 400)` takes 400 characters.

    The logits are divided by the temperature; then all but the `top_k` most probable symbols are
    left out; then those after the first ones whose probabilities together reach `top_p` (nucleus
    sampling: A. Holtzman and others, The curious case of neural text degeneration, 2020,
    arXiv:1904.09751). One of those that remain is drawn.

    Args:
        model: An embedding of symbols, recurrent layers, and layers that act on each place by
            itself, in a row; its output is a logit or probability for each symbol.
        vocabulary: The one that the model was trained with.
        prompt: What the network reads first; it is not part of what comes out. Without one it
            begins as after the end of a line.
        temperature: Above 1 text becomes wilder, below 1 more cautious; 0 takes the most probable
            symbol always.
        top_k: How many symbols may be drawn; None: all.
        top_p: The probability that those drawn from have together, in (0, 1]; None: 1.
        seed: Equal seeds give equal texts; None: another one each time.

    Returns:
        The characters that follow the prompt.

    Raises:
        LabError: An argument is out of its range, the prompt has a character that is not in the
            vocabulary, or the model has a layer that cannot be run step by step.
    """
    check_sampling(temperature, top_k, top_p)
    return _generator(model, vocabulary).characters(
        prompt, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Refuse settings that choose no symbol.

    Raises:
        LabError: Names the argument.
    """
    if not (temperature >= 0 and math.isfinite(temperature)):
        raise LabError(
            f"temperature is {temperature}; it must be 0, for the most probable symbol always, or "
            "a number above."
        )
    if top_k is not None and not (top_k >= 1 and int(top_k) == top_k):
        raise LabError(f"top_k is {top_k}; it must be a whole number from 1 on, or None for all.")
    if top_p is not None and not 0 < top_p <= 1:
        raise LabError(f"top_p is {top_p}; it must be above 0 and at most 1, or None for all.")


def _generator(model: keras.Model, vocabulary: Vocabulary) -> "Generator":
    """The generator of a model: what is compiled for it serves every call."""
    made = _GENERATORS.get(model)
    if made is None or made.vocabulary != vocabulary:
        made = _GENERATORS[model] = Generator(model, vocabulary)
    return made


class Generator:
    """A network made ready to write; what is compiled for it serves many texts.

    Args:
        model: As `generate` takes it. Trained further, it writes as it does then.
        vocabulary: The one that the model was trained with.

    Raises:
        LabError: The model has a layer that cannot be run step by step, or does not fit the
            vocabulary.
    """

    def __init__(self, model: keras.Model, vocabulary: Vocabulary) -> None:
        import tensorflow as tf

        self._layers = row_of(model)
        num_symbols = model.output_shape[-1]
        if num_symbols != len(vocabulary):
            raise LabError(
                f"The model tells {num_symbols} symbols apart and the vocabulary has "
                f"{len(vocabulary)}: take the vocabulary that the model was trained with."
            )
        self.vocabulary = vocabulary
        self._gives_probabilities = ends_in_probabilities(model)
        self._compiled_read = tf.function(self._read, reduce_retracing=True)
        self._compiled_write = tf.function(self._write)

    def characters(
        self,
        prompt: str = "",
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Iterator[str]:
        """What `generate` returns."""
        check_sampling(temperature, top_k, top_p)
        ids = self.vocabulary.encode(prompt or self._line_end)
        most = len(self.vocabulary) if top_k is None else min(top_k, len(self.vocabulary))
        settings = (temperature, most, 1.0 if top_p is None else top_p)
        if temperature == 0:
            settings = (1.0, 1, 1.0)
        first = secrets.randbelow(_SEEDS) if seed is None else seed
        return self._endless(ids, settings, first)

    @property
    def _line_end(self) -> str:
        symbols = self.vocabulary.symbols
        return "\n" if "\n" in symbols else symbols[0]

    def _endless(
        self, ids: np.ndarray, settings: tuple[float, int, float], seed: int
    ) -> Iterator[str]:
        import tensorflow as tf

        temperature, top_k, top_p = settings
        chosen = tf.constant(temperature), tf.constant(top_k), tf.constant(top_p)
        state = self._compiled_read(tf.constant(ids[:-1]), self._empty_state())
        last = tf.constant(ids[-1])
        for first in itertools.count(step=_AT_A_TIME):
            key = tf.constant([seed, first], tf.int64)
            found, state = self._compiled_write(last, state, key, *chosen)
            numbers = found.numpy()
            if numbers.min() < 0:
                raise LabError(
                    "The model gives NaN: its weights are damaged, as they are after a training "
                    "whose loss became NaN. Train it anew with a smaller learning rate."
                )
            last = found[-1]
            yield from self.vocabulary.decode(numbers)

    def _empty_state(self) -> State:
        return [
            layer.cell.get_initial_state(batch_size=1)
            for layer in self._layers
            if isinstance(layer, layers.RNN)
        ]

    def _read(self, ids: "tf.Tensor", state: State) -> State:
        """The state after the symbols `ids`, int32 `(n,)`."""
        for each in ids:
            _, state = self._step(each, state)
        return state

    def _write(
        self,
        last: "tf.Tensor",
        state: State,
        key: "tf.Tensor",
        temperature: "tf.Tensor",
        top_k: "tf.Tensor",
        top_p: "tf.Tensor",
    ) -> tuple["tf.Tensor", State]:
        """The symbols after `last`, int32 `(_AT_A_TIME,)`, and the state then.

        From a symbol on for which the network gives NaN, they are -1.
        """
        import tensorflow as tf

        written = tf.TensorArray(tf.int32, _AT_A_TIME)
        for place in tf.range(_AT_A_TIME):
            logits, state = self._step(tf.maximum(last, 0), state)
            here = key + tf.cast(tf.stack([0, place]), tf.int64)
            last = _drawn(logits, here, temperature, top_k, top_p)
            written = written.write(place, last)
        return written.stack(), state

    def _step(self, last: "tf.Tensor", state: State) -> tuple["tf.Tensor", State]:
        """The logits `(num_symbols,)` of the symbol after `last`, and the state with that read."""
        import tensorflow as tf

        x = tf.reshape(last, (1, 1))
        before, after = iter(state), []
        for layer in self._layers:
            if isinstance(layer, layers.RNN):
                output, states = layer.cell(x[:, 0], next(before), training=False)
                after.append(states)
                x = output[:, tf.newaxis]
            else:
                x = layer(x)
        outputs = tf.cast(tf.reshape(x, [-1]), tf.float32)
        return (tf.math.log(outputs) if self._gives_probabilities else outputs), after


def _drawn(
    logits: "tf.Tensor",
    key: "tf.Tensor",
    temperature: "tf.Tensor",
    top_k: "tf.Tensor",
    top_p: "tf.Tensor",
) -> "tf.Tensor":
    """The number of a symbol, an int32 scalar; -1 where a logit is NaN."""
    import tensorflow as tf

    order = tf.argsort(logits, direction="DESCENDING", stable=True)
    # Counted from the largest one: divided by a small temperature, others may become infinite.
    falling = (tf.gather(logits, order) - tf.reduce_max(logits)) / temperature
    left_out = tf.fill(tf.shape(falling), -math.inf)
    few = tf.where(tf.range(tf.size(falling)) < top_k, falling, left_out)
    before = tf.cumsum(tf.nn.softmax(few), exclusive=True)
    few = tf.where(before < top_p, few, left_out)
    drawn = tf.random.stateless_categorical(few[tf.newaxis], 1, key, dtype=tf.int32)[0, 0]
    is_broken = tf.reduce_any(tf.math.is_nan(logits))
    return tf.cond(is_broken, lambda: tf.constant(-1), lambda: order[drawn])
