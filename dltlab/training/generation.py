"""Generate text with a trained network: `generate`."""

import itertools
import math
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import keras
import numpy as np

from dltlab.data import Vocabulary
from dltlab.errors import Damaged, Invalid
from dltlab.models import step_model
from dltlab.training.probabilities import ends_in_probabilities

if TYPE_CHECKING:
    import tensorflow as tf

_NUM_SEEDS = 2**31
_SYMBOLS_PER_CALL = 16  # of the compiled function

_generators: WeakKeyDictionary[keras.Model, "TextGenerator"] = WeakKeyDictionary()


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
    """Continue a text, character by character, without end.

    The network keeps its state, so the time per character does not grow with the length of the
    text. `itertools.islice(generate(…), 400)` takes 400 characters.

    The logits are divided by the temperature; then only the `top_k` most probable symbols are kept;
    then only the first ones whose probabilities add up to `top_p` (nucleus sampling: A. Holtzman
    and others, The curious case of neural text degeneration, 2020, arXiv:1904.09751). One of those
    that remain is drawn.

    Args:
        model: An embedding of symbols, followed by recurrent layers, blocks of a Transformer and
            layers that act on each position separately, as `models.char_rnn` and
            `models.char_transformer` build it; its output is a logit or a probability for each
            symbol.
        vocabulary: The vocabulary that the model was trained with.
        prompt: The text to continue; it is not part of the result. Without a prompt, the text
            begins as after the end of a line.
        temperature: Above 1 the text becomes more random, below 1 less; 0 always takes the most
            probable symbol.
        top_k: The number of symbols to draw from; None: all.
        top_p: The total probability of the symbols to draw from, in (0, 1]; None: 1.
        seed: Equal seeds give equal texts; None: a new one for each call.

    Returns:
        The characters that follow the prompt.

    Raises:
        Invalid: An argument is out of its range, the prompt has a character that is not in the
            vocabulary, or the model cannot run step by step.
        Damaged: The model returns NaN.
    """
    generator = _generators.get(model)
    if generator is None or generator.vocabulary != vocabulary:
        generator = _generators[model] = TextGenerator(model, vocabulary)
    return generator.characters(
        prompt, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )


class _Sampling(NamedTuple):
    """How a symbol is drawn."""

    temperature: float
    top_k: int
    top_p: float

    @classmethod
    def of(
        cls, temperature: float, top_k: int | None, top_p: float | None, num_symbols: int
    ) -> "_Sampling":
        """Check the settings and fill in the defaults.

        Raises:
            Invalid: A setting is out of its range.
        """
        if not (temperature >= 0 and math.isfinite(temperature)):
            raise Invalid(
                f"temperature is {temperature}; it must be a finite number, 0 or larger. 0 always "
                "takes the most probable symbol."
            )
        if top_k is not None and not (top_k >= 1 and int(top_k) == top_k):
            raise Invalid(f"top_k is {top_k}; it must be a whole number of 1 or more, or None.")
        if top_p is not None and not 0 < top_p <= 1:
            raise Invalid(f"top_p is {top_p}; it must be above 0 and at most 1, or None.")
        if temperature == 0:
            return cls(1.0, 1, 1.0)
        most = num_symbols if top_k is None else min(top_k, num_symbols)
        return cls(temperature, most, 1.0 if top_p is None else top_p)


class TextGenerator:
    """A network prepared to generate text; it is compiled once for many texts.

    Args:
        model: As for `generate`. A text that is being written while the model is trained improves
            with it: each few characters are drawn with the weights that the model has then.
        vocabulary: The vocabulary that the model was trained with.

    Raises:
        Invalid: The model cannot run step by step, or does not fit the vocabulary.
    """

    def __init__(self, model: keras.Model, vocabulary: Vocabulary) -> None:
        import tensorflow as tf

        self._step = step_model(model)
        num_symbols = model.output_shape[-1]
        if num_symbols != len(vocabulary):
            raise Invalid(
                f"The model has outputs for {num_symbols} symbols and the vocabulary has "
                f"{len(vocabulary)}: use the vocabulary that the model was trained with."
            )
        self.vocabulary = vocabulary
        self._weights = model.weights  # not the model, so that it can be freed
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
        """Continue a text; see `generate`."""
        sampling = _Sampling.of(temperature, top_k, top_p, len(self.vocabulary))
        ids = self.vocabulary.encode(prompt or self._line_end)
        return self._stream(ids, sampling, secrets.randbelow(_NUM_SEEDS) if seed is None else seed)

    @property
    def _line_end(self) -> str:
        symbols = self.vocabulary.symbols
        return "\n" if "\n" in symbols else symbols[0]

    def _stream(self, ids: np.ndarray, sampling: _Sampling, seed: int) -> Iterator[str]:
        import tensorflow as tf

        self._update_weights()
        settings = [tf.constant(setting) for setting in sampling]
        states = [tf.zeros((1, *state.shape[1:]), state.dtype) for state in self._step.inputs[1:]]
        states = self._compiled_read(tf.constant(ids[:-1]), states)
        last = tf.constant(ids[-1])
        for position in itertools.count(step=_SYMBOLS_PER_CALL):
            key = tf.constant([seed, position], tf.int64)
            self._update_weights()
            symbols, states = self._compiled_write(last, states, key, *settings)
            numbers = symbols.numpy()
            if numbers.min() < 0:
                raise Damaged(
                    "The model returns NaN: its weights are damaged, as they are after a training "
                    "whose loss became NaN. Train it again with a smaller learning rate."
                )
            last = symbols[-1]
            yield from self.vocabulary.decode(numbers)

    def _update_weights(self) -> None:
        for copy, weight in zip(self._step.weights, self._weights, strict=True):
            copy.assign(weight)

    def _read(self, ids: "tf.Tensor", states: list["tf.Tensor"]) -> list["tf.Tensor"]:
        """Return the states after the symbols `ids`, int32 `(n,)`."""
        for symbol in ids:
            _, states = self._logits(symbol, states)
        return states

    def _write(
        self,
        last: "tf.Tensor",
        states: list["tf.Tensor"],
        key: "tf.Tensor",
        temperature: "tf.Tensor",
        top_k: "tf.Tensor",
        top_p: "tf.Tensor",
    ) -> tuple["tf.Tensor", list["tf.Tensor"]]:
        """Return the symbols after `last`, int32 `(_SYMBOLS_PER_CALL,)`, and the states then.

        From the first symbol on for which the network returns NaN, they are -1.
        """
        import tensorflow as tf

        symbols = tf.TensorArray(tf.int32, _SYMBOLS_PER_CALL)
        for position in tf.range(_SYMBOLS_PER_CALL):
            logits, states = self._logits(tf.maximum(last, 0), states)
            symbol_key = key + tf.cast(tf.stack([0, position]), tf.int64)
            last = _draw(logits, symbol_key, temperature, top_k, top_p)
            symbols = symbols.write(position, last)
        return symbols.stack(), states

    def _logits(
        self, symbol: "tf.Tensor", states: list["tf.Tensor"]
    ) -> tuple["tf.Tensor", list["tf.Tensor"]]:
        """Read a symbol; return the logits `(num_symbols,)` of the next one and the new states."""
        import tensorflow as tf

        inputs = [tf.reshape(symbol, (1, 1)), *states]
        outputs, *states = keras.tree.flatten(self._step(inputs, training=False))
        outputs = tf.cast(outputs[0], tf.float32)
        return (tf.math.log(outputs) if self._gives_probabilities else outputs), states


def _draw(
    logits: "tf.Tensor",
    key: "tf.Tensor",
    temperature: "tf.Tensor",
    top_k: "tf.Tensor",
    top_p: "tf.Tensor",
) -> "tf.Tensor":
    """Draw the number of a symbol, an int32 scalar; -1 if a logit is NaN."""
    import tensorflow as tf

    order = tf.argsort(logits, direction="DESCENDING", stable=True)
    # Relative to the largest one: divided by a small temperature, the others may become infinite.
    scaled = (tf.gather(logits, order) - tf.reduce_max(logits)) / temperature
    excluded = tf.fill(tf.shape(scaled), -math.inf)
    scaled = tf.where(tf.range(tf.size(scaled)) < top_k, scaled, excluded)
    cumulative = tf.cumsum(tf.nn.softmax(scaled), exclusive=True)
    scaled = tf.where(cumulative < top_p, scaled, excluded)
    rank = tf.random.stateless_categorical(scaled[tf.newaxis], 1, key, dtype=tf.int32)[0, 0]
    has_nan = tf.reduce_any(tf.math.is_nan(logits))
    return tf.cond(has_nan, lambda: tf.constant(-1), lambda: order[rank])
