"""Exercises of lab 04, Text generation."""

import bz2
import zlib
from collections import Counter, defaultdict

import numpy as np

from dltlab.exercises import attempt, correct, exercise, question, require, wrong

# TensorFlow takes seconds to import, so the checks that need it import it themselves.


@exercise(
    "`np.log2` is the logarithm to base 2. It takes the whole array at once.",
    "The logarithm of a probability is negative, a surprise is positive. And it is the mean that "
    "is wanted, `np.mean`.",
)
def bits_per_character(answer):
    """Five probabilities, then a sure guess and the fall of a coin."""
    probabilities = np.array([0.5, 0.25, 0.9, 0.03, 0.6])
    given = probabilities.copy()
    value = answer(given)
    with attempt("reading the number that you return"):
        value = np.asarray(value, float)
    require((given == probabilities).all(), "Your function changes the probabilities it was given.")
    require(
        value.ndim == 0,
        f"You return an array of shape {value.shape}; one number is wanted, the mean.",
    )
    wanted = -np.log2(probabilities)
    require(
        value >= 0,
        f"You return {value:.3f}. A surprise is never negative: mind the sign of the logarithm.",
    )
    require(
        not np.isclose(value, wanted.sum()),
        "You return the sum over the five characters; bits per character are their mean.",
    )
    require(
        not np.isclose(value, -np.log2(probabilities.mean())),
        "You return the logarithm of the mean; wanted is the mean of the logarithms.",
    )
    require(
        not np.isclose(value, -np.log(probabilities).mean()),
        "Your logarithm is the natural one: that counts in nats. A bit needs the base 2.",
    )
    require(
        not np.isclose(value, (probabilities * wanted).sum()),
        "You weight each surprise with its probability. The text has done that already: what is "
        "probable comes often.",
    )
    require(
        np.isclose(value, wanted.mean()),
        f"For five characters you return {value:.3f}, which is not the mean of their surprises.",
    )


@bits_per_character.accepts
def _(probabilities):
    return np.mean(np.log2(1 / probabilities))


@bits_per_character.accepts
def _(probabilities):
    import math

    return sum(-math.log2(p) for p in probabilities) / len(probabilities)


@bits_per_character.rejects("the number that you return raised")
def _(probabilities):
    return f"{-np.mean(np.log2(probabilities)):.2f} bits"


@bits_per_character.rejects("one number is wanted")
def _(probabilities):
    return -np.log2(probabilities)


@bits_per_character.rejects("never negative")
def _(probabilities):
    return np.mean(np.log2(probabilities))


@bits_per_character.rejects("the sum over the five")
def _(probabilities):
    return -np.sum(np.log2(probabilities))


@bits_per_character.rejects("the mean of the logarithms")
def _(probabilities):
    return -np.log2(np.mean(probabilities))


@bits_per_character.rejects("counts in nats")
def _(probabilities):
    return -np.mean(np.log(probabilities))


@bits_per_character.rejects("weight each surprise")
def _(probabilities):
    return -np.sum(probabilities * np.log2(probabilities))


@bits_per_character.rejects("is not the mean of their surprises")
def _(probabilities):
    return 1 - np.mean(probabilities)


@bits_per_character.rejects("changes the probabilities")
def _(probabilities):
    np.log2(probabilities, out=probabilities)
    return -np.mean(probabilities)


@question
def knows_nothing():
    """A model knows nothing and gives each of 64 symbols the same probability.

    How many bits does it need for a character?
    """
    return [
        wrong("64", "It would need 64 coins only if there were 2⁶⁴ symbols."),
        wrong("1/64", "That is the probability of each symbol. What is -log2 of it?"),
        correct(
            "6",
            "-log2(1/64) = 6: six falls of a coin tell 64 symbols apart. A network that has not "
            "learned anything yet begins at the logarithm of the number of symbols.",
        ),
        wrong(
            "8, since a character is a byte",
            "So a file stores it. But a byte tells 256 symbols apart, and here are 64.",
        ),
    ]


def _counted(text, longest):
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for length in range(longest + 1):
        for place in range(length, len(text)):
            counts[text[place - length : place]][text[place]] += 1
    return dict(counts)


def _backed_off(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for start in range(len(context), -1, -1):
        seen = counts.get(context[start:])
        if seen is None:
            break
        p = (seen[symbol] + len(seen) * p) / (seen.total() + len(seen))
    return p


_TEXT = "she sells sea shells by the sea shore; the shells she sells are sea shells"


@exercise(
    "A loop over the contexts, from the empty one to the whole: `context[start:]` for start = "
    "len(context), …, 1, 0.",
    "For each: `seen = counts.get(context[start:])`. If that is None, leave the loop: p stays what "
    "it is.",
    "`seen[symbol]` is c, `seen.total()` is n, and `len(seen)` is d. The p on the right of the "
    "formula is the one of the round before.",
)
def ngram_probability(answer):
    """A small text: contexts that were seen, that were not, and all symbols' probabilities."""
    counts = _counted(_TEXT, 3)
    sizes = {context: dict(seen) for context, seen in counts.items()}
    symbols = [*sorted(set(_TEXT)), "Z"]

    def given(symbol, context):
        value = answer(symbol, context, counts, len(symbols))
        require(
            {each: dict(seen) for each, seen in counts.items()} == sizes,
            f"After {context!r} your function has changed the counts that it was given. "
            "`counts.get(…)` only looks.",
        )
        with attempt("reading the number that you return"):
            return float(value)

    def wanted(symbol, context):
        return _backed_off(symbol, context, counts, len(symbols))

    empty = given("s", "")
    seen = counts[""]
    require(
        not np.isclose(empty, 1 / len(symbols)),
        "Without a context you return 1 / num_symbols. The empty context was seen, too: mix in "
        "what `counts['']` says.",
    )
    require(
        not np.isclose(empty, seen["s"] / seen.total()),
        "Without a context you return the plain share of the counts. Then a symbol that never came "
        "has probability 0. Mix it with 1 / num_symbols.",
    )
    require(
        not np.isclose(empty, (seen["s"] + 1) / (seen.total() + len(symbols))),
        "Without a context you add one to each count. That is another rule; use the formula above.",
    )
    require(
        np.isclose(empty, wanted("s", "")),
        f"Without a context you give 's' the probability {empty:.4f}, which is not what the "
        "formula makes of its counts and 1 / num_symbols.",
    )
    one = given("e", "h")
    require(
        not np.isclose(one, _two_only("e", "h", counts, len(symbols))),
        "For a context of one character you mix its counts with 1 / num_symbols. What do the "
        "counts without a context say? Go from the empty context up.",
    )
    require(
        not np.isclose(one, wanted("e", "")),
        "For a context of one character you return what the empty context says. Does your loop "
        "reach the whole context?",
    )
    _require_all(given, wanted, symbols)


def _require_all(given, wanted, symbols):
    """Longer contexts: seen, seen in part, never seen; and that all probabilities add up to 1."""
    for context in ("he", "she", "ell"):
        total = sum(given(symbol, context) for symbol in symbols)
        require(
            np.isclose(total, 1),
            f"After {context!r} the probabilities of all symbols add up to {total:.3f}, not 1.",
        )
        require(
            not np.isclose(given("l", context), wanted("l", context[:-1])),
            f"After {context!r} you return what {context[:-1]!r} says. The character just before "
            "the symbol is the last one: shorten a context at its beginning.",
        )
        value = given("l", context)
        require(
            np.isclose(value, wanted("l", context)),
            f"After {context!r} you give 'l' the probability {value:.4f}: not what the formula "
            "makes of it, going up from the empty context.",
        )
    for context in ("Zhe", "ZZZ"):
        value = given("e", context)
        require(
            np.isclose(value, wanted("e", context)),
            f"The context {context!r} was never seen. Your function should return what the longest "
            f"end of it says that was seen, and returns {value:.4f}.",
        )
    require(
        given("Z", "she") > 0,
        "A symbol that was never seen has the probability 0: its surprise would be infinite.",
    )


def _two_only(symbol, context, counts, num_symbols):
    seen = counts[context]
    return (seen[symbol] + len(seen) / num_symbols) / (seen.total() + len(seen))


@ngram_probability.accepts
def _(symbol, context, counts, num_symbols):
    def probability(context):
        shorter = probability(context[1:]) if context else 1 / num_symbols
        seen = counts.get(context)
        if not seen:
            return shorter
        n, d = sum(seen.values()), len(seen)
        return seen.get(symbol, 0) / (n + d) + d / (n + d) * shorter

    return probability(context)


@ngram_probability.accepts
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for length in range(len(context) + 1):
        end = context[len(context) - length :]
        if end in counts:
            n, d = counts[end].total(), len(counts[end])
            p = (counts[end][symbol] + d * p) / (n + d)
    return p


@ngram_probability.rejects("you return 1 / num_symbols")
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for start in range(len(context) - 1, -1, -1):
        seen = counts.get(context[start:], Counter("a"))
        p = (seen[symbol] + len(seen) * p) / (seen.total() + len(seen))
    return p


@ngram_probability.rejects("the plain share of the counts")
def _(symbol, context, counts, num_symbols):
    seen = counts.get(context, Counter(symbol))
    return seen[symbol] / seen.total()


@ngram_probability.rejects("you add one to each count")
def _(symbol, context, counts, num_symbols):
    seen = counts.get(context, Counter())
    return (seen[symbol] + 1) / (seen.total() + num_symbols)


@ngram_probability.rejects("Without a context you give 's'")
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for start in range(len(context), -1, -1):
        seen = counts.get(context[start:], Counter())
        p = (seen[symbol] + p) / (seen.total() + 1)
    return p


@ngram_probability.rejects("Go from the empty context up")
def _(symbol, context, counts, num_symbols):
    return _two_only(symbol, context, counts, num_symbols)


@ngram_probability.rejects("Does your loop reach the whole context?")
def _(symbol, context, counts, num_symbols):
    return _backed_off(symbol, context[1:], counts, num_symbols)


@ngram_probability.rejects("shorten a context at its beginning")
def _(symbol, context, counts, num_symbols):
    return _backed_off(symbol, context[:-1] if len(context) > 1 else context, counts, num_symbols)


@ngram_probability.rejects("add up to")
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for start in range(len(context), -1, -1):
        seen = counts.get(context[start:])
        if seen is None:
            break
        weight = 1 if start < len(context) - 1 else len(seen)
        p = (seen[symbol] + weight * p) / (seen.total() + len(seen))
    return p


@ngram_probability.rejects("going up from the empty context")
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for start in range(len(context), -1, -1):
        seen = counts.get(context[start:])
        if seen is None:
            break
        d = 1 if len(context) - start > 1 else len(seen)
        p = (seen[symbol] + d * p) / (seen.total() + d)
    return p


@ngram_probability.rejects("The context 'Zhe' was never seen")
def _(symbol, context, counts, num_symbols):
    if context not in counts:
        return 1 / num_symbols
    return _backed_off(symbol, context, counts, num_symbols)


@ngram_probability.rejects("raised `KeyError`: 'Zhe'")
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for start in range(len(context), -1, -1):
        seen = counts[context[start:]]
        p = (seen[symbol] + len(seen) * p) / (seen.total() + len(seen))
    return p


@ngram_probability.rejects("has changed the counts")
def _(symbol, context, counts, num_symbols):
    p = 1 / num_symbols
    for start in range(len(context), -1, -1):
        seen = counts.setdefault(context[start:], Counter())
        if seen:
            p = (seen[symbol] + len(seen) * p) / (seen.total() + len(seen))
    return p


@exercise(
    "Two calls of `compress`: one of `(train + validation).encode()`, one of `train.encode()`. "
    "What is wanted of each is its length.",
    "The difference of the two lengths is in bytes. Times 8 it is in bits.",
    "Divide by `len(validation)`: the length of the text, not of its bytes.",
)
def compressor_bits(answer):
    """Two compressors, and one that does nothing, on texts with characters of several bytes."""
    random = np.random.default_rng(1)
    words = ["naïve", "café", "the", "of", "déjà", "vu", "text", "→"]
    train = " ".join(random.choice(words, 400))
    validation = " ".join(random.choice(words[:5], 60))
    for name, compress in (("zlib", zlib.compress), ("bz2", bz2.compress)):
        value = answer(compress, train, validation)
        with attempt("reading the number that you return"):
            value = float(value)

        def cost(text, compress=compress):
            return len(compress(text.encode()))

        call = f"With {name}.compress you return {value:.3f}"
        num, num_bytes = len(validation), len(validation.encode())
        difference = cost(train + validation) - cost(train)
        require(value > 0, f"{call}. Which of the two lengths is the larger one?")
        require(
            not np.isclose(value, difference / num),
            f"{call}: that is in bytes per character.",
        )
        require(
            not np.isclose(value, 8 * cost(validation) / num),
            f"{call}: that is the text by itself. Let the compressor read the training text first.",
        )
        require(
            not np.isclose(value, 8 * cost(train + validation) / len(train + validation)),
            f"{call}: that is the mean over both texts; wanted is what the second one adds.",
        )
        require(
            not np.isclose(value, 8 * cost(train + validation) / num),
            f"{call}: the price of the training text is still in it.",
        )
        require(
            not np.isclose(value, 8 * difference / num_bytes),
            f"{call}: you divide by the number of bytes. Some characters take several.",
        )
        require(
            not np.isclose(value, 8 * difference / len(train)),
            f"{call}: you divide by the length of the training text.",
        )
        require(
            np.isclose(value, 8 * difference / num),
            f"{call}, which is not what the held-out text adds, in bits per character.",
        )


@compressor_bits.accepts
def _(compress, train, validation):
    def bits(text):
        return sum(len(f"{byte:08b}") for byte in compress(bytes(text, "utf-8")))

    return np.float32((bits(train + validation) - bits(train)) / len(validation))


@compressor_bits.rejects("Which of the two lengths is the larger one?")
def _(compress, train, validation):
    both, alone = len(compress((train + validation).encode())), len(compress(train.encode()))
    return 8 * (alone - both) / len(validation)


@compressor_bits.rejects("bytes per character")
def _(compress, train, validation):
    both, alone = len(compress((train + validation).encode())), len(compress(train.encode()))
    return (both - alone) / len(validation)


@compressor_bits.rejects("the text by itself")
def _(compress, train, validation):
    return 8 * len(compress(validation.encode())) / len(validation)


@compressor_bits.rejects("the mean over both texts")
def _(compress, train, validation):
    return 8 * len(compress((train + validation).encode())) / len(train + validation)


@compressor_bits.rejects("still in it")
def _(compress, train, validation):
    return 8 * len(compress((train + validation).encode())) / len(validation)


@compressor_bits.rejects("the number of bytes")
def _(compress, train, validation):
    both, alone = len(compress((train + validation).encode())), len(compress(train.encode()))
    return 8 * (both - alone) / len(validation.encode())


@compressor_bits.rejects("the length of the training text")
def _(compress, train, validation):
    both, alone = len(compress((train + validation).encode())), len(compress(train.encode()))
    return 8 * (both - alone) / len(train)


@compressor_bits.rejects("which is not what the held-out text adds")
def _(compress, train, validation):
    both, alone = len(compress((train + validation).encode())), len(compress(train.encode()))
    return 4 * (both - alone) / len(validation)


@compressor_bits.rejects("a bytes-like object is required")
def _(compress, train, validation):
    return 8 * (len(compress(train + validation)) - len(compress(train))) / len(validation)


@question
def gzip_window():
    """One of the three hardly profits from the training text. Why gzip?"""
    return [
        wrong(
            "It is the oldest of the three, and its code is worse.",
            "Its code for what it finds is not the point. How far back does it look for it?",
        ),
        correct(
            "It only looks back 32,768 bytes, so most of the training text is out of its sight.",
            "gzip writes repeated pieces as “so far back, so long”, and far back ends at 32 kB: it "
            "has forgotten all but the last pages. lzma looks back over all of it, and bzip2 sorts "
            "the whole text by what stands around each character.",
        ),
        wrong(
            "It knows nothing about words.",
            "None of the three does. They look for pieces that come again.",
        ),
        wrong(
            "The held-out text is too short for it.",
            "It is the same text for all three.",
        ),
    ]


@exercise(
    "The inputs: `tf.data.Dataset.from_tensor_slices(ids[:-1]).batch(length, "
    "drop_remainder=True)`. The targets: the same of `ids[1:]`.",
    "`tf.data.Dataset.zip(inputs, targets)` gives pairs of an input and its target.",
    "`.shuffle(10_000)` before `.batch(batch_size, drop_remainder=True)`: it is the windows that "
    "should be mixed, not the batches.",
)
def windows(answer):
    """A text in which every id comes once, so that each window tells its place."""
    import tensorflow as tf

    num, length, batch_size = 1000, 7, 4
    ids = np.random.default_rng(1).permutation(num).astype("int32")
    places = np.argsort(ids)
    dataset = answer(ids, length, batch_size)
    require(
        isinstance(dataset, tf.data.Dataset),
        f"You return an object of type `{type(dataset).__name__}`; a `tf.data.Dataset` is wanted.",
    )
    with attempt("reading your dataset"):
        batches = list(dataset.take(num).as_numpy_iterator())
    require(batches, "Your dataset is empty.")
    require(
        all(isinstance(batch, tuple) and len(batch) == 2 for batch in batches),
        "An element of your dataset is no pair: it should be (inputs, targets).",
    )
    shape = np.shape(batches[0][0])
    require(
        len(shape) == 2,
        f"Your inputs have the shape {shape}; put windows together: (batch_size, length).",
    )
    require(
        shape != (length, batch_size) and shape[1:] != (length + 1,),
        f"Your inputs have the shape {shape}; they should be (batch_size, length), which is "
        f"({batch_size}, {length}) here.",
    )
    for inputs, targets in batches:
        require(
            np.shape(inputs) == (batch_size, length) and np.shape(targets) == np.shape(inputs),
            f"A batch has inputs of shape {np.shape(inputs)} and targets of shape "
            f"{np.shape(targets)}; for batches of {batch_size} windows of {length} both should be "
            f"({batch_size}, {length}), the last batch, too.",
        )
    inputs, targets = (places[np.concatenate(each)] for each in zip(*batches, strict=True))
    require(
        (np.diff(inputs, axis=1) == 1).all(),
        "An input is no stretch of the text: its ids do not follow each other. What did you "
        "shuffle?",
    )
    require(not np.array_equal(inputs, targets), "Your targets are the inputs themselves.")
    require(
        np.array_equal(inputs + 1, targets),
        f"The first input begins at place {inputs[0, 0]} of the text and its target at place "
        f"{targets[0, 0]}. A target should begin one id later.",
    )
    _require_an_epoch(inputs, num)


def _require_an_epoch(inputs, num):
    """Each id about once, in an order that is not the text's."""
    firsts = inputs[:, 0]
    seen = len(np.unique(inputs)) / num
    require(
        seen > 0.8,
        f"An epoch sees {seen:.0%} of the text. Where is the rest?",
    )
    require(
        inputs.size < 2 * num,
        f"An epoch sees each id {inputs.size / num:.1f} times. Once is enough: let the next window "
        "begin where the last one ends.",
    )
    require(
        (np.diff(firsts) < 0).any(),
        "Your windows come in the order of the text. Shuffle them, so that a batch holds different "
        "things.",
    )
    followers = np.diff(firsts.reshape(-1, 4), axis=1)
    require(
        not (followers == followers[0, 0]).all(),
        "Within a batch your windows stand in the order of the text: you shuffle batches. Shuffle "
        "the windows before you put them together.",
    )


@windows.accepts
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda stretch: (stretch[:-1], stretch[1:]))
    return pairs.shuffle(10_000).batch(batch_size, drop_remainder=True)


@windows.accepts
def _(ids, length, batch_size):
    import tensorflow as tf

    firsts = np.random.default_rng().permutation((len(ids) - 1) // length) * length
    inputs = np.stack([ids[first : first + length] for first in firsts])
    targets = np.stack([ids[first + 1 : first + 1 + length] for first in firsts])
    pairs = tf.data.Dataset.from_tensor_slices((inputs, targets))
    return pairs.batch(batch_size, drop_remainder=True)


@windows.accepts
def _(ids, length, batch_size):
    from dltlab import data

    return data.windows(ids, length, batch_size, shuffle=True, seed=1)


def _stretches(ids, length):
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices(ids).batch(length + 1, drop_remainder=True)


@windows.rejects("a `tf.data.Dataset` is wanted")
def _(ids, length, batch_size):
    return list(_stretches(ids, length).map(lambda s: (s[:-1], s[1:])).batch(batch_size))


@windows.rejects("is no pair")
def _(ids, length, batch_size):
    return _stretches(ids, length).shuffle(1000).batch(batch_size, drop_remainder=True)


@windows.rejects("put windows together")
def _(ids, length, batch_size):
    return _stretches(ids, length).map(lambda s: (s[:-1], s[1:])).shuffle(1000)


@windows.rejects("have the shape (4, 8)")
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda s: (s, s)).shuffle(1000)
    return pairs.batch(batch_size, drop_remainder=True)


@windows.rejects("the last batch, too")
def _(ids, length, batch_size):
    return _stretches(ids, length).map(lambda s: (s[:-1], s[1:])).shuffle(1000).batch(batch_size)


@windows.rejects("targets of shape (4,)")
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda s: (s[:-1], s[-1])).shuffle(1000)
    return pairs.batch(batch_size, drop_remainder=True)


@windows.rejects("What did you shuffle?")
def _(ids, length, batch_size):
    import tensorflow as tf

    mixed = tf.data.Dataset.from_tensor_slices(ids).shuffle(10_000).batch(length + 1)
    return mixed.map(lambda s: (s[:-1], s[1:])).batch(batch_size, drop_remainder=True)


@windows.rejects("the inputs themselves")
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda s: (s[:-1], s[:-1])).shuffle(1000)
    return pairs.batch(batch_size, drop_remainder=True)


@windows.rejects("one id later")
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda s: (s[1:], s[:-1])).shuffle(1000, seed=1)
    return pairs.batch(batch_size, drop_remainder=True)


@windows.rejects("of the text. Where is the rest?")
def _(ids, length, batch_size):
    return _stretches(ids, length).map(lambda s: (s[:-1], s[1:])).batch(
        batch_size, drop_remainder=True
    ).take(10)  # fmt: skip


@windows.rejects("Once is enough")
def _(ids, length, batch_size):
    import tensorflow as tf

    firsts = np.random.default_rng(1).permutation(len(ids) - length)
    inputs = np.stack([ids[first : first + length] for first in firsts])
    targets = np.stack([ids[first + 1 : first + 1 + length] for first in firsts])
    pairs = tf.data.Dataset.from_tensor_slices((inputs, targets))
    return pairs.batch(batch_size, drop_remainder=True)


@windows.rejects("in the order of the text. Shuffle them")
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda s: (s[:-1], s[1:]))
    return pairs.batch(batch_size, drop_remainder=True)


@windows.rejects("you shuffle batches")
def _(ids, length, batch_size):
    pairs = _stretches(ids, length).map(lambda s: (s[:-1], s[1:]))
    return pairs.batch(batch_size, drop_remainder=True).shuffle(1000)


@exercise(
    "It is the softmax of the first lab, of `logits / temperature`.",
    "Subtract the largest of the divided logits before `np.exp`: it changes nothing but keeps the "
    "powers from becoming infinite.",
)
def with_temperature(answer):
    """Four temperatures, and one at which the powers are too large for a computer."""
    logits = np.random.default_rng(1).normal(size=9) * 2
    given = logits.copy()
    one = _array(answer(given, 1.0))
    require((given == logits).all(), "Your function changes the logits that it was given.")
    require(
        one.shape == logits.shape,
        f"For logits of shape {logits.shape} you return the shape {one.shape}.",
    )
    require(
        np.isclose(one.sum(), 1),
        f"At temperature 1 your probabilities add up to {one.sum():.3f}, not 1.",
    )
    require(
        np.allclose(one, _softmax(logits)),
        "At temperature 1 you do not return the softmax of the logits.",
    )
    for temperature in (0.5, 2.0):
        value = _array(answer(given, temperature))
        call = f"At temperature {temperature}"
        require(
            not np.allclose(value, one),
            f"{call} you return what you return at 1: the temperature does nothing.",
        )
        require(
            not np.allclose(value, _softmax(logits * temperature)),
            f"{call} your probabilities are those of {1 / temperature}: divide by the temperature.",
        )
        require(
            not np.allclose(value, _softmax(logits) / temperature),
            f"{call} you divide the probabilities. Divide the logits, before the softmax.",
        )
        require(
            np.allclose(value, _softmax(logits / temperature)),
            f"{call} your probabilities are not the softmax of the divided logits.",
        )
    with np.errstate(all="ignore"):
        cold = _array(answer(given, 0.001))
    require(
        np.isfinite(cold).all() and np.isclose(cold.max(), 1),
        f"At temperature 0.001 you give the best symbol the probability {cold.max():.3g}; it "
        "should get nearly all. Which number may you subtract before `np.exp`?",
    )


def _softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def _array(value):
    require(
        isinstance(value, np.ndarray),
        f"You return an object of type `{type(value).__name__}`; a NumPy array is wanted.",
    )
    return value


@with_temperature.accepts
def _(logits, temperature):
    from scipy.special import softmax

    return softmax(logits / temperature)


@with_temperature.accepts
def _(logits, temperature):
    logs = (logits - logits.max()) / temperature
    return np.exp(logs - np.log(np.exp(logs).sum()))


@with_temperature.rejects("a NumPy array is wanted")
def _(logits, temperature):
    return _softmax(logits / temperature).tolist()


@with_temperature.rejects("you return the shape (10,)")
def _(logits, temperature):
    return np.append(_softmax(logits / temperature), 0)


@with_temperature.rejects("add up to")
def _(logits, temperature):
    scaled = logits / temperature
    return np.exp(scaled - scaled.max())


@with_temperature.rejects("do not return the softmax")
def _(logits, temperature):
    powers = 2 ** (logits / temperature)
    return powers / powers.sum()


@with_temperature.rejects("the temperature does nothing")
def _(logits, temperature):
    return _softmax(logits)


@with_temperature.rejects("divide by the temperature")
def _(logits, temperature):
    return _softmax(logits * temperature)


@with_temperature.rejects("Divide the logits, before the softmax")
def _(logits, temperature):
    return _softmax(logits) / temperature


@with_temperature.rejects("not the softmax of the divided logits")
def _(logits, temperature):
    return _softmax(logits / temperature**2)


@with_temperature.rejects("Which number may you subtract")
def _(logits, temperature):
    powers = np.exp(logits / temperature)
    return powers / powers.sum()


@with_temperature.rejects("changes the logits")
def _(logits, temperature):
    logits -= logits.max()
    return _softmax(logits / temperature)


@exercise(
    "`np.argsort(-probabilities)[:k]` are the places of the k largest.",
    "Begin with zeros, `np.zeros_like(probabilities)`, and copy the k largest into it.",
    "Then divide by the sum of what is left.",
)
def top_k(answer):
    """Several k, with and without equal probabilities."""
    probabilities = np.array([0.05, 0.3, 0.02, 0.25, 0.08, 0.2, 0.1])
    for k in (1, 3, 7):
        kept = _kept(answer, probabilities, k, "top_k")
        order = np.argsort(-probabilities)
        require(
            not (k < 7 and (kept[order[-k:]] > 0).all() and not kept[order[0]]),
            f"With k = {k} you keep the least probable symbols.",
        )
        require(
            (kept > 0).sum() == k,
            f"With k = {k} you keep {(kept > 0).sum()} symbols.",
        )
        require(
            (kept[order[:k]] > 0).all(),
            f"With k = {k} the symbols that you keep are not the most probable ones.",
        )
        _require_shares(kept, probabilities, f"With k = {k}")
    equal = _kept(answer, np.full(8, 1 / 8), 3, "top_k")
    require(
        (equal > 0).sum() == 3,
        f"Of eight equal probabilities you keep {(equal > 0).sum()} with k = 3. Where several are "
        "equal, choose: exactly k should stay.",
    )
    many = _kept(answer, probabilities, 50, "top_k")
    require(
        np.allclose(many, probabilities),
        "With a k larger than the number of symbols all of them should stay as they are.",
    )


def _kept(answer, probabilities, setting, name):
    """What the answer keeps, with what is wrong whatever the rule."""
    given = probabilities.copy()
    value = _array(answer(given, setting))
    call = f"`{name}(probabilities, {setting})`"
    require(
        (given == probabilities).all(),
        f"{call} changes the probabilities that it was given. Work on a copy.",
    )
    require(
        value.shape == probabilities.shape,
        f"{call} returns the shape {value.shape}; each symbol keeps its place, and those that are "
        "left out get 0.",
    )
    require(
        np.isfinite(value).all() and (value >= 0).all(),
        f"{call} returns something that is no probability: {value.min()}.",
    )
    require(
        np.isclose(value.sum(), 1),
        f"{call} returns probabilities that add up to {value.sum():.3f}, not 1.",
    )
    return value


def _require_shares(kept, probabilities, call):
    left = kept > 0
    require(
        np.allclose(kept[left], probabilities[left] / probabilities[left].sum()),
        f"{call} the right symbols stay, but not in their old proportions.",
    )


def _top(probabilities, k):
    kept = np.zeros_like(probabilities)
    best = np.argsort(-probabilities)[:k]
    kept[best] = probabilities[best]
    return kept / kept.sum()


@top_k.accepts
def _(probabilities, k):
    ranks = np.argsort(np.argsort(-probabilities, kind="stable"), kind="stable")
    kept = np.where(ranks < k, probabilities, 0)
    return kept / kept.sum()


@top_k.accepts
def _(probabilities, k):
    kept = probabilities.copy()
    kept[np.argsort(-probabilities)[k:]] = 0
    return kept / kept.sum()


@top_k.rejects("add up to")
def _(probabilities, k):
    kept = np.zeros_like(probabilities)
    best = np.argsort(-probabilities)[:k]
    kept[best] = probabilities[best]
    return kept


@top_k.rejects("you keep the least probable symbols")
def _(probabilities, k):
    kept = np.zeros_like(probabilities)
    best = np.argsort(probabilities)[:k]
    kept[best] = probabilities[best]
    return kept / kept.sum()


@top_k.rejects("With k = 1 you keep 2 symbols")
def _(probabilities, k):
    return _top(probabilities, k + 1)


@top_k.rejects("are not the most probable ones")
def _(probabilities, k):
    kept = np.zeros_like(probabilities)
    kept[1 : 1 + k] = probabilities[1 : 1 + k]
    return kept / kept.sum() if k < 7 else probabilities


@top_k.rejects("not in their old proportions")
def _(probabilities, k):
    kept = (_top(probabilities, k) > 0).astype(float)
    return kept / kept.sum()


@top_k.rejects("exactly k should stay")
def _(probabilities, k):
    bar = np.sort(probabilities)[::-1][:k][-1]
    kept = np.where(probabilities >= bar, probabilities, 0)
    return kept / kept.sum()


@top_k.rejects("returns the shape (1,)")
def _(probabilities, k):
    best = np.sort(probabilities)[::-1][:k]
    return best / best.sum()


@top_k.rejects("changes the probabilities")
def _(probabilities, k):
    probabilities[np.argsort(-probabilities)[k:]] = 0
    return probabilities / probabilities.sum()


@top_k.rejects("out of bounds")
def _(probabilities, k):
    bar = np.sort(probabilities)[::-1][k - 1]
    order = np.argsort(-probabilities, kind="stable")[:k]
    kept = np.zeros_like(probabilities)
    kept[order] = np.maximum(probabilities[order], bar)
    return kept / kept.sum()


@exercise(
    "Sort: `order = np.argsort(-probabilities)`. The sums from the first symbol on are "
    "`np.cumsum(probabilities[order])`.",
    "A symbol stays if those *before* it do not yet reach the share. So subtract from each sum the "
    "symbol's own probability.",
    "The places that stay are `order[before < share]`. From there on it is as in top-k.",
)
def nucleus(answer):
    """Shares that end between two symbols and on one, and that of all."""
    probabilities = np.array([0.05, 0.3, 0.02, 0.25, 0.08, 0.2, 0.1])
    order = np.argsort(-probabilities)
    for share, num in ((0.6, 3), (0.9, 5), (0.2, 1), (0.97, 6)):
        kept = _kept(answer, probabilities, share, "nucleus")
        found = int((kept > 0).sum())
        call = f"With a share of {share}"
        reached = probabilities[order[: num - 1]].sum()
        require(
            not (found == num - 1 and (kept[order[: num - 1]] > 0).all()),
            f"{call} your symbols together have {reached:.2f}, which is less. The one that crosses "
            "the share belongs to them.",
        )
        require(
            not (found == num + 1 and (kept[order[: num + 1]] > 0).all()),
            f"{call} you keep {found} symbols; without the last of them, the others reach the "
            "share already.",
        )
        require(
            (kept[order[:found]] > 0).all(),
            f"{call} the symbols that you keep are not the most probable ones.",
        )
        require(found == num, f"{call} you keep {found} symbols, which are not the fewest.")
        _require_shares(kept, probabilities, call)
    every = _kept(answer, probabilities, 1.0, "nucleus")
    require(
        np.allclose(every, probabilities),
        "With a share of 1 all symbols should stay as they are.",
    )
    half = _kept(answer, np.array([0.25, 0.5, 0.25]), 0.5, "nucleus")
    require(
        (half > 0).sum() == 1,
        "Where the first symbol has exactly the share, it reaches it: it should stay alone.",
    )


@nucleus.accepts
def _(probabilities, share):
    kept, total = np.zeros_like(probabilities), 0.0
    for place in np.argsort(-probabilities):
        if total >= share:
            break
        kept[place] = probabilities[place]
        total += probabilities[place]
    return kept / kept.sum()


@nucleus.accepts
def _(probabilities, share):
    order = np.argsort(probabilities)[::-1]
    sums = np.cumsum(probabilities[order])
    num = min(np.searchsorted(sums, share - 1e-12) + 1, len(order))
    kept = probabilities.copy()
    kept[order[num:]] = 0
    return kept / kept.sum()


def _falling_sums(probabilities):
    return np.cumsum(np.sort(probabilities)[::-1])


def _nucleus(probabilities, keep):
    order = np.argsort(-probabilities)
    sums = np.cumsum(probabilities[order])
    kept = np.zeros_like(probabilities)
    best = order[keep(sums, probabilities[order])]
    kept[best] = probabilities[best]
    return kept


@nucleus.rejects("The one that crosses the share")
def _(probabilities, share):
    kept = _nucleus(probabilities, lambda sums, p: sums <= max(share, p[0]))
    return kept / kept.sum()


@nucleus.rejects("the others reach the share already")
def _(probabilities, share):
    return _top(probabilities, (_falling_sums(probabilities) < share).sum() + 2)


@nucleus.rejects("are not the most probable ones")
def _(probabilities, share):
    sums = np.cumsum(probabilities)
    kept = np.where(sums - probabilities < share, probabilities, 0)
    return kept / kept.sum()


@nucleus.rejects("which are not the fewest")
def _(probabilities, share):
    kept = np.where(probabilities > 1 - share, probabilities, 0)
    return (kept if kept.any() else probabilities) / (kept if kept.any() else probabilities).sum()


@nucleus.rejects("not in their old proportions")
def _(probabilities, share):
    kept = _nucleus(probabilities, lambda sums, p: sums - p < share) > 0
    return kept / kept.sum()


@nucleus.rejects("add up to")
def _(probabilities, share):
    return _nucleus(probabilities, lambda sums, p: sums - p < share)


@nucleus.rejects("With a share of 1 all")
def _(probabilities, share):
    kept = _nucleus(probabilities, lambda sums, p: sums - p < min(share, 0.975))
    return kept / kept.sum()


@nucleus.rejects("it should stay alone")
def _(probabilities, share):
    kept = _nucleus(probabilities, lambda sums, p: sums - p <= share)
    return kept / kept.sum()


@nucleus.rejects("changes the probabilities")
def _(probabilities, share):
    order = np.argsort(-probabilities)
    sums = np.cumsum(probabilities[order])
    probabilities[order[sums - probabilities[order] >= share]] = 0
    return probabilities / probabilities.sum()


@nucleus.rejects("each symbol keeps its place")
def _(probabilities, share):
    falling = np.sort(probabilities)[::-1]
    best = falling[np.cumsum(falling) - falling < share]
    return best / best.sum()


@question
def which_knob():
    """Your text has one odd letter on each line, but is dull otherwise. Which knob do you turn?"""
    return [
        wrong(
            "A lower temperature.",
            "It makes odd letters rarer, and the dull text duller still.",
        ),
        correct(
            "A nucleus of 0.9, at temperature 1.",
            "The odd letters come from the long tail of symbols that have little each, but "
            "something together. The nucleus cuts off the tail and leaves the proportions of the "
            "good symbols as they are.",
        ),
        wrong(
            "A higher temperature.",
            "That would be less dull, with an odd letter in each word.",
        ),
        wrong(
            "Top-k with k = 1.",
            "That is always the best symbol, the dullest text there is.",
        ),
    ]


@exercise(
    "`states - states.mean(axis=0)` subtracts from each column its own mean.",
    "With both centered, `values @ states` is the sum of the products for every column at once.",
    "A column that never changes has a sum of squares of 0. Divide by 1 there: "
    "`np.where(squares > 0, squares, 1)`.",
)
def correlations(answer):
    """Cells that go along, go against, do not care, and never change."""
    random = np.random.default_rng(1)
    values = random.integers(0, 2, 200).astype(float)
    noise = random.normal(size=(200, 2))
    states = np.column_stack([values, 3 - 2 * values, noise, values + noise[:, 0], np.ones(200)])
    given = states.copy(), values.copy()
    with np.errstate(all="ignore"):
        found = _array(answer(*given))
    require(
        (given[0] == states).all() and (given[1] == values).all(),
        "Your function changes the states or the values that it was given.",
    )
    require(
        found.shape == (states.shape[1],),
        f"For states of shape {states.shape} you return the shape {found.shape}; one number for "
        "each column is wanted.",
    )
    wanted = np.corrcoef(states[:, :5], values, rowvar=False)[-1, :-1]
    require(
        not np.allclose(found[:5], np.abs(wanted)),
        "A cell that goes down where the values go up should have -1, not 1: leave the sign.",
    )
    require(
        not np.allclose(found[:5], wanted**2),
        "You return the squares of the correlations.",
    )
    centered, off = states - states.mean(axis=0), values - values.mean()
    require(
        not np.allclose(found[:5], (off @ centered / len(values))[:5]),
        "That is the covariance: it grows with the size of a cell's numbers. Divide by the root of "
        "the product of the sums of squares.",
    )
    with np.errstate(all="ignore"):
        plain = values @ states / np.sqrt((states**2).sum(axis=0) * (values**2).sum())
    require(
        not np.allclose(found[:5], plain[:5]),
        "You have not subtracted the means: a cell that is always large seems to go along with "
        "everything.",
    )
    require(
        np.allclose(found[:5], wanted, atol=1e-6),
        f"A cell that equals the values gets {found[0]:.3f}, and one that equals them with noise "
        f"{found[4]:.3f}. At least one of them is not Pearson's correlation.",
    )
    require(
        np.isfinite(found[5]),
        f"For a cell that never changes you return {found[5]}: 0 divided by 0. Let it be 0.",
    )
    require(
        np.isclose(found[5], 0),
        f"For a cell that never changes you return {found[5]:.3f}. It goes along with nothing.",
    )


def _pearson(states, values):
    states, values = states - states.mean(axis=0), values - values.mean()
    squares = (states**2).sum(axis=0) * (values**2).sum()
    return values @ states / np.sqrt(np.where(squares > 0, squares, 1))


@correlations.accepts
def _(states, values):
    with np.errstate(all="ignore"):
        every = [np.corrcoef(column, values)[0, 1] for column in states.T]
    return np.nan_to_num(np.array(every))


@correlations.accepts
def _(states, values):
    spread = states.std(axis=0)
    standard = (states - states.mean(axis=0)) / np.where(spread, spread, 1)
    return np.mean(standard * ((values - values.mean()) / values.std())[:, np.newaxis], axis=0)


@correlations.rejects("a NumPy array is wanted")
def _(states, values):
    return _pearson(states, values).tolist()


@correlations.rejects("one number for each column")
def _(states, values):
    return np.corrcoef(states, rowvar=False)


@correlations.rejects("leave the sign")
def _(states, values):
    return np.abs(_pearson(states, values))


@correlations.rejects("the squares")
def _(states, values):
    return _pearson(states, values) ** 2


@correlations.rejects("That is the covariance")
def _(states, values):
    return (values - values.mean()) @ (states - states.mean(axis=0)) / len(values)


@correlations.rejects("not subtracted the means")
def _(states, values):
    return values @ states / np.sqrt((states**2).sum(axis=0) * (values**2).sum())


@correlations.rejects("is not Pearson's correlation")
def _(states, values):
    return _pearson(states, values) / 2


@correlations.rejects("0 divided by 0")
def _(states, values):
    states, values = states - states.mean(axis=0), values - values.mean()
    return values @ states / np.sqrt((states**2).sum(axis=0) * (values**2).sum())


@correlations.rejects("It goes along with nothing")
def _(states, values):
    return np.where(states.std(axis=0) > 0, _pearson(states, values), 1.0)


@correlations.rejects("changes the states")
def _(states, values):
    states -= states.mean(axis=0)
    return _pearson(states, values)


@question
def two_halves():
    """You look for the cell that goes along with a trait best, out of 512.

    Then you report its correlation on the very text on which you found it. What is wrong?
    """
    return [
        wrong(
            "Nothing: it is measured on held-out text.",
            "The network did not learn from that text. But you did: from it you chose the cell.",
        ),
        wrong(
            "512 cells are too few to find anything.",
            "The more you look at, the more likely one of them goes along by chance.",
        ),
        correct(
            "The best of 512 is partly lucky: on other text it will be worse.",
            "Whoever picks the best must measure it anew, on text that had no say in the choice. "
            "It is the same reason for which networks are not tested on what they learned from.",
        ),
        wrong(
            "Correlation should be measured on the training text.",
            "There the network may know by heart what comes. The question is what it can tell in a "
            "text that it has never seen.",
        ),
    ]


@question
def how_many_steps():
    """To write 1,000 characters, one sampler re-reads the last 256 each time, one keeps its state.

    After a prompt of 256 characters, how many more steps of the LSTM does the first one take?
    """
    return [
        wrong("As many: both write 1,000 characters.", "How many does it *read* for each?"),
        wrong("Twice as many.", "It reads 256 characters to write one."),
        wrong(
            "1,000 times as many.",
            "If it read again everything it has written, it would be about half of that, and grow "
            "with the text. It reads the last 256 only.",
        ),
        correct(
            "About 200 times as many.",
            "256 × 1,000 steps against 256 + 1,000. How much of that is seen in seconds depends on "
            "what else a character costs.",
        ),
    ]


BAR = 2.25
MOST_PARAMETERS = 100_000


@exercise(
    "Begin with the recipe of this lab: `models.char_rnn`, `data.windows`, AdamW, one cycle.",
    "Count before you train: a layer of n LSTM cells on vectors of m numbers has 4n(n + m + 1) "
    "parameters. `model.count_params()` tells the sum.",
    "A small network stands larger rates and needs no dropout, but it needs many steps: smaller "
    "batches and several epochs.",
)
def train_writer(answer):
    """A network trained on `python_docs`: its size, and its bits per character on held-out text."""
    import keras

    from dltlab import data, training

    corpus = data.corpus("python_docs")
    ids, held_out = map(corpus.vocabulary.encode, (corpus.train, corpus.validation))
    num = len(corpus.vocabulary)
    model = answer(ids, num, 1)
    require(
        isinstance(model, keras.Model),
        f"You return an object of type `{type(model).__name__}`. Return the model.",
    )
    with attempt("giving your model two windows of the held-out text"):
        logits = model.predict_on_batch(held_out[:64].reshape(2, 32))
    require(
        np.shape(logits) == (2, 32, num),
        f"For 2 windows of 32 characters your model gives the shape {np.shape(logits)}; a logit "
        f"for each of {num} symbols at each place is wanted.",
    )
    parameters = model.count_params()
    require(
        parameters <= MOST_PARAMETERS,
        f"Your network has {parameters:,} parameters; at most {MOST_PARAMETERS:,} are allowed.",
    )
    bits = training.bits_per_character(model, held_out, length=1024)
    require(
        np.isfinite(bits),
        f"Your network takes {bits} bits per character. Is the learning rate too large?",
    )
    _require_no_look_ahead(model, held_out)
    require(
        bits <= BAR,
        f"Your network takes {bits:.3f} bits per character on the held-out text; the bar is "
        f"{BAR:.2f}.",
    )
    return f"{bits:.3f} bits per character with {parameters:,} parameters; the bar is {BAR:.2f}."


def _require_no_look_ahead(model, held_out):
    """A bidirectional layer reads what it should foretell."""
    window = held_out[np.newaxis, :32].copy()
    before = model.predict_on_batch(window)[0, :16].astype("float32")
    window[0, 16:] = held_out[100:116]
    after = model.predict_on_batch(window)[0, :16].astype("float32")
    require(
        np.allclose(before, after, atol=0.05),
        "Your network looks ahead: what it says of a character changes with those that come after "
        "it. Read in one direction only.",
    )


def _linear(num_symbols, size=16, **options):
    import keras
    from keras import layers

    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(num_symbols, size)(inputs)
    return keras.Model(inputs, layers.Dense(num_symbols, dtype="float32", **options)(x))


@train_writer.rejects("Return the model")
def _(ids, num_symbols, seed):
    model = _linear(num_symbols)
    model.compile(loss="sparse_categorical_crossentropy")
    return model.fit(ids[np.newaxis, :32], ids[np.newaxis, 1:33], verbose=0)


@train_writer.rejects("two windows of the held-out text raised")
def _(ids, num_symbols, seed):
    import keras
    from keras import layers

    return keras.Sequential([keras.Input((64,)), layers.Dense(num_symbols)])


@train_writer.rejects("a logit for each of")
def _(ids, num_symbols, seed):
    import keras
    from keras import layers

    stack = [layers.Embedding(num_symbols, 8), layers.LSTM(8), layers.Dense(num_symbols)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *stack])


@train_writer.rejects("at most 100,000 are allowed")
def _(ids, num_symbols, seed):
    from dltlab import models

    return models.char_rnn(num_symbols)


@train_writer.rejects("Is the learning rate too large?")
def _(ids, num_symbols, seed):
    model = _linear(num_symbols)
    model.set_weights([np.full_like(each, np.nan) for each in model.get_weights()])
    return model


@train_writer.rejects("looks ahead")
def _(ids, num_symbols, seed):
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(num_symbols, 8)(inputs)
    x = layers.Bidirectional(layers.LSTM(8, return_sequences=True))(x)
    model = keras.Model(inputs, layers.Dense(num_symbols, dtype="float32")(x))
    model.set_weights([3 * each for each in model.get_weights()])
    return model


@train_writer.rejects("the bar is 2.25")
def _(ids, num_symbols, seed):
    import keras

    keras.utils.set_random_seed(seed)
    return _linear(num_symbols)
