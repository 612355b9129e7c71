# ---
# title: Text generation
# summary: >-
#   How well can a machine guess the next character of a text? You measure guesses in bits, build a
#   model that only counts, ask gzip, bzip2 and lzma for theirs, and race a recurrent network
#   against them all. Then it writes, and you program the dice that it throws.
# objectives:
#   - measure a model of text in bits per character, and put it beside compressors fairly
#   - build an n-gram model with back-off
#   - feed a text to a recurrent network in windows, and watch it pass one baseline after the other
#   - write temperature, top-k and nucleus sampling
#   - find out what single cells have learned, and measure how well they tell it
#   - write many times faster by keeping the state
# minutes: {read: 45, exercise: 60, compute: 5}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: [python_docs, tinyshakespeare]
# requires: [01_first_network]
# profiles:
#   smoke: {STEPS: 12, HELD_OUT: 8000, WRITTEN: 64, RUN_CHALLENGE: false}
#   workshop: {}
#   full: {DATASET: tinyshakespeare, STEPS: 4000}
# ---

# %% [markdown]
# ## The question
# Finish this sentence: *The simple form is equivalen*. You did not look anything up. You have read
# enough English to know which letter follows, and which two come after that.
#
# A machine that guesses the next character well knows something about the text. Give it a way to
# choose one of its guesses, and it can write. How does it come to know, how do we measure how much
# it knows, and is it more than your computer's old compression programs know? Look at the text
# first.

# %%
import bz2
import gzip
import lzma
import time
from collections import Counter, defaultdict
from contextlib import chdir
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.colors import LinearSegmentedColormap

from dltlab import data, devices, models, training
from dltlab.checks import text_generation as ex
from dltlab.display import show
from dltlab.errors import LabError
from dltlab.widgets import TextSampler

devices.setup(seed=1)

# %% tags=["parameters"]
DATASET = "python_docs"  # or "tinyshakespeare", or a text file of your own, such as "mine.txt"
STEPS = 1200  # steps of 32 windows of 64 characters
HELD_OUT = 1_000_000  # at most so many characters measure the models
WRITTEN = 2048  # characters are written to measure the speed of writing
RUN_CHALLENGE = True  # the challenge at the end trains one more network

# %%
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # told apart by colour-blind readers too

corpus = data.corpus(DATASET)
text = corpus.validation[:HELD_OUT]
print(f"{len(corpus.train):,} characters to learn from, {len(text):,} held out")
print(text[:700])

# %% [markdown]
# By default this is what Python says about itself when you call `help()`. The last tenth is held
# out: the network never learns from it, and everything below is measured on it.
#
# Now the game in numbers. The next cell takes a piece of text that is frequent here, and shows what
# follows its first letters: none of them, one, two, three. What happens to the bars?


# %%
def visible(character):
    """A character as a label."""
    return {" ": "space", "\n": "line end"}.get(character, character)


pieces = Counter(corpus.train[place : place + 8] for place in range(len(corpus.train)))
piece = max(pieces, key=lambda piece: (piece.isalpha(), pieces[piece]))
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
for length, axis in enumerate(axes):
    before = piece[:length]
    ends = [place for place in range(length, len(corpus.train))
            if corpus.train[place - length : place] == before]  # fmt: skip
    follow = Counter(corpus.train[place] for place in ends)
    names, counts = zip(*follow.most_common(8), strict=True)
    axis.barh(list(map(visible, names)), np.divide(counts, len(ends)), color=BLUE)
    axis.set(xlim=(0, 1), ylim=(7.5, -0.5), xlabel="share", ylabel="next character")
    axis.set_title(f"after “{before}”" if before else "anywhere", fontsize=10)
figure.suptitle("What comes next?")
show(figure, "Shares of the next character after none, one, two and three characters of a word.")

# %% [markdown]
# ## Bits
# How good is a guess? Ask for more than a letter: ask for a probability for every symbol that might
# come next. Then look how much went to the one that did come. If it got 1, you are not surprised at
# all. If it got one half, you are as surprised as by the fall of a coin: that is one *bit*. A
# quarter is two coins, two bits. In general the surprise is $-\log_2 p$.
#
# ### Exercise 1: bits per character
# The mean surprise over a text is the model's *bits per character*. It is the only measure in this
# lab, and lower is better. Write it.


# %% tags=["exercise", "nbval-check-output"]
def bits_per_character(probabilities):
    """The mean of -log2(p) over p (n,), what a model gave to each character that came."""
    ### BEGIN SOLUTION
    return -np.mean(np.log2(probabilities))
    ### END SOLUTION


ex.bits_per_character.check(bits_per_character)  # also .hint() and .solution()

# %% [markdown]
# To count surprises we number the symbols. A *vocabulary* holds every symbol of the text, and turns
# text into numbers and back. Nothing may get lost on the way.

# %%
vocabulary = corpus.vocabulary
train_ids, held_out = vocabulary.encode(corpus.train), vocabulary.encode(text)
print(f"{len(vocabulary)} symbols: {''.join(vocabulary.symbols)!r}")
print(corpus.train[:12], "→", train_ids[:12])
print("there and back:", vocabulary.decode(train_ids) == corpus.train)

# %%
ex.knows_nothing.ask()

# %% tags=["solution"]
ex.knows_nothing.answer("c")

# %% [markdown]
# Every file on your disk spends eight bits on such a character. So even the model that knows
# nothing is better than that.
#
# ## A model that counts
# The simplest thing that could work: count. How often did each symbol follow these four characters
# in the training text? The share of the counts is the probability. Such a model looks at four
# characters and tells a fifth, so it is called a *5-gram* model.
#
# There is one trap. In a new text something comes that never followed these four characters before.
# Its share is 0, and the surprise is infinite. The mend is to *back off*: mix the share with what
# the model with one character less says. That one is mixed with the next shorter one, down to the
# model that knows nothing.


# %%
def count(text, longest):
    """How often each symbol followed each context of 0 to `longest` characters in `text`."""
    counts = defaultdict(Counter)
    for length in range(longest + 1):
        for place in range(length, len(text)):
            counts[text[place - length : place]][text[place]] += 1
    return dict(counts)


counts = count(corpus.train, 5)
example = piece[3:7]
print(f"{len(counts):,} contexts; after {example!r} came {dict(counts[example].most_common(5))}")

# %% [markdown]
# ### Exercise 2: the n-gram with back-off
# How much should each say? A good rule is due to I. Witten and T. Bell. If a context was seen $n$
# times, with $d$ different symbols after it, and the symbol in question came $c$ times, then
#
# $$p = \frac{c + d \cdot p_\mathrm{shorter}}{n + d}$$
#
# A context with many different ends is a bad guide, and leaves more to the shorter one. Begin with
# $p = 1/$`num_symbols`. Then go from the empty context to the longest one. Where one was never
# seen, stop: a longer one was not seen either.


# %% tags=["exercise", "nbval-check-output"]
def ngram_probability(symbol, context, counts, num_symbols):
    """The probability that `symbol` follows `context`, a string of any length.

    `counts` holds, for each context that was seen, a Counter of the symbols that followed it.
    """
    ### BEGIN SOLUTION
    p = 1 / num_symbols
    for start in range(len(context), -1, -1):
        seen = counts.get(context[start:])
        if seen is None:
            break
        p = (seen[symbol] + len(seen) * p) / (seen.total() + len(seen))
    return p
    ### END SOLUTION


ex.ngram_probability.check(ngram_probability)  # also .hint() and .solution()

# %% [markdown]
# Now measure it on the held-out text, with contexts of no character to five. Will a longer context
# always be better?

# %%
ngram = ex.ngram_probability.or_reference(ngram_probability)  # yours once it passes
to_bits = ex.bits_per_character.or_reference(bits_per_character)
ngram_bits = []
for length in range(6):
    contexts = (text[max(0, place - length) : place] for place in range(len(text)))
    chances = [ngram(each, before, counts, len(vocabulary))
               for each, before in zip(text, contexts, strict=True)]  # fmt: skip
    ngram_bits.append(to_bits(np.array(chances)))
    print(f"{length + 1}-gram: {ngram_bits[-1]:.3f} bits per character")

# %% [markdown]
# Each character of context helps, up to a point. Then it stops: most long contexts of a new text
# were never seen, and those that were seen were seen once or twice. This model knows a text by
# heart, but has no idea what is alike in it.
#
# It can write, though. Draw a symbol by its probability, append it, go on. Read the three texts.
# What does each model know: letters, words, sentences?

# %%
random = np.random.default_rng(1)
for length in (0, 2, 5):
    written = piece
    for _ in range(160):
        before = written[len(written) - length :]
        chances = np.array([ngram(s, before, counts, len(vocabulary)) for s in vocabulary.symbols])
        written += random.choice(vocabulary.symbols, p=chances / chances.sum())
    print(f"--- {length + 1}-gram\n{written}")

# %% [markdown]
# ## Compressors are models of text
# Whoever foresees a text can shorten it: a good code spends $-\log_2 p$ bits on a character of
# probability $p$, and no code can do better on average. So each compressor has a model of text in
# it, and its bits per character can be compared with ours.
#
# But be fair. Our models have read the training text, and a compressor begins with an empty head.
# So let it read, too: compress training and held-out text together, compress the training text
# alone, and take the difference. That is what the held-out text costs one who has read the other.
#
# ### Exercise 3: what a compressor knows
# Write it. Compressors take bytes, `text.encode()`, and return bytes. A byte has eight bits. What
# you divide by is the number of *characters*.


# %% tags=["exercise", "nbval-check-output"]
def compressor_bits(compress, train, validation):
    """Bits per character of the text `validation` for a compressor that has read `train`.

    `compress` is a function from bytes to bytes.
    """
    ### BEGIN SOLUTION
    both, alone = len(compress((train + validation).encode())), len(compress(train.encode()))
    return 8 * (both - alone) / len(validation)
    ### END SOLUTION


ex.compressor_bits.check(compressor_bits)  # also .hint() and .solution()

# %% [markdown]
# Three compressors, each at its strongest. The left column is the held-out text alone, the right
# one what it costs after reading. Who profits from reading, and who hardly does?

# %%
compressors = {
    "gzip": lambda content: gzip.compress(content, 9),
    "lzma": lambda content: lzma.compress(content, preset=9 | lzma.PRESET_EXTREME),
    "bzip2": lambda content: bz2.compress(content, 9),
}
price = ex.compressor_bits.or_reference(compressor_bits)  # yours once it passes
baselines, alone = {"1-gram": ngram_bits[0], "5-gram": ngram_bits[4]}, {}
print("        alone   after reading  (bits per character)")
for name, compress in compressors.items():
    alone[name] = price(compress, "", text)
    baselines[name] = price(compress, corpus.train, text)
    print(f"{name:6} {alone[name]:6.3f} {baselines[name]:9.3f}")

# %%
ex.gzip_window.ask()

# %% tags=["solution"]
ex.gzip_window.answer("b")

# %% [markdown]
# The lowest of these numbers is the one to beat. If anything, the comparison favours the
# compressors: while they read the held-out text, they go on learning from it. The 5-gram does not,
# and our network will not either.
#
# ## Windows
# A recurrent network reads one character after the other and keeps a state: what it made of
# everything before. After each character it gives a score to every symbol that might come next. So
# one stretch of text is many lessons at once. The input is the stretch, the target is the same
# stretch one character later.
#
# ### Exercise 4: the pipeline
# Cut a text into windows with `tf.data`. `from_tensor_slices(ids[:-1])` gives the text id by id
# without the last one, `from_tensor_slices(ids[1:])` without the first one. `batch(length,
# drop_remainder=True)` puts ids together to windows, `tf.data.Dataset.zip(a, b)` makes pairs,
# `shuffle(10_000)` mixes them, and another `batch` puts pairs together.


# %% tags=["exercise", "nbval-check-output"]
def windows(ids, length, batch_size):
    """A shuffled dataset of inputs and targets, both (batch_size, length); all batches are full.

    The targets are the ids that follow the inputs.
    """
    ### BEGIN SOLUTION
    inputs = tf.data.Dataset.from_tensor_slices(ids[:-1]).batch(length, drop_remainder=True)
    targets = tf.data.Dataset.from_tensor_slices(ids[1:]).batch(length, drop_remainder=True)
    pairs = tf.data.Dataset.zip(inputs, targets)
    return pairs.shuffle(10_000).batch(batch_size, drop_remainder=True)
    ### END SOLUTION


ex.windows.check(windows)  # also ex.windows.hint() and ex.windows.solution()

# %% [markdown]
# One window, both ways. Is the lower line the upper one, moved by a character?

# %%
cut = ex.windows.or_reference(windows)  # yours once it passes
inputs, targets = next(iter(cut(train_ids, 48, 4)))
print(repr(vocabulary.decode(inputs[0])))
print(repr(vocabulary.decode(targets[0])))

# %% [markdown]
# `data.windows` does the same with one thing more: in each epoch the windows begin somewhere else,
# so that the network never reads the same window twice.

# %%
WINDOW, BATCH_SIZE = 64, 32
train = data.windows(train_ids, WINDOW, BATCH_SIZE, shuffle=True, seed=1)
print(f"{len(train)} batches of {BATCH_SIZE} windows of {WINDOW} characters in an epoch")

# %% [markdown]
# ## The race
# The network is small: a vector for each symbol, one LSTM layer of 512 cells, and a dense layer
# that makes a score for each symbol. Dropout keeps it from learning the text by heart.

# %%
keras.utils.set_random_seed(1)
network = models.char_rnn(len(vocabulary), units=512, embedding=128, dropout=0.1)
for layer in network.layers:
    print(f"{layer.name:12} {layer.output.shape!s:18} {layer.count_params():10,} parameters")

# %% [markdown]
# Now and then we stop the clock, measure bits per character on the held-out text, and let the
# network write a line. The callback keeps both. The picture shows the baselines as lines and the
# network as a curve that has to come down through them.


# %%
def draw(race):
    """Show the curve of a race below the baselines, in the place of the last one."""
    figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
    label = 0.0
    for name, bits in sorted(baselines.items(), key=lambda each: each[1]):
        axis.axhline(bits, color="gray", linewidth=1, linestyle="--")
        label = max(bits, 1.08 * label)  # so that no label lies on another
        axis.annotate(
            f"{name} {bits:.2f}",
            (1, bits), (1.02, label), xycoords=("axes fraction", "data"),
            textcoords=("axes fraction", "data"), fontsize=9, va="center",
        )  # fmt: skip
    axis.plot(race.seconds, race.bits, color=BLUE, marker="o", markersize=4)
    axis.set(xlabel="training time (s)", ylabel="bits per character, held-out text")
    axis.set(yscale="log", ylim=(min(baselines.values()) * 0.85, 8), xlim=(0, None))
    axis.set_yticks([1.5, 2, 3, 4, 6], ["1.5", "2", "3", "4", "6"])
    axis.minorticks_off()
    axis.set_title(f"The network, {race.seconds[-1]:.0f} s: {race.bits[-1]:.2f} bits per character")
    alt = f"{race.bits[-1]:.2f} bits per character after {race.seconds[-1]:.0f} s of training."
    show(figure, alt, display_id="race", update=len(race.bits) > 1)


# %%
class Race(keras.callbacks.Callback):
    """Bits per character on the held-out text, and a line written, every so many steps."""

    def __init__(self, every):
        super().__init__()
        self.every, self.step = every, 0
        self.seconds, self.bits, self.lines = [], [], []

    def on_train_begin(self, logs=None):
        self.began = time.perf_counter()
        self.look()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % self.every == 0:
            self.look()

    def look(self):
        paused = time.perf_counter()
        self.seconds.append(paused - self.began)
        self.bits.append(training.bits_per_character(self.model, held_out))
        letters = training.generate(self.model, vocabulary, text[:100], temperature=0.7, seed=1)
        self.lines.append("".join(islice(letters, 64)))
        draw(self)
        self.began += time.perf_counter() - paused


# %% [markdown]
# The learning rate goes up and down again on one cycle: large steps in the middle, small ones at
# the end. This is the long training of this lab, about three minutes on two processor cores. Bet:
# which baselines will it pass, and when?

# %%
epochs = max(1, round(STEPS / len(train)))
train = train.take(STEPS)  # in a very short training this is less than an epoch
schedule = training.one_cycle(0.005, epochs * len(train))
network.compile(
    optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.02, beta_2=0.99),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
)
race = Race(every=max(12, epochs * len(train) // 15))
_ = training.fit(network, train, epochs=epochs, title=None, callbacks=[race])

# %% [markdown]
# And this is how it learned to write: at each of these times it went on with the first hundred
# characters of the held-out text. When do words appear, and when the first thing that a reader
# could take for real?

# %%
for seconds, bits, line in zip(race.seconds, race.bits, race.lines, strict=True):
    print(f"{seconds:4.0f} s {bits:5.2f} bits  {line!r}")

# %% [markdown]
# Now the final measure. The windows in the race were 256 characters long, and each began with an
# empty state. With longer ones the network more often knows what it is reading about.

# %%
network_bits = training.bits_per_character(network, held_out, length=1024)
print(f"network {network_bits:6.3f} bits per character")
for title, rivals in {"having read": baselines, "alone": alone}.items():
    print(f"against those {title}:")
    for name, bits in sorted(rivals.items(), key=lambda each: each[1]):
        print(f"{name:7} {bits:6.3f}   the network needs {network_bits / bits:.0%} of that")

# %% [markdown]
# Two comparisons, two answers. A compressor that begins with an empty head is what runs on your
# computer. One that has read before is the fairer rival, and a strong one here: a manual repeats
# itself word for word from page to page. lzma and bzip2 have kept the pages themselves, the network
# only what it learned from them.
#
# ## Where it hesitates
# A mean hides where the bits go. Here is held-out text with the network's surprise as colour: the
# darker, the more bits that character took. Guess before you look: where in a word is a network
# surprised, and where is it bored?


# %%
def draw_text(text, values, title, label, alt, limits, colours):
    """Characters on grounds whose colours stand for values; 84 characters a line at most."""
    places, row, column = [], 0, 0
    for character in text:
        places.append((row, column))
        row, column = (row + 1, 0) if character == "\n" or column == 83 else (row, column + 1)
    ground = np.full((row + 1, 84), np.nan)
    ground[tuple(zip(*places, strict=True))] = values
    figure, axis = plt.subplots(figsize=(9, 0.5 + 0.19 * len(ground)), layout="constrained")
    shades = LinearSegmentedColormap.from_list("", colours)
    picture = axis.imshow(ground, cmap=shades, vmin=limits[0], vmax=limits[1], aspect="auto")
    for (row, column), character in zip(places, text, strict=True):
        axis.text(column, row, character.strip(), ha="center", va="center", fontsize=7.5,
                  family="monospace", parse_math=False)  # fmt: skip
    axis.axis("off")
    axis.set_title(title)
    figure.colorbar(picture, label=label, fraction=0.03)
    show(figure, alt)


# %%
begin = min(1000, len(text) // 2)
passage = slice(begin, begin + 900)  # of the held-out text
ids = held_out[: passage.stop]
logits = network.predict_on_batch(ids[np.newaxis, :-1])[0]
logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
surprise = -logs[np.arange(len(logs)), ids[1:]] / np.log(2)
draw_text(
    text[passage],
    surprise[begin - 1 :],
    "Where the network is surprised",
    "surprise (bits)",
    "A page of held-out text; the first letters of words are darker than the others.",
    (0, 8),
    ["white", "#f0a35e"],
)

# %% [markdown]
# The first letter of a word costs most, and the end of a word nearly nothing. When the next word
# could be anything, no model can know it. That is why bits per character never go to 0. C. Shannon
# had people guess English letters in 1951, and found that it takes them between 0.6 and 1.3 bits a
# letter.
#
# ## Dice
# The network gives a score to each symbol. To write, one symbol must be chosen. Always the best
# one? Or thrown like dice, each by its probability? Three knobs lie between the two.
#
# ### Exercise 5: temperature
# Divide the scores by a *temperature* before the softmax. Below 1, differences grow and the best
# symbol takes nearly all. Above 1 all become alike. Mind the trap that you know from the first lab:
# divided by 0.01, scores become very large.


# %% tags=["exercise", "nbval-check-output"]
def with_temperature(logits, temperature):
    """Probabilities (n,) from logits (n,), divided by a temperature above 0."""
    ### BEGIN SOLUTION
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max())
    return powers / powers.sum()
    ### END SOLUTION


ex.with_temperature.check(with_temperature)  # also .hint() and .solution()

# %% [markdown]
# ### Exercise 6: top-k
# A hundred symbols with a chance of one in a thousand each: one of them will come up soon, and one
# wrong letter spoils a word. *Top-k* keeps the `k` most probable symbols and forbids the others.
# What is left must add up to 1 again.


# %% tags=["exercise", "nbval-check-output"]
def top_k(probabilities, k):
    """Probabilities (n,) with all but the k largest set to 0, adding up to 1 again."""
    ### BEGIN SOLUTION
    kept = np.zeros_like(probabilities)
    best = np.argsort(-probabilities)[:k]
    kept[best] = probabilities[best]
    return kept / kept.sum()
    ### END SOLUTION


ex.top_k.check(top_k)  # also ex.top_k.hint() and ex.top_k.solution()

# %% [markdown]
# ### Exercise 7: the nucleus
# But how large a `k`? In the middle of a word one symbol is enough, at its beginning twenty are
# good. *Nucleus sampling* lets the network say how many: take the most probable symbol, then the
# next, and stop as soon as together they reach a share of, say, 0.9.


# %% tags=["exercise", "nbval-check-output"]
def nucleus(probabilities, share):
    """Probabilities (n,) of the fewest symbols, the most probable first, that reach `share`.

    The others get 0, and the sum is 1 again. `share` is in (0, 1].
    """
    ### BEGIN SOLUTION
    order = np.argsort(-probabilities)
    before = np.cumsum(probabilities[order]) - probabilities[order]
    kept = np.zeros_like(probabilities)
    best = order[before < share]
    kept[best] = probabilities[best]
    return kept / kept.sum()
    ### END SOLUTION


ex.nucleus.check(nucleus)  # also ex.nucleus.hint() and ex.nucleus.solution()

# %% [markdown]
# See the three at work at two places of the held-out text: one where the network is sure, and one
# where it is not. In which panel does the nucleus keep how many symbols?

# %%
heat = ex.with_temperature.or_reference(with_temperature)  # yours once they pass
keep_k, keep_share = ex.top_k.or_reference(top_k), ex.nucleus.or_reference(nucleus)
entropies = -(np.exp(logs) * logs).sum(axis=1)[begin:]
sure, unsure = (begin + np.argsort(entropies)[[len(entropies) // 2, -20]]).tolist()
figure, axes = plt.subplots(2, 4, figsize=(9, 4.2), layout="constrained", sharey="row")
for row, place in zip(axes, (sure, unsure), strict=True):
    chances = heat(logits[place].astype(float), 1.0)
    versions = {
        "as it is": chances,
        "temperature 0.5": heat(logits[place].astype(float), 0.5),
        "top-k, k = 5": keep_k(chances, 5),
        "nucleus, 0.9": keep_share(chances, 0.9),
    }
    best = np.argsort(-chances)[:10]
    names = [visible(vocabulary.symbols[each]) for each in best]
    for axis, (name, version) in zip(row, versions.items(), strict=True):
        axis.bar(range(10), version[best], color=BLUE)
        axis.set_xticks(range(10), names, fontsize=7, rotation=60)
        axis.set(title=f"{name}: {(version > 0).sum()} left", xlabel="next character")
        axis.title.set_fontsize(9)
    row[0].set_ylabel(f"probability, after\n“{text[place - 11 : place + 1]}”".replace("\n\n", "\n"))
figure.suptitle("The same guess under three knobs: above a sure one, below an unsure one")
show(figure, "Two rows of four bar charts: probabilities of ten symbols as they are and changed.")

# %%
ex.which_knob.ask()

# %% tags=["solution"]
ex.which_knob.answer("b")

# %% [markdown]
# `training.generate` has the three knobs and gives one character after the other, without end. Five
# settings, the same beginning. Which one bores you, which one would fool you for a moment, which
# one has a fever?

# %%
PROMPTS = {
    "python_docs": 'coffee\n\nThe "coffee" statement\n\n',
    "tinyshakespeare": "ROMEO:\n",
}
prompt = PROMPTS.get(DATASET, text[:60])
settings = [
    {"temperature": 0},
    {"temperature": 0.5},
    {"temperature": 1.0},
    {"temperature": 1.0, "top_p": 0.9},
    {"temperature": 1.6},
]
for setting in settings:
    letters = training.generate(network, vocabulary, prompt, seed=3, **setting)
    print(f"--- {setting}\n{prompt}{''.join(islice(letters, 300))}\n")

# %% [markdown]
# Now with your own hand. Change the beginning and the knobs, and press the button. Write your own
# name in the place of `coffee`: by default the network knows what a Python statement is, and will
# make one of you. Show that to a friend.

# %%
sampler = TextSampler(network, vocabulary, prompt=prompt, num_characters=400)
sampler.show()

# %% [markdown]
# ## What single cells know
# 512 numbers are all that the network remembers of what it has read. Does one of them mean
# something that you could name? To write these texts it must know whether a quotation is still
# open, whether a bracket is, and how far the line has come. We know that, too, for every character:
# we can count it. So let the network read the held-out text, write down the output of every cell
# after each character, and look for the cell that goes along with what we counted.


# %%
def traits(text):
    """What can be known at each character of `text` from what stands before: names and (n,)."""
    rows, column, open_quote, depth, indented, heads = [], -1, False, 0, False, True
    for character, before in zip(text, "\n" + text, strict=False):
        if before == "\n":  # a line begins
            column, indented, heads = -1, character == " ", column < 1
        if heads and character == "\n":  # an empty line ends what was left open
            open_quote, depth = False, 0
        column += 1
        open_quote ^= character == '"'
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        rows.append((open_quote, depth > 0, indented, heads, column))
    names = ["in quotes", "in brackets", "in an indented line", "in a line after an empty one"]
    return dict(zip([*names, "place in the line"], np.array(rows, float).T, strict=True))


lstm = next(layer for layer in network.layers if isinstance(layer, keras.layers.LSTM))
reader = keras.Model(network.input, lstm.output)
STRETCH = min(1000, len(held_out) // 2)  # characters; each is read from an empty state
num = min(len(held_out), 40_000) // STRETCH * STRETCH
states = reader.predict(held_out[:num].reshape(-1, STRETCH), batch_size=8, verbose=0)
states = states.reshape(num, -1).astype("float32")
known = traits(text[:num])
print(f"{states.shape[1]} cells, each after {num:,} characters")

# %% [markdown]
# ### Exercise 8: the correlation of all cells at once
# Pearson's correlation of two lists of numbers: subtract from each its mean, multiply them number
# by number, add up, and divide by the square root of the product of their sums of squares. It is 1
# if they go up and down together, -1 if one goes down where the other goes up, and 0 if they have
# nothing to do with each other. Write it for all columns at once. A cell that never changes goes
# along with nothing: let that be 0.


# %% tags=["exercise", "nbval-check-output"]
def correlations(states, values):
    """Pearson's correlation (units,) of each column of states (n, units) with values (n,)."""
    ### BEGIN SOLUTION
    states = states - states.mean(axis=0)
    values = values - values.mean()
    squares = (states**2).sum(axis=0) * (values**2).sum()
    return values @ states / np.sqrt(np.where(squares > 0, squares, 1))
    ### END SOLUTION


ex.correlations.check(correlations)  # also ex.correlations.hint() and .solution()

# %%
ex.two_halves.ask()

# %% tags=["solution"]
ex.two_halves.answer("c")

# %% [markdown]
# So the first half of the held-out text chooses the cell, and the second half judges it. The last
# column says how often a threshold at that cell tells yes from no, the two counted equally: 50% is
# tossing a coin. Which trait has a cell of its own?

# %%
correlate = ex.correlations.or_reference(correlations)  # yours once it passes
half, rows, cells = num // 2, {}, {}
for name, values in known.items():
    if np.mean(values[:half] > 0) < 0.01 or values[:half].std() == 0:
        print(f"“{name}” hardly ever happens in this text.")
        continue
    cell = cells[name] = int(np.abs(correlate(states[:half], values[:half])).argmax())
    cell_states = states[:, cell]
    r = correlate(cell_states[half:, np.newaxis], values[half:])[0]
    told = ""
    if set(values) == {0, 1}:
        yes, no = (cell_states[:half][values[:half] == each].mean() for each in (1, 0))
        says_yes = (cell_states[half:] > (yes + no) / 2) == (yes > no)
        rights = [np.mean(says_yes[values[half:] == each] == each) for each in (1, 0)]
        told = f"{np.mean(rights):.0%}"
    rows[name] = {"cell": cell, "correlation": round(float(r), 2), "told rightly": told}
pd.DataFrame(rows).T

# %% [markdown]
# A number is one thing, to see it is another. Below is a passage of the second half, coloured by
# the best cell of two traits. Nobody told the network what a quotation is. Follow the colour: where
# does it turn, and where is it wrong?

# %%
start = half + next((i for i, each in enumerate(known["in quotes"][half:]) if each), 0)
begin = text.rindex("\n", 0, start) + 1
shown = slice(begin, min(num, begin + 800))
for name in [each for each in ("in quotes", "place in the line") if each in cells]:
    cell_states = states[:, cells[name]] * np.sign(rows[name]["correlation"])
    limit = np.abs(cell_states).max()
    draw_text(
        text[shown],
        cell_states[shown],
        f"Cell {cells[name]}: {name}",
        "output of the cell",
        f"A page of held-out text coloured by cell {cells[name]}, chosen for: {name}.",
        (-limit, limit),
        ["#6fb1dd", "white", "#f0a35e"],
    )

# %% [markdown]
# Some traits have a cell that follows them closely. Others are spread over many cells, and no
# single one tells them. And mind what such a picture proves: that the cell goes along with the
# trait, not that the network uses it.
#
# ## Fast and slow writing
# A network without memory must read again whatever it should take into account, for each character
# that it writes. Many programs treat recurrent networks the same way: they call `predict` on the
# last 256 characters, take the last of the 256 answers and throw the others away. Ours keeps the
# state instead. One character in, one state on, one character out.

# %%
ex.how_many_steps.ask()

# %% tags=["solution"]
ex.how_many_steps.answer("d")

# %% [markdown]
# Count is one thing, time another. We measure both ways of writing, with your knobs in the slow
# one.


# %%
def naive(prompt, context=256):
    """Characters after `prompt`, without end; each is drawn after reading the context anew."""
    random = np.random.default_rng(1)
    ids = vocabulary.encode(prompt)
    while True:
        logits = network.predict_on_batch(ids[np.newaxis, -context:])[0, -1]
        chances = keep_share(heat(logits.astype(float), 0.8), 0.95)
        drawn = random.choice(len(chances), p=chances)
        ids = np.append(ids, drawn)
        yield vocabulary.symbols[drawn]


def speed(letters, count):
    """Characters a second; the first few, for which functions are compiled, do not count."""
    list(islice(letters, 16))
    start = time.perf_counter()
    list(islice(letters, count))
    return count / (time.perf_counter() - start)


long_prompt = text[:256]
slow = speed(naive(long_prompt), max(8, WRITTEN // 40))
letters = training.generate(network, vocabulary, long_prompt, temperature=0.8, top_p=0.95)
fast = speed(letters, WRITTEN)
print(f"re-reading its context {slow:8,.0f} characters a second")
print(f"keeping its state      {fast:8,.0f} characters a second: {fast / slow:.0f} times as many")

# %% [markdown]
# ## Beside published figures
# A. Karpathy's nanoGPT is a well-known program for training small transformers. Its description
# gives two figures for the text `tinyshakespeare`, trained on the first nine tenths and measured on
# the rest: a loss of 1.88 after about 3 minutes on a laptop's processor, and of 1.4697 after about
# 3 minutes on an A100. Two traps before you compare. Its unit is the *nat*, with the natural
# logarithm: one bit is 0.693 nats. And a text has its own difficulty: numbers for two texts cannot
# be compared at all.

# %%
lines = {"ours, this run": network_bits, **baselines}
print(f"on {corpus.name}                    bits    nats")
for name, bits in sorted(lines.items(), key=lambda each: each[1]):
    print(f"{name:28} {bits:7.3f} {bits * np.log(2):7.3f}")
print("\non tinyshakespeare, published    bits    nats")
for name, nats in {"nanoGPT, A100, 3 minutes": 1.4697, "nanoGPT, CPU, 3 minutes": 1.88}.items():
    print(f"{name:28} {nats / np.log(2):7.3f} {nats:7.3f}")
if DATASET == "tinyshakespeare":
    gap = network_bits * np.log(2) - 1.88
    print(f"\nThe same text and the same split: {gap:+.2f} nats to nanoGPT on a CPU.")
else:
    print("\nTwo texts: nothing in the upper table can be compared with the lower one.")

# %% [markdown]
# If yours is the default text, it is a lot easier: it repeats itself. Look how far bzip2 gets. To
# compare, set `DATASET = "tinyshakespeare"` at the top and run all. Then text and split are the
# same, and the figures stand side by side. What still differs is the machine, and that nanoGPT's
# settings for a CPU were chosen to be quick to try, not to be the best.
#
# ## In your own voice
# The text can be your own. Put your mails, your diary or your thesis into a text file, set
# `DATASET = "mine.txt"` at the top, and run all. From about 200 kB on it begins to sound like you.
# What if something is wrong with the file, or with what you ask for? Each line below is one try.

# %%
with TemporaryDirectory() as folder, chdir(folder):  # so that no file of yours is overwritten
    Path("mine.txt").write_text("ha" * 10, encoding="utf-8")
    Path("empty.txt").write_text("", encoding="utf-8")
    Path("latin.txt").write_text("déjà vu", encoding="latin-1")
    mine = data.corpus("mine.txt")
    tries = [
        lambda: data.corpus("empty.txt"),
        lambda: data.corpus("latin.txt"),
        lambda: data.windows(mine.vocabulary.encode(mine.train), WINDOW, BATCH_SIZE, shuffle=True),
        lambda: training.generate(network, vocabulary, prompt="\N{SNOWMAN}"),
        lambda: training.generate(network, vocabulary, temperature=-1),
    ]
    for attempt in tries:
        try:
            attempt()
        except LabError as error:
            print(f"- {error}")

# %% [markdown]
# A trained network and its vocabulary belong together. Save both, here in the folder
# `runs/text_generation`, and it writes tomorrow, too.

# %%
folder = Path("runs/text_generation")
folder.mkdir(parents=True, exist_ok=True)
network.save(folder / "writer.keras")
vocabulary.save(folder / "writer.json")
writer = keras.models.load_model(folder / "writer.keras")
symbols = data.Vocabulary.load(folder / "writer.json")
again = training.generate(writer, symbols, prompt, seed=5, temperature=0.7)
print(prompt + "".join(islice(again, 200)))

# %% [markdown]
# ## The challenge
# Now alone. What is the best network for `python_docs` with at most 100,000 parameters? Ours has
# more than ten times as many. The check calls your function with the training text as numbers, and
# measures bits per character on the held-out text. The bar: 2.25, not far from the 5-gram, which
# stores several times as many counts.


# %% tags=["exercise"]
def train_writer(ids, num_symbols, seed):
    """A Keras model of at most 100,000 parameters, trained on the text `ids`, int32 (n,).

    From int32 (b, t) it gives logits (b, t, num_symbols) of the symbols that follow. Everything
    random follows from `seed`.
    """
    ### BEGIN SOLUTION
    keras.utils.set_random_seed(seed)
    model = models.char_rnn(num_symbols, units=120, embedding=32)
    train = data.windows(ids, 64, 32, shuffle=True, seed=seed)
    rate = training.one_cycle(0.01, 8 * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), loss)
    training.fit(model, train, epochs=8, title=None)
    return model
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.train_writer.check(train_writer)  # also ex.train_writer.hint() and .solution()

# %% [markdown]
# ## What you learned
# To know a text is to foresee it, and bits per character measure that, for counts, compressors and
# networks alike. A recurrent network foresees better than counting after a few minutes, because it
# keeps in 512 numbers what matters of everything before, and some of these numbers have a meaning
# that you can name and check. Writing is guessing with dice, temperature and nucleus say how bold
# the dice are, and a state that is kept makes it fast.

# %% [markdown]
# ## What to try next
# - In the cell tagged `parameters`, set `DATASET = "tinyshakespeare"` and run all: which baselines
#   fall now, and where does the network stand beside nanoGPT?
# - Set it to a file of your own, and let a friend tell your sentences from the network's.
# - Train with `dropout=0` and four times as many steps. What happens to the curve, and why?
# - Set the quotation cell to 0 while the network writes. Does it still close its quotations?
# - The compressors learn while they read the held-out text. Let the 5-gram do that, too: how far
#   does it come?

# %% [markdown]
# ## References
# - C. Shannon, *Prediction and entropy of printed English*, Bell System Technical Journal 30, 1951:
#   people who guess letters.
# - I. Witten and T. Bell, *The zero-frequency problem*, IEEE Transactions on Information Theory 37,
#   1991: the rule of exercise 2, their method C.
# - A. Karpathy, *The unreasonable effectiveness of recurrent neural networks*, 2015, and
#   [char-rnn](https://github.com/karpathy/char-rnn): texts from networks, and cells that know
#   quotations.
# - A. Karpathy, J. Johnson and L. Fei-Fei, *Visualizing and understanding recurrent networks*,
#   2015, [arXiv:1506.02078](https://arxiv.org/abs/1506.02078).
# - A. Holtzman and others, *The curious case of neural text degeneration*, ICLR 2020,
#   [arXiv:1904.09751](https://arxiv.org/abs/1904.09751): nucleus sampling.
# - [nanoGPT](https://github.com/karpathy/nanoGPT): the published losses.
# - S. Hochreiter and J. Schmidhuber, *Long short-term memory*, Neural Computation 9, 1997.
# - The Python Software Foundation, *The Python Language Reference*: the text.
