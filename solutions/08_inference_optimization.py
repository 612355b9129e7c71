# ---
# title: Inference optimization
# summary: >-
#   A trained network answers one picture in fifty milliseconds or in less than one, on the same
#   processor. You measure where the time goes, fuse layers by hand, let a compiler do it, calibrate
#   8-bit numbers, choose a batch under a bound on the latency, and serve the result over HTTP.
# objectives:
#   - measure latency and throughput so that the numbers can be trusted
#   - fold batch normalization into a convolution, and find the same fusion in a compiler's graph
#   - quantize to 8 bits, and say what calibration data is for
#   - choose a batch under a bound on the latency
#   - serve a network that answers many at once
#   - say what a speed-up such as 36 times is made of
# minutes: {read: 40, exercise: 60, compute: 5}
# memory_gb: 4
# devices: {gpu: none}
# datasets: [shapes]
# requires: [02_image_classification]
# profiles:
#   smoke:
#     DATASET: digits
#     STEPS: 10
#     MODULES: 1
#     CALLS: 8
#     CALIBRATION: 8
#     TRIALS: 1
#     BATCH_SIZES: [1, 8]
#     SECONDS: 0.01
#     SHOW_FALLBACK: false
#     BIG_NETWORK: false
#     RUN_CHALLENGE: false
#   workshop: {}
#   full: {STEPS: 1570, SECONDS: 2.0}
# ---

# %% [markdown]
# ## The question
# Training ends one day. From then on a network only answers, perhaps a million times a day, and
# each answer costs time and electricity. In 2017 a slide of NVIDIA's promised *up to 36 times more
# images a second* from a compiler for trained networks, TensorRT. Five things it would do stood
# beside that number: fuse layers, eliminate concatenations, pick the best routine for each
# operation, tune for the machine, and tune for the batch size.
#
# Can a compiler do that, and still find the right class of the pictures below? We take a network
# that has just learned and find out on the processor in front of you.

# %%
import math
import os
import secrets
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from dltlab import data, devices, inference, models, training
from dltlab.checks import inference_optimization as ex
from dltlab.display import show
from dltlab.errors import LabError
from dltlab.models import load_model

tf.config.set_visible_devices([], "GPU")  # all is measured on the processor
devices.setup(precision="float32", seed=1)

# %% tags=["parameters"]
DATASET = "shapes"  # or pictures of your own: dltlab data import FOLDER --name NAME
MODEL = ""  # a .keras file with a convolutional network of yours for DATASET; empty: train one
STEPS = 314  # of that training, with 64 pictures each
MODULES = 2  # of that network, before and after its second pooling
BACKEND = "openvino"  # or "onnxruntime", "litert": the compiler
CALLS = 30  # that are timed of the slowest ways to answer one picture
CALIBRATION = 200  # pictures for 8-bit numbers
TRIALS = 4  # sets of pictures to calibrate with
BATCH_SIZES = [1, 2, 4, 8, 16, 32, 64]
SECONDS = 0.4  # for each measurement
SHOW_FALLBACK = True  # see what a bad calibration makes `optimize` do
BIG_NETWORK = True  # measure ResNet-50 on pictures of 224 × 224, too
RUN_CHALLENGE = True

# %%
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#777777"
classes = data.info(DATASET).class_names
train_images, train_labels = data.arrays(DATASET, "train")
test_images, test_labels = data.arrays(DATASET, "test")
order = np.random.default_rng(1).permutation(len(test_images))  # else class may follow class
test_images, test_labels = test_images[order], test_labels[order]

figure, axes = plt.subplots(1, 8, figsize=(9, 1.5), layout="constrained")
for axis, image, label in zip(axes, test_images, test_labels, strict=False):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(classes[label], fontsize=9)
    axis.axis("off")
show(figure, "Eight test pictures, each under the name of its class.")

# %% [markdown]
# ## A network that has learned
# It is the small relative of GoogLeNet from lab 02. A module has four branches side by side,
# convolutions of 1 × 1, 3 × 3 and 5 × 5 and a pooling, and what they give is concatenated. After
# each convolution come batch normalization and ReLU. How many layers does that make?

# %%
if MODEL:
    loaded = load_model(Path(MODEL))
    network = models.in_precision(keras.Model(loaded.inputs, loaded.outputs), "float32")
else:
    keras.utils.set_random_seed(1)
    shape = train_images.shape[1:]
    network = models.small_inception(len(classes), shape, modules_per_stage=MODULES)
    train = data.load(DATASET, batch_size=64, seed=1)
    rate = training.one_cycle(0.01, STEPS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(
        keras.optimizers.AdamW(rate, weight_decay=0.02),
        loss,
        run_eagerly=STEPS < 20,  # so few steps are faster than compiling one
    )
    training.fit(network, train.repeat().take(STEPS), epochs=1, title=None)
    folder = Path("runs/inference_optimization")
    folder.mkdir(parents=True, exist_ok=True)
    network.save(folder / "network.keras")


def accuracy(logits):
    """The share of test pictures whose largest logit is at the right class."""
    return np.mean(np.argmax(logits, axis=1) == test_labels)


expected = network.predict(test_images, batch_size=500, verbose=0)
cost = models.cost(network)
print(f"{len(network.layers)} layers, {cost.params:,} parameters, {cost.macs:,} multiply-adds")
print(f"accuracy {accuracy(expected):.4f}")

# %% [markdown]
# ## Measure first
# The first call of anything compiles, takes memory, fills caches. It says nothing about the
# thousandth. And calls do not all take the same time: whoever runs a service asks for the slowest
# of a hundred, the *99th percentile*, not for the mean.
#
# ### Exercise 1: measure
# Call `call` a few times without looking at the clock, the *warm-up*. Then time each of the next
# calls by itself with `time.perf_counter()`.


# %% tags=["exercise", "nbval-check-output"]
def measure(call, warmup, repeats):
    """The seconds that each of `repeats` calls of `call` takes, after `warmup` calls.

    Returns an array of shape (repeats,).
    """
    ### BEGIN SOLUTION
    for _ in range(warmup):
        call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return np.array(seconds)
    ### END SOLUTION


ex.measure.check(measure)  # also ex.measure.hint() and ex.measure.solution()

# %% [markdown]
# Now the naive way: a picture comes in, and we give it to the network. There are two ways to write
# that in Keras. Which one is faster, and how far apart are the median and the slowest call?

# %%
timed = ex.measure.or_reference(measure)  # yours once it passes
one = test_images[:1]
median = {}  # seconds for one picture, by the way it is done


def record(name, call, repeats=200):
    """Measure a way to answer one picture, keep its median, and print it."""
    seconds = np.asarray(timed(call, 5, repeats))
    median[name] = np.median(seconds)
    slow = f"99th percentile {1e3 * np.percentile(seconds, 99):8.3f} ms"
    if repeats < 100:  # too few for a percentile
        slow = f"slowest of {repeats}   {1e3 * seconds.max():8.3f} ms"
    print(f"{name:24} median {1e3 * median[name]:8.3f} ms, {slow}")


record("model.predict(x)", lambda: network.predict(one, verbose=0), CALLS)
record("model(x)", lambda: network(one, training=False).numpy(), CALLS)

# %% [markdown]
# Is that much? The arithmetic is known: two operations for each multiply-add. And `devices` can
# measure how many operations a second this processor does at most.

# %%
peak = devices.measure_peaks(["float32"], seconds=SECONDS).flops["float32"]
arithmetic = 2 * cost.macs / peak
print(f"This processor: {peak / 1e9:,.0f} billion operations a second in float32.")
print(f"One picture: {2 * cost.macs / 1e6:.1f} million operations: {1e3 * arithmetic:.3f} ms.")
print(f"model(x) takes {median['model(x)'] / arithmetic:,.0f} times as long.")

# %%
ex.where_time_goes.ask()

# %% tags=["solution"]
ex.where_time_goes.answer("b")

# %% [markdown]
# ## Without Python
# `tf.function` runs the Python code once and keeps the graph of operations that came out. From then
# on nobody asks Python what comes next. Bet on a factor before you run the cell.


# %%
@tf.function
def graph(batch):
    """The network as a graph."""
    return network(batch, training=False)


tensor = tf.constant(one)
record("tf.function", lambda: graph(tensor).numpy())
print(f"{median['model(x)'] / median['tf.function']:.1f} times faster than model(x)")
print(f"largest difference of a logit: {np.abs(graph(tensor) - expected[:1]).max():.1e}")

# %% [markdown]
# ## Fuse by hand
# After a convolution comes batch normalization. In training it takes mean and variance from the
# batch. Afterwards they are fixed, so that for each channel it is nothing but $a x + b$:
#
# $$y = \gamma \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta$$
#
# $\mu$ and $\sigma^2$ are the mean and variance that training has kept, $\gamma$ and $\beta$ were
# learned, and $\epsilon$ keeps from dividing by 0. And $x$ is itself a sum of products with a
# kernel. One linear step after another is a single linear step. So the normalization can vanish
# into the numbers of the convolution, before the first picture comes.
#
# ### Exercise 2: fold
# Which kernel and which bias make the convolution alone do what both did?


# %% tags=["exercise", "nbval-check-output"]
def fold(kernel, bias, gamma, beta, mean, variance, epsilon):
    """The kernel and bias of a convolution that does the batch normalization after it, too.

    `kernel` has the shape (height, width, inputs, outputs), all but `epsilon` the shape (outputs,).
    """
    ### BEGIN SOLUTION
    scale = gamma / np.sqrt(variance + epsilon)
    return kernel * scale, (bias - mean) * scale + beta
    ### END SOLUTION


ex.fold.check(fold)  # also ex.fold.hint() and ex.fold.solution()

# %% [markdown]
# Now all of the network. It knows which convolution feeds which normalization: the output of the
# one is the input of the other. That output may change only if nothing else reads it.

# %%
made_by = {id(layer.output): layer for layer in network.layers}
readers = Counter(id(each) for layer in network.layers for each in tf.nest.flatten(layer.input))
foldable = {}  # the convolution of each normalization that may vanish
for layer in network.layers:
    if isinstance(layer, layers.BatchNormalization):
        before = made_by.get(id(layer.input))
        is_linear = getattr(before, "activation", None) is keras.activations.linear
        if isinstance(before, layers.Conv2D) and is_linear and readers[id(before.output)] == 1:
            foldable[layer.name] = before
convolutions = {each.name for each in foldable.values()}
num_norms = sum(isinstance(layer, layers.BatchNormalization) for layer in network.layers)
print(f"{len(foldable)} of {num_norms} normalizations can be folded.")

# %% [markdown]
# `clone_model` builds the network anew, without them, and with a bias in each convolution that gets
# one. Then we put your numbers in.

# %%
folding = ex.fold.or_reference(fold)  # yours once it passes


def with_bias(layer):
    """The layer of the copy."""
    changed = {"use_bias": True} if layer.name in convolutions else {}
    return type(layer).from_config(layer.get_config() | changed)


def without_normalization(layer, *inputs, **options):
    """Call a layer of the copy, or leave it out."""
    return inputs[0] if layer.name in foldable else layer(*inputs, **options)


folded = keras.models.clone_model(
    network, clone_function=with_bias, call_function=without_normalization
)
for layer in network.layers:
    if layer.name in foldable:
        before = foldable[layer.name]
        *scaled, mean, variance = layer.get_weights()  # gamma and beta, where it has them
        gamma = scaled[0] if layer.scale else np.ones_like(mean)
        beta = scaled[-1] if layer.center else np.zeros_like(mean)
        kernel, *bias = before.get_weights()
        old_bias = bias[0] if bias else np.zeros_like(mean)
        numbers = folding(kernel, old_bias, gamma, beta, mean, variance, layer.epsilon)
        folded.get_layer(before.name).set_weights(list(numbers))
    elif layer.weights and layer.name not in convolutions:
        folded.get_layer(layer.name).set_weights(layer.get_weights())

# %% [markdown]
# Does the copy give the same logits, with so many layers gone? And is it faster?

# %%
difference = np.abs(folded.predict(test_images, batch_size=500, verbose=0) - expected).max()
print(f"{len(network.layers)} layers before, {len(folded.layers)} after")
print(f"largest difference of a logit {difference:.1e}; logits up to {np.abs(expected).max():.0f}")
graph_of_folded = tf.function(lambda batch: folded(batch, training=False))
record("tf.function, folded", lambda: graph_of_folded(tensor).numpy())

# %%
ex.when_to_fold.ask()

# %% tags=["solution"]
ex.when_to_fold.answer("c")

# %% [markdown]
# ## Let the compiler do it
# Compilers do that, and more. One comes with TensorFlow: XLA makes one program of the graph, for
# these very shapes.


# %%
@tf.function(jit_compile=True)
def compiled(batch):
    """The network as one program, made by XLA."""
    return network(batch, training=False)


record("tf.function with XLA", lambda: compiled(tensor).numpy())

# %% [markdown]
# XLA is a compiler for training, too. Others know nothing but answering. `inference.optimize` hands
# the network to one, here OpenVINO; on an NVIDIA card it would be TensorRT. What comes back is an
# *engine*: the compiled network. `optimize` does not believe the compiler. The engine has to keep
# 99 % of the network's accuracy on the test pictures, or it is not returned. And it computes in the
# *precision* that you ask for, with 32, 16 or 8 bits a number. OpenVINO itself would take 16 bits
# without a word, where a processor has units for them.

# %%
chosen = np.random.default_rng(2).permutation(len(train_images))[:CALIBRATION]
calibration = train_images[chosen]  # of all classes


def optimized(precision):
    """An engine in a precision, or None, with the reason, where this machine lacks it."""
    try:
        engine = inference.optimize(
            network,
            backend=BACKEND,
            precision=precision,
            calibration=calibration if precision == "int8" else None,
            validation=(test_images, test_labels),
            class_names=classes,
        )
    except LabError as error:
        if precision == "float32":  # everybody has that
            raise
        print(error)
        return None
    print(*engine.notes, sep="\n")
    return engine


engine = optimized("float32")
record(f"{BACKEND}, float32", lambda: engine(one))
print(f"The arithmetic alone: {1e3 * arithmetic:.3f} ms")

# %% [markdown]
# What has it done? On the left the layers that went in and the operations that came out, on the
# right where the time goes. Look for the batch normalizations. And for the ReLUs.

# %%
report = inference.report(engine)
report.show()
for name, fused in list(report.fused.items())[:5]:
    print(f"{name:24} does {' + '.join(fused)}")

# %% [markdown]
# It is your fusion, made on the way from Keras to the engine, and one more: the ReLU is applied as
# soon as a number is computed, so that the map need not be written and read once more.
#
# And the concatenations, of which the slide says that they are *eliminated*? A concatenation
# computes nothing, it copies. Whoever lets each branch write into its part of one large array needs
# no copy. Measure what that is worth, with two maps as large as those of the first module:

# %%
maps = np.random.default_rng(1).normal(size=(2, 16, 16, 32)).astype("float32")
kernels = np.random.default_rng(2).normal(size=(2, 32, 48)).astype("float32")
together = np.empty((16, 16, 96), "float32")


def copied():
    """Two branches, and then their concatenation."""
    return np.concatenate([maps[0] @ kernels[0], maps[1] @ kernels[1]], axis=-1)


def in_place():
    """Two branches that write where their output belongs."""
    np.matmul(maps[0], kernels[0], out=together[..., :48])
    np.matmul(maps[1], kernels[1], out=together[..., 48:])
    return together


same = np.allclose(copied(), in_place())
seconds = {each.__name__: np.median(timed(each, 20, 300)) for each in (copied, in_place)}
print({name: f"{1e6 * each:.0f} µs" for name, each in seconds.items()}, f"the same: {same}")

# %%
kinds = report.kinds().set_index("kind")
left = kinds.loc[kinds.index.str.startswith("Concat"), "operations"].sum()
table = report.table
share = table.loc[table["operation"].str.startswith("Concat"), "share"].sum()
print(f"Concatenations in the network: {report.layer_kinds['Concatenate']}, in the engine: {left}")
print(f"They take {share:.1%} of its time.")

# %% [markdown]
# If some are left: not every compiler eliminates them, and not on every machine. In an array
# (16, 16, 96) the channels of a pixel lie side by side, so that a branch has to write in small
# pieces, and some routines cannot. Where a machine computes best with whole planes of channels, as
# GPUs did in 2017, a part of the channels is one block of memory, and no copy is needed.

# %% [markdown]
# ## Fewer bits
# A float32 has 32 bits, a bfloat16 has 16, an int8 has 8. With half of the bits twice as many
# numbers come from memory in a second, and many processors have units that multiply small numbers
# by the hundred (Intel's are called AMX). An int8 knows only the whole numbers from -128 to 127. So
# a *scale* belongs to it: the number that is meant is `scale * q`.
#
# ### Exercise 3: quantize
# Divide by the scale, round, and cut off what is out of range. We use -127 to 127, so that both
# sides are alike.


# %% tags=["exercise", "nbval-check-output"]
def quantize(values, scale):
    """The int8 numbers q in [-127, 127] for which scale * q is nearest to the values."""
    ### BEGIN SOLUTION
    return np.clip(np.round(values / scale), -127, 127).astype("int8")
    ### END SOLUTION


ex.quantize.check(quantize)  # also ex.quantize.hint() and ex.quantize.solution()

# %% [markdown]
# For weights the scale is easy: they are known. For the maps between the layers it is not: they
# depend on the picture. So the compiler runs some pictures through the network first and looks how
# large the numbers become. This is *calibration*.
#
# ### Exercise 4: calibrate
# Find the scale with which the largest number of all batches, positive or negative, just fits.


# %% tags=["exercise", "nbval-check-output"]
def calibrate(batches):
    """The scale with which no number in a list of arrays is cut off, and no range is wasted."""
    ### BEGIN SOLUTION
    return max(np.abs(batch).max() for batch in batches) / 127
    ### END SOLUTION


ex.calibrate.check(calibrate)  # also ex.calibrate.hint() and ex.calibrate.solution()

# %% [markdown]
# Try both on what two convolutions give, the first and one near the end, after three calibrations:
# with training pictures, with noise, and with pictures that are ten times too dark. Look at the
# vertical lines, where the range of an int8 ends, and at the error: its root mean square as a share
# of the standard deviation. Would noise do?

# %%
to_int8 = ex.quantize.or_reference(quantize)
scale_of = ex.calibrate.or_reference(calibrate)
noise = np.random.default_rng(1).random(calibration.shape).astype("float32")
sets = {"training pictures": calibration, "noise": noise, "dark pictures": 0.1 * calibration}
convs = [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]

figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained", sharey=True)
for axis, conv in zip(axes, (convs[0], convs[-min(3, len(convs))]), strict=True):
    part = keras.Model(network.input, conv.output)
    values = part(test_images[:100], training=False).numpy()
    axis.hist(values.ravel(), bins=200, color=BLUE, alpha=0.6)
    for colour, (name, images) in zip((GREEN, ORANGE, GRAY), sets.items(), strict=True):
        scale = float(scale_of([part(images, training=False).numpy()]))
        q = np.asarray(to_int8(values, scale))
        error = np.sqrt(np.mean((scale * q - values) ** 2)) / values.std()
        label = f"{name}: error {error:.1%}"
        axis.axvline(127 * scale, color=colour, linestyle="--", label=label)
        axis.axvline(-127 * scale, color=colour, linestyle="--")
    axis.set(yscale="log", ylim=(0.7, 1e7), xlabel="value in the map", ylabel="how many")
    axis.set_title(f"{conv.name}: what an int8 can say")
    axis.legend(fontsize=8, loc="upper right")
show(figure, "Two histograms of values, and the ends of the int8 range after three calibrations.")

# %% [markdown]
# Too small a range cuts off what matters. Too large a range wastes the 255 numbers there are on
# values that never occur. What does that do to the answers? Here the compiler quantizes the whole
# network with each set, and with a single training picture. `max_accuracy_drop=1.0` lets it
# through, however bad it is.

# %%
trials = [*sets.items(), ("one training picture", calibration[:1])]
for name, images in trials[:TRIALS]:
    trial = inference.optimize(
        network,
        backend=BACKEND,
        precision="int8",
        calibration=images,
        validation=(test_images, test_labels),
        max_accuracy_drop=1.0,
    )
    print(f"int8 after {name:24} accuracy {trial.accuracy.engine:.4f}")
print(f"float32 {'':29} accuracy {accuracy(expected):.4f}")

# %% [markdown]
# Without `max_accuracy_drop=1.0` such an engine is not returned. Look at the notes: what does
# `optimize` do instead?

# %%
if SHOW_FALLBACK:
    rescued = inference.optimize(
        network,
        backend=BACKEND,
        precision="int8",
        calibration=sets["dark pictures"][:20],
        validation=(test_images[: 2 * CALIBRATION], test_labels[: 2 * CALIBRATION]),
    )
    for note in rescued.notes:
        print(note if len(note) < 240 else f"{note[:240]} …")

# %% [markdown]
# Now with the right calibration, next to the other precisions, and all three measured one after the
# other. One number for the accuracy may hide that one class has suffered. So look at each class.

# %%
made = [optimized(name) for name in ("float32", "bfloat16", "int8")]
engines = {each.manifest.precision: each for each in made if each}
rows = {}
for name, each in engines.items():
    right = np.argmax(each(test_images), axis=1) == test_labels
    rows[name] = {kind: right[test_labels == place].mean() for place, kind in enumerate(classes)}
    rows[name]["all"] = right.mean()
for name, each in engines.items():
    record(f"{BACKEND}, {name}", lambda each=each: each(one))
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# ## Batch and latency
# So far each picture went alone. Many at once keep the processor busier: weights are read once for
# all of them. But the first picture waits for the last. `benchmark` measures both for several
# batches and *streams*, which are calls that run at the same time. MLPerf, the benchmark of the
# industry, counts in both ways: *single stream* is the latency of one picture at a time, *offline*
# the images per second when all are there. From here on we take the precision that does most images
# per second in batches of eight.


# %%
def images_per_second(engine):
    """With eight pictures in a call, one call after the other."""
    result = inference.benchmark(engine, batch_sizes=[8], streams=[1], seconds=SECONDS)
    return result.offline.images_per_second


fastest = max(engines.values(), key=images_per_second)
measured = inference.benchmark(fastest, batch_sizes=BATCH_SIZES, seconds=SECONDS)
measured.show()
measured

# %% [markdown]
# ### Exercise 5: the point under a bound
# Your service promises an answer within a bound, for 99 of 100 calls. Which batch do you choose?


# %% tags=["exercise", "nbval-check-output"]
def best_batch(points, bound):
    """The batch with most images per second among those whose latency keeps within the bound.

    Each point is (batch, latency, images_per_second); latency and bound are in seconds. Where no
    point keeps within it: 0.
    """
    ### BEGIN SOLUTION
    within = [point for point in points if point[1] <= bound]
    return max(within, key=lambda point: point[2])[0] if within else 0
    ### END SOLUTION


ex.best_batch.check(best_batch)  # also ex.best_batch.hint() and ex.best_batch.solution()

# %%
points = [
    (row.batch_size, row.percentile(99), row.images_per_second)
    for row in measured.rows
    if row.streams == 1
]
choose = ex.best_batch.or_reference(best_batch)
shortest = min(latency for _, latency, _ in points)
for factor in (0.5, 1.5, 4, 16):
    bound = factor * shortest
    print(f"within {1e3 * bound:7.2f} ms: batch {choose(points, bound) or 'none'}")

# %% [markdown]
# `inference.tune` does this with streams and threads as well, and remembers what it found for this
# machine. Then we measure once more: does it keep what it promises?

# %%
bound_ms = math.ceil(1e3 * 16 * shortest)
tuned = inference.tune(fastest, latency_ms=bound_ms, seconds=SECONDS)
settings = tuned.engine.settings
(again,) = inference.benchmark(
    tuned.engine,
    batch_sizes=[settings.batch_size],
    streams=[settings.streams],
    seconds=SECONDS,
).rows
most, percentile = again.images_per_second, again.percentile(99)
print(tuned.summary)
print(f"{most:,.0f} images a second; 99 of 100 calls within {1e3 * percentile:.1f} ms", end=" ")
print(f"(the bound: {bound_ms} ms)")

# %%
ex.who_waits.ask()

# %% tags=["solution"]
ex.who_waits.answer("a")

# %% [markdown]
# ## Serve it
# Users do not come in batches. They come one by one, from different places, at the same time. A
# service can still make batches of them: it takes all requests that wait, computes them in one
# call, and sends each its part of the answer.
#
# ### Exercise 6: answer together
# Some requests hold one picture, some several. Call the network once, and give each request the
# rows that belong to it.


# %% tags=["exercise", "nbval-check-output"]
def answer_together(network, requests):
    """The answers, in order, to requests (n, …) of any n, by one call of the network."""
    ### BEGIN SOLUTION
    answers = network(np.concatenate(requests))
    ends = np.cumsum([len(each) for each in requests])
    return np.split(answers, ends[:-1])
    ### END SOLUTION


ex.answer_together.check(answer_together)  # also .hint() and .solution()

# %% [markdown]
# `dltlab serve` does that. It listens on this machine only and asks for a token. We start it in a
# process of its own, as you would on a server, on any port that is free.

# %%
token = secrets.token_urlsafe()
engine_folder = fastest.save("runs/inference_optimization/engine")
command = [str(Path(sys.executable).with_name("dltlab")), "serve", str(engine_folder)]
service = subprocess.Popen(
    [*command, "--port", "0", "--batch-size", "32"],
    env=os.environ | {"DLTLAB_TOKEN": token},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
)
lines = [service.stdout.readline(), service.stdout.readline()]
address = lines[1].partition("/predict")[0]
print(lines[0], address, sep="")

# %% [markdown]
# A request is an array; the answer is one, too. (Who asks for JSON also gets the names of the
# classes, which the engine has from `class_names`.) Then we let 1, 8 and 32 users ask at the same
# time, each again and again. What happens to requests per second, and to the latency?

# %%
logits = inference.predict(address, token, one)
print(f"It is a {classes[logits.argmax()]}; in truth a {classes[test_labels[0]]}.")
for concurrency in (1, 8, 32):
    load = inference.load_test(address, token, one, concurrency=concurrency, seconds=5 * SECONDS)
    print(load.summary)

# %% [markdown]
# A bad request must not hurt it. Two numbers where a picture is expected get a sentence and status
# 422, and the next user is served. Then we ask the service to stop.

# %%
try:
    inference.predict(address, token, np.zeros((1, 2), "float32"))
except LabError as error:
    print(error)
print("the next one:", classes[inference.predict(address, token, one).argmax()])
service.terminate()
print("ended with exit code", service.wait(timeout=60))

# %% [markdown]
# ## Something to show a friend
# All steps in one picture, from the naive way (gray) to the last, with many pictures at once
# (green). Each bar is images per second; the number on it is the factor over the bar before.

# %%
rates = {name: 1 / seconds for name, seconds in median.items()}
rates[f"batch {settings.batch_size}, {settings.streams} streams"] = most
names, values = list(rates), np.array(list(rates.values()))
figure, axis = plt.subplots(figsize=(9, 4.2), layout="constrained")
axis.barh(names, values, color=[GRAY, GRAY, *[BLUE] * (len(names) - 3), GREEN])
for place, (rate, before) in enumerate(zip(values, [values[0], *values[:-1]], strict=True)):
    step = f"   × {rate / before:.1f}" if place else ""
    axis.text(rate * 1.08, place, f"{rate:,.0f}{step}", va="center", fontsize=9)
axis.invert_yaxis()
axis.set(
    xscale="log",
    xlim=(values.min() / 2, values.max() * 12),
    xlabel="images per second",
    ylabel="how",
)
total = values[-1] / values[0]
axis.set_title(f"From the naive way to the last: {total:,.0f} times more images per second")
axis.spines[["top", "right"]].set_visible(False)
show(figure, f"A bar for each step; the last does {total:,.0f} times what the first does.")

# %% [markdown]
# ## Beside the slide
# Our network is small, so that Python was most of the time. What of a large one? ResNet-50 at
# 224 × 224 needs some hundred times the arithmetic. Its weights are random here, as we only ask for
# its speed.

# %%
big = {}
if BIG_NETWORK:
    resnet = models.resnet50()
    picture = np.random.default_rng(1).random((1, 224, 224, 3)).astype("float32")
    big_graph = tf.function(lambda batch: resnet(batch, training=False))
    print(f"{models.cost(resnet).macs / cost.macs:.0f} times the multiply-adds")
    large = tf.constant(picture)
    big["model(x)"] = 1 / np.median(timed(lambda: resnet(large, training=False).numpy(), 1, 5))
    big["tf.function"] = 1 / np.median(timed(lambda: big_graph(large).numpy(), 2, 10))
    for precision in engines:
        big_engine = inference.optimize(
            resnet,
            backend=BACKEND,
            precision=precision,
            calibration=np.repeat(picture, 8, axis=0) if precision == "int8" else None,
            max_accuracy_drop=1.0,
        )
        seconds = timed(lambda engine=big_engine: engine(picture), 3, 20)
        big[f"{BACKEND}, {precision}"] = 1 / np.median(seconds)
    result = inference.benchmark(big_engine, batch_sizes=[8], streams=[2], seconds=4 * SECONDS)
    big["batch 8, 2 streams"] = result.rows[0].images_per_second
pd.DataFrame(
    {"images per second": big, "× model(x)": {k: v / big["model(x)"] for k, v in big.items()}}
).round(1)

# %% [markdown]
# Is ours better than the slide's 36, or worse? The two numbers answer different questions. The
# slide names neither the network nor what it compares with. Ours compares one processor with
# itself, and its first row is slow because there each operation is started by Python, by itself. If
# you start from `tf.function`, you gain less, as the table shows. The fewer bits are a part of such
# factors, too: Dell's engineers measured GoogLeNet under TensorRT on a Tesla P40 in 2017, at batch
# 128: 2,215 images per second in float32, and 6,410 in int8, 2.9 times as many. And here?

# %%
names = [f"{BACKEND}, {each}" for each in ("float32", "int8")]
if all(each in big for each in names):
    print(f"ResNet-50, int8 over float32: × {big[names[1]] / big[names[0]]:.1f}")

# %% [markdown]
# ## The challenge
# Reach as many images per second as you can while keeping 99 % of the accuracy: any backend,
# precision, batch and number of streams. The check calls your function with the network of this
# lab, gives you pictures to calibrate and to validate, and judges the accuracy on others. Then it
# measures your engine beside `tf.function` at batch 32, in turns. The bar: three times as many
# images per second.


# %% tags=["exercise"]
def fastest_engine(model, calibration, validation):
    """An `inference.Engine` for the model, with its settings.

    `calibration` are pictures (n, height, width, channels), `validation` others and their labels.
    """
    ### BEGIN SOLUTION
    engine = inference.optimize(
        model,
        backend="openvino",
        precision="int8",
        calibration=calibration,
        validation=validation,
    )
    return inference.tune(engine, latency_ms=100, seconds=0.2).engine
    ### END SOLUTION


# %%
ex.judge_by(network, calibration, test_images, test_labels)
if RUN_CHALLENGE:
    ex.fastest_engine.check(fastest_engine)  # also ex.fastest_engine.hint() and .solution()

# %% [markdown]
# ## What you learned
# Most of the time of a small network goes into everything but arithmetic, and a compiler takes that
# away: it fuses layers into one pass, as you did by hand, and compiles for the machine. Fewer bits
# make it faster still, but only measured accuracy, class by class, says whether it is the same
# network. A batch buys throughput with latency, and how much of it you may spend is decided by
# whoever waits.

# %% [markdown]
# ## What to try next
# - In the cell tagged `parameters`, set `MODEL` to the `.keras` file of a network of yours.
# - Set `BACKEND` to `"onnxruntime"` or `"litert"`. Which compiler is best for one picture, and
#   which for 64?
# - In a terminal, in the folder `runs/inference_optimization`:
#   `dltlab optimize network.keras --data shapes --precision int8 --out engine`, then
#   `dltlab serve engine`, and look at `/metrics`.
# - `inference.step_engine` does the same for the network of lab 04 that writes text. How many
#   characters a second does it write?
# - On a machine with an NVIDIA card: `backend="tensorrt"`. Which factor is it there?

# %% [markdown]
# ## References
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slides on TensorRT.
# - R. Xu, F. Han and N. Dandapanthu, *Deep learning inference on P40 GPUs*, Dell EMC, March 2017:
#   GoogLeNet under TensorRT.
# - B. Jacob et al., *Quantization and training of neural networks for efficient
#   integer-arithmetic-only inference*, CVPR 2018,
#   [arXiv:1712.05877](https://arxiv.org/abs/1712.05877): scales, and folding before quantization.
# - V. Reddi et al., *MLPerf inference benchmark*, ISCA 2020,
#   [arXiv:1911.02549](https://arxiv.org/abs/1911.02549): single stream, offline, and 99 % of the
#   accuracy.
# - C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015,
#   [arXiv:1409.4842](https://arxiv.org/abs/1409.4842): GoogLeNet, and its concatenations.
