# ---
# title: Training on several GPUs
# summary: >-
#   Is a training on four GPUs still the same training? You divide a batch over replicas, average
#   their gradients, find what batch normalization does to that, scale the learning rate until it
#   breaks, and compute how many of eight GPUs each of four networks is worth.
# objectives:
#   - train the same network on 1, 2 and 4 replicas, and prove that it is the same training
#   - say what is mirrored on each device, and what is not
#   - scale the learning rate with the global batch, warm it up, and see where that ends
#   - replace devices by gradient accumulation, and say what it cannot replace
#   - combine the statistics of batch normalization over replicas
#   - compute from bytes and operations how well a network scales
# minutes: {read: 45, exercise: 60, compute: 3}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: [digits]
# requires: [02_image_classification]
# profiles:
#   smoke:
#     EPOCHS: 1
#     NUM_REPLICAS: [1, 2]
#     FACTORS: [8, 32]
#     SEEDS: [1]
#     NETWORKS: [alexnet, googlenet]
#     MEASURED_BATCH: 0
#     RUN_CHALLENGE: false
#   workshop: {}
#   full: {SEEDS: [1, 2, 3, 4, 5, 6, 7, 8], MEASURED_BATCH: 16}
# ---

# %% [markdown]
# ## The question
# A slide of 2017 shows a server with eight P100 GPUs that trains AlexNet, GoogLeNet, ResNet-50 and
# VGG-16 with Caffe. Each GPU holds the whole network and takes images of its own: 128 in a step for
# AlexNet, 256 for GoogLeNet, 64 for ResNet-50 and 32 for VGG-16. After each step the GPUs average
# their gradients. This is *data parallelism*, and each copy of the network is a *replica*.
#
# Two questions. Is it still the same training? And are eight GPUs eight times as fast?
#
# You need no GPU to find out. TensorFlow can split one device into several *logical devices*. They
# behave like several GPUs in everything but speed, as they share one processor. This must be done
# before TensorFlow computes anything, so it is the first thing in this notebook.

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from dltlab import data, devices, distribute, models, training
from dltlab.checks import multi_gpu_training as ex
from dltlab.display import NEUTRAL, PALETTE, show

tf.get_logger().setLevel("WARNING")  # not a line for each all-reduce
devices.setup(precision="float32", seed=1, logical_devices=4)

# %% tags=["parameters"]
EPOCHS = 2  # of each training that is compared
NUM_REPLICAS = [1, 2, 4]  # of the trainings that are compared
FACTORS = [1, 2, 4, 8, 16, 32]  # replicas in the search for the largest batch
SEEDS = [1, 2, 3]
NETWORKS = ["alexnet", "googlenet", "resnet50", "vgg16"]
MEASURED_BATCH = 4  # images in a step of these networks that is measured here; 0: none
RUN_CHALLENGE = True

# %% [markdown]
# One line chooses how to train on what there is: one device, several, or the workers of a cluster.
# It says what it chose, and why.

# %%
plan = distribute.strategy("auto")
plan

# %% [markdown]
# ## Divide a batch
# The data are handwritten digits, 8 × 8 pixels. Here is a batch of 10, divided over four replicas
# as evenly as possible. Which replicas have fewer rows?

# %%
images, labels = data.arrays("digits", "train")
test_images, test_labels = data.arrays("digits", "test")

figure, axes = plt.subplots(1, 10, figsize=(9, 1.4), layout="constrained")
parts = np.array_split(np.arange(10), 4)
for replica, part in enumerate(parts):
    for row in part:
        axes[row].imshow(images[row], cmap="gray_r")
        axes[row].set(xticks=[], yticks=[])
        axes[row].set_title(f"replica {replica}", fontsize=8, color=PALETTE[replica])
        for side in axes[row].spines.values():
            side.set(color=PALETTE[replica], linewidth=3)
sizes = [len(part) for part in parts]
show(figure, f"Ten digits in frames of four colors, one for each replica: {sizes} of them.")

# %% [markdown]
# Each replica computes the gradient of the mean loss of *its* rows. What we want is the gradient of
# the mean loss of all rows.
#
# ### Exercise 1: average the gradients
# `gradients` has an array from each replica, `rows` the number of rows that it is the mean of. A
# replica may have no rows at all.


# %% tags=["exercise", "nbval-check-output"]
def average_gradients(gradients, rows):
    """The gradient of the mean loss over all rows, an array as each of the gradients."""
    ### BEGIN SOLUTION
    total = sum(count * gradient for count, gradient in zip(rows, gradients, strict=True))
    return total / sum(rows)
    ### END SOLUTION


ex.average_gradients.check(average_gradients)  # also .hint() and .solution()

# %% [markdown]
# Try it with the ten digits and the gradient of a single dense layer. Is your average the gradient
# that one device computes from all ten? And the plain mean of the four?

# %%
average = ex.average_gradients.or_reference(average_gradients)  # yours once it passes


def gradient_of(rows):
    """The gradient of the mean cross-entropy of some rows, for a dense layer of zeros."""
    pixels = images[rows].reshape(len(rows), -1)
    return pixels.T @ (0.1 - np.eye(10)[labels[rows]]) / len(rows)


on_one_device = gradient_of(np.arange(10))
on_replicas = [gradient_of(part) for part in parts]
weighted = np.abs(average(on_replicas, sizes) - on_one_device).max()
plain = np.abs(np.mean(on_replicas, axis=0) - on_one_device).max()
print(f"Largest difference to one device: {weighted:.1e} weighted with the rows,")
largest = np.abs(on_one_device).max()
print(f"{plain:.1e} if each replica counts the same. The gradients reach {largest:.2f}.")

# %% [markdown]
# ## The same training
# Now a network and a whole training, on 1, 2 and 4 replicas. `plan.scope()` is where the model is
# made, so that TensorFlow makes a copy of each weight on each device. `plan.prepare` lets Keras'
# `fit` average the gradients as you did. The batch given to `fit` is the *global batch*, of all
# replicas together. The last one of an epoch is short.


# %%
def build(*hidden, optimizer=None):
    """A small network, the same each time, compiled."""
    keras.utils.set_random_seed(1)
    stack = [keras.Input(images.shape[1:]), layers.Conv2D(8, 3, activation="relu"), *hidden]
    network = keras.Sequential([*stack, layers.Flatten(), layers.Dense(10)])
    network.compile(
        optimizer or keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return network


# %%
def train_on(replicas, make=build, batch_size=60, prepared=True):
    """Train on some replicas; the model, and the loss of the last epoch."""
    strategy = distribute.strategy("auto", replicas=replicas)
    with strategy.scope():
        network = make()
    if prepared:
        strategy.prepare(network)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
    history = training.fit(network, batches, epochs=EPOCHS, title=None)
    return network, history.history["loss"][-1]


def difference(network, other):
    """The largest difference of a weight."""
    return max(
        np.abs(a - b).max() for a, b in zip(network.get_weights(), other.get_weights(), strict=True)
    )


trained = {count: train_on(count) for count in NUM_REPLICAS}
one, one_loss = trained[1]
print(f"{len(images):,} rows in batches of 60, the last of {len(images) % 60}, {EPOCHS} epochs")
for count, (network, loss) in trained.items():
    print(f"{count} replicas: loss {loss:.6f}, weights differ by {difference(network, one):.0e}")

# %% [markdown]
# The differences are those of rounding: sums in another order. It is the same training. Without
# `plan.prepare`, TensorFlow's own way gives each replica the same weight, as the plain mean above.
# What does one short batch in each epoch do?

# %%
most = NUM_REPLICAS[-1]
unprepared, _ = train_on(most, prepared=False)
print(f"{most} replicas, not prepared: weights differ by {difference(unprepared, one):.0e}")

# %% [markdown]
# ### What is mirrored?
# Look into the memory of the devices. Which numbers does each have, and are the copies equal?

# %%
network = trained[most][0]
held = {
    "weight": network.trainable_variables[0],
    "momentum": network.optimizer.variables[2],
    "loss so far": network.metrics[0].variables[0],
}
rows = []
for name, variable in held.items():
    copies = [copy.numpy() for copy in variable.value.values]
    equal = all(np.array_equal(copies[0], copy) for copy in copies)
    shown = [f"{copy.ravel()[0]:.4f}" for copy in copies]
    rows.append((name, len(copies), "equal" if equal else "different", *shown))
pd.DataFrame(rows, columns=["first number of", "copies", "", *plan.devices[:most]])

# %% [markdown]
# Weights and momentum are *mirrored*: a full copy on each device, updated by the same averaged
# gradient, so that the copies stay equal without being sent. Sums for the loss and the metrics are
# kept by each replica, and are added when somebody reads them.

# %%
ex.what_is_saved.ask()

# %% tags=["solution"]
ex.what_is_saved.answer("b")

# %% [markdown]
# ## Batch normalization
# One layer does not look at each row by itself. Batch normalization subtracts the mean of the batch
# and divides by its standard deviation. Which batch? A replica has only its own rows. So the layer
# computes something else on four replicas than on one. How far does a mean of 4 rows lie from that
# of all? And one of 64?

# %%
pixels = images[:, 3:5, 3:5].reshape(len(images), -1)  # four pixels in the middle
spread = {}
for rows_of_replica in (2, 4, 8, 16, 32, 64):
    groups = pixels[: len(pixels) // rows_of_replica * rows_of_replica]
    means = groups.reshape(-1, rows_of_replica, 4).mean(axis=1)
    spread[rows_of_replica] = np.mean(means.std(axis=0) / pixels.std(axis=0))
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.loglog(list(spread), list(spread.values()), "o-", color=PALETTE[0], label="measured")
expected = [count**-0.5 for count in spread]
axis.loglog(list(spread), expected, "--", color=NEUTRAL, label="1 / √rows")
axis.set(xlabel="rows of a replica", ylabel="spread of the mean\n(standard deviations)")
axis.set_xticks(list(spread), [str(count) for count in spread])
axis.minorticks_off()
axis.set_yticks(expected, [f"{share:.2f}" for share in expected])
axis.set_title("How far the mean of a replica lies from that of all")
axis.legend()
show(figure, "The spread of a replica's mean falls with the root of the number of its rows.")

# %% [markdown]
# *Synchronized* batch normalization exchanges mean and variance between the replicas, and
# normalizes with those of the global batch.
#
# ### Exercise 2: combine the moments
# Each replica has computed mean and variance of its rows, for each channel. What are those of all
# rows? Think of two replicas, one with zeros only, the other with ones only: each has a variance of
# 0, and all rows together have not.


# %% tags=["exercise", "nbval-check-output"]
def combine_moments(means, variances, rows):
    """The mean and the variance of all rows, (channels,) each.

    `means` and `variances` are (replicas, channels), `rows` is (replicas,).
    """
    ### BEGIN SOLUTION
    shares = (rows / rows.sum())[:, None]
    mean = (shares * means).sum(axis=0)
    squares = (shares * (variances + means**2)).sum(axis=0)
    return mean, squares - mean**2
    ### END SOLUTION


ex.combine_moments.check(combine_moments)  # also .hint() and .solution()

# %% [markdown]
# In Keras it is an argument. Bet before you run: which of the two is the training of one device?

# %%
for synchronized in (False, True):

    def with_normalization(synchronized=synchronized):
        """The network with batch normalization."""
        return build(layers.BatchNormalization(synchronized=synchronized))

    alone, replicated = (train_on(count, with_normalization)[0] for count in (1, most))
    print(
        f"synchronized={synchronized!s:5}: {most} replicas and 1 differ by "
        f"{difference(replicated, alone):.0e}"
    )

# %% [markdown]
# Synchronizing costs messages in each layer, forward and backward, where the next layer waits for
# them. With 32 rows and more on each replica, most people leave it out. Then the rows *of a
# replica* are a setting of your training, and not only a question of speed.

# %% [markdown]
# ## The learning rate
# N replicas with 32 rows each are one device with a batch of 32 N: you have just shown that. So one
# processor can play 32 GPUs. What happens to a training when its batch grows, while the number of
# epochs stays? There are fewer steps. With the old learning rate the network comes less far.
#
# The *linear rule* makes up for it: N times the batch, N times the rate. One step then goes as far
# as N small steps would. At the beginning, where the gradient changes quickly, this can throw the
# network far off. So Goyal and others, who trained ResNet-50 on 256 GPUs in an hour, let the rate
# rise slowly: a *warm-up*.

# %% [markdown]
# ### Exercise 3: scale and warm up
# Begin with `base` at step 0. Rise evenly to `base` times `num_replicas` at step `warmup_steps`,
# and stay there.


# %% tags=["exercise", "nbval-check-output"]
def learning_rate(step, base, num_replicas, warmup_steps):
    """The learning rate in a step."""
    ### BEGIN SOLUTION
    share = min(1, step / warmup_steps) if warmup_steps else 1
    return base * (1 + share * (num_replicas - 1))
    ### END SOLUTION


ex.learning_rate.check(learning_rate)  # also .hint() and .solution()

# %% [markdown]
# Now break it. `ex.train_digits` trains a network of three dense layers, in NumPy, with 32 rows a
# replica. Each point is the mean accuracy of several seeds, and the bar spans their range.

# %%
rate_in = ex.learning_rate.or_reference(learning_rate)
rules = {
    "the old rate": lambda count: lambda step, steps: ex.BASE_RATE,
    "linear rule": lambda count: lambda step, steps: rate_in(step, ex.BASE_RATE, count, 0),
    "linear rule with warm-up": (
        lambda count: lambda step, steps: rate_in(step, ex.BASE_RATE, count, steps // 3)
    ),
}
accuracy = {
    name: np.array(
        [[ex.train_digits(count, rule(count), seed) for seed in SEEDS] for count in FACTORS]
    )
    for name, rule in rules.items()
}
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for index, (name, values) in enumerate(accuracy.items()):
    mean = values.mean(axis=1)
    span = [mean - values.min(axis=1), values.max(axis=1) - mean]
    style = {"marker": "osD"[index], "color": PALETTE[index], "capsize": 3}
    axis.errorbar(np.array(FACTORS) * 1.04 ** (index - 1), mean, span, label=name, **style)
axis.set(xscale="log", xlabel="replicas, with 32 rows each", ylabel="validation accuracy")
axis.set_xticks(FACTORS, [str(count) for count in FACTORS])
axis.minorticks_off()
axis.set_title(f"{ex.EPOCHS} epochs, whatever the batch")
axis.legend(fontsize=9)
axis.grid(alpha=0.3)
show(figure, "Accuracy over the number of replicas, for three rules of the learning rate.")

# %%
best = accuracy["the old rate"][0].mean()
for name, values in accuracy.items():
    enough = [row.mean() > best - 0.02 for row in values]
    reached = FACTORS[enough.index(False) - 1] if False in enough else FACTORS[-1]
    print(f"{name:25} within 0.02 of {FACTORS[0]} replica up to {reached} replicas")

# %%
ex.why_it_breaks.ask()

# %% tags=["solution"]
ex.why_it_breaks.answer("c")

# %% [markdown]
# ## The poor man's replicas
# A global batch of 256 does not fit onto your GPU, and you have only one? Compute the gradient of a
# part, keep it, compute the next, and update the weights with the mean of all: *gradient
# accumulation*. What four replicas do side by side, one device does in four steps.
#
# ### Exercise 4: count the steps
# The rows of the global batch are divided over the devices as evenly as possible. At most
# `rows_that_fit` fit onto a device at a time. How many steps are accumulated for one update?


# %% tags=["exercise", "nbval-check-output"]
def accumulation_steps(global_batch, num_devices, rows_that_fit):
    """The number of steps whose gradients are accumulated, on the device that needs most."""
    ### BEGIN SOLUTION
    rows_of_device = -(-global_batch // num_devices)
    return -(-rows_of_device // rows_that_fit)
    ### END SOLUTION


ex.accumulation_steps.check(accumulation_steps)  # also .hint() and .solution()

# %% [markdown]
# Keras' optimizers have it built in. Compare four replicas that share batches of 60 with one device
# that takes 15 rows at a time. (Only full batches here.)

# %%
steps = ex.accumulation_steps.or_reference(accumulation_steps)(60, 1, 15)
full = len(images) // 60 * 60
images, labels = images[:full], labels[:full]


def accumulating():
    """The network, with an optimizer that updates after `steps` batches."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=steps)
    return build(optimizer=optimizer)


poor, _ = train_on(1, accumulating, batch_size=60 // steps)
rich, _ = train_on(most)
print(f"{steps} accumulated steps of {60 // steps} rows on one device, and {most} replicas:")
print(f"weights differ by {difference(poor, rich):.0e}")

# %% [markdown]
# It saves memory, not time. And as each step sees 15 rows only, batch normalization has the
# statistics of 15 rows, as on the replicas; here nothing can be synchronized, for the other rows
# have not been computed yet.

# %% [markdown]
# ## How much faster?
# Four logical devices share your processor. So the same batch in four parts should not be faster
# than in one. Is it slower?

# %%
network_of = {count: trained[count][0] for count in NUM_REPLICAS}
batch = tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(240)
for count, network in network_of.items():
    start = time.perf_counter()
    training.fit(network, batch, epochs=1, steps_per_epoch=20, title=None)
    rate = 20 * 240 / (time.perf_counter() - start)
    print(f"{count} replicas: {rate:,.0f} images/s, with the start of `fit`")

# %% [markdown]
# For real GPUs we compute. After each step the gradients of all parameters are averaged. In a ring
# of n devices, each sends 2 (n - 1) / n times their bytes (lab 09 shows why). Meanwhile or before,
# it computes: 2 operations for a multiply-add, and the backward pass needs twice as many as the
# forward pass. So a network scales well that has *many operations for each byte* of its parameters.
# These are the four networks, with the batches of the slide:

# %%
SLIDE_BATCHES = {"alexnet": 128, "googlenet": 256, "resnet50": 64, "vgg16": 32}  # of each GPU
networks = {name: getattr(models, name)() for name in NETWORKS}
costs = {name: models.cost(network) for name, network in networks.items()}
table = pd.DataFrame(
    {
        "parameters (million)": [cost.params / 1e6 for cost in costs.values()],
        "multiply-adds (billion)": [cost.macs / 1e9 for cost in costs.values()],
        "batch": [SLIDE_BATCHES[name] for name in costs],
    },
    index=list(costs),
)
operations = 6 * table["multiply-adds (billion)"] * table["batch"]
table["operations a step (billion)"] = operations
table["operations per byte"] = 1e3 * operations / (4 * table["parameters (million)"])
table.round(2)

# %% [markdown]
# ### Exercise 5: the efficiency
# A step takes as long as its computation, plus its communication, if nothing is done at the same
# time. The *efficiency* is the time of one device alone, divided by that of n: 0.9 means that of 8
# GPUs you get 7.2.


# %% tags=["exercise", "nbval-check-output"]
def efficiency(params, macs, batch_size, num_devices, flops_per_second, bytes_per_second):
    """The efficiency, in [0, 1], without overlap.

    `macs` are the multiply-adds of a forward pass of one image, `batch_size` the images of each
    device. The gradients are float32.
    """
    ### BEGIN SOLUTION
    compute = 3 * 2 * macs * batch_size / flops_per_second
    send = 2 * (num_devices - 1) / num_devices * 4 * params / bytes_per_second
    return compute / (compute + send)
    ### END SOLUTION


ex.efficiency.check(efficiency)  # also .hint() and .solution()

# %% [markdown]
# How many operations a second does a GPU reach in training? The TensorFlow team published in May
# 2017 how many images a second one P100 trained, and eight, in a DGX-1. Dell's engineers did so for
# GoogLeNet with NVIDIA's Caffe on one P100 and on four, connected by PCIe. What does your formula
# give, with 10 GB/s for each GPU?

# %%
MEASUREMENTS = pd.DataFrame(
    [
        ("alexnet", 512, 2987, 8, 17822),
        ("googlenet", 128, 468, 4, 1755),
        ("resnet50", 64, 219, 8, 1734),
        ("vgg16", 64, 154, 8, 1081),
        ("vgg16", 32, 144, 8, 820),
    ],
    columns=["network", "batch", "images/s of 1", "GPUs", "images/s of all"],
).query("network in @NETWORKS")

# %%
one_gpu = dict(zip(MEASUREMENTS["network"], MEASUREMENTS["images/s of 1"], strict=True))
efficiency_of = ex.efficiency.or_reference(efficiency)


def operations_a_second(name, images_per_second):
    """The rate of a device that trains a network with so many images a second."""
    return 6 * costs[name].macs * images_per_second


def formula(row):
    """The efficiency by the formula, with 10 GB/s."""
    cost, rate = costs[row["network"]], operations_a_second(row["network"], row["images/s of 1"])
    return efficiency_of(cost.params, cost.macs, row["batch"], row["GPUs"], rate, 10e9)


compared = MEASUREMENTS.assign(
    published=MEASUREMENTS["images/s of all"]
    / MEASUREMENTS["images/s of 1"]
    / MEASUREMENTS["GPUs"],
    formula=MEASUREMENTS.apply(formula, axis=1),
)
compared.round(3)

# %%
ex.where_the_bytes_are.ask()

# %% tags=["solution"]
ex.where_the_bytes_are.answer("b")

# %% [markdown]
# The formula lets the GPUs wait for every byte. Frameworks send while the backward pass computes.
# `distribute.simulate` plays a step event by event: `layer_times` gives each layer its part of the
# time, gradients are collected in buckets, and each bucket is averaged as soon as it is full.
# Below, eight GPUs on PCIe, with the slide's batches. Look at what sticks out behind the dashed
# line: there, all GPUs wait.

# %%
PCIE = distribute.Ring(8, distribute.Link(alpha=5e-6, bandwidth=10e9))
NVLINK = distribute.CubeMesh()  # of the DGX-1: four rings at a time


def simulated(name, batch_size, images_per_second, topology, overlap=True):
    """A step of all devices, each of which alone has the given rate."""
    rate = operations_a_second(name, images_per_second)
    layer_times = distribute.layer_times(networks[name], batch_size, rate)
    return distribute.simulate(layer_times, topology, overlap=overlap)


for name in dict.fromkeys((NETWORKS[-1], "googlenet")):
    print(name)
    simulated(name, SLIDE_BATCHES[name], one_gpu[name], PCIE).show()

# %% [markdown]
# Now both beside what was published: the formula, in which the GPUs wait for every byte, and the
# simulation, in which they send while they compute. Which is nearer?

# %%
FOUR_ON_PCIE = distribute.Ring(4, distribute.Link(alpha=5e-6, bandwidth=10e9))


def simulated_efficiency(row):
    """The efficiency with the links of the machine that was measured."""
    topology = NVLINK if row["GPUs"] == 8 else FOUR_ON_PCIE
    return simulated(row["network"], row["batch"], row["images/s of 1"], topology).efficiency


compared["simulated"] = compared.apply(simulated_efficiency, axis=1)
errors = compared[["formula", "simulated"]].sub(compared["published"], axis=0).abs().mean()
print("Mean difference to what was published:")
print(f"{errors['formula']:.2f} for the formula, {errors['simulated']:.2f} for the simulation")
compared.drop(columns="images/s of all").round(3)

# %% [markdown]
# What was measured in 2017 is near the formula: most bytes were waited for. The simulation is a
# bound. It says what overlap can gain at best, with links that reach their full rate. It does not
# know what eight GPUs in a box share, such as the processor that starts their kernels, nor that
# adding gradients takes time from the convolutions. The frameworks of today are between the two.
#
# ## Something to show a friend
# Of eight GPUs on PCIe, how many do you get if they wait for the bytes, and how many if not?

# %%
gained = {
    how: [
        8 * simulated(name, SLIDE_BATCHES[name], one_gpu[name], PCIE, overlap).efficiency
        for name in NETWORKS
    ]
    for how, overlap in {"waiting for all bytes": False, "sending meanwhile": True}.items()
}
figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
places = np.arange(len(NETWORKS))
for index, (how, values) in enumerate(gained.items()):
    bars = axis.barh(places + 0.38 * index - 0.19, values, 0.36, color=PALETTE[index], label=how)
    axis.bar_label(bars, fmt="%.1f", padding=3)
axis.axvline(8, color=NEUTRAL, linestyle="--")
axis.set_yticks(places, [f"{name}, {SLIDE_BATCHES[name]}" for name in NETWORKS])
axis.invert_yaxis()
axis.set(xlim=(0, 13), xlabel="GPUs' worth of speed (simulated)", ylabel="network, batch")
axis.set_title("Of eight P100, how many do you get?")
axis.legend(loc="center right", fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
summary = "; ".join(
    f"{name} {slow:.1f}, or {fast:.1f}"
    for name, slow, fast in zip(NETWORKS, *gained.values(), strict=True)
)
show(figure, f"Two bars for each network, waiting, or sending meanwhile: {summary}.")

# %%
fewest = table["operations per byte"].idxmin()
most_bytes = table["parameters (million)"].idxmax()
lowest = compared.loc[compared["published"].idxmin()]
print(f"Fewest operations per byte: {fewest}. Most bytes: {most_bytes}.")
print(f"Lowest published efficiency: {lowest['network']}, with {lowest['batch']} images a GPU.")

# %% [markdown]
# VGG-16 is known as the network that scales worst. Of the four it sends most bytes, and its maps
# are so large that 32 images a GPU were all that fitted: few operations for each byte. AlexNet has
# half of its parameters, but a twentieth of its operations, so that with 128 images it is worse
# still. The TensorFlow team gave it 512, a global batch of 4,096. That is the deal: a larger batch
# pays for the bytes, and the learning rate has to follow, as far as it can.

# %% [markdown]
# How fast is one step of these networks on the device that you have?

# %%
measured = []
for name in NETWORKS if MEASURED_BATCH else []:
    network = networks[name]
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    generator = np.random.default_rng(1)
    pictures = generator.random((MEASURED_BATCH, *network.input_shape[1:])).astype("float32")
    classes = generator.integers(0, 1000, MEASURED_BATCH)
    network.train_on_batch(pictures, classes)  # compiles
    start = time.perf_counter()
    network.train_on_batch(pictures, classes)
    seconds = time.perf_counter() - start
    billions = operations_a_second(name, MEASURED_BATCH / seconds) / 1e9
    measured.append((name, seconds, MEASURED_BATCH / seconds, billions))
columns = ["network", "seconds a step", "images/s", "billion operations/s"]
pd.DataFrame(measured, columns=columns).round(2)

# %% [markdown]
# ## The challenge
# 16 replicas, so 512 rows in a step, and 90 steps in all. Find a schedule of the learning rate with
# which the network is about as good as with one replica: a mean validation accuracy of at least
# 0.95 over three seeds. You decide how high the rate goes, how it
# gets there, and how it comes down.


# %% tags=["exercise"]
def large_batch_rate(step, num_steps):
    """The learning rate in a step, counted from 0, of `num_steps`."""
    ### BEGIN SOLUTION
    progress = step / num_steps
    peak = 5 * ex.BASE_RATE
    return peak * min(1, (step + 1) / 10) * (1 + np.cos(np.pi * progress)) / 2
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.large_batch_rate.check(large_batch_rate)  # also .hint() and .solution()

# %% [markdown]
# ## What you learned
# Replicas that average their gradients by rows train as one device with the global batch, up to
# rounding, unless a layer looks at its batch as a whole. A larger global batch wants a larger
# learning rate and a warm-up, and there is a batch from which neither helps. How many of your GPUs
# you get is decided by operations per byte, and by how much is sent while the backward pass
# computes.

# %% [markdown]
# ## What to try next
# - Put the model of lab 02 into `build`, and train it on `shapes`.
# - Save the cells on batch normalization and set 4 rows a replica: who has the better accuracy?
# - In `simulate`, set `bucket_bytes=1e6` or `jitter=0.05`. What do they cost?
# - Write the lines with `plan` into a script, and start it with `dltlab launch -n 2 -- script.py`:
#   the same lines then train on two processes, and on as many hosts as you have.

# %% [markdown]
# ## References
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slide on Caffe.
# - P. Goyal et al., *Accurate, large minibatch SGD: training ImageNet in 1 hour*, 2017,
#   [arXiv:1706.02677](https://arxiv.org/abs/1706.02677): the linear rule, and warm-up.
# - *TensorFlow benchmarks*, May 2017: ResNet-50, VGG-16 and AlexNet on a DGX-1, synthetic data.
#   Today in the repository of TensorFlow's documentation, under r1/guide/performance.
# - R. Xu and N. Dandapanthu, *Deep learning performance with P100 GPUs*, Dell EMC, October 2016:
#   GoogLeNet on one, two and four P100.
# - C. Shallue et al., *Measuring the effects of data parallelism on neural network training*, JMLR
#   2019, [arXiv:1811.03600](https://arxiv.org/abs/1811.03600): how far the batch can grow.
