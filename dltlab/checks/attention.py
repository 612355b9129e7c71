"""Exercises of lab 19, Attention."""

from collections import Counter
from itertools import pairwise

import numpy as np

from dltlab.exercises import (
    Array,
    Equal,
    Text,
    attempt,
    correct,
    exercise,
    question,
    random_arrays,
    require,
    wrong,
)

FIRST_SYMBOL = 0xE000  # of the private ones, as in the lab


@question
def why_scale():
    """The entries of query and key are independent, with mean 0 and variance 1.

    What is the variance of their dot product, if each has d entries, and what would the softmax do
    with it if we did not divide by the square root of d?
    """
    return [
        wrong(
            "1: the softmax would do the same with and without the division.",
            "Each of the d products has the variance 1. What is that of their sum?",
        ),
        correct(
            "d: for large d the weights would be nearly 1 and 0, and the gradient nearly 0.",
            "The sum of d independent products has the variance d, so scores are about √d in size. "
            "Divided by √d they are about 1, and the softmax stays soft, whatever d is.",
        ),
        wrong(
            "√d: the weights would be nearly equal.",
            "√d is the standard deviation. And what does a softmax do with larger scores?",
        ),
        wrong(
            "1/d: the scores would be too small.",
            "A sum of d numbers is not smaller than one of them.",
        ),
    ]


def _softmax(scores, axis=-1):
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


@exercise(
    "`query @ key.T` has all scores, (n, m): a row for each query. Divide by "
    "`np.sqrt(query.shape[1])`, then add the bias.",
    "A softmax of each row: subtract the largest score of the row, "
    "`scores.max(axis=1, keepdims=True)`, take `np.exp`, divide by the sum of the row.",
    "The result is `weights @ value`. Return `weights @ value, weights`.",
    returns=(Array("result"), Array("weights")),
    otherwise={
        "weights": "Your weights are not the softmax of query · key / √d + bias, row by row.",
        "result": "Your weights are correct. The result is their product with the values.",
    },
)
def attention():
    yield random_arrays((3, 4), (5, 4), (5, 2), (3, 5))
    query, key, value = random_arrays((4, 2), (4, 2), (4, 3), seed=2)
    yield query, key, value, np.where(np.tri(4, dtype=bool), 0.0, -np.inf)
    query, key, value, bias = random_arrays((2, 3), (6, 3), (6, 5), (2, 6), seed=3)
    yield 5000 * query, key, value, bias


@attention.mistakes
def _(query, key, value, bias):
    products, size = query @ key.T, query.shape[1]
    scores = products / np.sqrt(size) + bias

    def result(weights):
        return weights @ value, weights

    yield (
        "You return the weights first. Return the result, then the weights.",
        (
            _softmax(scores),
            _softmax(scores) @ value,
        ),
    )
    yield "You do not divide the scores by √d.", result(_softmax(products + bias))
    yield "You divide by d. Divide by its square root.", result(_softmax(products / size + bias))
    yield (
        "You multiply by √d. Divide by it.",
        result(_softmax(products * np.sqrt(size) + bias)),
    )
    yield (
        "You divide by the square root of the number of keys. d is the size of a query.",
        result(_softmax(products / np.sqrt(len(key)) + bias)),
    )
    yield (
        "The bias makes no difference to what you return.",
        result(_softmax(products / np.sqrt(size))),
    )
    yield (
        "You divide the bias by √d, too. Add it after the division.",
        result(_softmax((products + bias) / np.sqrt(size))),
    )
    yield (
        "Your softmax is that of the columns. The weights of each query, a row, add up to 1.",
        result(_softmax(scores, axis=0)),
    )
    yield "The softmax is missing: the scores themselves are no weights.", result(scores)
    unnormalized = np.exp(scores - scores.max(axis=1, keepdims=True))
    yield "Your weights do not add up to 1: divide by the sum of each row.", result(unnormalized)
    powers = np.exp(scores)
    yield (
        "Large scores overflow in `np.exp`. Subtract the largest score of each row first.",
        result(powers / powers.sum(axis=1, keepdims=True)),
    )
    powers = np.exp(scores - scores.max())
    yield (
        "You subtract the largest of all scores. In a row of much smaller ones, all powers become "
        "0: subtract the largest score of each row.",
        result(powers / powers.sum(axis=1, keepdims=True)),
    )
    yield (
        "You average the keys. The result is the weighted mean of the values.",
        (_softmax(scores) @ key, ...),
    )


@attention.accepts
def _(query, key, value, bias):
    scores = np.einsum("nd,md->nm", query, key) * query.shape[-1] ** -0.5 + bias
    weights = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    return [np.einsum("nm,mf->nf", weights, value), weights.tolist()]


@attention.accepts
def _(query, key, value, bias):
    rows = []
    for q, b in zip(query, bias, strict=True):
        scores = np.array([np.dot(q, k) for k in key]) / np.sqrt(len(q)) + b
        powers = np.exp(scores - max(scores))
        rows.append(powers / sum(powers))
    return np.array(rows) @ value, np.array(rows)


@attention.rejects("You return 3 values")
def _(query, key, value, bias):
    return _softmax(query @ key.T / np.sqrt(query.shape[1]) + bias) @ value


@exercise(
    "The queries belong to the last positions: `np.arange(num_keys - num_queries, num_keys)`.",
    "A query at position i may see the keys 0 … i: compare the positions of the keys with those of "
    "the queries, `np.arange(num_keys) <= queries[:, np.newaxis]`.",
    returns=Array("mask"),
    otherwise="`{call}`: each row belongs to a query, and is True for the keys up to its position. "
    "The last query is at the position of the last key.",
)
def causal_mask():
    yield 3, 3
    yield 2, 5
    yield 1, 4
    yield 5, 6


@causal_mask.mistakes
def _(num_queries, num_keys):
    queries = np.arange(num_keys - num_queries, num_keys)[:, np.newaxis]
    keys = np.arange(num_keys)
    yield "`{call}`: a position may see itself, too.", keys < queries
    yield (
        "`{call}`: it is the other way round. True is where a query may see a key.",
        keys > queries,
    )
    yield "`{call}`: you let a query see the keys *after* it.", keys >= queries
    yield (
        "`{call}`: you take the queries for the first positions. They are the last ones.",
        keys <= np.arange(num_queries)[:, np.newaxis],
    )
    yield "`{call}`: nothing is hidden.", np.ones((num_queries, num_keys), bool)
    yield (
        "`{call}`: the mask has a row for each query and a column for each key.",
        (keys <= queries).T,
    )


@causal_mask.accepts
def _(num_queries, num_keys):
    return np.tri(num_keys, dtype=bool)[num_keys - num_queries :]


@causal_mask.accepts
def _(num_queries, num_keys):
    first = num_keys - num_queries
    return [[key <= first + query for key in range(num_keys)] for query in range(num_queries)]


@causal_mask.rejects("expected True and False")
def _(num_queries, num_keys):
    return np.tri(num_queries, num_keys, num_keys - num_queries)


def _network(kind, num_symbols):
    """Return a function from ids (n,) to outputs (n, num_symbols), with or without a leak."""
    table = np.random.default_rng(3).normal(size=(num_symbols, num_symbols))

    def predict(ids):
        rows = table[np.asarray(ids)]
        outputs = np.cumsum(rows, axis=0)
        if kind == "mean":
            outputs += rows.mean(axis=0)
        elif kind == "next":
            outputs[:-1] += rows[1:]
        elif kind == "one place":
            outputs[0] += rows[1]
        elif kind == "constant":
            outputs[:] = 1
        elif kind == "rounding":
            outputs += 1e-7 * rows.sum()
        return outputs

    return predict


@exercise(
    "First the outputs of the ids as they are: `outputs = predict(ids)`. Then a loop over the "
    "places 1, 2, … of the text.",
    "In each round: a copy of the ids with another symbol at that place, such as "
    "`(ids[place] + 1) % num_symbols`.",
    "Compare `predict(changed)[:place]` with `outputs[:place]`. Return True at the first "
    "difference, and False after the loop.",
    returns=Equal("answer"),
    otherwise="You return {value} for a network where that is wrong. Change each symbol in turn, "
    "and compare the outputs before it.",
)
def leaks():
    generator = np.random.default_rng(1)
    kinds = {"causal": 6, "mean": 4, "next": 7, "one place": 5, "constant": 8, "rounding": 9}
    for num_symbols, (kind, length) in enumerate(kinds.items(), start=5):
        yield _network(kind, num_symbols), generator.integers(num_symbols, size=length), num_symbols


@leaks.mistakes
def _(predict, ids, num_symbols):
    outputs, places = predict(ids), range(1, len(ids))

    def changed(place):
        other = ids.copy()
        other[place] = (ids[place] + 1) % num_symbols
        return predict(other)

    def differs(place, end):
        return not np.allclose(changed(place)[:end], outputs[:end], atol=1e-4)

    yield (
        "Your answers are the wrong way round: return True where there is a leak.",
        not any(differs(place, place) for place in places),
    )
    yield "You return True for every network, also for one without a leak.", True
    yield "You return False for every network, also for one with a leak.", False
    yield (
        "You find a leak where there is none: an output may depend on its own symbol. Compare only "
        "the outputs before the changed one.",
        any(differs(place, place + 1) for place in places),
    )
    yield (
        "You change only the last symbol, and miss a leak at the beginning of the text. Change "
        "each symbol in turn.",
        differs(len(ids) - 1, len(ids) - 1),
    )
    yield (
        "You take a rounding error of 1e-7 for a leak. Compare with "
        "`np.allclose(a, b, atol=1e-4)`.",
        any(bool((changed(place)[:place] != outputs[:place]).any()) for place in places),
    )


@leaks.accepts
def _(predict, ids, num_symbols):
    before = predict(ids)
    for place in reversed(range(len(ids))):
        for shift in range(1, num_symbols):
            other = np.where(np.arange(len(ids)) == place, (ids + shift) % num_symbols, ids)
            if np.abs(predict(other)[:place] - before[:place]).max(initial=0) > 1e-4:
                return True
    return np.bool_(False)


@leaks.rejects("changes its argument `ids`")
def _(predict, ids, num_symbols):
    before = predict(ids)
    ids[-1] = (ids[-1] + 1) % num_symbols
    return not np.allclose(predict(ids)[:-1], before[:-1])


@leaks.rejects("IndexError")
def _(predict, ids, num_symbols):
    other = ids.copy()
    other[-1] = num_symbols
    return not np.allclose(predict(other)[:-1], predict(ids)[:-1])


@question
def half_of_the_work():
    """A block of width w reads n characters at once.

    Its dense layers take 12·n·w² multiply-adds, scores and weighted values together 2·n²·w. From
    which n on does attention do more than half of the work?
    """
    return [
        wrong("n = w", "There, attention does 2 of 14 parts."),
        wrong("n = 2·w", "There, attention does 4 of 16 parts."),
        correct(
            "n = 6·w",
            "2·n²·w = 12·n·w² where n = 6·w. Below, the cost of a character hardly depends on the "
            "length; far above, it grows in proportion to it. The wider a network, the later that "
            "begins.",
        ),
        wrong(
            "It always does, because of the n².",
            "For n = 1, attention does 2·w multiply-adds, and the dense layers 12·w².",
        ),
    ]


@exercise(
    "`np.vstack([keys, key])` appends a row. Do the same with the values.",
    "The scores of all keys are `keys @ query / np.sqrt(len(query))`, with the new keys. Then a "
    "softmax, and `weights @ values`.",
    returns=(Array("result"), Array("keys"), Array("values")),
    otherwise={
        "keys": "Your keys are not the old ones with the new one as their last row.",
        "values": "Your values are not the old ones with the new one as their last row.",
        "result": "Your new cache is correct. The result is the attention of the query to all keys "
        "of the new cache.",
    },
)
def cached_attention():
    yield random_arrays((3,), (3,), (2,), (4, 3), (4, 2))
    yield random_arrays((4,), (4,), (3,), (1, 4), (1, 3), seed=2)
    yield random_arrays((2,), (2,), (5,), (0, 2), (0, 5), seed=3)  # the first position of a text
    query, *others = random_arrays((5,), (5,), (4,), (6, 5), (6, 4), seed=4)
    yield 5000 * query, *others


@cached_attention.mistakes
def _(query, key, value, keys, values):
    size, new_keys, new_values = len(query), np.vstack([keys, key]), np.vstack([values, value])

    def result(scale=size**0.5):
        return _softmax(new_keys @ query / scale) @ new_values

    yield (
        "You return the cache first. Return the result, the keys, and the values.",
        (new_keys, new_values, result()),
    )
    old = _softmax(keys @ query / size**0.5) @ values if len(keys) else np.zeros(len(value))
    yield (
        "The query does not see its own key: append first, then attend.",
        (old, new_keys, new_values),
    )
    yield (
        "You return the old cache: the next query would not see this position.",
        (result(), keys, values),
    )
    yield (
        "You put the new row first. Append it at the end, so that the order is that of the text.",
        (..., np.vstack([key, keys]), np.vstack([value, values])),
    )
    yield "You do not divide the scores by √d.", (result(1), ..., ...)
    yield "You divide by d. Divide by its square root.", (result(size), ..., ...)
    yield (
        "You divide by the square root of the number of keys. d is the size of a query.",
        (result(len(new_keys) ** 0.5), ..., ...),
    )
    powers = np.exp(new_keys @ query / size**0.5)
    yield (
        "Large scores overflow in `np.exp`. Subtract the largest one first.",
        (powers @ new_values / powers.sum(), ..., ...),
    )
    shifted = np.exp(new_keys @ query / size**0.5 - (new_keys @ query / size**0.5).max())
    yield "Your weights do not add up to 1: divide by their sum.", (shifted @ new_values, ..., ...)
    yield (
        "You return the weights. Return the weighted mean of the values.",
        (_softmax(new_keys @ query / size**0.5), ..., ...),
    )


@cached_attention.accepts
def _(query, key, value, keys, values):
    keys = np.concatenate([keys, key[np.newaxis]])
    values = np.append(values, [value], axis=0)
    scores = (query[np.newaxis] @ keys.T)[0] * query.size**-0.5
    weights = np.exp(scores - np.logaddexp.reduce(scores))
    return (weights[:, np.newaxis] * values).sum(axis=0), keys, values.tolist()


@cached_attention.rejects("Your new cache is correct")
def _(query, key, value, keys, values):
    return value + 1, np.vstack([keys, key]), np.vstack([values, value])


def _most_frequent(counts):
    return min(counts, key=lambda pair: (-counts[pair], pair))


def _merged(text, num_merges, count=None, choose=_most_frequent, symbol=None):
    """Return the pairs that are merged, with other ways to count, to choose, or to name them."""
    pairs = []
    for number in range(num_merges):
        counts = count(text) if count else Counter(map("".join, pairwise(text)))
        pairs.append(choose(counts))
        new = chr(FIRST_SYMBOL + number) if symbol is None else symbol(number)
        text = text.replace(pairs[-1], new)
    return pairs


def _spelled(pairs):
    """Return what the pairs stand for in the original text."""
    words: list[str] = []
    for pair in pairs:
        parts = (ord(part) - FIRST_SYMBOL for part in pair)
        words.append(
            "".join(
                words[number] if 0 <= number < len(words) else part
                for number, part in zip(parts, pair, strict=True)
            )
        )
    return words


@exercise(
    "`Counter(a + b for a, b in pairwise(text))` counts all pairs of neighbors.",
    "`min(counts, key=lambda pair: (-counts[pair], pair))` is the most frequent pair, and the "
    "first in order among equally frequent ones.",
    "After each merge, the text is another one: `text = text.replace(pair, chr(0xE000 + k))`. "
    "Count again in the next round.",
    returns=[Text("pair")],
    otherwise="`{call}`: these are not the pairs that are merged, in their order.",
)
def byte_pairs():
    yield "she sells sea shells", 3
    yield "zzzz ab ab", 3
    yield "low lower lowest slow slower slowest", 6
    yield "the cat and the hat and the bat that sat there", 8


@byte_pairs.mistakes
def _(text, num_merges):
    counts = Counter(map("".join, pairwise(text)))
    yield (
        "`{call}`: you count only once. After a merge there are other pairs: count again.",
        sorted(counts, key=lambda pair: (-counts[pair], pair))[:num_merges],
    )
    yield (
        "`{call}`: of equally frequent pairs you take the one that comes first in the text. Take "
        "the first in the order of strings.",
        _merged(text, num_merges, choose=lambda counts: counts.most_common(1)[0][0]),
    )
    yield (
        "`{call}`: of equally frequent pairs you take the last one in the order of strings. Take "
        "the first one.",
        _merged(text, num_merges, choose=lambda counts: max(counts, key=lambda p: (counts[p], p))),
    )
    yield (
        "`{call}`: you take the rarest pair. Take the most frequent one.",
        _merged(text, num_merges, choose=lambda counts: min(counts, key=lambda p: (counts[p], p))),
    )
    yield (
        "`{call}`: `text.count(pair)` leaves out pairs that overlap, as in 'aaa'. Count all pairs "
        "of neighbors.",
        _merged(
            text,
            num_merges,
            count=lambda text: {pair: text.count(pair) for pair in map("".join, pairwise(text))},
        ),
    )
    yield (
        "`{call}`: all pairs get the same symbol. Pair number k becomes chr(0xE000 + k).",
        _merged(text, num_merges, symbol=lambda number: chr(FIRST_SYMBOL)),
    )
    yield (
        "`{call}`: your new symbols begin with 0xE001; the first pair is number 0.",
        _merged(text, num_merges, symbol=lambda number: chr(FIRST_SYMBOL + 1 + number)),
    )
    yield (
        "`{call}`: you return what the tokens stand for. Return the pairs of symbols, old "
        "and new ones.",
        _spelled(_merged(text, num_merges)),
    )


@byte_pairs.accepts
def _(text, num_merges):
    symbols, pairs = list(text), []
    for number in range(num_merges):
        counts = Counter(pairwise(symbols))
        best = max(counts.values())
        pair = min(pair for pair, count in counts.items() if count == best)
        pairs.append("".join(pair))
        merged = []
        while symbols:
            if tuple(symbols[:2]) == pair:
                merged.append(chr(FIRST_SYMBOL + number))
                symbols = symbols[2:]
            else:
                merged.append(symbols[0])
                symbols = symbols[1:]
        symbols = merged
    return tuple(pairs)


@byte_pairs.rejects("instead of 3, one pair each")
def _(text, num_merges):
    return _merged(text, num_merges + 1)


@question
def which_is_better():
    """Network A has a perplexity of 20 per token; a token has 2.5 characters on average.

    Network B has a perplexity of 4 per character. Both were measured on the same text. Which one
    predicts it better?
    """
    return [
        correct(
            "A: it needs 1.73 bits per character, and B 2.",
            "log2(20) / 2.5 = 1.73, and log2(4) = 2. Perplexities can be compared only for the "
            "same symbols; bits per character, for the same text.",
        ),
        wrong(
            "B: its perplexity is lower.",
            "It guesses among fewer symbols, but 2.5 times as often.",
        ),
        wrong(
            "A: 20 / 2.5 = 8, and a higher perplexity is better.",
            "A lower perplexity is better. And which number may be divided by the 2.5?",
        ),
        wrong(
            "That cannot be said for different symbols.",
            "The text is the same. How many bits does each network need for all of it?",
        ),
    ]


# The challenge.

BAR = 0.95  # of the symbols of the second showing
_SIZES = (7, 20)  # symbols of the sequences, each with 3 orders


@exercise(
    "Layer 1 copies to each position the symbol before it. The query of position i and the key of "
    "position i - 1 must be equal: W_Q takes the position as it is, W_K moves it by one, "
    "`np.eye(length, k=1)`. W_V copies the symbol into the first empty block.",
    "Layer 2 looks for a position whose symbol *before* is the present symbol: W_Q takes the "
    "symbol, W_K the first empty block. W_V copies the symbol there into the last block.",
    "A softmax is sharp if the scores are large: multiply W_Q by 100 · √width.",
)
def induction_head(answer):
    """Continue sequences that are shown twice, with the matrices of the answer."""
    hits = []
    for num_symbols in _SIZES:
        length = 2 * num_symbols
        layers = _matrices(answer(num_symbols, length), 3 * num_symbols + length)
        for seed in range(3):
            order = np.random.default_rng([num_symbols, seed]).permutation(num_symbols)
            text = np.tile(order, 2)
            predictions = _predictions(text, layers, num_symbols)
            hits += list(predictions[num_symbols:-1] == text[num_symbols + 1 :])
    share = float(np.mean(hits))
    require(
        share >= BAR,
        f"Your network continues {share:.3f} of the symbols of a second showing; the bar is {BAR}.",
    )
    return f"{share:.3f} of the symbols of a second showing are continued; the bar is {BAR}."


def _matrices(value, width):
    """Return two layers of three matrices, or reject the answer."""
    with attempt("reading your layers as 2 × 3 matrices"):
        layers = np.array([[np.asarray(m, "float64") for m in layer] for layer in value])
    require(
        layers.shape == (2, 3, width, width),
        f"Your layers form an array of shape {layers.shape}; expected 2 layers of 3 matrices "
        f"{width} × {width}.",
    )
    require(np.isfinite(layers).all(), "Your matrices contain numbers that are not finite.")
    return layers


def _predictions(text, layers, num_symbols):
    """Return the symbols that the network predicts after each position."""
    length = len(text)
    x = np.zeros((length, 3 * num_symbols + length))
    x[np.arange(length), text] = 1
    x[np.arange(length), num_symbols + np.arange(length)] = 1
    bias = np.where(np.tri(length, dtype=bool), 0.0, -np.inf)
    for query, key, value in layers:
        scores = (x @ query) @ (x @ key).T / np.sqrt(x.shape[1]) + bias
        x = x + _softmax(scores) @ (x @ value)
    return x[:, -num_symbols:].argmax(axis=1)


@induction_head.accepts
def _(num_symbols, length):
    width = 3 * num_symbols + length
    first, second = np.zeros((2, 3, width, width))
    for place in range(length):
        first[0, num_symbols + place, place] = 40 * width
        first[1, num_symbols + place, (place + 1) % length] = 1
    for symbol in range(num_symbols):
        before, result = num_symbols + length + symbol, 2 * num_symbols + length + symbol
        first[2, symbol, before] = 1
        second[0, symbol, symbol] = 40 * width
        second[1, before, symbol] = 1
        second[2, symbol, result] = 1
    second[1, num_symbols, :num_symbols] = -1
    return [first, second]


@induction_head.rejects("the bar is 0.95")
def _(num_symbols, length):
    return np.zeros((2, 3, 3 * num_symbols + length, 3 * num_symbols + length))


@induction_head.rejects("expected 2 layers of 3 matrices")
def _(num_symbols, length):
    return np.zeros((1, 3, 3 * num_symbols + length, 3 * num_symbols + length))


@induction_head.rejects("not finite")
def _(num_symbols, length):
    return np.full((2, 3, 3 * num_symbols + length, 3 * num_symbols + length), np.nan)


@induction_head.rejects("Reading your layers as 2 × 3 matrices raised")
def _(num_symbols, length):
    return [["a", "b", "c"], ["d", "e", "f"]]
