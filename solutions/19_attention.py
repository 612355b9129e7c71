# ---
# title: Attention
# summary: >-
#   A recurrent network squeezes all it has read into one state. You measure what it forgets, write
#   attention, its mask and its cache, read what the heads look at, and train a small Transformer
#   against lab 04's LSTM, with equal parameters and equal time. At the end you watch where it looks
#   while it writes.
# objectives:
#   - measure what the state of a recurrent network still holds, and what it has lost
#   - write scaled dot-product attention, a causal mask, and a test that finds a leak
#   - rebuild a Transformer with heads, positions, normalization and residuals in NumPy
#   - compare two networks fairly, with equal parameters, equal time and three seeds
#   - predict when attention costs more than everything else, and write a cache for generation
#   - write a byte-pair encoder, and compare perplexities of different tokens
# minutes: {read: 40, exercise: 60, compute: 5}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: [python_docs, tinyshakespeare]
# requires: [04_text_generation]
# profiles:
#   smoke:
#     UNITS: 8
#     WIDTH: 8
#     BLOCKS: 1
#     HEADS: 2
#     CONTEXT: 16
#     SECONDS: 0.1
#     LONG: 0.1
#     SEEDS: [1]
#     RATES: {LSTM: [0.01], Transformer: [0.004]}
#     LEAK_SECONDS: 0.1
#     TRAINED_ON: 40000
#     HELD_OUT: 2000
#     LENGTHS: [16, 32]
#     MERGES: 10
#     WRITTEN: 4
#     BACKEND: keras
#     RUN_CHALLENGE: false
#   workshop: {}
#   full:
#     DATASET: tinyshakespeare
#     UNITS: 410
#     WIDTH: 128
#     BLOCKS: 4
#     SECONDS: 300
#     LONG: 1800
#     LENGTHS: [64, 128, 256, 512, 1024, 2048, 4096]
#     MERGES: 1000
# ---

# %% [markdown]
# ## The question
# In a text, what comes next often depends on something far away: a name that was mentioned three
# lines ago, a bracket that is still open. Lab 04's network reads one character after another and
# keeps what it knows in a state of fixed size. Everything that it will ever need must fit in there.
#
# How far back would a reader have to look? For each word of four letters or more, the figure shows
# how far back the same word occurred last. Which share of the words has occurred within the last
# 100 characters, and within the last 1,000?

# %%
import bz2
import re
import time
from collections import Counter
from itertools import pairwise

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from dltlab import data, devices, inference, models, training
from dltlab.checks import attention as ex
from dltlab.display import NEUTRAL, PALETTE, show
from dltlab.widgets import AttentionSampler

devices.setup(precision="float32", seed=1)

# %% tags=["parameters"]
DATASET = "python_docs"  # or "tinyshakespeare", or a text file of your own, such as "mine.txt"
UNITS = 128  # cells of the LSTM
WIDTH = 64  # features of a position in the Transformer
BLOCKS = 2  # of the Transformer
HEADS = 4  # of each block
CONTEXT = 64  # positions that a block sees
SECONDS = 13.0  # of each training of the comparison
LONG = 40.0  # seconds of the training whose attention you look at
SEEDS = [1, 2, 3]
RATES = {"LSTM": [0.01, 0.03, 0.09], "Transformer": [0.002, 0.006, 0.018]}  # learning rates to try
LEAK_SECONDS = 7.0  # of the training of a network without a mask
TRAINED_ON = 10_000_000  # at most so many characters in the training text
HELD_OUT = 16_385  # characters in the validation text, and at most in the test text
LENGTHS = [64, 128, 256, 512, 1024, 2048]  # of texts whose cost is measured
MERGES = 200  # pairs that become a token
WRITTEN = 200  # characters that are written
BACKEND = "auto"  # the compiler of the last part
RUN_CHALLENGE = True

# %%
BLUE, ORANGE, GREEN = PALETTE[:3]
COLORS = {"LSTM": ORANGE, "Transformer": BLUE}
corpus = data.corpus(DATASET)
size = max(300, min(HELD_OUT, len(corpus.train) // 10))
train_text, validation_text = corpus.train[:-size][:TRAINED_ON], corpus.train[-size:]
test_text, vocabulary = corpus.validation[:HELD_OUT], corpus.vocabulary
train_ids, validation_ids, test_ids = map(
    vocabulary.encode, (train_text, validation_text, test_text)
)
last, distances = {}, []
for match in re.finditer(r"[^\W\d_]{4,}", train_text):
    word = match[0].lower()
    distances.append(match.start() - last.get(word, -np.inf))
    last[word] = match.start()
reach = np.logspace(1, 5, 100)
shares = np.searchsorted(np.sort(distances), reach, side="right") / max(1, len(distances))
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.plot(reach, shares, color=BLUE)
axis.set(xscale="log", xlabel="distance (characters)", ylabel="share of the words", ylim=(0, 1))
axis.set_title("The share of the words that occurred before, within a distance")
axis.grid(alpha=0.3)
near, far = np.interp([100, 1000], reach, shares)
show(figure, f"A rising curve: {near:.0%} within 100 characters, {far:.0%} within 1,000.")

# %% [markdown]
# The text is lab 04's, divided in the same way: the *validation* text serves for choices, the
# *test* text is used once, at the end.
#
# ## A clock for everybody
# We will train lab 04's LSTM and a Transformer with about as many parameters, for the same time.
# The learning rate rises, then falls, as in lab 04 (`one_cycle`), but it follows the clock: a
# training ends when its time is up, however many steps that are. A step reads 1,024 characters. The
# LSTM reads them in windows of 32 characters, as in lab 04; the Transformer, which learns only what
# lies within a window, in windows of 64.


# %%
def lstm():
    """A network as in lab 04."""
    return models.char_rnn(len(vocabulary), units=UNITS, embedding=64)


def transformer(num_symbols=None):
    """What this lab is about."""
    sizes = {"width": WIDTH, "num_blocks": BLOCKS, "heads": HEADS, "context": CONTEXT}
    return models.char_transformer(num_symbols or len(vocabulary), **sizes)


BUILDERS = {"LSTM": lstm, "Transformer": transformer}
CHARACTERS = 1024  # in a step
ANY_TEXT = tf.TensorSpec((None, None), tf.int32)  # (texts, characters)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
networks, texts, window_of, read = {}, {}, {}, {}


def enter(name, build, ids, window=64):
    """Build a network and compile it; `ids` are its training and its validation text."""
    BUILDERS[name], networks[name], texts[name] = build, build(), ids
    window_of[name] = window  # characters in each row of a batch
    optimizer = keras.optimizers.AdamW(0.001, weight_decay=0.02, beta_2=0.99, clipnorm=1.0)
    network = networks[name]
    network.compile(optimizer, loss, jit_compile=False)
    optimizer.build(network.trainable_variables)  # else the first step is compiled twice
    # From ids (b, n) to logits (b, n, num_symbols), compiled once for all lengths.
    read[name] = tf.function(lambda ids: network(ids, training=False), input_signature=[ANY_TEXT])


# %% [markdown]
# One function trains all networks. It begins with new weights that follow from the seed, and
# returns rows of seconds, characters read, and bits per symbol on the validation text. The time for
# measuring the bits does not count. Which network reads more characters in a second?


# %%
def restart(name, seed):
    """Give a network new weights, and its optimizer a new start."""
    keras.utils.set_random_seed(seed)
    network, weights = networks[name], BUILDERS[name]().get_weights()
    blank = np.zeros((CHARACTERS // window_of[name], window_of[name]), "int32")
    network.train_on_batch(blank, blank)  # after a new seed, TensorFlow prepares the step again
    network.set_weights(weights)
    for variable in network.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))


for name, window in (("LSTM", 32), ("Transformer", 64)):
    enter(name, BUILDERS[name], (train_ids, validation_ids), window)
    print(f"{name:12} {networks[name].count_params():8,} parameters")


# %%
def train(name, peak, length, seed, num_parts=1):
    """Train for `length` seconds; seconds, symbols read, and validation bits after each part."""
    restart(name, seed)
    network, (ids, held_out) = networks[name], texts[name]
    rate, window = training.one_cycle(peak, 1000, warmup=0.1), window_of[name]
    batches = data.windows(ids, window, CHARACTERS // window, shuffle=True, seed=seed)
    batches, seconds, steps, rows = iter(batches.repeat()), 0.0, 0, []
    next(batches)  # starts the pipeline
    for end in length * np.arange(1, num_parts + 1) / num_parts:
        while seconds < end:
            start = time.perf_counter()
            network.optimizer.learning_rate = float(rate(int(1000 * seconds / length)))
            network.train_on_batch(*next(batches))
            seconds += time.perf_counter() - start
            steps += 1
        bits = training.bits_per_character(network, held_out, length=128)
        rows.append((seconds, CHARACTERS * steps, bits))
    return rows


for name in networks:
    ((seconds, count, _),) = train(name, 0.001, min(1, SECONDS), seed=1)
    print(f"{name:12} {count / seconds:7,.0f} characters per second")

# %% [markdown]
# Both networks choose among three learning rates, in the same way: the one that gives the fewest
# bits on the validation text after a quarter of the time. Is one of them at the edge of its range?
# Then a wider range might help that network.

# %%
rates = {}
for name, peaks in RATES.items():
    bits = {peak: train(name, peak, SECONDS / 4, seed=1)[-1][-1] for peak in peaks}
    rates[name] = min(bits, key=lambda peak: np.nan_to_num(bits[peak], nan=np.inf))
    tried = ", ".join(f"{peak:g}: {value:.2f} bits" for peak, value in bits.items())
    edge = " (at the edge)" if rates[name] in (min(peaks), max(peaks)) else ""
    print(f"{name:12} {tried}. Chosen: {rates[name]:g}{edge}")

# %% [markdown]
# ## What a state forgets
# What does the LSTM's state, h and c, still hold of the character that it read k steps ago? We can
# ask it: fit a linear map from the state to that character, and try it on other stretches of text.
# If the map is correct more often than one that sees only the present character, then the state
# has kept something of that character.
#
# We train the LSTM once for this. Guess: after how many steps is a character lost?


# %%
def one_hot(ids):
    """A row for each id, with a 1 in its place."""
    return np.eye(len(vocabulary), dtype="float32")[ids]


def probe_accuracy(features, ids, lag, first=32):
    """How often a linear map of features (n, length, f) finds the symbol `lag` steps ago.

    It is fitted on half of the n stretches `ids` (n, length), and tried on the others.
    """
    inputs = features[:, first:]
    inputs = np.concatenate([inputs, np.ones_like(inputs[..., :1])], axis=2)
    targets = ids[:, first - lag : ids.shape[1] - lag]
    half, width = len(ids) // 2, inputs.shape[-1]
    x, y = inputs[:half].reshape(-1, width), one_hot(targets[:half].reshape(-1))
    weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(width, dtype="float32"), x.T @ y)
    return np.mean((inputs[half:] @ weights).argmax(axis=2) == targets[half:])


train("LSTM", rates["LSTM"], SECONDS, seed=1)
stretches = validation_ids[: size // 64 * 64].reshape(-1, 64)
step = models.step_model(networks["LSTM"])
read_one = tf.function(lambda symbols, *states: step([symbols, *states], training=False))
states = [tf.zeros((len(stretches), UNITS))] * 2
memory = np.empty((*stretches.shape, 2 * UNITS), "float32")
for place in range(64):
    _, *states = read_one(stretches[:, place : place + 1], *states)
    memory[:, place] = np.concatenate(states, axis=1)

# %%
lags = [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
held = [probe_accuracy(memory, stretches, lag) for lag in lags]
present = [probe_accuracy(one_hot(stretches), stretches, lag) for lag in lags]
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
axis.plot(lags, held, "o-", color=ORANGE, label=f"from the state, {2 * UNITS} numbers")
axis.plot(lags, present, "s--", color=NEUTRAL, label="from the present character alone")
axis.set(xlabel="steps ago", ylabel="share found", ylim=(0, 1.03))
axis.set_title("Which character did the LSTM read some steps ago?")
axis.legend()
show(figure, f"Two falling curves; one step ago the state finds {held[1]:.0%} of the characters.")
gains = zip(lags[1:], np.subtract(held, present)[1:], strict=True)
lost = next((lag for lag, gain in gains if gain < 0.05), None)
print(f"What the state adds is below 0.05 from {lost or 'no'} steps on.")

# %% [markdown]
# Each step overwrites a part of the state, and the network must decide what to keep before it knows
# what will be asked. Training taught it to keep what the *next* characters need. Lab 03 shows the
# other half of the problem: a gradient over many steps vanishes.

# %% [markdown]
# ## Attention
# The alternative: overwrite nothing. Keep a vector for every position, and let each position look
# up what it needs. Bahdanau and others (2014) added this to a recurrent network for translation;
# *Attention is all you need* (Vaswani and others, 2017) left the recurrent network out.
#
# It works like a dictionary with inexact keys. Each position makes three vectors: a *query*, what
# it looks for; a *key*, what it offers; a *value*, what it passes on. The *score* of a key for a
# query is their dot product. A softmax turns the scores of one query into *weights*, and the result
# is the weighted mean of the values:
#
# $$\mathrm{attention}(Q, K, V) = \mathrm{softmax}\left(\frac{QK^T}{\sqrt{d}} + B\right) V$$
#
# $d$ is the size of a query. $B$ is a bias, which we need later.

# %%
ex.why_scale.ask()

# %% tags=["solution"]
ex.why_scale.answer("b")

# %% [markdown]
# ### Exercise 1: scaled dot-product attention
# Return the result and the weights. Each row of the weights belongs to one query, and adds up to 1.
# Take care of large scores, as in lab 04's softmax; a bias may be -inf.


# %% tags=["exercise", "nbval-check-output"]
def attention(query, key, value, bias):
    """The weighted values (n, features), and the weights (n, m).

    `query` is (n, d), `key` (m, d), `value` (m, features); `bias` (n, m) is added to the scores.
    """
    ### BEGIN SOLUTION
    scores = query @ key.T / np.sqrt(query.shape[1]) + bias
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ value, weights
    ### END SOLUTION


ex.attention.check(attention)  # also ex.attention.hint() and ex.attention.solution()

# %% [markdown]
# Does it do what it should? Below, each of eight positions offers a key of its own (a row of the
# unit matrix) and its number as the value. A query of five times a key should find its value. What
# happens to the result as the factor falls to 1, and to 0?

# %%
attend = ex.attention.or_reference(attention)  # yours once it passes
keys, numbers = np.eye(8), np.arange(8.0)[:, np.newaxis]
for factor in (50, 5, 1, 0):
    result, weights = attend(factor * keys[[2]], keys, numbers, np.zeros((1, 8)))
    print(f"{factor:2} · key 2: result {result[0, 0]:.2f}, largest weight {weights.max():.2f}")

# %% [markdown]
# A soft dictionary: with a large factor it returns one value, with 0 the mean of all. In between it
# mixes, so it has a gradient, and can learn.
#
# ## No peeking
# A network that predicts the next character is trained at all positions of a window at once. So
# position i must not see the positions after i: they contain the answer. The *causal mask* says
# which keys a query may see. Where it is False, the bias is -inf, and the weight 0.
#
# ### Exercise 2: the causal mask
# There may be more keys than queries: when a network writes, the keys of the text so far are
# already there. The queries are always those of the *last* positions. A position may see itself.


# %% tags=["exercise", "nbval-check-output"]
def causal_mask(num_queries, num_keys):
    """True where a query may see a key: an array of booleans (num_queries, num_keys)."""
    ### BEGIN SOLUTION
    queries = np.arange(num_keys - num_queries, num_keys)
    return np.arange(num_keys) <= queries[:, np.newaxis]
    ### END SOLUTION


ex.causal_mask.check(causal_mask)  # also ex.causal_mask.hint() and ex.causal_mask.solution()

# %% [markdown]
# ### Exercise 3: a test that finds leaks
# A missing mask is a common mistake, and in the loss it looks like a success. So write a
# test. `predict` is any network: it takes ids (n,) and returns an output for each position,
# (n, num_symbols). Change one symbol, and compare the outputs *before* it. Do that for each place,
# since a leak may be at one place only. Allow for rounding: `np.allclose(a, b, atol=1e-4)`.


# %% tags=["exercise", "nbval-check-output"]
def leaks(predict, ids, num_symbols):
    """Whether an output changes with a symbol that comes later; ids are in 0 … num_symbols - 1."""
    ### BEGIN SOLUTION
    outputs = predict(ids)
    for place in range(1, len(ids)):
        changed = ids.copy()
        changed[place] = (ids[place] + 1) % num_symbols
        if not np.allclose(predict(changed)[:place], outputs[:place], atol=1e-4):
            return True
    return False
    ### END SOLUTION


ex.leaks.check(leaks)  # also ex.leaks.hint() and ex.leaks.solution()

# %% [markdown]
# Now we train a small network whose attention has no mask. Its bits are measured twice: at all
# positions of a window of 32 but the last, where the next character can be seen, and at the last
# one, where nothing follows. In use, every position is the last one. Which of the two numbers would
# a training have shown you?


# %%
def unmasked():
    """One layer of Keras' attention, without a mask, on windows of up to 128 characters."""
    inputs = keras.Input((None,), dtype="int32")
    places = keras.ops.cumsum(keras.ops.ones_like(inputs), axis=1) - 1
    x = layers.Embedding(len(vocabulary), 64)(inputs) + layers.Embedding(128, 64)(places)
    x = x + layers.MultiHeadAttention(HEADS, 16)(x, x)
    return keras.Model(inputs, layers.Dense(len(vocabulary))(x), name="unmasked")


def bits_by_position(name, ids, length):
    """Mean bits at each position (length,) of windows of `length`."""
    windows = ids[: (len(ids) - 1) // length * length].reshape(-1, length)
    targets = ids[1 : windows.size + 1].reshape(-1, length)
    logits = read[name](windows)
    nats = keras.ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    return np.asarray(nats).mean(axis=0) / np.log(2)


# %%
find_leak = ex.leaks.or_reference(leaks)  # yours once it passes
enter("no mask", unmasked, (train_ids, validation_ids), window=32)
train("no mask", 0.01, LEAK_SECONDS, seed=1)
bits = bits_by_position("no mask", validation_ids, 32)
print(f"without a mask: {bits[:-1].mean():.2f} bits where the answer can be seen,")
print(f"{bits[-1]:.2f} bits at the last position, where it cannot\n")
for name in networks:

    def predict(ids, name=name):
        return read[name](np.int32([ids]))[0].numpy()

    found = find_leak(predict, validation_ids[:24], len(vocabulary))
    print(f"{name:12} {'leaks' if found else 'no leak found'}")

# %% [markdown]
# ## From attention to a Transformer
# Four more ideas make a network of it.
#
# **Several heads.** One softmax gives one weighted mean. To look at several places, the features
# are divided among *heads*, each with its own queries, keys and values.
#
# **Positions.** A weighted mean does not know the order. The network of 2017 added a vector for
# each position to the input. Ours follows Press and others (2021): each head subtracts slope ·
# distance from the scores. With a large slope it sees what is near, with a small one far, too. Our
# slopes go from 1/`CONTEXT` to 4.
#
# **Residuals and normalization.** The result of a layer is *added* to its input: a direct path
# for gradients. Before each layer, every position gets mean 0 and variance 1 (*layer
# normalization*).
#
# **A layer on each position.** Attention mixes positions, then a dense layer with a ReLU works on
# each one.


# %%
mask = ex.causal_mask.or_reference(causal_mask)  # yours once it passes
SLOPES = np.geomspace(1 / CONTEXT, 4, HEADS)  # of the heads, in equal ratios


def bias_of(head, length):
    """The bias of a head, (length, length): the mask and the penalty of the distance."""
    distance = np.subtract.outer(np.arange(length), np.arange(length))
    return np.where(mask(length, length), -SLOPES[head] * distance, -np.inf)


def normalized(x, scale, shift):
    """Layer normalization of x (n, features)."""
    deviation = np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    return (x - x.mean(axis=1, keepdims=True)) / deviation * scale + shift


def block(x, weights):
    """One block on x (n, features); `weights` are its twelve arrays, in the order of their use."""
    scale, shift, kernel, offset, *weights = weights
    parts = np.split(normalized(x, scale, shift) @ kernel + offset, 3 * HEADS, axis=1)
    queries, keys, values = parts[:HEADS], parts[HEADS : 2 * HEADS], parts[2 * HEADS :]
    heads = zip(queries, keys, values, strict=True)
    mixed = [attend(q, k, v, bias_of(h, len(x)))[0] for h, (q, k, v) in enumerate(heads)]
    kernel, offset, scale, shift, up, up_offset, down, down_offset = weights
    x = x + np.concatenate(mixed, axis=1) @ kernel + offset
    hidden = np.maximum(normalized(x, scale, shift) @ up + up_offset, 0)
    return x + hidden @ down + down_offset


# %% [markdown]
# An embedding, the blocks, a normalization and a dense layer: that is all. With the weights of
# `models.char_transformer`, does your attention compute the same as Keras?


# %%
def numpy_transformer(ids, weights):
    """The logits (n, num_symbols) after each of up to CONTEXT symbols."""
    embedding, *weights = weights
    x = embedding[ids]
    for number in range(BLOCKS):
        x = block(x, weights[12 * number : 12 * number + 12])
    scale, shift, kernel, offset = weights[12 * BLOCKS :]
    return normalized(x, scale, shift) @ kernel + offset


passage = validation_ids[:CONTEXT]
expected = read["Transformer"](passage[np.newaxis])[0].numpy()
computed = numpy_transformer(passage, networks["Transformer"].get_weights())
difference = np.abs(computed - expected).max() / np.abs(expected).max()
print(f"Largest difference, relative to the largest logit: {difference:.0e}")
print(f"Below 1e-4: {difference < 1e-4}")

# %% [markdown]
# ## The race
# Now both networks train for the same time, in turns, so that other programs disturb both equally.
# Three seeds each. The figure has two panels, because "equal" can mean two things: the same time on
# this machine, or the same number of characters read. Guess: which network wins in each?

# %%
curves, trained = {}, {}
for seed in SEEDS:
    for name in ("LSTM", "Transformer"):
        curves[name, seed] = train(name, rates[name], SECONDS, seed, num_parts=4)
        trained[name, seed] = networks[name].get_weights()
        seconds, count, bits = curves[name, seed][-1]
        print(f"{name:12} seed {seed}: {bits:.3f} bits, {count:9,} characters, {seconds:.0f} s")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
for (name, seed), rows in curves.items():
    seconds, characters, bits = np.transpose(rows)
    label = name if seed == SEEDS[0] else None
    axes[0].plot(seconds, bits, "o-", color=COLORS[name], label=label, markersize=4)
    axes[1].plot(characters / 1e6, bits, "o-", color=COLORS[name], markersize=4)
axes[0].set(xlabel="time of training (s)", ylabel="bits per character, validation text")
axes[1].set(xlabel="characters read (millions)")
axes[0].legend()
finals = {name: [curves[name, seed][-1][2] for seed in SEEDS] for name in COLORS}
gap = np.mean(finals["LSTM"]) - np.mean(finals["Transformer"])
spread = max(np.ptp(values) for values in finals.values())
leader = "Transformer" if gap > 0 else "LSTM"
result = f"The {leader} needs {abs(gap):.2f} bits less"
clear = "more" if abs(gap) > spread else "not more"
figure.suptitle(f"{result}: {clear} than one network's seeds differ ({spread:.2f})")
show(figure, f"Bits against time and characters. {result} on average of {len(SEEDS)} seeds.")

# %% [markdown]
# The result depends on the machine, the time and the sizes. A Transformer computes all positions of
# a window at once, an LSTM one after another, so a processor with many cores, or a GPU, favors the
# Transformer.
#
# Where in a window is each network better? At the first positions, little can be seen. How do the
# curves continue, as more and more of the text comes into view?

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name in COLORS:
    rows = []
    for seed in SEEDS:
        networks[name].set_weights(trained[name, seed])
        rows.append(bits_by_position(name, validation_ids, 64))
    groups = [np.mean(part) for part in np.split(np.mean(rows, axis=0), [1, 2, 4, 8, 16, 32])]
    axis.plot(range(7), groups, "o-", color=COLORS[name], label=name)
axis.set_xticks(range(7), ["1", "2", "3–4", "5–8", "9–16", "17–32", "33–64"])
axis.set(xlabel="characters that can be seen", ylabel="bits per character")
axis.set_title("Bits by what can be seen, mean of the seeds")
axis.legend()
show(figure, "Bits of both networks against the characters seen, falling at first.")

# %% [markdown]
# ## What the heads look at
# We train the Transformer once more, for longer, and use it from here on. `models.attention_maps`
# returns the weights of each head. Below, a row is a position that looks, a column a position that
# is looked at. Which heads look at the character just before, which look at all? Does one look at
# a particular character, such as the last space? The titles give the mean distance.

# %%
network = networks["Transformer"]
seconds, _, bits = train("Transformer", rates["Transformer"], LONG, seed=1)[-1]
longer = network.get_weights()
print(f"{bits:.3f} bits per character on the validation text after {seconds:.0f} s")

# %%
begin = validation_text.find(" ", size // 3) + 1
shown = validation_text[begin : begin + 24]
maps = models.attention_maps(network, vocabulary.encode(shown))
labels = [character if character.isprintable() else "↵" for character in shown]
ago = np.maximum(np.subtract.outer(np.arange(len(shown)), np.arange(len(shown))), 0)
figure, axes = plt.subplots(
    BLOCKS, HEADS, figsize=(9.5, 2.8 * BLOCKS), layout="constrained", squeeze=False
)
for (number, head), axis in np.ndenumerate(axes):
    weights = maps[number, head]
    image = axis.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(len(shown)), labels, fontsize=6, parse_math=False)
    axis.set_yticks(range(len(shown)), labels, fontsize=6, parse_math=False)
    distance = (weights * ago).sum(axis=1).mean()
    axis.set_title(f"block {number + 1}, head {head + 1}: {distance:.1f} back", fontsize=8)
figure.supxlabel("position that is looked at", fontsize=9)
figure.supylabel("position that looks", fontsize=9)
figure.colorbar(image, ax=axes, label="weight", shrink=0.6)
show(figure, f"{BLOCKS * HEADS} maps of weights, each a lower triangle with its own pattern.")

# %% [markdown]
# A map shows where a head takes values from, not what it does with them, and a weight is not an
# explanation (Jain and Wallace, 2019). But some patterns are known well. A head that looks at the
# character before, followed by one that looks for "what came after this character last time",
# copies repeated text: an *induction head* (Olsson and others, 2022). You build one in the
# challenge.
#
# ## The price
# Each position looks at each other one: for a text of $n$ characters and a width $w$, a block
# computes $n^2 w$ products for the scores and as many for the weighted values. Its dense layers
# have $12 w^2$ weights, each used once per position: $12 n w^2$.

# %%
ex.half_of_the_work.ask()

# %% tags=["solution"]
ex.half_of_the_work.answer("c")

# %% [markdown]
# `models.cost` counts the multiply-adds of both networks, and a clock measures them for one text.
# In which part of the curve does the cost of a character grow? The mask saves nothing here, nor
# does `CONTEXT`: all products are computed, and most of them are thrown away.


# %%
def seconds_for(name, length, rounds=7):
    """The shortest time to read a text of `length` characters at once."""
    ids, times = np.resize(validation_ids, (1, length)), []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        read[name](ids).numpy()
        times.append(time.perf_counter() - start)
    return min(times[1:])  # the first call may compile


rows = {}
for name in COLORS:
    for length in LENGTHS:
        macs = models.cost(networks[name], (length,)).macs
        rows[name, length] = macs, seconds_for(name, length)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
for name in COLORS:
    macs, seconds = np.transpose([rows[name, length] for length in LENGTHS]) / LENGTHS
    axes[0].plot(LENGTHS, macs / 1e3, "o-", color=COLORS[name], label=name)
    axes[1].plot(LENGTHS, 1e6 * seconds, "o-", color=COLORS[name])
axes[0].axvline(6 * WIDTH, color=NEUTRAL, linestyle=":", label="6 · width")
axes[0].set(ylabel="multiply-adds per character (thousands)")
axes[1].set(ylabel="time per character (µs)", yscale="log")
plt.setp(axes, xlabel="length of the text (characters)", xscale="log")
axes[0].legend()
figure.suptitle("The cost of one character in a text that is read at once")
show(figure, "The LSTM's multiply-adds per character are constant, the Transformer's rise.")
dense = length * (12 * WIDTH**2 * BLOCKS + WIDTH * len(vocabulary))
print(f"Attention over {length:,} characters: {rows['Transformer', length][0] - dense:,.0f}")
print(f"multiply-adds; 2 · n² · width · blocks = {2 * length**2 * WIDTH * BLOCKS:,}.")

# %% [markdown]
# ## A cache for writing
# Now the network writes. For each new character, must it read the whole text again? The keys and
# values of earlier positions do not change, because no position sees a later one. So keep them: the
# *KV cache*. A new character then needs one query, one new key and one new value.
#
# ### Exercise 4: attention with a cache
# Append the new key and the new value *at the end*, and let the query see all of them. Return the
# result and the new cache.


# %% tags=["exercise", "nbval-check-output"]
def cached_attention(query, key, value, keys, values):
    """The result (features,), and the new keys (n + 1, d) and values (n + 1, features).

    `query`, `key` (d,) and `value` (features,) belong to the new position, `keys` (n, d) and
    `values` (n, features) to those before.
    """
    ### BEGIN SOLUTION
    keys, values = np.vstack([keys, key]), np.vstack([values, value])
    scores = keys @ query / np.sqrt(len(query))
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum(), keys, values
    ### END SOLUTION


ex.cached_attention.check(cached_attention)  # also .hint() and .solution()

# %% [markdown]
# Position by position with your cache, or all at once with your mask: the same results?

# %%
with_cache = ex.cached_attention.or_reference(cached_attention)  # yours once it passes
q, k, v = np.random.default_rng(1).normal(size=(3, 50, 16))
at_once, _ = attend(q, k, v, np.where(mask(50, 50), 0.0, -np.inf))
keys, values, one_by_one = np.empty((0, 16)), np.empty((0, 16)), []
for place in range(50):
    result, keys, values = with_cache(q[place], k[place], v[place], keys, values)
    one_by_one.append(result)
print("The same results:", np.allclose(one_by_one, at_once))

# %% [markdown]
# `models.step_model` gives the network that reads one character, with the cache as its state, as
# it did for the LSTM in lab 04. The cache holds the last `CONTEXT` positions, more are not seen. So
# a long prompt is no problem: it is read to its end, and what lies too far back is forgotten.
#
# `inference.step_engine` compiles this step with `inference.optimize`, and checks that it computes
# the same. Three ways now write the most probable characters after the same prompt. Is it the same
# text, and how much faster is each way than the one before it?

# %%
step = models.step_model(network)
engine = inference.step_engine(network, backend=BACKEND)
run_step = tf.function(lambda symbol, *states: step([symbol, *states], training=False))


# %%
def again():
    """A reader that reads the whole text for each character."""
    ids = []

    def read_again(symbol):
        ids.append(symbol)
        return read["Transformer"](np.array([ids], "int32"))[0, -1].numpy()

    return read_again


def cached():
    """A reader with Keras' step and its cache."""
    states = [tf.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in step.inputs[1:]]

    def read_next(symbol):
        nonlocal states
        logits, *states = run_step(tf.constant([[symbol]]), *states)
        return logits.numpy()[0]

    return read_next


def compiled():
    """A reader with the compiled step."""
    engine.reset()
    return engine


# %%
def write(reader, prompt, count):
    """The ids after a prompt, always the most probable one, and the characters per second."""
    for symbol in prompt.tolist():
        logits = reader(symbol)
    ids = []
    start = time.perf_counter()
    for _ in range(count):
        ids.append(int(logits.argmax()))
        logits = reader(ids[-1])
    return ids, count / (time.perf_counter() - start)


prompt = validation_ids[:CONTEXT]
written, speed = {}, {}
for name, reader in {"read again": again, "cache": cached, "compiled": compiled}.items():
    write(reader(), prompt[:3], 2)  # compiles
    written[name], speed[name] = write(reader(), prompt, WRITTEN)
table = pd.DataFrame({"characters per second": speed})
table["times the one before"] = table["characters per second"] / table.shift(1).iloc[:, 0]
same = all(ids == written["cache"] for ids in written.values())
print(f"{engine.engine.manifest.title}. The same text in all three ways: {same}")
print(repr(vocabulary.decode(np.array(written["cache"][:60]))))
table.round(1)

# %% [markdown]
# The cache costs memory instead: two vectors for each position, in each block. For large networks
# and many users at once, it is larger than the weights, so much of the research on serving language
# models is about this cache.
#
# ## Tokens
# Language models of today do not read characters but *tokens*: frequent pieces of text. One step
# then covers several characters, and the context reaches farther. The usual way to find the pieces
# is *byte-pair encoding* (Gage, 1994; Sennrich and others, 2016): take the most frequent pair of
# neighbors, make it one new symbol, and repeat.
#
# ### Exercise 5: byte-pair encoding
# We need new symbols: Unicode has private ones, and pair number k becomes `chr(0xE000 + k)`. Then
# `text.replace(pair, symbol)` does the merging. Count all pairs of neighbors, overlapping ones,
# too. Of pairs that are equally frequent, take the first in the order of strings.


# %% tags=["exercise", "nbval-check-output"]
def byte_pairs(text, num_merges):
    """The pairs that are merged, a list of `num_merges` strings of two symbols, in order."""
    ### BEGIN SOLUTION
    pairs = []
    for number in range(num_merges):
        counts = Counter(a + b for a, b in pairwise(text))
        pairs.append(min(counts, key=lambda pair: (-counts[pair], pair)))
        text = text.replace(pairs[-1], chr(0xE000 + number))
    return pairs
    ### END SOLUTION


ex.byte_pairs.check(byte_pairs)  # also ex.byte_pairs.hint() and ex.byte_pairs.solution()


# %%
def tokenize(text):
    """The text with a symbol for each token."""
    for number, pair in enumerate(pairs):
        text = text.replace(pair, chr(0xE000 + number))
    return text


def spell(tokens):
    """The text of tokens; the inverse of `tokenize`."""
    for number in reversed(range(len(pairs))):
        tokens = tokens.replace(chr(0xE000 + number), pairs[number])
    return tokens


pairs = ex.byte_pairs.or_reference(byte_pairs)(train_text[:100_000], MERGES)
token_train, token_validation = tokenize(train_text), tokenize(validation_text)
print("The first tokens:", [spell(chr(0xE000 + number)) for number in range(min(20, MERGES))])
print("The last tokens: ", [spell(chr(0xE000 + number)) for number in range(MERGES)][-20:])
print("What is written can be read again:", spell(token_validation) == validation_text)
print("|".join(map(spell, token_validation[:40])))

# %%
ex.which_is_better.ask()

# %% tags=["solution"]
ex.which_is_better.answer("a")

# %% [markdown]
# The same Transformer on tokens, trained for the same time, with the learning rate that was chosen
# for characters. Compare the perplexities, then the bits per character. This is one training, not
# three, and it has more parameters, since there are more symbols: it does not show which way is
# better.

# %%
tokens = data.Vocabulary.of(token_train + token_validation)
token_ids = tokens.encode(token_train), tokens.encode(token_validation)
enter("tokens", lambda: transformer(len(tokens)), token_ids)
bits = train("tokens", rates["Transformer"], SECONDS, seed=1)[-1][-1]
rows = {
    "characters": (len(vocabulary), 1.0, curves["Transformer", SEEDS[0]][-1][2]),
    "tokens": (len(tokens), len(token_validation) / len(validation_text), bits),
}
table = pd.DataFrame.from_dict(
    rows, orient="index", columns=["symbols", "per character", "bits per symbol"]
)
table["perplexity"] = 2 ** table["bits per symbol"]
table["bits per character"] = table["bits per symbol"] * table["per character"]
table.round(3)

# %% [markdown]
# ## The test, beside published figures
# All choices are made. The networks of the race read the test text, once. For comparison, there is
# bzip2, which has read the training text first (lab 04), and the Transformer that trained longer.
#
# nanoGPT's README gives 1.88 nats for `tinyshakespeare` after about 3 minutes on a laptop's CPU,
# with a Transformer of 0.8 million parameters. Only the same text can be compared
# (`DATASET = "tinyshakespeare"`). `benchmarks/char_transformer.py` rebuilds its settings in Keras,
# and lets `models.char_transformer` train beside it, with the same size and the same time.

# %%
rows = []
for (name, _), weights in [*trained.items(), (("Transformer", "longer"), longer)]:
    networks[name].set_weights(weights)
    bits = training.bits_per_character(networks[name], test_ids, length=128)
    rows.append((name if weights is not longer else "Transformer, longer", bits))
packed, alone = (
    len(bz2.compress(text.encode(), 9)) for text in (train_text + test_text, train_text)
)
rows.append(("bzip2", 8 * (packed - alone) / len(test_text)))
table = pd.DataFrame(rows, columns=["model", "bits"]).groupby("model")["bits"]
table = table.agg(["mean", "min", "max", "count"]).sort_values("mean")
table["nats"] = table["mean"] * np.log(2)
if DATASET == "tinyshakespeare":
    better = table.loc["Transformer, longer", "nats"] - 1.88
    print(f"The same text as nanoGPT's 1.88 nats: {better:+.2f} nats.")
else:
    print("Another text than nanoGPT's: its 1.88 nats cannot be compared.")
table.round(3)

# %% [markdown]
# ## Something to show a friend
# Type a beginning and press the button: the network writes, and the color shows where it looks for
# each character. Choose a head, and move the slider to look at an earlier character. Which head
# looks at the beginning of the word? Of a long prompt, what lies farther back than the context has
# no color.

# %%
PROMPTS = {"python_docs": 'The "coffee" statement ', "tinyshakespeare": "ROMEO:\n"}
beginning = PROMPTS.get(DATASET, validation_text[:40])
sampler = AttentionSampler(network, vocabulary, prompt=beginning, num_characters=min(120, WRITTEN))
sampler.show()

# %% [markdown]
# ## The challenge
# Build an induction head by hand. A sequence of different symbols is shown twice: after `C A D B C
# A`, what comes next is `D`. Give the matrices of two layers of attention, with which the network
# continues the second showing. Nothing is trained.
#
# Each position begins with a vector of width 3 · `num_symbols` + `length`: its symbol (one-hot),
# its position (one-hot), then two empty blocks of `num_symbols`. A layer computes
# $x + \mathrm{softmax}(\mathrm{mask}(xW_Q (xW_K)^T / \sqrt{\mathrm{width}}))\,xW_V$. The last
# block is read after the second layer: its largest entry is the prediction. The bar is 0.95 of the
# symbols of the second showing.


# %% tags=["exercise"]
def induction_head(num_symbols, length):
    """Two layers, each a tuple of W_Q, W_K and W_V, all (width, width)."""
    ### BEGIN SOLUTION
    width = 3 * num_symbols + length
    ends = np.cumsum([0, num_symbols, length, num_symbols, num_symbols])
    symbols, places, before, result = (slice(*pair) for pair in pairwise(ends))
    first, second = ([np.zeros((width, width)) for _ in range(3)] for _ in range(2))
    strength = 100 * np.sqrt(width)
    first[0][places, places] = strength * np.eye(length)
    first[1][places, places] = np.eye(length, k=1)  # the key of a position is that of the next
    first[2][symbols, before] = np.eye(num_symbols)  # so each position gets the symbol before it
    second[0][symbols, before] = strength * np.eye(num_symbols)
    second[1][before, before] = np.eye(num_symbols)
    second[1][num_symbols, before] = -1  # the first position has nothing before it
    second[2][symbols, result] = np.eye(num_symbols)
    return tuple(first), tuple(second)
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.induction_head.check(induction_head)  # also .hint() and .solution()

# %% [markdown]
# ## What you learned
# A recurrent state is overwritten at each step; attention keeps every position and looks up what it
# needs, at a cost that grows with the square of the length. A mask keeps a network from seeing the
# answer, and a test, not the loss, finds a leak. With a cache a Transformer writes without reading
# everything again, and bits per character compare networks whose tokens differ.
#
# ## What to try next
# - Set `SECONDS = 60`: does the same network win?
# - Set `BLOCKS = 1`, then look at the maps. Can one block copy repeated text?
# - Set `CONTEXT = 8`, so that a block sees only eight characters. How many bits does it cost, and
#   how far do two blocks see?
# - Set `DATASET = "tinyshakespeare"`, and run the profile `full` on a GPU.

# %% [markdown]
# ## References
# - D. Bahdanau, K. Cho and Y. Bengio, *Neural machine translation by jointly learning to align and
#   translate*, 2014, [arXiv:1409.0473](https://arxiv.org/abs/1409.0473).
# - A. Vaswani and others, *Attention is all you need*, 2017,
#   [arXiv:1706.03762](https://arxiv.org/abs/1706.03762).
# - O. Press, N. Smith and M. Lewis, *Train short, test long*, 2021,
#   [arXiv:2108.12409](https://arxiv.org/abs/2108.12409): the penalty of the distance.
# - R. Sennrich, B. Haddow and A. Birch, *Neural machine translation of rare words with subword
#   units*, 2016, [arXiv:1508.07909](https://arxiv.org/abs/1508.07909).
# - S. Jain and B. Wallace, *Attention is not explanation*, 2019,
#   [arXiv:1902.10186](https://arxiv.org/abs/1902.10186).
# - C. Olsson and others, *In-context learning and induction heads*, 2022,
#   [arXiv:2209.11895](https://arxiv.org/abs/2209.11895).
# - A. Karpathy, [nanoGPT](https://github.com/karpathy/nanoGPT), with published losses.
