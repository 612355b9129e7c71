# ---
# title: Arithmetic of training
# summary: >-
#   Before anything is trained, you compute how long it will take, how much memory and energy it
#   needs and what it costs, and then you measure. You count FLOPs and bytes, meet the limit of the
#   memory, draw a roofline of your machine, audit slides of 2017, and plan a training.
# objectives:
#   - count the FLOPs and the bytes of a layer, and of a training step
#   - predict the largest batch that fits into memory
#   - say whether computing or moving data limits a layer, with a roofline
#   - predict the time of a training step, and know what such a prediction leaves out
#   - compute the energy and the cost of a training, and check published claims
# minutes: {read: 40, exercise: 60, compute: 3}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: []
# requires: [02_image_classification]
# profiles:
#   smoke:
#     CLASSIC: [alexnet]
#     NETWORKS: [small_resnet]
#     BATCH_SIZE: 8
#     SECONDS: 0.1
#     STEPS: 2
#     MEET_LIMIT: false
#   workshop: {}
#   full: {NETWORKS: [small_resnet, small_vgg, small_inception, alexnet, googlenet], STEPS: 30}
# ---

# %% [markdown]
# ## The question
# A slide of 2017 describes a typical training in four numbers: a network with a billion parameters,
# 10 to 100 million images, *~30 exaflops*, *~30 GPU days*. Another line says: *Training AlexNet
# requires ~27,000 flops/input data byte. Training VGG requires ~150,000 flops/input data byte.*
#
# Where do such numbers come from, and are they true? In this lab, you compute the time, the memory,
# the energy and the cost of a training before it runs. Then you measure.
#
# The bars show what one image costs in the forward pass. Does the order of the networks by
# parameters agree with that by multiply-adds?

# %%
import os
import subprocess
import sys
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

from dltlab import devices, models, widgets
from dltlab.checks import arithmetic_of_training as ex
from dltlab.display import PALETTE, show
from dltlab.errors import LabError

# %% tags=["parameters"]
CLASSIC = ["alexnet", "googlenet", "resnet50", "vgg16"]  # networks that are counted
NETWORKS = ["small_resnet", "small_vgg", "small_inception"]  # networks that are trained
BATCH_SIZE = 64  # images in a step of those
STEPS = 15  # that are measured
SECONDS = 1.0  # for each measured peak
MEET_LIMIT = True  # train in a process with little memory, with larger and larger batches
MEGABYTES = 300  # of that process, for the activations
DOLLARS_PER_HOUR = 2.50  # of a GPU, for the planner

# %%
devices.setup(precision="float32", seed=1)
tf.config.experimental.enable_tensor_float_32_execution(False)  # float32 on every GPU
BLUE, ORANGE = PALETTE[:2]
costs = {name: models.cost(getattr(models, name)()) for name in [*CLASSIC, *NETWORKS]}

figure, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for axis, unit, color, values in (
    (axes[0], "parameters (million)", BLUE, [cost.params / 1e6 for cost in costs.values()]),
    (axes[1], "multiply-adds (million)", ORANGE, [cost.macs / 1e6 for cost in costs.values()]),
):
    axis.barh(list(costs), values, color=color)
    axis.set(xscale="log", xlabel=unit)
axes[0].set_ylabel("network")
axes[0].invert_yaxis()  # of both panels
figure.suptitle("What one image costs in the forward pass")
most = max(costs, key=lambda name: costs[name].macs)
show(figure, f"Parameters and multiply-adds of each network; {most} has the most of the latter.")

# %% [markdown]
# ## One layer
# Nearly all of the work is in convolutions and matrix products. Count one by hand: a convolution
# with stride 1 and "same" padding, for one image. A **FLOP** is one operation on floating-point
# numbers. A multiply-add is two.
#
# ### Exercise 1: a convolution
# The image has `side` × `side` positions with `channels` numbers each. There are `filters` kernels
# of `kernel` × `kernel` positions. At least how many bytes are read and written, if each number
# takes 4 bytes? There is no bias.


# %% tags=["exercise", "nbval-check-output"]
def conv_cost(side, channels, kernel, filters):
    """The FLOPs of a convolution, and the bytes of its input, its output and its kernel."""
    ### BEGIN SOLUTION
    weights = kernel**2 * channels * filters
    maps = side**2 * (channels + filters)
    return 2 * side**2 * weights, 4 * (maps + weights)
    ### END SOLUTION


ex.conv_cost.check(conv_cost)  # also ex.conv_cost.hint() and ex.conv_cost.solution()

# %% [markdown]
# `models.cost` counts all layers of a network in this way. Does it agree with your function about
# the first layer of the small residual network, which has 3 × 3 kernels?

# %%
conv = ex.conv_cost.or_reference(conv_cost)  # yours once it passes
small = models.cost(models.small_resnet())
first = small.layers[0]
height, _, filters = first.output_shape
channels = first.input_bytes // (4 * height**2)
flops, num_bytes = conv(height, channels, 3, filters)
print(f"by hand:     {flops:,} FLOPs, {num_bytes:,} bytes")
row = first.training(batch_size=1)
print(f"models.cost: {row.flops:,.0f} FLOPs, {row.bytes:,} bytes")

# %% [markdown]
# ## A training step
# A training step computes more than the forward pass. For each layer, the backward pass computes
# the gradient of the weights, and the gradient of the layer's input, which the layer before it
# needs. Each of them has as many multiply-adds as the layer itself. Then the optimizer updates the
# weights, which takes a few operations for each parameter.
#
# ### Exercise 2: forward and backward
# `macs` has the multiply-adds of each layer for one image, from the first layer to the last. How
# many FLOPs are the forward and the backward pass of a batch? Which gradient is not needed?


# %% tags=["exercise", "nbval-check-output"]
def training_flops(macs, batch_size):
    """The FLOPs of the forward and the backward pass of a batch."""
    ### BEGIN SOLUTION
    return batch_size * 2 * (3 * sum(macs) - macs[0])
    ### END SOLUTION


ex.training_flops.check(training_flops)  # also ex.training_flops.hint() and .solution()

# %% [markdown]
# `cost.training(batch_size, slots)` counts the whole step; `slots` is how many numbers the
# optimizer keeps for each parameter: 0 for SGD, 1 with momentum, 2 for Adam. Look at the last
# column, **FLOP per byte**. Which part of the step has the least to compute for the data that it
# moves?

# %%
count = ex.training_flops.or_reference(training_flops)
step = small.training(BATCH_SIZE, slots=1)
macs = [layer.macs for layer in small.layers if layer.macs]
print(f"by hand:          {count(macs, BATCH_SIZE) / 1e9:.3f} GFLOP")
print(f"Cost.training:    {(step.forward_flops + step.backward_flops) / 1e9:.3f} GFLOP")
step

# %% [markdown]
# The optimizer has few operations for each number that it reads and writes.
#
# ### Audit: FLOPs for each input byte
# We divide the FLOPs of a step with one image by the bytes of the image. A pixel has three bytes in
# a file, and three numbers of four bytes on the way into the network. Which of the two columns
# agrees with the slide, for AlexNet and for VGG?

# %%
slide = {"alexnet": 27_000, "vgg16": 150_000}
rows = []
for name in CLASSIC:
    one = costs[name].training()
    numbers = costs[name].input_bytes // 4
    flops = one.forward_flops + one.backward_flops
    rows.append((name, flops / numbers, flops / numbers / 4, slide.get(name)))
columns = ["network", "FLOP/byte of pixels", "FLOP/byte of float32", "slide"]
pd.DataFrame(rows, columns=columns).set_index("network").round(0).astype("Int64")

# %%
ex.which_bytes.ask()

# %% tags=["solution"]
ex.which_bytes.answer("b")

# %% [markdown]
# The slide's other claim is *~30 exaflops* in *~30 GPU days*. Which speed would each GPU have to
# sustain? Compare it with the peak of the P100, the GPU of the same slides.

# %%
sustained = 30e18 / (30 * 24 * 3600)
p100 = devices.specified_peaks("P100")
print(f"30 exaflops in 30 GPU days: {sustained / 1e12:.1f} TFLOP/s")
print(f"peak of a P100 in float32:  {p100.flops['float32'] / 1e12:.1f} TFLOP/s")

# %% [markdown]
# No P100 can do that many operations in float32: the claim needs more than its peak. It means half
# precision, or more days, or operations that the library need not do; we will meet such a case.
#
# ## Memory
# A training step needs memory for the weights, their gradients and the optimizer's slots. It also
# needs the **activations**, the outputs of all layers, which the backward pass uses again. These
# grow with the batch.
#
# ### Exercise 3: the largest batch
# `params` is the number of parameters. Each of them, each gradient and each of the optimizer's
# `slots` for a parameter takes 4 bytes. `activation_bytes` is what one image needs.


# %% tags=["exercise", "nbval-check-output"]
def largest_batch(free_bytes, params, activation_bytes, slots):
    """The largest batch that fits into `free_bytes`; 0 if none does."""
    ### BEGIN SOLUTION
    rest = free_bytes - 4 * params * (2 + slots)
    return max(0, rest // activation_bytes)
    ### END SOLUTION


ex.largest_batch.check(largest_batch)  # also ex.largest_batch.hint() and .solution()

# %% [markdown]
# Which batch of each network fits into the 16 GB of a P100, with momentum? And what takes the
# memory in a step with 64 images?

# %%
largest = ex.largest_batch.or_reference(largest_batch)


def image_bytes(cost):
    """The bytes that one more image needs in a training step."""
    return cost.training(2).memory_bytes - cost.training(1).memory_bytes


rows = {}
for name, cost in costs.items():
    step = cost.training(64, slots=1)
    rows[name] = {
        "weights (MB)": step.weight_bytes / 1e6,
        "gradients (MB)": step.gradient_bytes / 1e6,
        "optimizer (MB)": step.optimizer_bytes / 1e6,
        "activations (MB)": (step.activation_bytes + step.workspace_bytes) / 1e6,
        "largest batch in 16 GB": largest(16 * 10**9, cost.params, image_bytes(cost), 1),
    }
pd.DataFrame(rows).T.round(1).astype({"largest batch in 16 GB": int})

# %% [markdown]
# Now meet the limit, safely: not in this notebook, but in a process of its own that the operating
# system gives little memory. There, TensorFlow raises an error instead of filling the machine. The
# process trains the first of `NETWORKS` with larger and larger batches until it fails. Will it be
# your number?

# %%
PROGRAM = """
import resource, sys
import keras, psutil, tensorflow as tf
from dltlab import models

model = getattr(models, sys.argv[1])()
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
train = lambda n: model.train_on_batch(tf.zeros((n, *model.input_shape[1:])), tf.zeros(n))
train(4)
before = psutil.Process().memory_info().data
resource.setrlimit(resource.RLIMIT_DATA, (before + int(sys.argv[2]),) * 2)
for batch_size in [int(8 * 1.25**power) for power in range(40)]:
    train(batch_size)
    print(batch_size, flush=True)
"""

# %%
if MEET_LIMIT:
    name, limit = NETWORKS[0], MEGABYTES * 10**6
    predicted = largest(limit, 0, image_bytes(costs[name]), 0)
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, str(limit)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},  # the limit is one of main memory
        capture_output=True,
        text=True,
    )
    reached = process.stdout.split()
    print(f"{name}, {MEGABYTES} MB for activations: predicted {predicted} images", end=", ")
    if reached:
        ratio = int(reached[-1]) / predicted
        print(f"reached {reached[-1]}, {ratio:.2f} of it.")
    else:
        print("failed with 8: " + (process.stderr.strip().splitlines() or ["no message"])[-1])

# %% [markdown]
# Each batch is a quarter larger than the one before, so the last one is known to a quarter. The
# prediction counts every output. TensorFlow frees those that no gradient needs, such as the input
# of a ReLU, but some operations need memory of their own. So leave a margin.
#
# ## Computing or moving?
# A processor has two limits: a peak of FLOPs per second, and a **bandwidth**, the bytes per second
# between memory and processor. At best, it computes with some data while it moves other data.
#
# ### Exercise 4: the least time
# How long does a layer take at least, if it computes at the peak, moves data at the bandwidth, and
# does both at the same time?


# %% tags=["exercise", "nbval-check-output"]
def least_seconds(flops, num_bytes, peak, bandwidth):
    """The least seconds for `flops` at `peak` FLOP/s and `num_bytes` at `bandwidth` bytes/s."""
    ### BEGIN SOLUTION
    return max(flops / peak, num_bytes / bandwidth)
    ### END SOLUTION


ex.least_seconds.check(least_seconds)  # also ex.least_seconds.hint() and .solution()

# %% [markdown]
# Divide the FLOPs by this time, and you have the largest possible speed. Drawn over **FLOP per
# byte**, it is a line that rises with the bandwidth and then levels off at the peak: a *roofline*
# (Williams, Waterman and Patterson, 2009). We measure the roof of this machine: the largest product
# of matrices in float32, and the traffic of adding large arrays. With `layers=True`, typical layers
# are measured, too; we use these later.

# %%
peaks = devices.measure_peaks(["float32"], seconds=SECONDS, layers=True)
peaks

# %% [markdown]
# Five layers as points below this roof: a 3 × 3 convolution, a 1 × 1 convolution, a depthwise one,
# in which each filter sees only one channel, and a dense layer with 1 image and with 64. Compute
# first: which of them have few FLOPs per byte? Then look at the figure.


# %%
def fastest(function):
    """The seconds of the fastest of several calls."""
    function()
    times = []
    while len(times) < 3 or sum(times) < SECONDS / 4:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def dense_cost(images, inputs, units):
    """The FLOPs and the bytes of a dense layer without bias."""
    return 2 * images * inputs * units, 4 * (images * (inputs + units) + inputs * units)


# %%
side, channels = 28, 128
images = tf.random.normal((1, side, side, channels))
flat = {n: tf.random.normal((n, 2048)) for n in (1, 64)}
kernels = {n: tf.random.normal((n, n, channels, channels)) for n in (1, 3)}
depthwise, matrix = tf.random.normal((3, 3, channels, 1)), tf.random.normal((2048, 2048))
maps = 4 * 2 * side**2 * channels
layers = {  # FLOPs, bytes, function
    "3×3": (
        *conv(side, channels, 3, channels),
        lambda: tf.nn.conv2d(images, kernels[3], 1, "SAME"),
    ),
    "1×1": (
        *conv(side, channels, 1, channels),
        lambda: tf.nn.conv2d(images, kernels[1], 1, "SAME"),
    ),
    "depthwise 3×3": (
        *(2 * side**2 * 9 * channels, maps + 4 * 9 * channels),
        lambda: tf.nn.depthwise_conv2d(images, depthwise, [1, 1, 1, 1], "SAME"),
    ),
    "dense, 1 image": (*dense_cost(1, 2048, 2048), lambda: tf.matmul(flat[1], matrix)),
    "dense, 64 images": (*dense_cost(64, 2048, 2048), lambda: tf.matmul(flat[64], matrix)),
}

# %%
points = []
for name, (flops, num_bytes, function) in layers.items():
    compiled = tf.function(function)
    seconds = fastest(lambda compiled=compiled: compiled().numpy())
    points.append(devices.Point(name, flops, num_bytes, seconds))
roof = devices.roofline(points, peaks)
roof.show()
roof

# %% [markdown]
# Points on the left cannot reach the peak, however good the program is. A 1 × 1 convolution has a
# ninth of the FLOPs of the 3 × 3 one for nearly the same bytes, a depthwise convolution only 9
# multiply-adds for each number that it reads, and a dense layer with one image one for each weight.
# A point far below the roof has another reason, such as the time to start an operation. A point
# above the slope found its data in a cache: the roof counts the main memory.

# %%
ex.dense_of_one_image.ask()

# %% tags=["solution"]
ex.dense_of_one_image.answer("c")

# %% [markdown]
# ## Recurrent networks and persistent weights
# A slide lists what NVIDIA's library has for recurrent networks: "LSTM, GRU, and Persistent RNNs".
# What persists are the weights. They are the same at every step, but a loop of matrix products
# loads them from memory at every step again. A persistent kernel loads them once, and keeps them in
# the registers of the chip. When is that worth the effort?
#
# ### Exercise 5: what a step of an LSTM costs
# Take only the recurrent part of one step of an LSTM, $h U$ for a batch. How many FLOPs is it? And
# how many bytes of weights are loaded, if each weight takes `bytes_each`?


# %% tags=["exercise", "nbval-check-output"]
def lstm_step_cost(units, batch, bytes_each):
    """The operations of h·U in one step of an LSTM, and the bytes of the weights U."""
    ### BEGIN SOLUTION
    weights = units * 4 * units
    return 2 * batch * weights, bytes_each * weights
    ### END SOLUTION


ex.lstm_step_cost.check(lstm_step_cost)  # also ex.lstm_step_cost.hint() and .solution()

# %% [markdown]
# FLOP per byte does not depend on the size of the network, only on the batch. From which batch on
# do a P100 and a V100 reach their peak? We count 4 bytes for a weight on the P100, and 2 on the
# V100, whose peak holds for half precision.

# %%
lstm = ex.lstm_step_cost.or_reference(lstm_step_cost)
gpus = {"P100": ("float32", 4, BLUE, "-"), "V100": ("float16", 2, ORANGE, "--")}
batches = 2 ** np.arange(11)
figure, axis = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
for name, (dtype, size, color, style) in gpus.items():
    gpu = devices.specified_peaks(name)
    peak, bandwidth = gpu.flops[dtype], gpu.bytes_per_second
    intensity = np.divide(*np.transpose([lstm(1024, int(batch), size) for batch in batches]))
    reached = np.minimum(peak, intensity * bandwidth) / 1e12
    axis.plot(batches, reached, style, color=color, marker="o", markersize=4, label=name)
    enough = peak / bandwidth / intensity[0]
    print(f"{name}: at its peak from a batch of {enough:.0f}; at a batch of 4 at most", end=" ")
    print(f"{reached[2]:.2f} of {peak / 1e12:.1f} TFLOP/s")
axis.set(xscale="log", yscale="log", xlabel="batch size (sequences)", ylabel="TFLOP/s")
axis.set_xticks(batches[::2], batches[::2])
axis.set_title("Upper bound, if the weights are loaded at each step")
axis.legend()
axis.grid(alpha=0.3)
show(figure, "Largest speed by batch size for a P100 and a V100; both rise and level off.")

# %% [markdown]
# With small batches, the loop is limited by loading. In 2016, Diamos and others kept the weights in
# the registers of a Titan X, and reached 2.8 TFLOP/s with a batch of 4. According to its data
# sheet, that card loads 336 GB a second. What would be the largest speed without persistence?
#
# And which networks fit? The registers, 256 KiB in each multiprocessor, are the largest memory on
# those chips: there are 56 multiprocessors in a P100 and 80 in a V100.

# %%
flops, loaded = lstm(1024, 4, 4)
print(f"Titan X, batch of 4: at most {flops / loaded * 336e9 / 1e12:.2f} TFLOP/s\n")
registers = {"P100": 56 * 256 * 1024, "V100": 80 * 256 * 1024}
fits = {
    f"LSTM, {dtype}": {gpu: int(np.sqrt(size / bytes_each / 4)) for gpu, size in registers.items()}
    for dtype, bytes_each in (("float32", 4), ("float16", 2))
}
pd.DataFrame(fits).rename_axis("largest number of units in the registers of")

# %% [markdown]
# The published speed is above the bound, so the weights cannot have come from memory at each step.
# The table shows the limit of the idea. Some registers are needed for other things, so the largest
# network is smaller still.
#
# ## Predict a step
# The roofline gives the least time of a step: the sum of the least times of all passes of all
# layers. `devices.predict_step_time` computes it. We try it on a P100, for which TensorFlow's team
# published rates in May 2017; that of GoogLeNet is by Dell's engineers. Which published rates are
# surprising?

# %%
published = {"alexnet": (512, 2987), "googlenet": (128, 468), "resnet50": (64, 219)}
published["vgg16"] = (64, 154)  # batch, images/s
rows = []
for name in CLASSIC:
    batch_size, rate = published[name]
    bound = devices.predict_step_time(costs[name].training(batch_size, slots=1), p100)
    at_most = bound.examples_per_second
    limit = max(bound.limits, key=bound.limits.get)
    rows.append((name, batch_size, at_most, rate, rate / at_most, limit))
columns = ["network", "batch", "at most (images/s)", "published", "published / at most", "limit"]
pd.DataFrame(rows, columns=columns).set_index("network").round(2)

# %%
ex.faster_than_the_bound.ask()

# %% tags=["solution"]
ex.faster_than_the_bound.answer("c")

# %% [markdown]
# So a bound holds for one way to compute. For this machine we can do better than a bound. Above, we
# measured typical layers, forward and backward: how many seconds each FLOP takes, each byte of
# weights, and each byte of activations. None of the networks below was used for that. The
# prediction for a layer is the sum of the three. What takes the time in the first network?

# %%
predictions = {
    name: devices.predict_step_time(costs[name].training(BATCH_SIZE, slots=1), peaks)
    for name in NETWORKS
}
predictions[NETWORKS[0]].show()
print(predictions[NETWORKS[0]].summary)

# %% [markdown]
# Now we measure: steps of `train_on_batch` on random images, which need no reading or augmenting.
# The median counts. The fastest step is shown, too, because the rates of layers are those of their
# fastest calls; if it is much shorter, other programs were running. Is the prediction within 25 %?
# How far off is the roofline alone?


# %%
def training_step(name, batch_size):
    """A function without arguments that trains a network with one batch."""
    network = getattr(models, name)()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.SGD(0.01, momentum=0.9), loss, jit_compile=False)
    images = tf.random.uniform((batch_size, *network.input_shape[1:]))
    labels = tf.zeros(batch_size, tf.int64)
    return lambda: network.train_on_batch(images, labels)


def seconds_of(step):
    """The seconds of some steps; the first one, which also compiles, does not count."""
    times = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times[1:]


# %%
least = ex.least_seconds.or_reference(least_seconds)
steps = {name: training_step(name, BATCH_SIZE) for name in NETWORKS}
rows = []
for name in NETWORKS:
    step = costs[name].training(BATCH_SIZE, slots=1)
    peak, bandwidth = peaks.flops["float32"], peaks.bytes_per_second
    bound = least(step.optimizer_flops, step.optimizer_bytes_moved, peak, bandwidth)
    for layer in step.layers:  # each pass has the FLOPs and the bytes of the layer
        bound += (1 + layer.backward_passes) * least(layer.flops, layer.bytes, peak, bandwidth)
    times = seconds_of(steps[name])
    seconds = bound, predictions[name].seconds, np.median(times), min(times)
    rows.append((name, *(1e3 * value for value in seconds)))
columns = ["network", "roofline (ms)", "predicted (ms)", "measured (ms)", "fastest (ms)"]
compared = pd.DataFrame(rows, columns=columns).set_index("network")
for measured in ("measured", "fastest"):
    compared[f"predicted / {measured}"] = compared["predicted (ms)"] / compared[f"{measured} (ms)"]
    typical = (compared[f"predicted / {measured}"] - 1).abs().median()
    verdict = "within 25 %" if typical <= 0.25 else "more than 25 %"
    print(f"Median error against the {measured} steps: {typical:.0%}, {verdict}.")
compared.round(2)

# %% [markdown]
# If other programs run at the same time, the rates of layers and the steps vary: run both cells
# again. The prediction leaves out the time between two operations, so with few images it is often
# too short, and it takes all layers of a kind to be alike.
#
# ## From P100 to B200
# The slides compare the P100 with the V100. Are their figures those of the data sheets?

# %%
devices.compare("P100", "V100")

# %% [markdown]
# The slides' figures are rounded, and at most 6 % below those of the data sheets. How did it go on?
# The next table has the bound of ResNet-50 on each device: in mixed precision, with activations in
# float16, on those with tensor cores, and in float32 on the others. All numbers are divided by the
# P100's. Which limit has grown more slowly, and does the bound keep up with the peak?

# %%
name = "resnet50" if "resnet50" in CLASSIC else CLASSIC[0]
half = models.cost(models.in_precision(getattr(models, name)(), "float16"))
tensor_cores = devices.specs()["tensor_cores"]
rows = []
for gpu in ("K80", "P100", "V100", "A100", "H100", "B200"):
    sheet = devices.specified_peaks(gpu)
    dtype, cost = ("float16", half) if tensor_cores[gpu] else ("float32", costs[name])
    bound = devices.predict_step_time(cost.training(64, slots=1), sheet, dtype)
    peak, bandwidth = sheet.flops[dtype] / 1e12, sheet.bytes_per_second / 1e9
    rows.append((gpu, dtype, peak, bandwidth, bound.examples_per_second))
columns = ["device", "dtype", "TFLOP/s", "GB/s", f"{name}, images/s at most"]
generations = pd.DataFrame(rows, columns=columns).set_index("device").drop(columns="dtype")
relative = generations / generations.loc["P100"]
newest = relative.iloc[-1]
print(f"{newest.name} over P100: {newest['TFLOP/s']:.0f} times the peak,", end=" ")
print(f"{newest['GB/s']:.0f} times the bandwidth, {newest.iloc[-1]:.0f} times the bound of {name}")
relative.round(1)

# %% [markdown]
# *60x faster training in 3 years*, another slide says. It does not say what is compared: such a
# factor can come from devices, software, precision, or the number of devices. The next figure has
# the minutes in which ResNet-50 was trained on ImageNet to about 75 %: on a DGX-1 with eight GPUs
# in 2017, and in rounds of the benchmark MLPerf since then. How much faster did eight devices
# become in three years? How much of the other line is due to their number?

# %%
records = [  # year, GPUs, their kind, minutes
    *((2017.5, 8, "DGX-1", 480), (2018.9, 8, "V100", 134.6), (2020.6, 8, "A100", 39.8)),
    *((2022.9, 8, "H100", 14.7), (2023.5, 8, "H100", 13.4)),
    *((2018.9, 640, "V100", 6.24), (2022.9, 4216, "A100", 0.319), (2023.5, 3584, "H100", 0.183)),
]
eight = np.array([(year, minutes) for year, gpus, _, minutes in records if gpus == 8])
many = np.array([(year, minutes) for year, gpus, _, minutes in records if gpus > 8])
figure, axis = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
axis.plot(*eight.T, "-o", color=BLUE, label="eight GPUs")
axis.plot(*many.T, "-s", color=ORANGE, label="hundreds or thousands")
axis.plot(
    [2017.5, 2020.5], [480, 480 / 60], ":", color="gray", label="the slide: 60 times in 3 years"
)
for year, gpus, kind, minutes in records:
    if gpus == 8:
        axis.annotate(kind, (year, minutes), (0, 7), textcoords="offset points", ha="center")
    else:
        place = (year, minutes), (-7, -9)
        axis.annotate(f"{gpus:,} {kind}", *place, textcoords="offset points", ha="right")
axis.set(yscale="log", xlabel="year", ylabel="time of a training (minutes)")
axis.set(xlim=(2017, 2024), ylim=(0.08, 1500))
axis.set_title("ResNet-50 on ImageNet")
axis.legend()
show(figure, "Minutes of a training by year, on eight GPUs and on many, and the slide's claim.")
print(f"Eight GPUs, 2017 to 2020: {480 / 39.8:.0f} times as fast.")
print(f"2018, 80 times as many GPUs: {134.6 / 6.24:.0f} times as fast.")
print(f"2023, 448 times as many GPUs: {13.4 / 0.183:.0f} times as fast.")

# %% [markdown]
# ## Energy
# The slides show the Green500 list of June 2017: the GFLOP/s for each watt that supercomputers
# reach in Linpack, a benchmark in float64. GFLOP/s per watt are GFLOP per joule. So the energy of a
# training is its FLOPs divided by that number, if the training were as efficient as Linpack. What
# would 90 passes of ResNet-50 through ImageNet need on the first system of the list? And are they
# the 30 exaflops of the other slide?

# %%
green = devices.green500().query("what == 'system, measured'").set_index("name")["GFLOP/W"]
step = costs[name].training()
image_flops = step.forward_flops + step.backward_flops
total = 90 * 1.28e6 * image_flops
joules = total / (green.max() * 1e9)
print(f"{name}: {image_flops / 1e9:.1f} GFLOP for an image, {total / 1e18:.2f} exaflops in all")
images_per_joule = green.max() * 1e9 / image_flops
print(f"{green.idxmax()}, {green.max()} GFLOP/J: {images_per_joule:.2f} images per joule,")
print(f"{joules / 3.6e6:.0f} kWh for the training")

# %% [markdown]
# Can this machine measure its own energy? Processors have counters for it, but virtual machines do
# not pass them on, and many systems let only the administrator read them.

# %%
with devices.watch(num_images=BATCH_SIZE * 4 * STEPS, title=NETWORKS[0]) as watched:
    for _ in range(4 * STEPS):
        steps[NETWORKS[0]]()
print(watched.summary)

# %% [markdown]
# ## Something to show a friend
# The planner combines all of this: choose a network, a device, the number of images and a price. It
# says how long the training takes, how much energy and money it needs, whether it fits into memory,
# and what limits it. On this machine it uses the measured rates of layers; on other devices the
# bound of the data sheet, divided by the efficiency that you choose. What was the efficiency of
# ResNet-50 on the P100 in the table above?

# %%
planner = widgets.TrainingPlanner(
    costs,
    {"this machine": peaks},
    num_images=1_280_000,
    epochs=90,
    dollars_per_hour=DOLLARS_PER_HOUR,
)
planner.show()

# %% [markdown]
# A price in words, or a network with a layer that cannot be counted, gets a sentence instead of a
# number.

# %%
mystery = models.cost(
    keras.Sequential([keras.Input((8,)), keras.layers.Lambda(tf.sin, name="mystery")])
)
for networks, price in (({"mine": small}, "two dollars"), ({"mine": mystery}, 2.50)):
    try:
        widgets.TrainingPlanner(networks, {"this machine": peaks}, dollars_per_hour=price)
    except LabError as error:
        print(error)

# %% [markdown]
# ## The challenge
# If the memory is too small, you can compute outputs twice instead of keeping them (Chen and
# others, 2016). Keep the outputs of some layers; the layers between two of them are a *segment*. In
# the backward pass, compute a segment again from the kept output before it, use it, and free it. So
# the memory is that of all kept outputs plus that of the largest segment, and every layer that is
# not kept is computed twice.
#
# For example, four layers have outputs of 4 MB each, and layer 1 is kept. The segments are layer 0,
# with 4 MB, and layers 2 and 3, with 8. The memory is 4 + 8 = 12 MB.
#
# Which layers do you keep? The bar: for three networks, your plan fits into the memory, and it
# computes at most 5 % more FLOPs again than the best plan.


# %% tags=["exercise"]
def checkpoints(sizes, flops, limit):
    """The numbers of the layers to keep, from 0.

    Layer i has an output of `sizes[i]` MB and takes `flops[i]` GFLOPs; the memory is `limit` MB.
    """
    ### BEGIN SOLUTION
    plans = []
    for span in sorted({sum(sizes[i:j]) for j in range(len(sizes) + 1) for i in range(j + 1)}):
        best = {-1: {0: (0, ())}}  # by the last kept layer and the MB of all: FLOPs and numbers
        for place, size in enumerate(sizes):
            best[place] = {}
            for last in range(-1, place):
                if sum(sizes[last + 1 : place]) > span:
                    continue
                for used, (total, kept) in best[last].items():
                    new = total + flops[place], (*kept, place)
                    if span + used + size <= limit:
                        before = best[place].get(used + size, new)
                        best[place][used + size] = max(before, new)
        for last, ends in best.items():
            if span <= limit and sum(sizes[last + 1 :]) <= span:
                plans += ends.values()
    return max(plans)[1]
    ### END SOLUTION


ex.checkpoints.check(checkpoints)  # also ex.checkpoints.hint() and ex.checkpoints.solution()

# %% [markdown]
# ## What you learned
# The FLOPs of a training step are about three times those of the forward pass, and its memory has a
# fixed part for the weights and one for the activations, which grows with the batch. Whether
# computing or moving data limits a layer depends on its FLOPs per byte, so a bound needs both the
# peak and the bandwidth; a prediction needs rates that were measured with similar layers. To check
# a claim, divide its FLOPs by its time, and compare the result with the peak.

# %% [markdown]
# ## What to try next
# - Count a network of your own: `models.cost(network).training(32)`.
# - Predict a step with 1, 8 and 256 images, and measure it. Where does the prediction fail?
# - Set `NETWORKS` to `["alexnet"]` and `BATCH_SIZE` to 8. Which layers take the time, and why would
#   a larger batch help?
# - Plan the same training on an H100 with half of its price. When is the slower device cheaper?

# %% [markdown]
# ## References
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slides.
# - S. Williams, A. Waterman and D. Patterson, *Roofline*, Communications of the ACM 52(4), 2009.
# - G. Diamos et al., *Persistent RNNs: stashing recurrent weights on-chip*, ICML 2016.
# - A. Lavin and S. Gray, [arXiv:1509.09308](https://arxiv.org/abs/1509.09308), 2015: Winograd.
# - T. Chen et al., *Training deep nets with sublinear memory cost*, 2016,
#   [arXiv:1604.06174](https://arxiv.org/abs/1604.06174).
# - TensorFlow, `docs_src/performance/benchmarks.md`, May 2017: the P100; R. Xu and N. Dandapanthu,
#   *Deep learning performance with P100 GPUs*, Dell EMC, 2016: GoogLeNet.
# - MLCommons, `training_results_v0.5`, `v0.7`, `v2.1`, `v3.0` on GitHub: logs of five runs each, of
#   which we average the middle three; the goal is 74.9 % in v0.5, then 75.9 %. K. Johnson,
#   VentureBeat, July 2019: the 8 hours of 2017.
# - Data sheets: `dltlab/devices/datasheets.toml` names each source.
