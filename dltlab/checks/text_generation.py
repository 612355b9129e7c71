"""Exercises of lab 04, Text generation."""

import bz2
import zlib
from collections import Counter, defaultdict

import numpy as np

from dltlab.exercises import (
    Array,
    Number,
    attempt,
    correct,
    exercise,
    question,
    random_arrays,
    require,
    wrong,
)


@exercise(
    "`np.log2` is the logarithm to base 2. It takes the whole array at once.",
    "The logarithm of a probability is negative, a surprise is positive. Return the mean of the "
    "surprises, `np.mean`.",
    returns=Number("mean surprise"),
    otherwise=lambda bits: (
        "You return {value}. A surprise is never negative: check the sign of the logarithm."
        if bits < 0
        else "`{call}` returns {value}, which is not the mean of the surprises."
    ),
)
def bits_per_character():
    yield (np.array([0.5, 0.25, 0.9, 0.03, 0.6]),)
    yield (np.array([1.0, 0.5, 0.07]),)


@bits_per_character.mistakes
def _(probabilities):
    surprises = -np.log2(probabilities)
    yield "You return the surprise of each character. Return their mean.", surprises
    yield "You return the sum; bits per character are the mean.", surprises.sum()
    yield (
        "You return the perplexity, 2 to the power of the bits. Return the bits.",
        2 ** surprises.mean(),
    )
    yield (
        "You use the natural logarithm, which counts nats. Bits need base 2.",
        -np.mean(np.log(probabilities)),
    )
    yield "You use the logarithm to base 10. Bits need base 2.", -np.mean(np.log10(probabilities))
    yield (
        "You return the logarithm of the mean; return the mean of the logarithms.",
        -np.log2(np.mean(probabilities)),
    )
    weighted = (
        "You weight each surprise with its probability, as in an entropy. That is not needed: "
        "probable characters already occur more often in the text."
    )
    yield weighted, (probabilities * surprises).sum()
    yield weighted, (probabilities * surprises).mean()


@bits_per_character.accepts
def _(probabilities):
    return np.mean(np.log2(1 / probabilities.astype("float32")))


@bits_per_character.accepts
def _(probabilities):
    import math

    return sum(-math.log2(p) for p in probabilities) / len(probabilities)


@bits_per_character.rejects("A surprise is never negative")
def _(probabilities):
    return np.mean(np.log2(probabilities))


@bits_per_character.rejects("([1.0, 0.5, 0.07])` returns")
def _(probabilities):
    return -np.sum(np.log2(probabilities)) / 5


@question
def knows_nothing():
    """A model knows nothing and gives each of 64 symbols the same probability.

    How many bits does it need for a character?
    """
    return [
        wrong("64", "It would need 64 bits only if there were 2⁶⁴ symbols."),
        wrong("1/64", "That is the probability of each symbol. What is -log2 of it?"),
        correct(
            "6",
            "-log2(1/64) = 6: six tosses of a coin distinguish 64 symbols. A network that has not "
            "learned anything yet begins near the logarithm of the number of symbols.",
        ),
        wrong(
            "8, since a character is a byte",
            "That is how a plain text file stores it. But a byte distinguishes 256 symbols, and "
            "here are 64.",
        ),
    ]


def _counts(text, longest):
    """Return how often each symbol followed each context of up to `longest` symbols."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for length in range(longest + 1):
        for end in range(length, len(text)):
            counts[text[end - length : end]][text[end]] += 1
    return dict(counts)


SHELLS = _counts("she sells sea shells by the sea shore; the shells are sea shells", 3)
NUM_SYMBOLS = len(SHELLS[""]) + 2  # "Z" and another symbol were never seen


@exercise(
    "Write a loop over the contexts, from the empty one to the longest: `context[start:]` for "
    "start = len(context), …, 1, 0.",
    "In each round: `seen = counts.get(context[start:])`. If that is None, leave the loop: p stays "
    "as it is.",
    "`seen[symbol]` is c, `seen.total()` is n, and `len(seen)` is d. The p on the right of the "
    "formula is the one of the round before.",
    returns=Number("probability"),
    otherwise="`{call}` returns {value}, which is not what the formula gives, going up from the "
    "empty context.",
)
def ngram_probability():
    for symbol, context in (
        ("s", ""),
        ("e", "h"),
        ("l", "he"),
        ("l", "she"),
        ("l", "ell"),
        ("Z", "she"),
    ):
        yield symbol, context, SHELLS, NUM_SYMBOLS
    yield "t", "to be", _counts("to be or not to be, that is", 5), 12


def _ends(context):
    """Return the ends of a context, from the empty one to the whole."""
    return [context[start:] for start in range(len(context), -1, -1)]


def _mixed(p, symbol, contexts, counts, weight=len, divisor=None):
    """Return the probability p after mixing in the counts of `contexts`, in their order."""
    for followers in filter(None, map(counts.get, contexts)):
        d = weight(followers)
        p = (followers[symbol] + d * p) / (followers.total() + (divisor or weight)(followers))
    return p


def _one(followers):
    return 1


def _backed_off(symbol, context, counts, num_symbols):
    """Return what the longest context says after which the symbol was seen."""
    for followers in filter(None, map(counts.get, reversed(_ends(context)))):
        if followers[symbol]:
            return followers[symbol] / (followers.total() + len(followers))
    return 1 / num_symbols


@ngram_probability.mistakes
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    ends, followers = _ends(context), counts[context]
    yield (
        "Without a context you return 1 / num_symbols. The empty context was seen, too: mix in "
        "what `counts['']` says.",
        _mixed(p, symbol, ends[1:], counts),
    )
    yield (
        "You return the fraction of the counts alone. Then a symbol that was never seen after a "
        "context has the probability 0. Mix the fraction with the shorter context's probability.",
        followers[symbol] / followers.total(),
    )
    yield (
        "You back off: you use only the longest context after which the symbol was seen. "
        "Interpolate: mix in what the shorter contexts say, too.",
        _backed_off(symbol, context, counts, num_symbols),
    )
    yield (
        "You add one to each count. That is another rule; use the formula above.",
        (followers[symbol] + 1) / (followers.total() + num_symbols),
    )
    yield (
        "You give the shorter context the weight 1. In the formula its weight is d, the number of "
        "different symbols that followed.",
        _mixed(p, symbol, ends, counts, _one),
    )
    yield (
        "You give the shorter context the weight n. In the formula its weight is d, the number of "
        "different symbols that followed.",
        _mixed(p, symbol, ends, counts, Counter.total),
    )
    yield (
        "You divide by n + num_symbols. Divide by n + d: d is the number of different symbols that "
        "followed.",
        _mixed(p, symbol, ends, counts, len, lambda followers: num_symbols),
    )
    not_added_up = (
        "The probabilities of all symbols after a context do not add up to 1: multiply the "
        "shorter context's probability by d."
    )
    yield not_added_up, _mixed(p, symbol, ends, counts, _one, len)
    of_one = _mixed(p, symbol, ends[:2], counts)
    yield not_added_up, _mixed(of_one, symbol, ends[2:], counts, _one, len)
    yield (
        "You mix the counts of the whole context with 1 / num_symbols. What do the counts of the "
        "shorter contexts say? Go up from the empty context.",
        _mixed(p, symbol, [context], counts),
    )
    yield (
        "You go from the longest context down. Begin with the empty one, so that the longest one "
        "is mixed in last.",
        _mixed(p, symbol, ends[::-1], counts),
    )
    yield (
        "`context[-0:]` is the whole context, not the empty one: write it in another way.",
        _mixed(p, symbol, [context[-length:] for length in range(len(context) + 1)], counts),
    )
    yield (
        "After every context you return what the empty one says. Does your loop continue?",
        _mixed(p, symbol, [""], counts),
    )
    yield (
        "Your loop does not reach the whole context: its last round is missing.",
        _mixed(p, symbol, ends[:-1] or ends, counts),
    )
    wrong_end = (
        "You shorten a context at its end. The character just before the symbol is the last one: "
        "shorten a context at its beginning."
    )
    beginnings = [context[:end] for end in range(len(context) + 1)]
    yield wrong_end, _mixed(p, symbol, beginnings, counts)
    yield wrong_end, _mixed(p, symbol, _ends(context[:-1] or context), counts)
    yield (
        "You begin with 1 / the number of symbols that were seen. Begin with 1 / num_symbols: "
        "there are symbols that were never seen.",
        _mixed(1 / len(counts[""]), symbol, ends, counts),
    )


@ngram_probability.behavior
def _(answer):
    """Check contexts that were never seen as a whole."""
    for context in ("Zhe", "ZZZ"):
        counts = {end: followers.copy() for end, followers in SHELLS.items()}
        value = Number("probability").read(answer("e", context, counts, NUM_SYMBOLS))
        require(
            counts == SHELLS,
            f"After {context!r} your function has changed `counts`; `counts.get(…)` does not.",
        )
        expected = ngram_probability.reference()("e", context, SHELLS, NUM_SYMBOLS)
        require(
            np.isclose(value, expected, rtol=1e-4),
            f"After {context!r} you return {value:.4f}. That whole context was never seen; return "
            "what the longest end of it says that was seen.",
        )


@ngram_probability.accepts
def _(symbol, context, counts, num_symbols):
    def probability(context):
        shorter = probability(context[1:]) if context else 1 / num_symbols
        followers = counts.get(context)
        if not followers:
            return shorter
        n, d = sum(followers.values()), len(followers)
        return followers.get(symbol, 0) / (n + d) + d / (n + d) * shorter

    return probability(context)


@ngram_probability.accepts
def _(symbol, context, counts, num_symbols):
    p = np.float32(1 / num_symbols)
    for length in range(len(context) + 1):
        end = context[len(context) - length :]
        if end in counts:
            n, d = counts[end].total(), len(counts[end])
            p = (counts[end][symbol] + d * p) / (n + d)
    return p


@ngram_probability.rejects("That whole context was never seen")
def _(symbol, context, counts, num_symbols):
    ends = _ends(context) if context in counts else []
    return _mixed(1 / num_symbols, symbol, ends, counts)


@ngram_probability.rejects("has changed `counts`")
def _(symbol, context, counts, num_symbols):
    for end in _ends(context):
        counts.setdefault(end, Counter())
    return _mixed(1 / num_symbols, symbol, _ends(context), counts)


@exercise(
    "Call `compress` twice: once on `(train + validation).encode()`, once on `train.encode()`. "
    "Use the lengths of the results.",
    "The difference of the two lengths is in bytes. Times 8 it is in bits.",
    "Divide by `len(validation)`: the length of the text, not of its bytes.",
    returns=Number("number of bits"),
    otherwise=lambda bits: (
        "You return {value}. Which of the two lengths is larger?"
        if bits < 0
        else "You return {value}; expected what the validation text adds, in bits per character."
    ),
)
def compressor_bits():
    generator = np.random.default_rng(1)
    words = ["naïve", "café", "the", "of", "déjà", "vu", "text", "→"]
    for compress, num_train, num_validation in ((zlib.compress, 400, 60), (bz2.compress, 300, 90)):
        train = " ".join(generator.choice(words, num_train))
        yield compress, train, " ".join(generator.choice(words[:5], num_validation))


@compressor_bits.mistakes
def _(compress, train, validation):
    read, alone, both, swapped = (
        8 * len(compress(text.encode()))
        for text in (train, validation, train + validation, validation + train)
    )
    num, num_both = len(validation), len(train + validation)
    yield "You return {value}, which is in bytes per character.", (both - read) / 8 / num
    yield (
        "You return {value}, the validation text compressed by itself. Let the compressor read "
        "the training text first.",
        alone / num,
    )
    yield (
        "You return {value}, the mean over both texts; return what the second one adds.",
        both / num_both,
    )
    yield "You return {value}, which still includes the cost of the training text.", both / num
    yield (
        "You return {value}. The validation text comes after the training text: compress "
        "`train + validation`.",
        (swapped - read) / num,
    )
    yield (
        "You return {value}: you divide by the number of bytes. Some characters take several.",
        (both - read) / len(validation.encode()),
    )
    yield (
        "You return {value}: you divide by the length of the training text.",
        (both - read) / len(train),
    )
    yield "You return {value}: you divide by the length of both texts.", (both - read) / num_both
    yield (
        "You return {value}: you subtract the length of the training text itself. Subtract its "
        "compressed length.",
        (both - 8 * len(train.encode())) / num,
    )
    yield (
        "You return {value}: you subtract the compressed length of the validation text. Subtract "
        "that of the training text.",
        (both - alone) / num,
    )
    undivided = "You return {value}, for all characters together: divide by their number."
    yield undivided, both - read
    yield undivided, (both - read) / 8


@compressor_bits.accepts
def _(compress, train, validation):
    def bits(text):
        return sum(len(f"{byte:08b}") for byte in compress(bytes(text, "utf-8")))

    return np.float32((bits(train + validation) - bits(train)) / len(validation))


@compressor_bits.rejects("Which of the two lengths is larger?")
def _(compress, train, validation):
    both, read = (len(compress(text.encode())) for text in (train + validation, train))
    return 8 * (read - both) / len(validation)


@question
def gzip_window():
    """Of the three, gzip usually gains least from a long training text. Why?"""
    return [
        wrong(
            "It is the oldest of the three, and its code is worse.",
            "The question is not how it encodes what it finds. How far back does it look?",
        ),
        correct(
            "It only looks back 32,768 bytes, so it cannot see most of the training text.",
            "gzip writes a repeated piece as a distance back and a length, and the distance is at "
            "most 32 kB: it can only refer to the last pages. lzma looks back over megabytes, and "
            "bzip2 sorts blocks of up to 900 kB by the context of each character.",
        ),
        wrong(
            "It knows nothing about words.",
            "None of the three does. They look for repeated pieces.",
        ),
        wrong(
            "The validation text is too short for it.",
            "It is the same text for all three.",
        ),
    ]


@exercise(
    "The inputs: `tf.data.Dataset.from_tensor_slices(ids[:-1]).batch(length, "
    "drop_remainder=True)`. The targets: the same of `ids[1:]`.",
    "`tf.data.Dataset.zip(inputs, targets)` gives pairs of an input and its target.",
    "Put `.shuffle(10_000)` before `.batch(batch_size, drop_remainder=True)`: shuffle the windows, "
    "not the batches.",
)
def windows(answer):
    """Cut two texts in which every id comes once, so that each window tells its position."""
    for num, length, batch_size in ((504, 7, 4), (402, 5, 6)):
        ids = np.random.default_rng(1).permutation(num).astype("int32")
        batches = _read(answer(ids.copy(), length, batch_size), num)
        _require_shapes(batches, length, batch_size)
        positions = np.argsort(ids)
        inputs, targets = (positions[np.concatenate(part)] for part in zip(*batches, strict=True))
        _require_stretches(inputs, targets)
        _require_epoch(inputs, num, batch_size)


def _read(dataset, most):
    """Return at most `most` elements of a dataset of pairs."""
    import tensorflow as tf

    require(
        isinstance(dataset, tf.data.Dataset),
        f"You return an object of type `{type(dataset).__name__}`; return a `tf.data.Dataset`.",
    )
    with attempt("reading your dataset, whose windows should all have the same length,"):
        batches = list(dataset.take(most).as_numpy_iterator())
    require(batches, "Your dataset is empty.")
    require(
        all(isinstance(batch, tuple) and len(batch) == 2 for batch in batches),
        "An element of your dataset is not a pair: it should be (inputs, targets).",
    )
    return batches


def _require_shapes(batches, length, batch_size):
    expected = (batch_size, length)
    shape = np.shape(batches[0][0])
    require(
        len(shape) == 2,
        f"Your inputs have the shape {shape}: batch the windows, to the shape {expected}.",
    )
    for inputs, targets in batches:
        require(
            np.shape(inputs) == np.shape(targets) == expected,
            f"A batch has inputs of shape {np.shape(inputs)} and targets of shape "
            f"{np.shape(targets)}; with batch_size {batch_size} and length {length} both should "
            f"be {expected}, in the last batch, too.",
        )


def _require_stretches(inputs, targets):
    """Require inputs that are stretches of the text, with targets one id later."""
    require(
        (np.diff(inputs, axis=1) == 1).all(),
        "An input is not a stretch of the text: its ids do not follow each other. What did you "
        "shuffle?",
    )
    require(not np.array_equal(inputs, targets), "Your targets are equal to the inputs.")
    require(
        len(np.unique(targets[:, 0] - inputs[:, 0])) == 1,
        "Your targets belong to other inputs: zip inputs and targets first, then shuffle the "
        "pairs.",
    )
    require(
        np.array_equal(inputs + 1, targets),
        f"The first input begins at position {inputs[0, 0]} of the text and its target at position "
        f"{targets[0, 0]}. A target should begin one id later.",
    )


def _require_epoch(inputs, num, batch_size):
    """Require each id about once, in an order that is not the text's."""
    starts = inputs[:, 0]
    fraction = len(np.unique(inputs)) / num
    require(fraction > 0.7, f"An epoch has {fraction:.0%} of the text. Where is the rest?")
    require(
        inputs.size < 1.5 * num,
        f"An epoch has each id {inputs.size / num:.1f} times. Once is enough: windows should not "
        "overlap, and the dataset should not repeat.",
    )
    require(
        (np.diff(starts) < 0).any(),
        "Your windows come in the order of the text. Shuffle them, so that a batch holds different "
        "parts of it.",
    )
    require(
        len(np.unique(np.diff(starts.reshape(-1, batch_size), axis=1))) > 1,
        "Within a batch your windows are in the order of the text: you shuffle batches. Shuffle "
        "the windows before you batch them.",
    )


@windows.accepts
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda stretch: (stretch[:-1], stretch[1:]))
    return pairs.shuffle(10_000).batch(batch_size, drop_remainder=True)


@windows.accepts
def _(ids, length, batch_size):
    starts = np.random.default_rng().permutation((len(ids) - 1) // length) * length
    return _sliced(ids, starts, length, batch_size)


@windows.accepts
def _(ids, length, batch_size):
    from dltlab import data

    return data.windows(ids, length, batch_size, shuffle=True, seed=1)


def _stretches(ids, length):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(ids).batch(length + 1, drop_remainder=True)


def _sliced(ids, starts, length, batch_size):
    import tensorflow as tf

    stretches = ids[starts[:, np.newaxis] + np.arange(length + 1)]
    pairs = tf.data.Dataset.from_tensor_slices((stretches[:, :-1], stretches[:, 1:]))
    return pairs.batch(batch_size, drop_remainder=True)


def _pairs(ids, length, pair=lambda stretch: (stretch[:-1], stretch[1:])):
    """Return shuffled pairs made of stretches of `length` + 1 ids."""
    return _stretches(ids, length).map(pair).shuffle(1000, seed=1)


def _batched(ids, length, batch_size, **pair):
    return _pairs(ids, length, **pair).batch(batch_size, drop_remainder=True)


@windows.rejects("return a `tf.data.Dataset`")
def _(ids, length, batch_size):
    return list(_batched(ids, length, batch_size))


@windows.rejects("is empty")
def _(ids, length, batch_size):
    return _batched(ids, length, batch_size).take(0)


@windows.rejects("is not a pair")
def _(ids, length, batch_size):
    return _stretches(ids, length).shuffle(1000).batch(batch_size, drop_remainder=True)


@windows.rejects("batch the windows")
def _(ids, length, batch_size):
    return _pairs(ids, length)


@windows.rejects("inputs of shape (4, 8)")
def _(ids, length, batch_size):
    return _batched(ids, length, batch_size, pair=lambda stretch: (stretch, stretch))


@windows.rejects("inputs of shape (7, 4)")
def _(ids, length, batch_size):
    return _batched(ids, batch_size, length)


@windows.rejects("in the last batch, too")
def _(ids, length, batch_size):
    return _pairs(ids, length).batch(batch_size)


@windows.rejects("with batch_size 6 and length 5")  # the sizes of the first text
def _(ids, length, batch_size):
    return _batched(ids, 7, 4)


@windows.rejects("targets of shape (4,)")
def _(ids, length, batch_size):
    return _batched(ids, length, batch_size, pair=lambda stretch: (stretch[:-1], stretch[-1]))


@windows.rejects("What did you shuffle?")
def _(ids, length, batch_size):
    return _batched(np.random.default_rng(1).permutation(ids), length, batch_size)


@windows.rejects("are equal to the inputs")
def _(ids, length, batch_size):
    return _batched(ids, length, batch_size, pair=lambda stretch: (stretch[:-1], stretch[:-1]))


@windows.rejects("zip inputs and targets first")
def _(ids, length, batch_size):
    import tensorflow as tf

    inputs, targets = (
        _stretches(part, length - 1).shuffle(1000, seed=seed)
        for seed, part in enumerate((ids[:-1], ids[1:]))
    )
    return tf.data.Dataset.zip(inputs, targets).batch(batch_size, drop_remainder=True)


@windows.rejects("one id later")
def _(ids, length, batch_size):
    return _batched(ids, length, batch_size, pair=lambda stretch: (stretch[1:], stretch[:-1]))


@windows.rejects("of the text. Where is the rest?")
def _(ids, length, batch_size):
    return _batched(ids, length, batch_size).take(10)


@windows.rejects("Once is enough")
def _(ids, length, batch_size):
    starts = np.random.default_rng(1).permutation(len(ids) - length)
    return _sliced(ids, starts, length, batch_size)


@windows.rejects("in the order of the text. Shuffle them")
def _(ids, length, batch_size):
    return _sliced(ids, np.arange(0, len(ids) - length, length), length, batch_size)


@windows.rejects("you shuffle batches")
def _(ids, length, batch_size):
    starts = np.arange(0, len(ids) - length, length)
    return _sliced(ids, starts, length, batch_size).shuffle(1000, seed=1)


def _unless_sum_is_wrong(sentence):
    """Return a sentence about probabilities, or about their sum where that is not 1."""

    def choose(probabilities):
        total = probabilities.sum()
        if abs(total - 1) < 1e-3:
            return sentence
        return f"Your probabilities add up to {total:.3f}, not 1."

    return choose


def _softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


@exercise(
    "It is the softmax of the first lab, of `logits / temperature`.",
    "Subtract the largest of the divided logits before `np.exp`: it does not change the result, "
    "but keeps the powers from becoming infinite.",
    returns=Array("array of probabilities"),
    otherwise=_unless_sum_is_wrong(
        "`{call}`: your probabilities are not the softmax of the divided logits."
    ),
)
def with_temperature():
    (logits,) = random_arrays((9,))
    for temperature in (0.5, 1.0, 2.5):
        yield 2 * logits, temperature
    yield np.array([2.0, -1.0, 3.5, 1.0]), 0.001


@with_temperature.mistakes
def _(logits, temperature):
    scaled = (logits - logits.max()) / temperature
    powers = np.exp(scaled)
    yield (
        "Your powers are those of 2; the softmax has powers of e, `np.exp`.",
        2**scaled / np.sum(2**scaled),
    )
    yield "The temperature makes no difference to what you return.", _softmax(logits)
    yield "You multiply by the temperature; divide by it.", _softmax(logits * temperature)
    yield (
        "You divide the probabilities. Divide the logits instead, before the softmax.",
        _softmax(logits) / temperature,
    )
    yield (
        "You return logarithms of probabilities; return the probabilities.",
        scaled - np.log(powers.sum()),
    )
    infinite = np.exp(logits / temperature)
    yield (
        "At a temperature of 0.001 your probabilities are not numbers, since the powers become "
        "infinite. Which number may you subtract before `np.exp`?",
        infinite / infinite.sum(),
    )


@with_temperature.accepts
def _(logits, temperature):
    from scipy.special import softmax

    return softmax(logits.astype("float32") / temperature)


@with_temperature.accepts
def _(logits, temperature):
    logs = (logits - logits.max()) / temperature
    return list(np.exp(logs - np.log(np.exp(logs).sum())))


@with_temperature.rejects("add up to")
def _(logits, temperature):
    return np.exp((logits - logits.max()) / temperature)


@with_temperature.rejects("has the shape (9,); expected (4,)")
def _(logits, temperature):
    return np.resize(_softmax(logits / temperature), 9)


PROBABILITIES = np.array([0.05, 0.3, 0.02, 0.25, 0.08, 0.2, 0.1])


def _chosen(probabilities, places):
    """Return the probabilities at `places`, and 0 at the others."""
    kept = np.zeros_like(probabilities)
    kept[places] = probabilities[places]
    return kept


def _normalized(kept):
    return kept / kept.sum()


@exercise(
    "`np.argsort(-probabilities)[:k]` are the places of the k largest.",
    "Begin with zeros, `np.zeros_like(probabilities)`, and copy the k largest into them.",
    "Then divide by the sum of what is left.",
    returns=Array("array of probabilities"),
    otherwise=_unless_sum_is_wrong(
        "`{call}` does not return the k most probable symbols in their old proportions."
    ),
)
def top_k():
    for k in (3, 1, 7, 50):
        yield PROBABILITIES, k
    yield np.array([0.1, 0.4, 0.2, 0.3]), 2


ALL_EQUAL = (
    "You keep the correct symbols, but all with the same probability. Keep their proportions."
)
SOFTMAX = "You take a softmax of what is left, which changes the proportions. Divide by the sum."
PLACES = "Each symbol should keep its place; those that are left out get 0."


def _number_kept(probabilities):
    return f"`{{call}}` keeps {(probabilities > 0).sum()} symbols."


@top_k.mistakes
def _(probabilities, k):
    order = np.argsort(-probabilities)
    kept = _chosen(probabilities, order[:k])
    yield (
        "You keep the least probable symbols.",
        _normalized(_chosen(probabilities, order[::-1][:k])),
    )
    yield _number_kept, _normalized(_chosen(probabilities, order[: k + 1]))
    yield _number_kept, _normalized(_chosen(probabilities, order[: k - 1]))
    yield (
        "You keep the first k symbols, not the k most probable ones.",
        _normalized(_chosen(probabilities, np.arange(len(probabilities))[:k])),
    )
    yield ALL_EQUAL, _normalized(kept > 0)
    yield SOFTMAX, _softmax(kept)
    yield SOFTMAX, _softmax(np.where(kept > 0, kept, -np.inf))
    yield PLACES, _normalized(probabilities[order[:k]])
    yield PLACES, _normalized(np.where(np.arange(len(order)) < k, probabilities[order], 0))


@top_k.behavior
def _(answer):
    """Of equal probabilities any may stay."""
    kept = Array("array of probabilities").read(answer(np.full(8, 1 / 8), 3), shape=(8,))
    require(
        (kept > 0).sum() == 3,
        f"Of eight equal probabilities you keep {(kept > 0).sum()} with k = 3. Choose among equal "
        "ones: exactly k should stay.",
    )
    require(
        np.allclose(kept[kept > 0], 1 / 3),
        "Of eight equal probabilities you keep 3 with k = 3, but not with equal probabilities.",
    )


@top_k.accepts
def _(probabilities, k):
    ranks = np.argsort(np.argsort(-probabilities, kind="stable"), kind="stable")
    return _normalized(np.where(ranks < k, probabilities, 0)).astype("float32")


@top_k.accepts
def _(probabilities, k):
    kept = probabilities.copy()
    kept[np.argsort(-probabilities)[k:]] = 0
    return (kept / sum(kept)).tolist()


@top_k.rejects("add up to")
def _(probabilities, k):
    return _chosen(probabilities, np.argsort(-probabilities)[:k])


@top_k.rejects("exactly k should stay")
def _(probabilities, k):
    bar = np.sort(probabilities)[::-1][:k][-1]
    return _normalized(np.where(probabilities >= bar, probabilities, 0))


@exercise(
    "Sort: `order = np.argsort(-probabilities)`. The sums from the first symbol on are "
    "`np.cumsum(probabilities[order])`.",
    "A symbol stays if those *before* it do not yet reach `top_p`. So subtract from each sum the "
    "symbol's own probability.",
    "The places that stay are `order[before < top_p]`. From there on it is as in top-k.",
    returns=Array("array of probabilities"),
    otherwise=_unless_sum_is_wrong(
        "`{call}` does not return the fewest, most probable symbols that reach `top_p`, in their "
        "old proportions."
    ),
)
def nucleus():
    for top_p in (0.6, 0.9, 0.2, 0.97, 1.0):
        yield PROBABILITIES, top_p
    yield np.array([0.25, 0.5, 0.25]), 0.5
    yield np.full(10, 0.1), 1.0  # in floating point its sum is less than 1


@nucleus.mistakes
def _(probabilities, top_p):
    order = np.argsort(-probabilities)
    ordered = probabilities[order]
    sums = np.cumsum(ordered)
    before = sums - ordered
    kept = _chosen(probabilities, order[before < top_p])
    too_few = (
        "`{call}`: the symbols that you keep do not reach `top_p`. The one that crosses it "
        "belongs to them."
    )
    example = (
        "Of the probabilities 0.6, 0.3 and 0.1 with a `top_p` of 0.8, two symbols stay. Which two "
        "numbers does your condition compare for the second one?"
    )
    yield too_few, _normalized(_chosen(probabilities, order[sums <= top_p])), example
    yield too_few, _normalized(_chosen(probabilities, order[sums < top_p])), example
    yield too_few, _normalized(_chosen(probabilities, order[sums <= max(top_p, sums[0])]))
    yield (
        "`{call}`: without the last of the symbols that you keep, the others reach `top_p` "
        "already.",
        _normalized(_chosen(probabilities, order[: (sums < top_p).sum() + 2])),
    )
    in_place = np.cumsum(probabilities) - probabilities < top_p
    yield (
        "You take the symbols in the order of the vocabulary. Begin with the most probable one.",
        _normalized(np.where(in_place, probabilities, 0)),
    )
    rising = order[::-1]
    least = rising[np.cumsum(probabilities[rising]) - probabilities[rising] < top_p]
    yield (
        "You begin with the least probable symbol. Begin with the most probable one.",
        _normalized(_chosen(probabilities, least)),
    )
    yield ALL_EQUAL, _normalized(kept > 0)
    yield SOFTMAX, _softmax(kept)
    yield SOFTMAX, _softmax(np.where(kept > 0, kept, -np.inf))
    all_stay = "With a `top_p` of 1 all symbols should stay as they are."
    yield all_stay, _normalized(_chosen(probabilities, order[before < min(top_p, 0.975)]))
    yield (
        f"{all_stay} Their sum may be a little less than 1 in floating point: what does your "
        "function do where no sum reaches `top_p`?",
        _normalized(_chosen(probabilities, order[: np.argmax(sums >= top_p) + 1])),
    )
    yield (
        "Where the probability of the first symbol is exactly `top_p`, no other one should stay.",
        _normalized(_chosen(probabilities, order[before <= top_p])),
    )
    yield PLACES, _normalized(ordered[before < top_p])
    yield PLACES, _normalized(np.where(before < top_p, ordered, 0))


@nucleus.accepts
def _(probabilities, top_p):
    kept, total = np.zeros_like(probabilities), 0.0
    for place in np.argsort(-probabilities):
        if total >= top_p:
            break
        kept[place] = probabilities[place]
        total += probabilities[place]
    return [float(probability) for probability in kept / total]


@nucleus.accepts
def _(probabilities, top_p):
    order = np.argsort(probabilities)[::-1]
    num = np.searchsorted(np.cumsum(probabilities[order]), top_p - 1e-12) + 1
    kept = probabilities.astype("float32")
    kept[order[num:]] = 0
    return kept / kept.sum()


@nucleus.rejects("add up to")
def _(probabilities, top_p):
    order = np.argsort(-probabilities)
    before = np.cumsum(probabilities[order]) - probabilities[order]
    return _chosen(probabilities, order[before < top_p]) / top_p


@question
def which_knob():
    """A text repeats itself, and has one wrong letter on each line. Which setting do you try?"""
    return [
        wrong(
            "A lower temperature.",
            "It makes wrong letters rarer, but the text repeats itself even more.",
        ),
        correct(
            "A nucleus of 0.9, at temperature 1.",
            "The wrong letters are among the many symbols with a small probability each, which "
            "together is not small. The nucleus removes these, and leaves the proportions of the "
            "others as they are.",
        ),
        wrong(
            "A higher temperature.",
            "The text would repeat itself less, but have more wrong letters.",
        ),
        wrong(
            "Top-k with k = 1.",
            "That always takes the most probable symbol, and such texts repeat themselves most.",
        ),
    ]


@exercise(
    "`states - states.mean(axis=0)` subtracts from each column its own mean.",
    "With both centered, `values @ states` is the sum of the products for every column at once.",
    "A column that never changes has a sum of squares of 0, and so have values that never change. "
    "Divide by 1 there: `np.where(squares > 0, squares, 1)`.",
    returns=Array("array of correlations"),
    otherwise="At least one of your numbers is not Pearson's correlation of a column with the "
    "values.",
)
def correlations():
    generator = np.random.default_rng(1)
    for num, num_noisy, spread in ((200, 3, 0.0), (30, 5, 0.5)):
        values = generator.integers(0, 2, num) + spread * generator.normal(size=num)
        noise = generator.normal(size=(num, num_noisy))
        noise[:, 0] += values
        states = np.column_stack([values, 3 - 2 * values, noise, np.ones(num)])
        yield states, values
    yield states, np.full(num, 2.0)


def _cosines(states, values):
    """Return the correlations of columns and values that are centered already."""
    squares = (states**2).sum(axis=0) * (values**2).sum()
    return values @ states / np.sqrt(np.where(squares > 0, squares, 1))


@correlations.mistakes
def _(states, values):
    num = len(values)
    centered, deviations = states - states.mean(axis=0), values - values.mean()
    pearson = _cosines(centered, deviations)
    products = deviations @ centered
    squares = (centered**2).sum(axis=0) * (deviations**2).sum()
    yield (
        "You return the correlations of the columns with each other. Return one number for each "
        "column, its correlation with the values.",
        np.corrcoef(states, rowvar=False),
    )
    yield (
        "A number that falls where the values rise should have -1, not 1: keep the sign.",
        np.abs(pearson),
    )
    yield "You return the squares of the correlations.", pearson**2
    covariance = (
        "That is the covariance: it grows with the scale of a column. Divide by the square "
        "root of the product of the sums of squares."
    )
    yield covariance, products / num
    yield covariance, products / (num - 1)
    yield covariance, products
    yield (
        "You divide by the product of the sums of squares; take its square root first.",
        products / np.where(squares > 0, squares, 1),
    )
    yield (
        "You divide by n in one place and by n - 1 in another: `np.std` and `np.cov` differ in "
        "that.",
        pearson * num / (num - 1),
    )
    for name, columns, other in (
        ("the states and of the values", states, values),
        ("the states", states, deviations),
        ("the values", centered, values),
    ):
        yield (
            f"You have not subtracted the mean of {name}: a column that is always large then seems "
            "to be correlated with everything.",
            _cosines(columns, other),
        )
    yield (
        "You subtract the mean of all states; each column has its own mean.",
        _cosines(states - states.mean(), deviations),
        "Print `states.mean(axis=0).shape` and `states.mean(axis=1).shape`. Which has one number "
        "for each column?",
    )
    yield (
        "You divide by the sum of the squares of all columns; each column has its own, with "
        "`axis=0`.",
        products / np.sqrt((centered**2).sum() * (deviations**2).sum() or 1),
    )
    yield (
        "For a column that never changes you return nan: 0 divided by 0. Return 0.",
        products / np.sqrt(squares),
    )
    yield (
        "For a column that never changes you return 1. Return 0.",
        np.where(squares > 0, pearson, 1.0),
    )
    lengths, length = np.sqrt((centered**2).sum(axis=0)), np.sqrt((deviations**2).sum())
    yield (
        "For values that never change you return nan: 0 divided by 0. Return 0 for each column.",
        products / np.where(lengths > 0, lengths, 1) / length,
    )
    yield (
        "For values that never change you return 1. Return 0 for each column.",
        pearson if length else np.ones_like(pearson),
    )


@correlations.accepts
def _(states, values):
    return np.nan_to_num([np.corrcoef(column, values)[0, 1] for column in states.T]).tolist()


@correlations.accepts
def _(states, values):
    spread = states.std(axis=0)
    standard = (states - states.mean(axis=0)) / np.where(spread, spread, 1)
    values = (values - values.mean()) / (values.std() or 1)
    return np.mean(standard * values[:, np.newaxis], axis=0)


@correlations.accepts
def _(states, values):
    states, values = states.astype("float32"), values.astype("float32")
    return _cosines(states - states.mean(axis=0), values - values.mean())


@question
def two_halves():
    """Out of hundreds of numbers, you look for the one with the largest correlation.

    Then you report that correlation, from the same text on which you found the number. Why is this
    misleading?
    """
    return [
        wrong(
            "It is not: the network has not learned from this text.",
            "The network has not. But you have: you used the text to choose the number.",
        ),
        wrong(
            "Hundreds of numbers are too few to find anything.",
            "The more numbers you try, the more likely one is correlated by chance.",
        ),
        correct(
            "The largest of many is partly chance: on other text it tends to be smaller.",
            "After choosing the best of many, measure it again on text that was not used for the "
            "choice. For the same reason, networks are not tested on their training data.",
        ),
        wrong(
            "Correlation should be measured on the training text.",
            "The network may have stored that text. The question is what it knows about text that "
            "it has not seen.",
        ),
    ]


BAR = 2.15
MOST_PARAMETERS = 100_000


@exercise(
    "Begin with the recipe of this lab: `models.char_rnn`, `data.windows`, AdamW, one cycle.",
    "Count before you train: a layer of n LSTM cells on vectors of m numbers has 4n(n + m + 1) "
    "parameters. `model.count_params()` returns the sum.",
    "A small network can take larger learning rates and needs no dropout, but it needs many steps: "
    "a thousand, in several passes through the text.",
    smoke={"num_characters": 10_000, "bar": 5.5},
)
def train_writer(answer, num_characters=None, bar=BAR):
    """Train on `python_docs`; measure the network's size and its bits on validation text."""
    import keras

    from dltlab import data, training

    corpus = data.corpus("python_docs")
    num_train = len(corpus.train) - len(corpus.train) // 10  # as in the lab; what follows validates
    ids, validation_ids = (
        corpus.vocabulary.encode(text[:num_characters])
        for text in (corpus.train[:num_train], corpus.train[num_train:])
    )
    num_symbols = len(corpus.vocabulary)
    model = answer(ids, num_symbols, 1)
    require(
        isinstance(model, keras.Model),
        f"You return an object of type `{type(model).__name__}`. Return the model.",
    )
    with attempt("giving your model two windows of the validation text"):
        logits = model.predict_on_batch(validation_ids[:64].reshape(2, 32))
    require(
        np.shape(logits) == (2, 32, num_symbols),
        f"For 2 windows of 32 characters your model returns the shape {np.shape(logits)}; expected "
        f"a logit for each of {num_symbols} symbols at each place.",
    )
    parameters = model.count_params()
    require(
        parameters <= MOST_PARAMETERS,
        f"Your network has {parameters:,} parameters; at most {MOST_PARAMETERS:,} are allowed.",
    )
    with attempt("measuring your model on windows of 1,024 characters"):
        bits = training.bits_per_character(model, validation_ids, length=1024)
    require(
        np.isfinite(bits),
        f"Your network needs {bits} bits per character. Is the learning rate too large?",
    )
    _require_no_look_ahead(model, validation_ids)
    require(
        bits <= bar,
        f"Your network needs {bits:.3f} bits per character on the validation text; the bar is "
        f"{bar:.2f}.",
    )
    return f"{bits:.3f} bits per character with {parameters:,} parameters; the bar is {bar:.2f}."


def _require_no_look_ahead(model, validation_ids):
    """Require that later characters change nothing, as in a bidirectional layer they would."""
    window = validation_ids[np.newaxis, :32].copy()
    before = model.predict_on_batch(window)[0, :16].astype("float32")
    window[0, 16:] = validation_ids[100:116]
    after = model.predict_on_batch(window)[0, :16].astype("float32")
    require(
        np.allclose(before, after, atol=0.05),
        "Your network looks ahead: its prediction of a character changes with those that come "
        "after it. Read in one direction only.",
    )


def _stacked(num_symbols, *layers, length=None):
    """Return a network of an embedding, the given layers, and a dense layer."""
    import keras

    keras.utils.set_random_seed(1)
    ends = keras.layers.Embedding(num_symbols, 8), keras.layers.Dense(num_symbols, dtype="float32")
    return keras.Sequential([keras.Input((length,), dtype="int32"), ends[0], *layers, ends[1]])


@train_writer.rejects("Return the model")
def _(ids, num_symbols, seed):
    model = _stacked(num_symbols)
    model.compile(loss="sparse_categorical_crossentropy")
    return model.fit(ids[np.newaxis, :32], ids[np.newaxis, 1:33], verbose=0)


@train_writer.rejects("two windows of the validation text raised")
def _(ids, num_symbols, seed):
    import keras

    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(num_symbols)])


@train_writer.rejects("windows of 1,024 characters raised")
def _(ids, num_symbols, seed):
    from keras import layers

    fixed = layers.Flatten(), layers.Dense(256), layers.Reshape((32, 8))
    return _stacked(num_symbols, *fixed, length=32)


@train_writer.rejects("a logit for each of 103 symbols")
def _(ids, num_symbols, seed):
    from keras import layers

    return _stacked(num_symbols, layers.LSTM(8))


@train_writer.rejects("at most 100,000 are allowed")
def _(ids, num_symbols, seed):
    from dltlab import models

    return models.char_rnn(num_symbols)


@train_writer.rejects("Is the learning rate too large?")
def _(ids, num_symbols, seed):
    model = _stacked(num_symbols)
    model.set_weights([np.full_like(weights, np.nan) for weights in model.get_weights()])
    return model


@train_writer.rejects("looks ahead")
def _(ids, num_symbols, seed):
    from keras import layers

    model = _stacked(num_symbols, layers.Bidirectional(layers.LSTM(8, return_sequences=True)))
    model.set_weights([3 * weights for weights in model.get_weights()])
    return model


@train_writer.rejects("bits per character on the validation text; the bar is")
def _(ids, num_symbols, seed):
    return _stacked(num_symbols)
