# ---
# title: Training on several GPUs
# summary: >-
#   Does training on four GPUs give the same network as training on one? You divide a batch over
#   replicas, average their gradients, see how batch normalization changes the result, scale the
#   learning rate until training fails, and compute how well four networks scale to eight GPUs.
# objectives:
#   - train the same network on 1, 2 and 4 replicas, and check that the weights agree
#   - say which variables are mirrored on every device, and which are not
#   - scale the learning rate with the global batch, warm it up, and find where this fails
#   - use gradient accumulation instead of several devices, and name its limits
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
#     SYNCHRONIZED: [true]
#     FACTORS: [8, 32]
#     SEEDS: [1]
#     NETWORKS: [googlenet]
#     MEASURED_BATCH: 0
#     RUN_CHALLENGE: false
#   workshop: {}
#   full: {SEEDS: [1, 2, 3, 4, 5, 6, 7, 8], MEASURED_BATCH: 16}
# ---

# %% [markdown]
# ## The question
# A slide from 2017 shows a server with eight P100 GPUs that trains AlexNet, GoogLeNet, ResNet-50
# and VGG-16 with Caffe. Each GPU holds a complete copy of the network and processes different
# images. The batch sizes on the slide are 128 for AlexNet, 256 for GoogLeNet, 64 for ResNet-50 and
# 32 for VGG-16; we read them as images per GPU. In each step, the GPUs average their gradients.
# This method is called *data parallelism*, and each copy of the network is a *replica*.
#
# Does this give the same network as one GPU? And are eight GPUs eight times as fast?
#
# You do not need a GPU for this lab. TensorFlow can split one device into several *logical
# devices*. Training uses them like separate GPUs, but they share one processor, so they do not make
# it faster. The split comes first in this notebook, before TensorFlow computes anything.

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

tf.get_logger().setLevel("WARNING")  # hides one log line per all-reduce
devices.setup(precision="float32", seed=1, logical_devices=4)

# %% tags=["parameters"]
EPOCHS = 2  # of each training run that is compared
NUM_REPLICAS = [1, 2, 4]  # in the training runs that are compared
SYNCHRONIZED = [False, True]  # batch normalization on several replicas
FACTORS = [1, 2, 4, 8, 16, 32]  # numbers of replicas in the learning rate experiment
SEEDS = [1, 2, 3]
NETWORKS = ["alexnet", "googlenet", "resnet50", "vgg16"]
MEASURED_BATCH = 4  # images per step when these networks are timed here; 0: no timing
RUN_CHALLENGE = True

# %% [markdown]
# The next cell chooses how to train with the available hardware: on one device, on several, or on
# the workers of a cluster. What does it choose here, and why?

# %%
plan = distribute.strategy("auto")
plan

# %% [markdown]
# ## Divide a batch
# The data set contains images of handwritten digits, 8 × 8 pixels each. Below, a batch of 10 images
# is divided over four replicas as evenly as possible. Each image is one row of the batch. Which
# replicas get fewer rows?

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
show(figure, f"Ten digits framed in four colors, one per replica: {sizes} digits per replica.")

# %% [markdown]
# Each replica computes the gradient of the mean loss over *its* rows. How do you get the gradient
# of the mean loss over all rows?
#
# ### Exercise 1: average the gradients
# `gradients` contains one array per replica, and `rows` the number of rows that each replica
# averaged over. A replica can have zero rows.


# %% tags=["exercise", "nbval-check-output"]
def average_gradients(gradients, rows):
    """Return the gradient of the mean loss over all rows, with the shape of each gradient."""
    ### BEGIN SOLUTION
    total = sum(count * gradient for count, gradient in zip(rows, gradients, strict=True))
    return total / sum(rows)
    ### END SOLUTION


ex.average_gradients.check(average_gradients)  # also .hint() and .solution()

# %% [markdown]
# Test your function with the ten digits and a single dense layer. Does your average equal the
# gradient that one device computes from all ten rows? Does the unweighted mean of the four
# gradients?

# %%
average = ex.average_gradients.or_reference(average_gradients)  # yours once it passes


def gradient_of(rows):
    """Return the gradient of the mean cross-entropy over `rows`, for a dense layer of zeros."""
    pixels = images[rows].reshape(len(rows), -1)
    return pixels.T @ (0.1 - np.eye(10)[labels[rows]]) / len(rows)


on_one_device = gradient_of(np.arange(10))
on_replicas = [gradient_of(part) for part in parts]
weighted = np.abs(average(on_replicas, sizes) - on_one_device).max()
plain = np.abs(np.mean(on_replicas, axis=0) - on_one_device).max()
largest = np.abs(on_one_device).max()
print(f"Largest difference from one device: {weighted:.1e} if weighted by the number of rows,")
print(f"{plain:.1e} if unweighted. The largest element of the gradient is {largest:.2f}.")

# %% [markdown]
# ## The same training
# Now you train a whole network on 1, 2 and 4 replicas. The model is created inside `plan.scope()`,
# so that TensorFlow puts a copy of each weight on every device. `plan.prepare` makes Keras' `fit`
# average the gradients as your function does. The batch passed to `fit` is the *global batch*: the
# rows of all replicas together. The last batch of an epoch is smaller than the others. Do the
# trained weights depend on the number of replicas?


# %%
def build(*hidden, optimizer=None):
    """Return a small compiled network that always starts from the same weights."""
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
    """Train on `replicas` devices; return the model and the loss of the last epoch."""
    strategy = distribute.strategy("auto", replicas=replicas)
    with strategy.scope():
        network = make()
    if prepared:
        strategy.prepare(network)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
    history = training.fit(network, batches, epochs=EPOCHS, title=None)
    return network, history.history["loss"][-1]


def difference(network, other):
    """Return the largest difference between two corresponding weights."""
    return max(
        np.abs(a - b).max() for a, b in zip(network.get_weights(), other.get_weights(), strict=True)
    )


trained = {count: train_on(count) for count in NUM_REPLICAS}
one, one_loss = trained[1]
print(f"{len(images):,} rows in batches of 60, last batch {len(images) % 60}; epochs: {EPOCHS}")
for count, (network, loss) in trained.items():
    print(f"Replicas: {count}; loss {loss:.6f}; weights differ by {difference(network, one):.0e}")

# %% [markdown]
# The differences are rounding errors: a floating-point sum depends on the order of its terms. Apart
# from rounding, the training is the same. Without `plan.prepare`, TensorFlow gives every replica
# the same weight, like the unweighted mean above. How much does one short batch per epoch then
# change the weights?

# %%
most = NUM_REPLICAS[-1]
unprepared, _ = train_on(most, prepared=False)
print(f"{most} replicas without `prepare`: weights differ by {difference(unprepared, one):.0e}")

# %% [markdown]
# ### What is mirrored?
# The next cell reads three variables from the memory of every device. How many copies does each
# variable have, and are they equal?

# %%
network = trained[most][0]
held = {
    "weight": network.trainable_variables[0],
    "momentum": network.optimizer.variables[2],
    "sum of the loss": network.metrics[0].variables[0],
}
rows = []
for name, variable in held.items():
    copies = [copy.numpy() for copy in variable.value.values]
    equal = all(np.array_equal(copies[0], copy) for copy in copies)
    shown = [f"{copy.ravel()[0]:.4f}" for copy in copies]
    rows.append((name, len(copies), "equal" if equal else "different", *shown))
pd.DataFrame(rows, columns=["first element of", "copies", "", *plan.devices[:most]])

# %% [markdown]
# Weights and momentum are *mirrored*: every device has a complete copy. All copies are updated with
# the same averaged gradient, so they stay equal and need not be sent. For the loss and the metrics,
# each replica keeps a sum over its own rows. These sums are added when the metric is read.

# %%
ex.what_is_saved.ask()

# %% tags=["solution"]
ex.what_is_saved.answer("b")

# %% [markdown]
# ## Batch normalization
# Most layers process each row independently. Batch normalization does not: it subtracts the mean of
# the batch and divides by its standard deviation. A replica knows only its own rows, so the layer
# computes different values on four replicas than on one. How much does the mean of 4 rows vary from
# one replica to the next? And the mean of 64 rows?

# %%
pixels = images[:, 3:5, 3:5].reshape(len(images), -1)  # the four central pixels
spread = {}
for rows_of_replica in (2, 4, 8, 16, 32, 64):
    groups = pixels[: len(pixels) // rows_of_replica * rows_of_replica]
    means = groups.reshape(-1, rows_of_replica, 4).mean(axis=1)
    spread[rows_of_replica] = np.mean(means.std(axis=0) / pixels.std(axis=0))
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
axis.loglog(list(spread), list(spread.values()), "o-", color=PALETTE[0], label="measured")
expected = [count**-0.5 for count in spread]
axis.loglog(list(spread), expected, "--", color=NEUTRAL, label="1 / √rows")
axis.set(xlabel="rows per replica", ylabel="standard deviation of the mean\n(1 = that of a pixel)")
axis.set_xticks(list(spread), [str(count) for count in spread])
axis.minorticks_off()
axis.set_yticks(expected, [f"{share:.2f}" for share in expected])
axis.set_title("The mean of few rows varies more between replicas")
axis.legend()
show(figure, "Standard deviation of the replica mean against rows per replica, near 1 / √rows.")

# %% [markdown]
# *Synchronized* batch normalization exchanges the means and variances of the replicas, and
# normalizes with the mean and variance of the global batch.
#
# ### Exercise 2: combine the moments
# Each replica has computed the mean and the variance of its rows for each channel. What are the
# mean and the variance of all rows? As a test, consider two replicas, one with only zeros and one
# with only ones: each has variance 0, but the variance of all rows is not 0.


# %% tags=["exercise", "nbval-check-output"]
def combine_moments(means, variances, rows):
    """Return the mean and the variance of all rows, each of shape (channels,).

    `means` and `variances` have the shape (replicas, channels), `rows` has (replicas,).
    """
    ### BEGIN SOLUTION
    shares = (rows / rows.sum())[:, None]
    mean = (shares * means).sum(axis=0)
    squares = (shares * (variances + means**2)).sum(axis=0)
    return mean, squares - mean**2
    ### END SOLUTION


ex.combine_moments.check(combine_moments)  # also .hint() and .solution()

# %% [markdown]
# In Keras, `synchronized` is an argument of the layer. Guess before you run the cell: with which
# value do several replicas train like one device?


# %%
def normalized(synchronized):
    """Return a function that builds the network with batch normalization."""
    return lambda: build(layers.BatchNormalization(synchronized=synchronized))


alone, _ = train_on(1, normalized(False))
for synchronized in SYNCHRONIZED:
    replicated, _ = train_on(most, normalized(synchronized))
    print(
        f"synchronized={synchronized!s:5}: the weights of {most} replicas and of one device "
        f"differ by {difference(replicated, alone):.0e}"
    )

# %% [markdown]
# Synchronization costs communication in every batch normalization layer, in the forward and in the
# backward pass, and the next layer has to wait for it. Goyal and others, who trained ResNet-50 on
# 256 GPUs in an hour, did without it: each GPU normalized with its own 32 images. They kept this
# number fixed when they changed the number of GPUs, because without synchronization the rows *per
# replica* change what the network learns, not only the speed.

# %% [markdown]
# ## The learning rate
# Without batch normalization, N replicas with 32 rows each train like one device with a batch of
# 32 N, as you have seen. So one processor can show how training behaves on 32 GPUs. What happens if
# the batch grows but the number of epochs stays the same? The network gets fewer updates, so with
# the unscaled learning rate it learns less.
#
# The *linear rule* compensates for this: with N times the batch, use N times the learning rate. One
# large step then replaces N small ones. This works only if the gradient hardly changes during those
# steps, and at first it changes quickly. Goyal and others therefore increased the rate gradually
# during the first epochs: a *warm-up*.
#
# ### Exercise 3: scale and warm up
# Start with `base` at step 0. Increase the rate linearly to `base` times `num_replicas` at step
# `warmup_steps`, then keep it constant.


# %% tags=["exercise", "nbval-check-output"]
def learning_rate(step, base, num_replicas, warmup_steps):
    """Return the learning rate in a step."""
    ### BEGIN SOLUTION
    share = min(1, step / warmup_steps) if warmup_steps else 1
    return base * (1 + share * (num_replicas - 1))
    ### END SOLUTION


ex.learning_rate.check(learning_rate)  # also .hint() and .solution()

# %% [markdown]
# At which batch size do these rules fail? `ex.train_digits` trains a network of three dense layers
# in NumPy, with 32 rows per replica. The warm-up takes the first third of the steps. Each point is
# the mean accuracy over several seeds, and the error bar shows their range. Up to how many replicas
# does each rule keep the accuracy of the first point? Does the warm-up help with 16 replicas, or
# with 32?

# %%
rate_in = ex.learning_rate.or_reference(learning_rate)
rules = {
    "unscaled rate": lambda count: lambda step, steps: ex.BASE_RATE,
    "linear rule": lambda count: lambda step, steps: rate_in(step, ex.BASE_RATE, count, 0),
    "linear rule with warm-up": (
        lambda count: lambda step, steps: rate_in(step, ex.BASE_RATE, count, steps // 3)
    ),
}
accuracy = {
    name: np.array(
        [
            [ex.train_digits(count, rule(count), seed, epochs=15) for seed in SEEDS]
            for count in FACTORS
        ]
    )
    for name, rule in rules.items()
}
figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
for index, (name, values) in enumerate(accuracy.items()):
    mean = values.mean(axis=1)
    span = [mean - values.min(axis=1), values.max(axis=1) - mean]
    style = {"marker": "osD"[index], "color": PALETTE[index], "capsize": 3}
    axis.errorbar(np.array(FACTORS) * 1.04 ** (index - 1), mean, span, label=name, **style)
axis.set(xscale="log", xlabel="number of replicas, with 32 rows each", ylabel="validation accuracy")
axis.set_xticks(FACTORS, [str(count) for count in FACTORS])
axis.minorticks_off()
axis.set_title("Accuracy after 15 epochs, for every batch size")
axis.legend(fontsize=9)
axis.grid(alpha=0.3)
show(figure, "Accuracy against the number of replicas, for three learning rate rules.")

# %%
best = accuracy["unscaled rate"][0].mean()
for name, values in accuracy.items():
    is_enough = [*(values.mean(axis=1) > best - 0.02), False]
    good = FACTORS[: is_enough.index(False)]
    reached = f"up to {good[-1]} replicas" if good else "nowhere"
    last = ", ".join(f"{values[i].mean():.2f} with {FACTORS[i]}" for i in (-2, -1))
    print(f"{name:25} within 0.02 of {best:.2f} {reached}; {last}")

# %%
ex.why_it_breaks.ask()

# %% tags=["solution"]
ex.why_it_breaks.answer("c")

# %% [markdown]
# ## The poor man's replicas
# What can you do if you have only one GPU and a batch of 256 does not fit into its memory? Divide
# the batch into parts, compute their gradients one after the other, and update the weights once,
# with the mean of these gradients. This is *gradient accumulation*. What four replicas compute in
# parallel, one device computes in four steps.
#
# ### Exercise 4: count the steps
# The rows of the global batch are divided over the devices as evenly as possible. A device can
# process at most `rows_that_fit` rows at a time. How many steps must be accumulated for one update?


# %% tags=["exercise", "nbval-check-output"]
def accumulation_steps(global_batch, num_devices, rows_that_fit):
    """Return the number of accumulated steps on the device that needs the most."""
    ### BEGIN SOLUTION
    rows_of_device = -(-global_batch // num_devices)
    return -(-rows_of_device // rows_that_fit)
    ### END SOLUTION


ex.accumulation_steps.check(accumulation_steps)  # also .hint() and .solution()

# %% [markdown]
# Keras' optimizers have gradient accumulation built in. The next cell compares replicas that share
# batches of 60 with one device that processes 15 rows at a time. It drops the last, smaller batch.
# Are the weights the same?

# %%
steps = ex.accumulation_steps.or_reference(accumulation_steps)(60, 1, 15)
full = len(images) // 60 * 60
images, labels = images[:full], labels[:full]


def accumulating():
    """Return the network, with an optimizer that updates the weights every `steps` batches."""
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=steps)
    return build(optimizer=optimizer)


poor, _ = train_on(1, accumulating, batch_size=60 // steps)
rich, _ = train_on(most)
print(f"{steps} accumulated steps of {60 // steps} rows on one device, and {most} replicas:")
print(f"weights differ by {difference(poor, rich):.0e}")

# %% [markdown]
# Gradient accumulation saves memory, not time. It also has a limit: each step processes only 15
# rows, so batch normalization uses the statistics of 15 rows, as it does on four replicas.
# Synchronization is impossible here, because the other rows have not been computed yet.

# %% [markdown]
# ## How much faster?
# The logical devices share one processor, so dividing a batch into four parts should not make
# training faster. Does it make training slower?

# %%
network_of = {count: trained[count][0] for count in NUM_REPLICAS}
batch = tf.data.Dataset.from_tensor_slices((images, labels)).repeat().batch(240)
for count, network in network_of.items():
    start = time.perf_counter()
    training.fit(network, batch, epochs=1, steps_per_epoch=20, title=None)
    rate = 20 * 240 / (time.perf_counter() - start)
    print(f"Replicas: {count}; {rate:,.0f} images/s, including the start of `fit`")

# %% [markdown]
# For real GPUs, we can calculate the speed. In each step the gradients of all parameters are
# averaged. In a ring of n devices, each device sends 2 (n - 1) / n times the bytes of the gradients
# (lab 09 shows why). Each device also computes: a multiply-add counts as 2 operations, and the
# backward pass needs about twice as many operations as the forward pass. A network therefore scales
# well if it has *many operations per byte* of its parameters. Which of the four networks has the
# fewest, with the batch sizes of the slide?

# %%
SLIDE_BATCHES = {"alexnet": 128, "googlenet": 256, "resnet50": 64, "vgg16": 32}  # per GPU
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
table["operations per step (billion)"] = operations
table["operations per byte"] = 1e3 * operations / (4 * table["parameters (million)"])
table.round(2)

# %% [markdown]
# ### Exercise 5: the efficiency
# Without overlap, the time of a step is the time for computation plus the time for communication.
# The *efficiency* is the time of a step on one device divided by the time of a step on n devices,
# with the same number of images per device. With an efficiency of 0.9, 8 GPUs are 7.2 times as fast
# as one.


# %% tags=["exercise", "nbval-check-output"]
def efficiency(params, macs, batch_size, num_devices, flops_per_second, bytes_per_second):
    """Return the efficiency, in [0, 1], without overlap.

    `macs` is the number of multiply-adds in the forward pass of one image, `batch_size` the number
    of images per device. The gradients are float32.
    """
    ### BEGIN SOLUTION
    compute = 3 * 2 * macs * batch_size / flops_per_second
    send = 2 * (num_devices - 1) / num_devices * 4 * params / bytes_per_second
    return compute / (compute + send)
    ### END SOLUTION


ex.efficiency.check(efficiency)  # also .hint() and .solution()

# %% [markdown]
# How many operations per second does a GPU reach in training? The TensorFlow team measured in May
# 2017 how many images per second one and eight P100 train in a DGX-1. Dell's engineers measured
# GoogLeNet with NVIDIA's Caffe on one and on four P100, connected by PCIe. Their single-GPU results
# give the number of operations per second. Which efficiencies does your formula predict if we
# assume 10 GB/s per GPU?

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
    """Return the operations per second of a device that trains at `images_per_second`."""
    return 6 * costs[name].macs * images_per_second


def formula(row):
    """Return the efficiency that the formula predicts with 10 GB/s."""
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
# The formula assumes that the GPUs do nothing while they communicate. A framework can send
# gradients while the backward pass is still computing others. `distribute.simulate` simulates such
# a step: `layer_times` estimates the time of each layer, gradients are collected in buckets, and
# the all-reduce of a bucket starts as soon as the bucket is full and the previous all-reduce has
# finished. How much of the communication does this hide? The figures show eight GPUs on PCIe with
# the batch sizes of the slide and the speed of one GPU from the table. After the dashed line, the
# GPUs only wait for communication.

# %%
PCIE = distribute.Ring(8, distribute.Link(alpha=5e-6, bandwidth=10e9))
NVLINK = distribute.CubeMesh()  # the links of the DGX-1, used as four rings at the same time


def simulated(name, batch_size, images_per_second, topology, overlap=True):
    """Simulate a step of devices that each train at `images_per_second` alone."""
    rate = operations_a_second(name, images_per_second)
    layer_times = distribute.layer_times(costs[name], batch_size, rate)
    return distribute.simulate(layer_times, topology, overlap=overlap)


for name in dict.fromkeys((NETWORKS[-1], "googlenet")):
    print(name)
    simulated(name, SLIDE_BATCHES[name], one_gpu[name], PCIE).show()

# %% [markdown]
# The next table compares the published efficiencies with two predictions: the formula without
# overlap and with 10 GB/s, and the simulation with overlap and with the links of each machine.
# Which prediction is closer?

# %%
FOUR_ON_PCIE = distribute.Ring(4, distribute.Link(alpha=5e-6, bandwidth=10e9))


def simulated_efficiency(row):
    """Return the simulated efficiency with the links of the measured machine."""
    topology = NVLINK if row["GPUs"] == 8 else FOUR_ON_PCIE
    return simulated(row["network"], row["batch"], row["images/s of 1"], topology).efficiency


compared["simulated"] = compared.apply(simulated_efficiency, axis=1)
errors = compared[["formula", "simulated"]].sub(compared["published"], axis=0).abs().mean()
print("Mean difference from the published efficiency:")
print(f"{errors['formula']:.2f} for the formula, {errors['simulated']:.2f} for the simulation")
compared.drop(columns="images/s of all").round(3)

# %% [markdown]
# On average, the formula is closer. This does not prove that the GPUs waited for every byte: the
# 10 GB/s is our assumption, NVLink is faster, and TensorFlow sent the gradients of ResNet-50 to the
# CPU instead of around a ring. The simulation is an upper limit. It assumes links that reach their
# full rate. It ignores what eight GPUs in one server share, such as the CPU that starts their
# kernels, and it ignores that adding gradients slows down the convolutions.
#
# ## Something to show a friend
# How many times as fast as one GPU are eight GPUs on PCIe, without and with overlap?

# %%
gained = {
    how: [
        8 * simulated(name, SLIDE_BATCHES[name], one_gpu[name], PCIE, overlap).efficiency
        for name in NETWORKS
    ]
    for how, overlap in {"without overlap": False, "with overlap": True}.items()
}
figure, axis = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
places = np.arange(len(NETWORKS))
for index, (how, values) in enumerate(gained.items()):
    bars = axis.barh(places + 0.38 * index - 0.19, values, 0.36, color=PALETTE[index], label=how)
    axis.bar_label(bars, fmt="%.1f", padding=-24, color="white")
axis.axvline(8, color=NEUTRAL, linestyle="--")
axis.set_yticks(places, [f"{name}, {SLIDE_BATCHES[name]}" for name in NETWORKS])
axis.invert_yaxis()
axis.set(xlim=(0, 8.4), xlabel="speedup over one GPU (simulated)", ylabel="network, batch")
axis.set_title("How many times as fast as one P100 are eight?")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
axis.spines[["top", "right"]].set_visible(False)
summary = "; ".join(
    f"{name} {slow:.1f} and {fast:.1f}"
    for name, slow, fast in zip(NETWORKS, *gained.values(), strict=True)
)
show(figure, f"Speedup of eight GPUs without and with overlap: {summary}.")

# %%
fewest = table["operations per byte"].idxmin()
most_bytes = table["parameters (million)"].idxmax()
lowest = compared.loc[compared["published"].idxmin()]
print(f"Fewest operations per byte: {fewest}. Most parameters: {most_bytes}.")
print(f"Lowest published efficiency: {lowest['network']}, with {lowest['batch']} images per GPU.")

# %% [markdown]
# Which network scales worst? In the published measurements it is VGG-16 with 32 images per GPU: it
# sends the most bytes, and its batch is small. AlexNet has less than half as many parameters, but
# only about a twentieth of the operations per image. With 128 images it therefore scales even worse
# in the simulation. The TensorFlow team used 512 images per GPU, a global batch of 4,096. A larger
# batch gives more operations per byte, but it also needs a larger learning rate, and you have seen
# that the linear rule has a limit.
#
# How fast is one step of these networks on your own device?

# %%
measured = []
for name in NETWORKS if MEASURED_BATCH else []:
    network = networks[name]
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    generator = np.random.default_rng(1)
    batch_images = generator.random((MEASURED_BATCH, *network.input_shape[1:])).astype("float32")
    classes = generator.integers(0, 1000, MEASURED_BATCH)
    network.train_on_batch(batch_images, classes)  # compiles
    start = time.perf_counter()
    network.train_on_batch(batch_images, classes)
    seconds = time.perf_counter() - start
    billions = operations_a_second(name, MEASURED_BATCH / seconds) / 1e9
    measured.append((name, seconds, MEASURED_BATCH / seconds, billions))
columns = ["network", "seconds per step", "images/s", "billion operations/s"]
pd.DataFrame(measured, columns=columns).round(2)

# %% [markdown]
# ## The challenge
# The network of the learning rate experiment now trains on 16 replicas for 30 epochs, with up to
# 512 rows per step and 90 steps in total. Find a learning rate schedule that reaches a mean
# validation accuracy of at least 0.95 over three seeds. You choose how high the rate rises, how it
# gets there, and how it falls.


# %% tags=["exercise"]
def large_batch_rate(step, num_steps):
    """Return the learning rate in a step, counted from 0, of `num_steps`."""
    ### BEGIN SOLUTION
    progress = step / num_steps
    peak = 10 * ex.BASE_RATE
    return peak * min(1, (step + 1) / 10) * (1 + np.cos(np.pi * progress)) / 2
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.large_batch_rate.check(large_batch_rate)  # also .hint() and .solution()

# %% [markdown]
# ## What you learned
# If replicas weight their gradients by the number of rows, they train like one device with the
# global batch, up to rounding. Batch normalization without synchronization is an exception. A
# larger global batch needs a larger learning rate, and above some batch size neither the linear
# rule nor a warm-up keeps the accuracy. The speedup of several GPUs depends on the operations per
# byte, on the links, and on how much communication overlaps with the backward pass.

# %% [markdown]
# ## What to try next
# - Put the model of lab 02 into `build`, and train it on `shapes`.
# - Train with batch normalization and 4 rows per replica (`batch_size=16` on four replicas), once
#   with and once without synchronization. Which network is more accurate on `test_images`?
# - In `simulate`, set `bucket_bytes=1e6` or `jitter=0.05`. How does the efficiency change?
# - Put the lines with `plan` into a script, and start it with `dltlab launch -n 2 -- script.py`.
#   The same lines then train in two processes. Lab 11 shows how to start them on several hosts.

# %% [markdown]
# ## References
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slide on Caffe.
# - P. Goyal et al., *Accurate, large minibatch SGD: training ImageNet in 1 hour*, 2017,
#   [arXiv:1706.02677](https://arxiv.org/abs/1706.02677): the linear rule, warm-up, and batch
#   normalization on each GPU.
# - *TensorFlow benchmarks*, May 2017: ResNet-50, VGG-16 and AlexNet on a DGX-1, synthetic data.
#   Archived in the repository of TensorFlow's documentation, under site/en/r1/guide/performance.
# - R. Xu and N. Dandapanthu, *Deep learning performance with P100 GPUs*, Dell EMC, October 2016:
#   GoogLeNet on one, two and four P100, with 128 images per GPU.
# - C. Shallue et al., *Measuring the effects of data parallelism on neural network training*, JMLR
#   2019, [arXiv:1811.03600](https://arxiv.org/abs/1811.03600): the limits of larger batches.
