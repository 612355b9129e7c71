# ---
# title: Input and precision
# summary: >-
#   A training waits for its images more than it computes. You fix the input step by step, watch the
#   waiting fall, and read a trace. Then you round to bfloat16 by hand, repair a training that
#   float16 breaks, measure mixed precision and XLA on your device, and trade time for memory.
# objectives:
#   - find out whether a training waits for its data, and which stage to improve
#   - build a pipeline that decodes in parallel, caches, augments batches and prefetches
#   - read a trace of TensorFlow's profiler
#   - explain what bfloat16 and float16 can hold, and repair a training that float16 breaks
#   - measure whether mixed precision and XLA pay on a device
#   - train with less memory by accumulation and by recomputing, and say what it costs
# minutes: {read: 40, exercise: 60, compute: 5}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: [shapes]
# requires: [02_image_classification]
# profiles:
#   smoke:
#     DATASET: digits
#     FILES: 40
#     FILE_SIDE: 64
#     SECONDS: 0.02
#     ROUNDS: 1
#     WIDTH: 4
#     SEEDS: [1]
#     STEPS: 4
#     SCALES: [0, 16]
#     XLA: false
#     BLOCKS: 2
#     ROWS: 512
#     RUN_CHALLENGE: false
#   workshop: {}
#   full: {FILES: 5000, STEPS: 400, ROWS: 65536, SECONDS: 2.0, ROUNDS: 5}
# ---

# %% [markdown]
# ## The question
# You move a training to a GPU that is five times as fast, and it takes as long as before. A common
# reason: it waits for its data. In this lab, a training begins with the pipeline of many first
# programs. A Python function opens an image file, decodes it, reduces it and changes it at random,
# one image after the other. For which part of the time does the network compute at all?

# %%
import shutil
import time
from itertools import chain, islice, pairwise, repeat
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers
from matplotlib.ticker import LogLocator
from PIL import Image

from dltlab import data, devices, models, training, widgets
from dltlab.checks import input_and_precision as ex
from dltlab.display import NEUTRAL, PALETTE, show

# %% tags=["parameters"]
DATASET = "shapes"  # or images of your own: dltlab data import FOLDER --name NAME
FILES = 400  # image files to train on
FILE_SIDE = 512  # pixels of a file
SECONDS = 0.7  # for each measurement of a rate
ROUNDS = 3  # of measurements in turns
WIDTH = 8  # channels of the network's first convolution
SEEDS = [1, 2, 3]  # of the trainings in low precision
STEPS = 50  # of each of them
SCALES = [0, 8, 16, 24, 32, 40]  # powers of two: fixed loss scales
XLA = True  # measure training steps that XLA compiles, too
BLOCKS = 8  # of a deep network
UNITS = 64  # of each of its layers
ROWS = 8192  # examples of its batch
RUN_CHALLENGE = True

# %% [markdown]
# Photographs are larger than what a network looks at. So we enlarge the images of the data set and
# write each into a JPEG file, and the network will see 32 × 32 pixels of it.

# %%
devices.setup(precision="float32", seed=1)
tf.get_logger().setLevel("ERROR")  # no warnings that several networks are traced
BLUE, ORANGE, GREEN = PALETTE[:3]
IMAGE_SIDE = 32
RUNS = Path("runs/input_and_precision")
shutil.rmtree(RUNS, ignore_errors=True)  # of an earlier time
FOLDER = RUNS / "files"
FOLDER.mkdir(parents=True)

classes = data.info(DATASET).class_names
images, all_labels = data.arrays(DATASET, "train")
rng = np.random.default_rng(1)
chosen = rng.permutation(len(images))[:FILES]
labels, paths = all_labels[chosen], []
for number, place in enumerate(chosen):
    pixels = np.uint8(255 * np.repeat(images[place], 3 // images.shape[-1], axis=-1))
    enlarged = Image.fromarray(pixels).resize((FILE_SIDE, FILE_SIDE), Image.Resampling.BICUBIC)
    paths.append(str(FOLDER / f"{number:05d}.jpg"))
    enlarged.save(paths[-1], quality=90)
BATCH_SIZE = max(1, min(50, len(paths) // 2))
file_bytes = sum(Path(path).stat().st_size for path in paths)

figure, axes = plt.subplots(1, 8, figsize=(9, 1.5), layout="constrained")
for axis, path, label in zip(axes, paths, labels, strict=False):
    axis.imshow(Image.open(path))
    axis.set_title(classes[label][:14], fontsize=9)
    axis.axis("off")
show(figure, "Eight of the image files, each under the name of its class.")
print(f"{len(paths):,} files of {file_bytes / len(paths) / 1e3:.1f} kB on average")

# %% [markdown]
# ## A training that waits
# This is the first pipeline. Its generator returns one image at a time, and `batch` collects them.


# %%
def python_examples():
    """Yield each image with its label, in random order, mirrored and brightened at random."""
    for place in rng.permutation(len(paths)):
        with Image.open(paths[place]) as file:
            small = file.convert("RGB").resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BILINEAR)
        image = np.asarray(small, np.float32) / 255
        if rng.random() < 0.5:
            image = image[:, ::-1]
        yield image + np.float32(rng.uniform(-0.2, 0.2)), labels[place]


signature = (tf.TensorSpec((IMAGE_SIDE, IMAGE_SIDE, 3)), tf.TensorSpec((), tf.int64))
in_python = tf.data.Dataset.from_generator(python_examples, output_signature=signature)
in_python = in_python.batch(BATCH_SIZE)

# %% [markdown]
# The network is a small residual network (lab 02). `profile_pipeline` measures each stage of the
# pipeline alone, the training step alone on one batch, and both together. (`flat_map_fn` is
# TensorFlow's name for a generator.) TensorFlow would parallelize and prefetch some stages unasked,
# and we switch that off, to see what each change brings. Which bar is the shortest? And what
# fraction of the time does the step wait?


# %%
def compiled(network, jit_compile=False):
    """The network, ready to be trained; with `jit_compile`, XLA compiles its steps."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(0.001), loss, jit_compile=jit_compile)
    return network


network = compiled(models.small_resnet(len(classes), (IMAGE_SIDE, IMAGE_SIDE, 3), width=WIDTH))
options = tf.data.Options()  # only what the pipeline itself says
options.experimental_optimization.inject_prefetch = False
options.experimental_optimization.map_parallelization = False


def profile(dataset):
    """Measure each stage of a pipeline, the training step, and both together."""
    dataset = dataset.with_options(options)
    return data.profile_pipeline(
        dataset, lambda batch: network.train_on_batch(*batch), seconds=SECONDS
    )


first_batch = next(iter(in_python))
start = time.perf_counter()
network.train_on_batch(*first_batch)  # TensorFlow traces the step, which takes time once
first_seconds = time.perf_counter() - start
profile_in_python = profile(in_python)
profile_in_python.show()

# %% [markdown]
# Now the arithmetic. Loading a batch takes `load_seconds`, and the step takes `step_seconds`.
# Without prefetching, the next batch is loaded when the step has ended. With prefetching, it is
# loaded while the step computes.
#
# ### Exercise 1: waiting
# How long is it from the start of one step to the start of the next, and for what fraction of this
# time does the device wait?


# %% tags=["exercise", "nbval-check-output"]
def waiting(load_seconds, step_seconds, prefetch):
    """The seconds from step to step, and the fraction of them in which the device waits."""
    ### BEGIN SOLUTION
    seconds = max(load_seconds, step_seconds) if prefetch else load_seconds + step_seconds
    return seconds, 1 - step_seconds / seconds
    ### END SOLUTION


ex.waiting.check(waiting)  # also ex.waiting.hint() and ex.waiting.solution()

# %% [markdown]
# Compare your formula with the measurement. And what would prefetching alone bring?

# %%
predict = ex.waiting.or_reference(waiting)  # yours once it passes
measured = profile_in_python
load, step = BATCH_SIZE / measured.stages[-1][1], BATCH_SIZE / measured.step
for prefetch in (False, True):
    seconds, fraction = predict(load, step, prefetch)
    name = "with prefetching" if prefetch else "without prefetching"
    print(f"Predicted {name}: {BATCH_SIZE / seconds:,.0f} images/s, waits {fraction:.1%}")
print(f"Measured: {measured.combined:,.0f} images/s, waits {measured.waiting:.1%}")

# %% [markdown]
# Where loading takes longer than the step, prefetching hides only the step. So first we make
# loading itself faster.
#
# ## Decode with TensorFlow, in parallel
# `tf.io.decode_jpeg` and `tf.image.resize` run without Python. Without Python's lock, several
# threads can decode at the same time, which `num_parallel_calls` asks for.
#
# Each call of a function in a pipeline costs some microseconds, whatever it computes. The function
# `augment` works on one image as well as on a batch, in which it changes each image differently. So
# it can be called once for a batch: first batch, then augment.

# %%
PARALLEL = tf.data.AUTOTUNE


def decode(path, label):
    """The image in a file, reduced, in [0, 1]."""
    image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
    return tf.image.resize(image, (IMAGE_SIDE, IMAGE_SIDE), antialias=True) / 255, label


def augment(images, labels):
    """Mirror and brighten at random: one image, or each image of a batch differently."""
    shape = tf.concat([tf.shape(images)[:-3], [1, 1, 1]], axis=0)
    images = tf.where(tf.random.uniform(shape) < 0.5, tf.reverse(images, [-2]), images)
    return images + tf.random.uniform(shape, -0.2, 0.2), labels


pipelines = {"Python": in_python}  # by the name of the change
files = tf.data.Dataset.from_tensor_slices((paths, labels)).shuffle(len(paths))
pipelines["TensorFlow"] = files.map(decode).map(augment).batch(BATCH_SIZE)
in_parallel = files.map(decode, num_parallel_calls=PARALLEL)
pipelines["parallel"] = in_parallel.map(augment).batch(BATCH_SIZE)
pipelines["augment batches"] = in_parallel.batch(BATCH_SIZE).map(augment)

# %% [markdown]
# To compare them, we train from each in turns, so that a change of the machine's speed affects all,
# and take the median of the rounds. Waiting is the time that `next` takes. `factor` compares a row
# with the one above it. Which of the three changes helps most? And does the training come close to
# the rate of the step alone?


# %%
def feed(batches, trained):
    """Train for SECONDS: the images per second, and the fraction of the time spent waiting."""
    trained.train_on_batch(*next(batches))  # not counted: the first batch takes longer
    count, waited, start = 0, 0.0, time.perf_counter()
    while (now := time.perf_counter()) < start + SECONDS or not count:
        images, labels = next(batches)
        waited += time.perf_counter() - now
        trained.train_on_batch(images, labels)
        count += len(images)
    seconds = time.perf_counter() - start
    return count / seconds, waited / seconds


def in_turns(datasets, networks=None):
    """A table of rates, in turns; `networks` has others than ours by the data set's name."""
    measured = {name: [] for name in datasets}
    for _ in range(ROUNDS):
        for name, dataset in datasets.items():
            batches = chain.from_iterable(repeat(dataset.with_options(options)))  # epochs
            measured[name].append(feed(batches, (networks or {}).get(name, network)))
    rates, waits = np.median(list(measured.values()), axis=1).T
    table = pd.DataFrame({"images/s": rates, "waits": waits}, index=pd.Index(datasets, name=""))
    table["factor"] = table["images/s"] / table["images/s"].shift()
    return table


FORMAT = {"images/s": "{:,.0f}", "waits": "{:.1%}", "factor": "{:.2f}"}
in_turns(pipelines).style.format(FORMAT, na_rep="")

# %%
ex.no_wait_but_slow.ask()

# %% tags=["solution"]
ex.no_wait_but_slow.answer("b")

# %% [markdown]
# ## Cache, pack, prefetch
# Decoding gives the same image in every epoch. `cache()` keeps what has arrived there in memory,
# and from the second epoch on, the stages before it do nothing. So its place matters: what is
# behind it is done anew in each epoch.
#
# ### Exercise 2: the order
# Build the whole pipeline. Every file is decoded once, several at a time. Every epoch has its own
# order and its own random changes, which are made for a batch at once. And while the device works
# on a batch, the next one is prepared.


# %% tags=["exercise", "nbval-check-output"]
def fast_pipeline(paths, labels, decode, augment, batch_size):
    """A `tf.data.Dataset` of batches, each for one epoch."""
    ### BEGIN SOLUTION
    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).cache()
    dataset = dataset.shuffle(len(paths)).batch(batch_size).map(augment)
    return dataset.prefetch(tf.data.AUTOTUNE)
    ### END SOLUTION


ex.fast_pipeline.check(fast_pipeline)  # also ex.fast_pipeline.hint() and .solution()

# %%
build = ex.fast_pipeline.or_reference(fast_pipeline)  # yours once it passes
yours = build(paths, labels, decode, augment, BATCH_SIZE)
for _ in yours:  # the first epoch fills the cache
    pass
profile(yours).show()

# %% [markdown]
# The figure is one short measurement, in which another program may have had the cores for a while.
# If a number surprises you, run the cell again.
#
# The cache holds one tensor for each image, as float32. If all images are in one array of bytes
# instead, they take a quarter of the memory, a batch is taken with one `tf.gather`, and the array
# can be written to a file, so that even the first epoch decodes nothing. `data.load` works in this
# way. At last, `prefetch(2)` prepares up to two batches while the step computes. We add these
# changes one by one, too: first the cache without prefetching.

# %%
decoded = in_parallel.cache()
pipelines["cache"] = decoded.shuffle(len(paths)).batch(BATCH_SIZE).map(augment)
for _ in decoded:
    pass

in_order = tf.data.Dataset.from_tensor_slices((paths, labels)).map(decode, PARALLEL)
pixels = np.uint8(np.round([255 * image for image, _ in in_order.as_numpy_iterator()]))
all_pixels, all_of_them = tf.constant(pixels), tf.constant(labels)


def take(rows):
    """The images and labels in these rows."""
    batch = tf.cast(tf.gather(all_pixels, rows), tf.float32) / 255
    return batch, tf.gather(all_of_them, rows)


rows = tf.data.Dataset.range(len(paths)).shuffle(len(paths))
rows = rows.batch(BATCH_SIZE, drop_remainder=True)  # XLA compiles for one shape
pipelines["packed"] = rows.map(take).map(augment)
pipelines["prefetch"] = pipelines["packed"].prefetch(2)
print(f"Cached: {4 * pixels.nbytes / 1e6:.1f} MB, packed: {pixels.nbytes / 1e6:.1f} MB")

# %% [markdown]
# The table sums up. In 2021, Google's authors of `tf.data` reported that input pipelines consume a
# significant fraction of the resources of millions of training jobs. What fraction of the step's
# own rate does our training reach with the first pipeline, and with the last one? And how does the
# waiting fall? On few cores, a difference of a tenth may be chance.

# %%
batch = next(iter(pipelines["packed"]))
same_batch = tf.data.Dataset.from_tensors(batch).cache().repeat(100)
journey = in_turns(pipelines | {"step alone": same_batch})
for name in ("Python", "prefetch"):
    fraction = journey.loc[name, "images/s"] / journey.loc["step alone", "images/s"]
    print(f"{name}: {fraction:.0%} of the rate of the step alone")
journey.style.format(FORMAT, na_rep="")

# %% [markdown]
# ## Read a trace
# `profile_pipeline` says that the step waits. A *trace* shows what happens meanwhile. (In `fit`,
# the callback `keras.callbacks.TensorBoard(folder, profile_batch=(6, 9))` records one.) Below, each
# row is a thread. First comes the pipeline in Python: look for the times in which no thread
# computes the step. Then the last pipeline: which operations take most of the time?
#
# After the table is TensorBoard's page *Profile* with the same traces. It needs a package,
# `pip install 'dltlab[profile]'`, and loads its charts from the web: without either, go on. On the
# page, choose a session and the tool *Trace Viewer*, which shows every call on every thread; the
# keys W and S zoom, A and D move. Find the thread `python`, in which the training waits for its
# next batch. The overview and the analysis of the input look at the steps of a GPU: without one,
# their times are 0.


# %%
def record(name, dataset):
    """Train with four batches under the profiler, and read the trace."""
    folder = str(RUNS / name)
    batches = chain.from_iterable(repeat(dataset.with_options(options)))
    network.train_on_batch(*next(batches))
    with tf.profiler.experimental.Profile(folder):
        for x, y in islice(batches, 4):
            network.train_on_batch(x, y)
    return training.read_trace(folder)


record("python", pipelines["Python"]).show()
fast_trace = record("prefetch", pipelines["prefetch"])
fast_trace.show()
fast_trace

# %%
widgets.tensorboard(str(RUNS), page="profile")

# %% [markdown]
# ## Numbers of 16 bits
# Once the input keeps up, the step itself is the limit. Can it compute with shorter numbers? A
# floating-point number has a sign, an exponent and a fraction. From the number of bits follows what
# a format can hold:

# %%
FORMATS = {"float32": (8, 23), "bfloat16": (8, 7), "float16": (5, 10)}  # bits: exponent, fraction
rows = {}
for name, (exponent, fraction) in FORMATS.items():
    bias = 2 ** (exponent - 1) - 1
    rows[name] = {
        "largest": (2 - 2.0**-fraction) * 2.0**bias,
        "smallest with all digits": 2.0 ** (1 - bias),
        "smallest": 2.0 ** (1 - bias - fraction),
        "step at 1": 2.0**-fraction,
    }
pd.DataFrame(rows).T.style.format("{:.1e}")

# %% [markdown]
# bfloat16 is the first half of a float32: the same exponent, and 7 instead of 23 bits of the
# fraction.
#
# ### Exercise 3: round to bfloat16
# Round each number to the nearest one whose last 16 bits are 0. If two are equally near, take the
# one whose last bit that is kept is 0. All numbers are finite.


# %% tags=["exercise", "nbval-check-output"]
def to_bfloat16(values):
    """The float32 array `values`, rounded to bfloat16, again as float32."""
    ### BEGIN SOLUTION
    bits = values.view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded & 0xFFFF0000).astype(np.uint32).view(np.float32)
    ### END SOLUTION


ex.to_bfloat16.check(to_bfloat16)  # also ex.to_bfloat16.hint() and ex.to_bfloat16.solution()

# %% [markdown]
# How large is the error of rounding a number of a given size? Look at both ends of float16, and at
# the level of bfloat16 in between.

# %%
in_bfloat16 = ex.to_bfloat16.or_reference(to_bfloat16)  # yours once it passes
sizes = 2.0 ** np.arange(-44, 24)
values = np.float32(sizes[:, None] * rng.uniform(1, 2, (len(sizes), 200)))
with np.errstate(over="ignore"):
    in_float16 = values.astype(np.float16).astype(np.float32)
figure, axes = plt.subplots(figsize=(8, 3.4), layout="constrained")
for name, rounded, color in (
    ("bfloat16", in_bfloat16(values), BLUE),
    ("float16", in_float16, ORANGE),
):
    errors = np.max(np.abs(rounded - values) / values, axis=1)
    errors[~np.isfinite(errors)] = np.nan  # infinite: it does not fit
    axes.plot(sizes, errors, color=color, label=name)
axes.set(xscale="log", yscale="log", xlabel="size of the number", ylabel="largest relative error")
axes.set_title("Rounding to 16 bits")
axes.grid(alpha=0.3)
axes.legend()
show(
    figure,
    "The relative error of bfloat16 is the same for all sizes. That of float16 is smaller for "
    "numbers near 1, grows to 1 for small numbers, and large numbers do not fit.",
)

# %% [markdown]
# ## A training that float16 breaks
# A detector counts photons. Where few arrive, its image is noisy, and a network can remove the
# noise. As physicists do, we divide an image by its sum: each pixel is the fraction of the light
# that falls on it, about a thousandth. The loss is the mean squared error.

# %%
PIXELS, PHOTONS, PART = 24, 2000, 16  # side of an image, photons in it, images in a batch
gray = images[chosen].mean(axis=-1, keepdims=True)
light = np.array(tf.image.resize(gray, (PIXELS, PIXELS))) + 0.05
light = np.float32(light / light.sum(axis=(1, 2, 3), keepdims=True))
counts = np.float32(rng.poisson(PHOTONS * light) / PHOTONS)
figure, axes = plt.subplots(1, 6, figsize=(9, 1.8), layout="constrained")
for number, axis in enumerate(axes):
    axis.imshow((counts, light)[number % 2][number // 2], cmap="gray", vmin=0, vmax=light[:3].max())
    axis.set_title(("counted", "expected")[number % 2], fontsize=9)
    axis.axis("off")
show(figure, "Three images as the detector counts them, each beside the expected fractions.")
print(
    f"mean of a pixel {light.mean():.1e}, mean squared error {np.mean((counts - light) ** 2):.1e}"
)

# %% [markdown]
# A tensor core multiplies numbers of 16 bits, adds the products in float32, and rounds the result
# to 16 bits. We do the same on any device: after each operation, cast to the format and back. In
# the backward pass, TensorFlow rounds the gradients at the same places. The weights themselves stay
# in float32: they are the *master weights*, and each step rounds a copy.
#
# The training can multiply the loss by a *loss scale* before the backward pass, and divide the
# gradients by it afterwards, in float32. With a scale of 1, nothing changes.


# %%
def rounding(dtype):
    """A function that rounds a tensor, and its gradient, to a format."""
    return lambda x: x if dtype == "float32" else tf.cast(tf.cast(x, dtype), tf.float32)


def new_weights(seed):
    """Kernels and biases of three convolutions."""
    draw, channels = np.random.default_rng(seed), (1, 8, 8, 1)
    weights = []
    for inputs, outputs in pairwise(channels):
        kernel = draw.normal(0, np.sqrt(2 / 9 / inputs), (3, 3, inputs, outputs))
        weights += [tf.Variable(np.float32(kernel)), tf.Variable(np.zeros(outputs, np.float32))]
    return weights


def denoise(weights, x, to):
    """The fractions that the network expects, from the counted ones."""
    x = to(x * PIXELS**2)
    for place in range(0, len(weights), 2):
        kernel, bias = to(weights[place]), to(weights[place + 1])
        x = to(to(tf.nn.conv2d(x, kernel, 1, "SAME")) + bias)
        if place + 2 < len(weights):
            x = tf.nn.relu(x)
    return to(x / PIXELS**2)


# %%
def gradients_of(dtype):
    """A function for the loss, its gradients, whether all are finite, and how many are 0."""
    to = rounding(dtype)

    @tf.function
    def compute(weights, x, y, scale):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(to(denoise(weights, x, to) - y) ** 2)
            scaled = scale * loss
        gradients = [part / scale for part in tape.gradient(scaled, weights)]
        flat = tf.concat([tf.reshape(part, [-1]) for part in gradients], axis=0)
        zeros = tf.reduce_mean(tf.cast(flat == 0, tf.float32))
        return loss, gradients, tf.reduce_all(tf.math.is_finite(flat)), zeros

    return compute


compute = {dtype: gradients_of(dtype) for dtype in FORMATS}


# %%
def train(dtype, seed, scale=1.0, adapt=None, rate=0.01, master=True):
    """Train; return the losses, and the last scale.

    `adapt` changes the scale after each step. Without `master`, the weights are kept in `dtype`.
    """
    weights, draw, to = new_weights(seed), np.random.default_rng(seed), rounding(dtype)
    optimizer = keras.optimizers.Adam(rate, epsilon=1e-12)
    losses, count = [], 0
    for _ in range(STEPS):
        rows = draw.integers(len(light), size=PART)
        factor = tf.constant(scale, tf.float32)
        loss, gradients, is_finite, _ = compute[dtype](weights, counts[rows], light[rows], factor)
        if not is_finite and adapt is None:  # broken for good
            return np.full(STEPS, np.nan), scale
        if is_finite:
            optimizer.apply(gradients, weights)
        if adapt is not None:
            scale, count = adapt(scale, count, bool(is_finite))
        if not master:
            for weight in weights:
                weight.assign(to(weight))
        losses.append(float(loss))
    return np.array(losses), scale


# %% [markdown]
# We train in all three formats, with three seeds. Which of them learns? The dashed line is the
# error without a network. Below the figure are the fractions of gradients that are exactly 0 before
# any training.


# %%
def show_losses(runs, title):
    """Draw the losses of trainings: a line for each name, the mean of its seeds."""
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    steps = np.arange(1, STEPS + 1)
    for place, (name, losses) in enumerate(runs.items()):
        color, width = PALETTE[place], 5 - place  # lines may lie on each other
        axes.plot(steps, np.mean(losses, axis=0), color=color, linewidth=width, label=name)
        axes.fill_between(steps, np.min(losses, 0), np.max(losses, 0), color=color, alpha=0.15)
    axes.axhline(np.mean((counts - light) ** 2), linestyle="--", color=NEUTRAL, label="no network")
    axes.set(yscale="log", xlabel="step", ylabel="mean squared error", title=title)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, loc="outside right center")
    last = {name: np.mean(np.array(losses)[:, -STEPS // 4 :]) for name, losses in runs.items()}
    show(figure, ", ".join(f"{name}: error {loss:.1e} at the end" for name, loss in last.items()))
    return last


runs = {dtype: [train(dtype, seed)[0] for seed in SEEDS] for dtype in FORMATS}
last = show_losses(runs, "Training in three formats: mean and range of the seeds")
for dtype in FORMATS:
    weights = new_weights(1)
    *_, zeros = compute[dtype](weights, counts[:PART], light[:PART], tf.constant(1.0))
    print(f"{dtype}: {float(zeros):.0%} of the gradients are 0")
error = np.sqrt(np.mean((counts - light) ** 2))
typical = 2 * error / (PART * PIXELS**2) / PIXELS**2
print(f"A typical gradient of an output of the last convolution: {typical:.1e}")
print(f"The smallest number of float16: {2.0**-24:.1e}")

# %% [markdown]
# Why? The mean over all pixels of a batch divides the gradients by their number, and the fractions
# of the light once more by the pixels of an image. So they become smaller than the smallest number
# of float16: they *underflow*. Multiplying the loss by a number multiplies all gradients by it. But
# by which number? Too small a scale does not help. With too large a scale, the gradients
# *overflow*.

# %%
rows = []
for power in SCALES:
    losses, _ = train("float16", SEEDS[0], scale=2.0**power)
    rows.append((power, np.mean(losses[-STEPS // 4 :])))
swept = pd.DataFrame(rows, columns=["power", "loss"])
figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
finite = swept[np.isfinite(swept["loss"])]
axes.plot(finite["power"], finite["loss"], "o-", color=ORANGE, label="float16")
broken = swept[~np.isfinite(swept["loss"])]
top = finite["loss"].max() if len(finite) else 1.0
axes.plot(broken["power"], np.full(len(broken), top), "x", color=ORANGE, label="not finite")
in_float32 = np.mean(runs["float32"][0][-STEPS // 4 :])
axes.axhline(in_float32, linestyle="--", color=NEUTRAL, label="float32")
axes.set(yscale="log", xlabel="loss scale, as a power of two", ylabel="error at the end")
axes.set_title(f"A fixed loss scale (seed {SEEDS[0]})")
axes.set_xticks(SCALES)
axes.grid(alpha=0.3)
axes.legend(fontsize=8)
show(figure, f"The error at the end for {len(SCALES)} loss scales; {len(broken)} are not finite.")

# %% [markdown]
# The usable scales depend on the network, the data and the progress of the training. So let the
# training find them: **dynamic loss scaling** begins with a large scale. If a gradient is not
# finite, the step is left out and the scale halved. After `growth_steps` finite steps, it is
# doubled.
#
# ### Exercise 4: dynamic loss scaling
# `count` is the number of finite steps since the scale last changed, without this one.
#
# In the figure below, the first steps change nothing: they are left out until the scale is small
# enough.


# %% tags=["exercise", "nbval-check-output"]
def update_scale(scale, count, is_finite, growth_steps):
    """The scale and the count after a step, whose gradients were finite or not."""
    ### BEGIN SOLUTION
    if not is_finite:
        return scale / 2, 0
    if count + 1 == growth_steps:
        return scale * 2, 0
    return scale, count + 1
    ### END SOLUTION


ex.update_scale.check(update_scale)  # also ex.update_scale.hint() and ex.update_scale.solution()

# %%
update = ex.update_scale.or_reference(update_scale)  # yours once it passes


def adapt(scale, count, is_finite):
    """Your rule, with a scale that grows after ten steps."""
    return update(scale, count, is_finite, 10)


dynamic = [train("float16", seed, 2.0**40, adapt) for seed in SEEDS]
runs["float16, dynamic scale"] = [losses for losses, _ in dynamic]
last = show_losses(runs, "Dynamic loss scaling repairs the training in float16")
ratio = last["float16, dynamic scale"] / last["float32"]
print(f"With dynamic scaling, the error is {ratio:.2f} times that of float32.")
print("The last scales:", ", ".join(f"2^{np.log2(scale):.0f}" for _, scale in dynamic))

# %% [markdown]
# In Keras, `keras.optimizers.LossScaleOptimizer` does this, and a model with the policy
# "mixed_float16" uses it without being asked. bfloat16 needs no scale. Does it need the master
# weights?

# %%
ex.lost_update.ask()

# %% tags=["solution"]
ex.lost_update.answer("c")

# %% [markdown]
# We train with a small learning rate in bfloat16, once with master weights in float32, and once
# with weights that are rounded to bfloat16 after each step.

# %%
small_steps = {
    name: [train("bfloat16", seed, rate=0.0003, master=master)[0] for seed in SEEDS]
    for name, master in (("master weights in float32", True), ("weights in bfloat16", False))
}
last_small = show_losses(small_steps, "bfloat16 with a learning rate of 0.0003")
fraction = last_small["weights in bfloat16"] / last_small["master weights in float32"]
print(f"Without master weights, the error at the end is {fraction:.2f} times as large.")

# %% [markdown]
# ## Does it pay here?
# 16 bits halve what is moved through the memory. Arithmetic is faster only if the device has units
# for it: tensor cores on a GPU, AMX or AVX-512 BF16 on a processor. A slide of 2017 gives the V100
# 120 TOPS for training and the P100 10, "12x". In float32 the V100 has 15: a factor of 8 is due to
# float16 on tensor cores. Without such units, the numbers have to be converted to float32 and back.
#
# XLA compiles a step into one program, which takes time once. We measure the training step of our
# network with and without both, in turns, so that a change of the machine's speed affects all of
# them. What do you expect on your device?

# %%
print("Extensions of this processor:", ", ".join(devices.cpu_info().extensions) or "none")
policies = ["float32", "bfloat16"]
if tf.config.list_physical_devices("GPU"):
    policies.append("float16")
steps = {"float32": network}
first = {"float32": first_seconds}  # of each way's first step
for jit in (False, True) if XLA else (False,):
    for policy in policies:
        name = f"{policy}, XLA" if jit else policy
        if name not in steps:
            copy = keras.models.clone_model(models.in_precision(network, policy))
            steps[name] = compiled(copy, jit_compile=jit)
            start = time.perf_counter()
            steps[name].train_on_batch(*batch)
            first[name] = time.perf_counter() - start

rates = in_turns(dict.fromkeys(steps, same_batch), steps)["images/s"]
later = BATCH_SIZE / rates  # seconds of a step
saved, extra = later["float32"] - later, pd.Series(first) - first["float32"]
rows = pd.DataFrame({"first (s)": first, "later (ms)": 1e3 * later})
rows["factor"] = rates / rates["float32"]
pays = saved > 0.05 * later["float32"]
rows["pays after (steps)"] = np.ceil(extra.clip(0) / saved).where(pays)
gain = rows.loc["bfloat16", "factor"]
print(f"16 bits instead of 32: {gain:.2f} times as fast here, {120 / 15:.0f} times by the slide.")
rows.style.format("{:.2f}").format("{:.0f}", subset="pays after (steps)", na_rep="never")

# %% [markdown]
# A factor below 1 is a loss. "never" means that nothing is saved, or less than 5 %, which may be an
# error of this measurement. Small networks have small operations, in which the arithmetic is a
# small part of the time: measure with your own network before you decide.
#
# ## Memory against time
# The backward pass needs the outputs of all layers, so their memory grows with the batch and the
# depth. There are two ways to need less. **Accumulation** divides a batch into parts, computes the
# gradient of one after the other, and combines them. **Recomputing**, also called gradient
# checkpointing, keeps only the outputs between blocks, and computes the inner ones again in the
# backward pass.
#
# ### Exercise 5: accumulate
# Each part has the gradient of its mean loss. What is the gradient of the whole batch?


# %% tags=["exercise", "nbval-check-output"]
def accumulate(gradients, sizes):
    """The gradient of the mean over all examples, from those of parts with `sizes` examples."""
    ### BEGIN SOLUTION
    total = sum(size * gradient for size, gradient in zip(sizes, gradients, strict=True))
    return total / sum(sizes)
    ### END SOLUTION


ex.accumulate.check(accumulate)  # also ex.accumulate.hint() and ex.accumulate.solution()

# %% [markdown]
# In Keras, accumulation is one argument, as in
# `keras.optimizers.Adam(gradient_accumulation_steps=4)`: the weights change at every fourth batch.
# It takes the plain mean, which is the same for parts of equal size. `keras.remat` makes a function
# recompute. Below is a deep network of residual blocks, each of four layers.
#
# `devices.peak_memory` measures how much memory a call needs at most. What do you expect for four
# parts, and for recomputing? The gradients must be the same. Chen and others (2016) trained a
# residual network of 1,000 layers with 7 instead of 48 GB, and needed 30 % more time. How much of
# both do you get? With more blocks, the one block whose inner outputs are in memory counts less.


# %%
class Block(layers.Layer):
    """Four dense layers and a shortcut; with `recompute`, only its output is kept."""

    def __init__(self, units, recompute):
        super().__init__()
        self.inner = [layers.Dense(units, activation="gelu") for _ in range(4)]
        self.recompute = recompute

    def build(self, shape):
        for layer in self.inner:
            layer.build(shape)

    def run(self, x):
        y = x
        for layer in self.inner:
            y = layer(y)
        return x + y

    def call(self, x):
        return keras.remat(self.run)(x) if self.recompute else self.run(x)


def deep_network(recompute):
    """BLOCKS blocks; the weights depend only on the seed."""
    keras.utils.set_random_seed(1)
    inputs = x = keras.Input((UNITS,))
    for _ in range(BLOCKS):
        x = Block(UNITS, recompute)(x)
    return keras.Model(inputs, layers.Dense(1)(x))


# %%
combine = ex.accumulate.or_reference(accumulate)  # yours once it passes
features = np.float32(rng.normal(size=(ROWS, UNITS)))


def gradient_function(model, num_parts):
    """A function for the gradient of the mean of the squared outputs."""

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x, training=True) ** 2)
        return tape.gradient(loss, model.trainable_variables)

    parts = np.array_split(features, num_parts)

    def whole():
        gradients = [[part.numpy() for part in gradient(tf.constant(x))] for x in parts]
        sizes = [len(x) for x in parts]
        return [combine(list(same), sizes) for same in zip(*gradients, strict=True)]

    return whole


ways = {}
for recompute in (False, True):
    model = deep_network(recompute)
    for num_parts in (1, 4):
        name = " and ".join(["4 parts"] * (num_parts > 1) + ["recomputing"] * recompute)
        ways[name or "whole batch"] = gradient_function(model, num_parts)

# %%
megabytes = [devices.peak_memory(call) / 1e6 for call in ways.values()]
memory = pd.DataFrame({"MB": megabytes}, index=pd.Index(ways, name="gradient of"))
times, results = {name: [] for name in ways}, {}
for _ in range(5):
    for name, call in ways.items():  # in turns
        start = time.perf_counter()
        results[name] = call()
        times[name].append(time.perf_counter() - start)
memory["seconds"] = [np.median(seconds) for seconds in times.values()]
memory["difference"] = [
    max(
        np.abs(part - other).max() / np.abs(other).max()
        for part, other in zip(result, results["whole batch"], strict=True)
    )
    for result in results.values()
]
plain, again = memory.loc["whole batch"], memory.loc["recomputing"]
print(f"Recomputing: {plain['MB'] / again['MB']:.1f} times less memory, ", end="")
print(f"{again['seconds'] / plain['seconds'] - 1:+.0%} time. Chen and others: 6.9 times, +30%.")
memory.style.format({"MB": "{:.0f}", "seconds": "{:.3f}", "difference": "{:.0e}"})

# %%
ex.checkpoints.ask()

# %% tags=["solution"]
ex.checkpoints.answer("b")

# %% [markdown]
# ## The challenge
# A cache helps from the second epoch on. What if there is only one, because there are more images
# than fit into memory? Then decoding has to be fast. The files have 512 × 512 pixels, and the
# batches must be float32 images of 64 × 64 pixels in [0, 1], each file once, in any order. The bar:
# twice as many images per second as a pipeline that decodes in parallel with our `decode`, then
# batches and prefetches. The two are measured in turns.


# %% tags=["exercise"]
def first_epoch(paths, labels, batch_size):
    """A `tf.data.Dataset` of batches for one epoch; the files appear after it was built."""
    ### BEGIN SOLUTION

    def decode(path, label):
        # A JPEG file stores frequencies of blocks of 8 × 8 pixels: an eighth of the size needs only
        # the first of each.
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3, ratio=8), label

    def convert(images, labels):
        return tf.cast(images, tf.float32) / 255, labels

    dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
    dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    return dataset.map(convert).prefetch(2)
    ### END SOLUTION


if RUN_CHALLENGE:
    ex.first_epoch.check(first_epoch)  # also ex.first_epoch.hint() and .solution()

# %% [markdown]
# ## Something to show a friend
# From the first pipeline to the last, and on to bfloat16 and XLA where they were measured. Each bar
# begins where the one before it ended. Those of 16 bits and of XLA begin at "prefetch", and their
# factors compare them with float32 in the same minute. Orange is a loss. Which change brought most?
# Bring your own pipeline, and do the same with it.

# %%
again = in_turns(dict.fromkeys(steps, pipelines["prefetch"]), steps)
alone = journey.loc["step alone", "images/s"]
bars = []  # for each change its name, the rate before and after it, and the fraction of waiting
for name in pipelines:
    rate, waits, _ = journey.loc[name]
    bars.append((name, bars[-1][2] if bars else rate, rate, waits))
at_last = journey.loc["prefetch", "images/s"]
for name in steps:
    if name != "float32":
        factor = again.loc[name, "images/s"] / again.loc["float32", "images/s"]
        bars.append((f"prefetch, {name}", at_last, at_last * factor, again.loc[name, "waits"]))

# %%
rates = [rate for _, _, rate, _ in bars]
figure, axes = plt.subplots(figsize=(9, 1.3 + 0.36 * len(bars)), layout="constrained")
for place, (_, before, rate, waits) in enumerate(bars):
    low, high = sorted((before, rate)) if place else (rates[0] / 1.02, rates[0])
    axes.barh(place, high - low, left=low, color=BLUE if rate >= before else ORANGE)
    factor = f"× {rate / before:.2f} = " if place else ""
    text = f" {factor}{rate:,.0f} images/s, waits {waits:.0%} "
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # the dashed line ends at it
    axes.text(high, place, text, va="center", bbox=box)
axes.set_yticks(range(len(bars)), [name for name, *_ in bars])
axes.invert_yaxis()
axes.axvline(alone, linestyle="--", color=NEUTRAL, label="the step alone, in float32")
axes.set(xscale="log", xlim=(min(rates) / 1.3, max(rates) * 6))
axes.set(xlabel="images per second of the training", ylabel="change")
axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
axes.xaxis.set_major_formatter("{x:,.0f}")
axes.minorticks_off()
axes.set_title(f"{at_last / rates[0]:.1f} times as fast, step by step")
axes.grid(axis="x", alpha=0.3)
axes.legend(loc="upper right", fontsize=8)
texts = ", ".join(f"{name} {rate:,.0f}" for name, _, rate, _ in bars)
show(figure, f"Images per second of the training after each change: {texts}.")

# %% [markdown]
# ## What you learned
# A training is as fast as the slower one of input and step, and only if the two overlap; so measure
# both, alone and together, before you change anything. Formats of 16 bits differ in range and
# precision: float16 needs loss scaling, and both need master weights. Mixed precision, XLA,
# accumulation and recomputing are one line each in Keras, and whether they pay must be measured on
# the device.
#
# ## What to try next
# - Set `DATASET` to your own images, and `FILE_SIDE` to the size of your photographs.
# - Replace `AUTOTUNE` by 1, 2, 4 and 8 in your pipeline. How many threads are enough?
# - Train `models.small_vgg` with the policies "float32" and "mixed_bfloat16" on a GPU.
# - Vary `BLOCKS`, and draw the memory of both ways over the depth.

# %% [markdown]
# ## References
# - D. Murray, J. Šimša, A. Klimovic and I. Indyk, *tf.data: a machine learning data processing
#   framework*, 2021, [arXiv:2101.12127](https://arxiv.org/abs/2101.12127).
# - P. Micikevicius et al., *Mixed precision training*, 2018,
#   [arXiv:1710.03740](https://arxiv.org/abs/1710.03740): master weights and loss scaling.
# - D. Kalamkar et al., *A study of BFLOAT16 for deep learning training*, 2019,
#   [arXiv:1905.12322](https://arxiv.org/abs/1905.12322).
# - T. Chen, B. Xu, C. Zhang and C. Guestrin, *Training deep nets with sublinear memory cost*, 2016,
#   [arXiv:1604.06174](https://arxiv.org/abs/1604.06174): recomputing.
# - TensorFlow, *Better performance with the tf.data API* and *Optimize TensorFlow performance using
#   the Profiler*: the stages of a pipeline, and traces.
