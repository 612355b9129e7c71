# ---
# title: Weak scaling
# summary: >-
#   A slide of 2017 claims that one server with eight GPUs trains AlexNet faster than 128 servers
#   without GPUs. You test the claim with published rates and a simulator, compare the simulator
#   with real workers on this machine, measure how large a batch may be, and compute the time,
#   energy and cost of a training on 1 to 992 GPUs.
# objectives:
#   - check a claim about speed with simple arithmetic
#   - distinguish strong from weak scaling, compute efficiency, and apply the laws of Amdahl and
#     Gustafson
#   - simulate a step of data-parallel training, and name what a simulation leaves out
#   - measure the gradient noise scale, and estimate from it how large a batch may be
#   - compute the time, energy and cost of a training on n devices
# minutes: {read: 40, exercise: 60, compute: 4}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: [shapes]
# requires: [02_image_classification]
# profiles:
#   smoke:
#     DATASET: digits
#     SEEDS: [1]
#     STEPS: 8
#     LARGE_NETWORKS: false
#     MAX_WORKERS: 0
#     NODES: [1, 124]
#   workshop: {}
#   full: {SEEDS: [1, 2, 3, 4, 5], STEPS: 400}
# ---

# %% [markdown]
# ## The question
# In June 2017, an NVIDIA slide claimed: *AlexNet training: DGX-1 faster than 128 Knights Landing
# servers.* A DGX-1 is one server with eight P100 GPUs. Knights Landing (KNL) is Intel's Xeon Phi
# processor, one in each server. The note below the chart said: *Batch size 256, weak scaling up to
# 32 KNL servers, 64 & 128 estimated based on ideal scaling.*
#
# Is the claim true? Two published rates are enough to redraw the chart: TensorFlow's benchmarks of
# May 2017 for the DGX-1 (with synthetic images, so nothing is read from disk), and a paper by
# Keuper and Pfreundt (2016) for one Xeon Phi.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

from dltlab import data, devices, distribute, models
from dltlab.checks import weak_scaling as ex
from dltlab.display import NEUTRAL, PALETTE, show
from dltlab.distribute import CubeMesh, FatTree, LayerTime, Link, Ring

# %% tags=["parameters"]
DATASET = "shapes"  # or "cifar10", or your own: dltlab data import FOLDER --name NAME
SEEDS = [1, 2, 3]  # of the trainings that measure the noise of gradients
STEPS = 80  # of each of them
BATCH_SIZE = 32  # images of one gradient; a step takes the mean of four gradients
LARGE_NETWORKS = True  # simulate ResNet-101 and VGG-16, too
MAX_WORKERS = 2  # processes that train together, on a core each; fewer than 2: none are started
NODES = [1, 2, 4, 8, 16, 32, 64, 124]  # servers of a simulated cluster
DOLLARS_PER_SERVER = 129_000  # a DGX-1 in 2016
YEARS = 3  # of use
DOLLARS_PER_KWH = 0.10

# %%
devices.setup(precision="float32", seed=1)
BLUE, ORANGE, GREEN = PALETTE[:3]

P100_RATES = {1: 2987, 2: 5658, 4: 10509, 8: 17822}  # images/s of AlexNet, 512 on each GPU
DGX_RATE = P100_RATES[8]
KNL_RATE = 256 / 0.6  # images/s of AlexNet: 0.6 s for 256

servers = 2 ** np.arange(8)
figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
axes.plot(servers, servers * KNL_RATE, "o-", color=BLUE, label="Xeon Phi, ideal scaling")
axes.axhline(DGX_RATE, color=ORANGE, label="DGX-1, measured")
axes.set(xscale="log", yscale="log", xlabel="servers with a Xeon Phi", ylabel="images per second")
axes.set_xticks(servers, servers)
axes.set_title("AlexNet: how many servers are as fast as one DGX-1?")
axes.grid(alpha=0.3)
axes.legend()
crossing = DGX_RATE / KNL_RATE
show(figure, f"A rising line and a level one; they cross at {crossing:.0f} servers.")

# %%
print(f"With ideal scaling, {crossing:.0f} servers are as fast as the DGX-1.")
print(f"128 servers are slower only below {DGX_RATE / 128:.0f} images/s each, not {KNL_RATE:.0f}.")

# %% [markdown]
# With these two rates, the claim is false. What did the slide count differently? In this lab you
# find out under which assumptions the claim is true, and what it costs to train on many devices.
#
# ## Arithmetic first
# For each image, training computes about six operations per multiply-add of the network: two in the
# forward pass and four in the backward pass. Multiplied by the images per second, this gives
# operations per second, which we can compare with the peak on the data sheet. NVIDIA stated in
# August 2016 that a DGX-1 trains AlexNet in two hours, 5.3 times as fast as four Xeon Phi servers.
# We assume that this means 90 passes through 1.28 million images. Which value in the last column is
# surprising?

# %%
alexnet = models.cost(models.alexnet())
peaks = {"P100": devices.specs().loc["P100", "float32"], "Xeon Phi": 68 * 1.4e9 * 64 / 1e12}
two_hours = 90 * 1.28e6 / (2 * 3600)  # images/s
claims = pd.DataFrame(
    [
        ("P100", "TensorFlow's benchmarks", P100_RATES[1]),
        ("P100", "NVIDIA: eight take 2 hours", two_hours / 8),
        ("Xeon Phi", "Keuper and Pfreundt", KNL_RATE),
        ("Xeon Phi", "NVIDIA: four take 5.3 × 2 hours", two_hours / 5.3 / 4),
    ],
    columns=["device", "source", "images/s"],
)
claims["TFLOP/s"] = 6 * alexnet.macs * claims["images/s"] / 1e12
claims["peak"] = claims["device"].map(peaks)
claims["of peak"] = claims["TFLOP/s"] / claims["peak"]
claims.round(2)

# %%
ex.above_the_peak.ask()

# %% tags=["solution"]
ex.above_the_peak.answer("b")

# %% [markdown]
# ## Strong and weak scaling
# There are two ways to use n devices. In **strong scaling**, the total work stays the same and is
# divided: 256 images per step on one device, or 32 on each of eight. In **weak scaling**, the work
# of each device stays the same: 256 images per step on one device, 2048 on eight. Ideally, a step
# on n devices takes 1/n of the time with strong scaling, and the same time with weak scaling.
# *Efficiency* is the ideal time divided by the measured time.
#
# ### Exercise 1: efficiency
# `seconds_one` and `seconds_n` are the times of a step.


# %% tags=["exercise", "nbval-check-output"]
def efficiency(seconds_one, seconds_n, num_workers, kind):
    """The efficiency of `num_workers` against one; `kind` is "strong" or "weak"."""
    ### BEGIN SOLUTION
    ideal = seconds_one if kind == "weak" else seconds_one / num_workers
    return ideal / seconds_n
    ### END SOLUTION


ex.efficiency.check(efficiency)  # also ex.efficiency.hint() and ex.efficiency.solution()

# %% [markdown]
# The DGX-1 was measured with weak scaling, 512 images on each GPU. How close to ideal is its
# scaling?

# %%
efficiency_of = ex.efficiency.or_reference(efficiency)  # yours once it passes
gpus = np.array(list(P100_RATES))
step_seconds = 512 * gpus / np.array(list(P100_RATES.values()))
dgx = pd.DataFrame(
    {"GPUs": gpus, "images/s": P100_RATES.values(), "ms per step": 1e3 * step_seconds}
)
dgx["efficiency"] = [
    efficiency_of(step_seconds[0], seconds, n, "weak")
    for n, seconds in zip(gpus, step_seconds, strict=True)
]
dgx.round(3)

# %% [markdown]
# Two laws describe such numbers. Both have one parameter, the serial share *s*: the part of the
# time that more workers do not shorten. **Amdahl's law** assumes a fixed amount of work. One worker
# needs one second for it, and the share *s* of that second cannot be divided among workers.
# **Gustafson's law** assumes a fixed time. Of one second with n workers, the share *s* goes to
# serial work, which is done once; during the rest, n workers do n times as much as one would.
#
# ### Exercise 2: the laws
# The speedup is the time that one worker would need for the same work, divided by the time of n
# workers.


# %% tags=["exercise", "nbval-check-output"]
def speedups(serial, num_workers):
    """The speedup by Amdahl's law, and that by Gustafson's."""
    ### BEGIN SOLUTION
    parallel = 1 - serial
    return 1 / (serial + parallel / num_workers), serial + parallel * num_workers
    ### END SOLUTION


ex.speedups.check(speedups)  # also ex.speedups.hint() and ex.speedups.solution()

# %% [markdown]
# With a serial share of one percent, what speedup do 992 devices give? And does Gustafson's law
# describe the DGX-1 if the share is fitted to its times?

# %%
laws = ex.speedups.or_reference(speedups)
for n in (8, 128, 992):
    amdahl, gustafson = laws(0.01, n)
    print(f"{n:3} devices: Amdahl {amdahl:5.1f} times as fast, Gustafson {gustafson:5.1f}")
fit = distribute.fit_scaling(gpus, step_seconds, "weak")
fit.show()
fit

# %% [markdown]
# With eight GPUs, the measured efficiency is below the fitted curve. A cost that grows with the
# number of devices would explain this, and neither law has such a term. What could it be? We
# measure real workers first, and then build a model.
#
# ## Real workers
# `measure_scaling` starts one worker process, then two, each on its own core. Together they train
# the small residual network of lab 02, with 64 images each for weak scaling and with 64 in total
# for strong scaling. It also measures the all-reduce alone for several sizes, and fits its latency
# *alpha* and its bandwidth. This takes about half a minute.

# %%
scaling = None
if MAX_WORKERS > 1:
    scaling = distribute.measure_scaling(
        "small_resnet", batch_size=64, max_workers=MAX_WORKERS, num_steps=10, repeats=4
    )
    scaling.show()
scaling

# %% [markdown]
# ## A model of a step
# The backward pass computes the gradients of the last layer first. Gradients are collected into
# *buckets*. While a device continues with the earlier layers, the all-reduce of the first bucket
# can already run: communication overlaps with computation, or is *hidden* behind it. Only one
# bucket is reduced at a time.
#
# ### Exercise 3: the last bucket
# Bucket i is ready at time `ready[i]`, and its all-reduce takes `seconds[i]`. When does the
# all-reduce of the last bucket end?


# %% tags=["exercise", "nbval-check-output"]
def last_end(ready, seconds):
    """When the all-reduce of the last bucket ends; both lists are in the order of the buckets."""
    ### BEGIN SOLUTION
    end = 0.0
    for start, duration in zip(ready, seconds, strict=True):
        end = max(end, start) + duration
    return end
    ### END SOLUTION


ex.last_end.check(last_end)  # also ex.last_end.hint() and ex.last_end.solution()

# %% [markdown]
# `distribute.simulate` computes this for every device and every message. The function below
# estimates the time of each layer from a network's rate. Then we simulate AlexNet on a DGX-1, whose
# eight GPUs are connected by NVLink in a cube mesh. How much of the communication is hidden?


# %%
def times_of(cost, batch_size, images_per_second):
    """The layers' times on a device with that rate: in proportion to their multiply-adds."""
    per_mac = batch_size / images_per_second / cost.macs
    return [
        LayerTime(
            layer.name, layer.macs * per_mac / 3, layer.macs * per_mac * 2 / 3, 4 * layer.params
        )
        for layer in cost.layers
    ]


on_p100 = times_of(alexnet, 512, P100_RATES[1])
simulated = distribute.simulate(on_p100, CubeMesh())
simulated.show()
published_efficiency = dgx["efficiency"].iloc[-1]
print(f"Efficiency: simulated {simulated.efficiency:.3f}, published {published_efficiency:.3f}")

# %% [markdown]
# The simulated efficiency is far higher than the published one. Could a slower network explain the
# measurement? Suppose that no communication was hidden. Then the whole difference from the step
# time of one GPU is communication, in which each GPU sends 2(n−1)/n times the size of the
# gradients. Which bandwidth does that imply?

# %%
gradient_bytes = 4 * alexnet.params
dgx["sent (MB)"] = 2 * (gpus - 1) / gpus * gradient_bytes / 1e6
dgx["exposed (ms)"] = dgx["ms per step"] - dgx["ms per step"][0]
dgx["GB/s"] = dgx["sent (MB)"] / dgx["exposed (ms)"]
link = CubeMesh().link
print(f"Data sheet: {4 * link.bandwidth / 1e9:.0f} GB/s from each GPU over its four links.")
dgx[1:].round(3)

# %% [markdown]
# With eight GPUs, the implied bandwidth is far below that of NVLink. It falls as GPUs are added,
# which would not happen in a ring with equal links. So NVLink alone does not explain the loss. The
# benchmark does not report the cause. The simulation leaves out costs of the program, such as
# launching the work on all GPUs and updating the weights. **So read a simulated efficiency as an
# upper bound.**
#
# The table compares more published results with the simulation. In the last column, the time of
# each device varies by 5 % from step to step, and a step lasts as long as its slowest device. This
# variation is a guess: where the column is below the published efficiency, it may be too large.

# %%
ETHERNET, ROCE = Link(30e-6, 50e9 / 8), Link(30e-6, 25e9 / 8)
PCIE = Link(5e-6, 10e9)
resnet = models.cost(models.resnet50())
resnet_times = times_of(resnet, 32, 195)
goyal = FatTree(32, ETHERNET, "halving_doubling")
horovod = Ring(512, PCIE, ROCE, devices_per_node=4)
points = [  # what was trained, layers' times, network, bytes of a bucket, published efficiency
    ("ResNet-50, 256 P100 (Goyal)", resnet_times, goyal, 4e6, 0.90),
    ("AlexNet, 8 P100 (TensorFlow)", on_p100, CubeMesh(), 25e6, published_efficiency),
]
if LARGE_NETWORKS:
    resnet_101 = times_of(models.cost(keras.applications.ResNet101(weights=None)), 64, 104)
    vgg = times_of(models.cost(models.vgg16()), 64, 154)
    points.append(("ResNet-101, 512 GPUs (Horovod)", resnet_101, horovod, 64e6, 0.90))
    points.append(("VGG-16, 512 GPUs (Horovod)", vgg, horovod, 64e6, 0.68))
rows = []
for name, layers, network, size, published in points:
    steady, uneven = (
        distribute.simulate(layers, network, bucket_bytes=size, jitter=jitter).efficiency
        for jitter in (0, 0.05)
    )
    rows.append((name, published, steady, uneven))
columns = ["training", "published", "simulated", "jitter 5 %"]
pd.DataFrame(rows, columns=columns).set_index("training").round(3)

# %% [markdown]
# Does this machine behave as simulated? The simulation uses the measured step time of one worker,
# and alpha and bandwidth of the measured all-reduce. It does not include that workers share caches
# and memory bandwidth, and wait for the slower one. Is the measured efficiency lower?

# %%
if scaling:
    fitted = scaling.communication
    own = times_of(models.cost(models.small_resnet()), 64, 64 / scaling.weak.points[0].seconds)
    ring = Ring(MAX_WORKERS, Link(fitted.alpha / 2, fitted.bandwidth))
    predicted = distribute.simulate(own, ring, bucket_bytes=4e6)
    measured = scaling.weak.points[-1].efficiency
    print(f"Weak scaling of {MAX_WORKERS} workers: simulated {predicted.efficiency:.3f}, ", end="")
    print(f"measured {measured:.3f}")

# %% [markdown]
# ## Simulate the slide
# "Batch size 256" can mean two things: 256 images on each server (weak scaling), or 256 in total
# (strong scaling), the usual batch of Caffe's AlexNet. We assume that the servers are connected by
# Omni-Path at 100 Gbit/s. We simulate both readings, and also what the slide describes: weak
# scaling up to 32 servers and ideal scaling beyond.

# %%
OMNI_PATH = Link(alpha=5e-6, bandwidth=12.5e9)  # the latency is an estimate
counts = [1, 2, 4, 8, 16, 32, 64, 128]


def knl_rate(num_servers, images_in_all, jitter=0.05):
    """Images per second of servers with a Xeon Phi."""
    layers = times_of(alexnet, images_in_all / num_servers, KNL_RATE)
    steps = distribute.simulate(layers, Ring(num_servers, OMNI_PATH), jitter=jitter).step_seconds
    return images_in_all / np.mean(steps)


rates = pd.DataFrame({"servers": counts})
rates["weak"] = [knl_rate(n, 256 * n) for n in counts]
rates["as on the slide"] = [
    rates["weak"][counts.index(min(n, 32))] * max(n, 32) / 32 for n in counts
]
rates["strong"] = [knl_rate(n, 256) for n in counts]
rates.round(0).astype(int)

# %%
figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
for name, color, style in (
    ("as on the slide", NEUTRAL, "s:"),
    ("weak", BLUE, "o-"),
    ("strong", GREEN, "^-"),
):
    axes.plot(counts, rates[name], style, color=color, label=f"Xeon Phi, {name}")
axes.axhline(DGX_RATE, color=ORANGE, label="DGX-1, measured")
ceiling = 256 / (gradient_bytes * 2 * 127 / 128 / OMNI_PATH.bandwidth)
axes.axhline(ceiling, color=GREEN, linestyle="--", label="ceiling of strong scaling")
axes.set(xscale="log", yscale="log", xlabel="servers with a Xeon Phi", ylabel="images per second")
axes.set_xticks(counts, counts)
axes.set_title("The slide, rebuilt")
axes.grid(alpha=0.3)
axes.legend(fontsize=9)
show(figure, "Weak scaling crosses the level of the DGX-1; strong scaling stays below its ceiling.")

# %%
by_count = rates.set_index("servers")
for n in (64, 128):
    too_much = by_count.loc[n, "as on the slide"] / by_count.loc[n, "weak"] - 1
    print(f"{n} servers: ideal scaling from 32 on gives {too_much:.1%} more than the simulation.")
best = rates["strong"].max()
verdict = "faster" if best < DGX_RATE else "slower"
print(f"Strong scaling: at most {best:,.0f} images/s, whatever the number of servers;")
print(f"the DGX-1 is {verdict} than that: {DGX_RATE:,.0f} images/s.")

# %% [markdown]
# So the assumption of ideal scaling favors the *Xeon Phi*, and it changes little. The claim depends
# on two other things: the rate of a single server, which the slide does not state, and the meaning
# of "batch size 256". A published run lies between our two simulations: in 2017, You and others
# trained AlexNet on 512 Xeon Phi in 24 minutes (100 passes through 1.28 million images, in batches
# of 32,768).

# %%
run_rate = 100 * 1.28e6 / (24 * 60) / 512
print(f"That run: {run_rate:.0f} images/s for each Xeon Phi; 128 of them {128 * run_rate:,.0f}.")
alone = run_rate / KNL_RATE
print(f"It is {alone:.0%} of the rate of one Xeon Phi with 256 images. It has 64 images a step,")
print("reads them from storage, and runs other software: the simulation includes none of this.")

# %%
ex.strong_ceiling.ask()

# %% tags=["solution"]
ex.strong_ceiling.answer("b")

# %% [markdown]
# ## How large may a batch be?
# With weak scaling, the batch grows with the number of devices. Does a step with 65,536 images
# improve the network more than a step with 64? The gradient of a batch is the gradient over all
# images plus noise, because the images of a batch are chosen at random. A larger batch has less
# noise. Once the noise is small, more images hardly change the direction of the step. McCandlish
# and others (2018) estimate the batch size at which this happens by the **noise scale** S / |G|²,
# where S is the variance of the gradient of a single image (summed over all parameters) and G is
# the true gradient.

# %% [markdown]
# When several workers train together, the noise scale is cheap to measure. Each worker has a
# gradient over b images; the all-reduce computes their mean, a gradient over B images. The expected
# squared norms are
#
# $$E|g_b|^2 = |G|^2 + \frac{S}{b} \qquad E|g_B|^2 = |G|^2 + \frac{S}{B}$$
#
# ### Exercise 4: the noise scale
# Solve for S and |G|², and return their ratio. The arrays hold one squared norm for each step.


# %% tags=["exercise", "nbval-check-output"]
def noise_scale(small, small_batch, big, big_batch):
    """S / |G|², from squared norms of gradients over `small_batch` and `big_batch` images."""
    ### BEGIN SOLUTION
    small, big = np.mean(small), np.mean(big)
    noise = (small - big) / (1 / small_batch - 1 / big_batch)
    signal = (big_batch * big - small_batch * small) / (big_batch - small_batch)
    return noise / signal
    ### END SOLUTION


ex.noise_scale.check(noise_scale)  # also ex.noise_scale.hint() and ex.noise_scale.solution()

# %% [markdown]
# Now we train with four gradients in each step, as four workers would compute them, but one after
# the other on this machine. We record both squared norms in every step.

# %%
images, labels = data.arrays(DATASET, "train")
num_classes = len(data.info(DATASET).class_names)
PARTS = 4
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def gradient_of(network):
    """A function for the loss, the gradient over some images, and its squared norm."""

    @tf.function
    def gradient(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, network(x, training=True))
        gradients = tape.gradient(value, network.trainable_variables)
        return value, gradients, squared_norm(gradients)

    return gradient


@tf.function
def squared_norm(gradients):
    """The squared norm of a gradient, which is a list of arrays."""
    return tf.add_n([tf.reduce_sum(part**2) for part in gradients])


@tf.function
def mean_of(gradients):
    """The mean of gradients: what an all-reduce computes."""
    return [tf.add_n(parts) / PARTS for parts in zip(*gradients, strict=True)]


# %%
def train(seed):
    """Train, and return (steps, 3): the loss and the squared norms, small and big."""
    keras.utils.set_random_seed(seed)
    network = models.small_resnet(num_classes, images.shape[1:], width=8)
    optimizer = keras.optimizers.Adam(0.005)
    gradient = gradient_of(network)
    notes, rng = [], np.random.default_rng(seed)
    for _ in range(STEPS):
        rows = rng.integers(len(images), size=(PARTS, BATCH_SIZE))
        parts = [gradient(images[indices], labels[indices]) for indices in rows]
        losses, gradients, norms = zip(*parts, strict=True)
        mean = mean_of(gradients)
        notes.append((np.mean(losses), np.mean(norms), squared_norm(mean).numpy()))
        optimizer.apply(mean, network.trainable_variables)
    return np.array(notes)


runs = np.array([train(seed) for seed in SEEDS])  # (seeds, steps, 3)

# %% [markdown]
# We divide the training into four parts, and compute the noise scale in each. How does it change
# while the loss falls?

# %%
measure = ex.noise_scale.or_reference(noise_scale)
quarters = np.split(runs[:, : STEPS // 4 * 4], 4, axis=1)
scales = np.array(
    [
        [measure(run[:, 1], BATCH_SIZE, run[:, 2], PARTS * BATCH_SIZE) for run in quarter]
        for quarter in quarters
    ]
)  # (quarters, seeds)
losses = np.array([quarter[:, :, 0].mean(axis=1) for quarter in quarters])
table = pd.DataFrame({"loss": losses.mean(axis=1), "noise scale": np.median(scales, axis=1)})
table[[f"seed {seed}" for seed in SEEDS]] = scales
table.round(2)

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for place, seed in enumerate(SEEDS):
    usable = scales[:, place] > 0  # few images may give a negative estimate of |G|²
    color = PALETTE[place % len(PALETTE)]
    x, y = losses[usable, place], scales[usable, place]
    axes.plot(x, y, "o-", color=color, label=f"seed {seed}")
axes.set(yscale="log", xlabel="loss (nats), falling during the training")
axes.set_ylabel("noise scale (images)")
axes.yaxis.set_major_formatter("{x:,.0f}")
axes.yaxis.set_minor_formatter("{x:,.0f}")
axes.set_title(f"How large a batch may be while training on {DATASET}")
axes.invert_xaxis()
axes.grid(alpha=0.3)
axes.legend(fontsize=9)
show(figure, "The noise scale over the loss, which falls to the right; a line for each seed.")

# %%
critical = np.median(scales[-1])
spread = scales[-1].max() / scales[-1].min()
print(f"In the last quarter: a noise scale of {critical:.0f} images, the median of the seeds,")
print(f"which differ by a factor of {spread:.1f}.")
for num_devices in (1, 8, 128):
    share = critical / num_devices
    print(f"{num_devices:3} devices reach this batch with {share:.0f} images each.")

# %% [markdown]
# McCandlish and others report tens of thousands of images for ImageNet, and that the noise scale
# grows during training: |G| becomes small, while the noise remains. Expect a smaller value here,
# with small images, few classes and a short training. Does yours grow? If the seeds differ as much
# as the four parts, you cannot tell: the estimate of |G|² then has a large error, and only the
# order of magnitude is meaningful.
#
# What does a larger batch cost? With a tuned learning rate, reaching a given loss takes
#
# $$\text{images} = E \left(1 + \frac{B}{B_c}\right) \qquad
# \text{steps} = \frac{E}{B_c} \left(1 + \frac{B_c}{B}\right)$$
#
# *E* is the number of images with very small batches, and $B_c$ is the critical batch size, which
# the noise scale estimates. Far below $B_c$, doubling the batch halves the number of steps. Far
# above $B_c$, the number of steps hardly changes, and the number of images doubles.

# %%
ex.beyond_critical.ask()

# %% tags=["solution"]
ex.beyond_critical.answer("c")

# %% [markdown]
# ## Time, energy and cost
# Now we combine the parts: how long does a training take on n devices, how much energy does it
# consume, and what does it cost?
#
# ### Exercise 5: the bill
# Every device processes `batch_size` images in a step of `step_seconds`. It consumes `watts` and
# costs `dollars_per_hour`. `min_images` is E, and `critical_batch` is $B_c$.


# %% tags=["exercise", "nbval-check-output"]
def training_cost(
    num_devices, batch_size, step_seconds, min_images, critical_batch, watts, dollars_per_hour
):
    """The hours, kilowatt-hours and dollars of a training."""
    ### BEGIN SOLUTION
    batch = num_devices * batch_size
    images = min_images * (1 + batch / critical_batch)
    hours = images / batch * step_seconds / 3600
    return hours, num_devices * watts / 1000 * hours, num_devices * dollars_per_hour * hours
    ### END SOLUTION


ex.training_cost.check(training_cost)  # also ex.training_cost.hint() and .solution()

# %% [markdown]
# We train ResNet-50 on ImageNet, which takes 90 passes in batches of 256 images. The cluster is
# NVIDIA's SATURNV from the slides: 124 DGX-1 servers with 992 P100 GPUs, and four InfiniBand ports
# of 100 Gbit/s on each server. We assume that a server consumes 3,200 W, and spread its price over
# the hours of its use. One P100 processes 219 images per second in batches of 64, and 195 in
# batches of 32 (TensorFlow's benchmarks). From these two rates follow a fixed time per step and a
# time per image.

# %%
per_image = (64 / 219 - 32 / 195) / 32
fixed = 64 / 219 - 64 * per_image
watts = 3200 / 8
dollars = DOLLARS_PER_SERVER / 8 / (YEARS * 365 * 24) + watts / 1000 * DOLLARS_PER_KWH
CRITICAL_BATCH = 20_000  # "tens of thousands", McCandlish and others
min_images = 90 * 1.28e6 / (1 + 256 / CRITICAL_BATCH)
INFINIBAND = Link(alpha=30e-6, bandwidth=4 * 100e9 / 8)
gpu_watts = devices.specs().loc["P100", "watts"]
print(f"A step: {1e3 * fixed:.0f} ms and {1e3 * per_image:.1f} ms for each image.")
print(f"A device: {watts:.0f} W, of which the P100 at most {gpu_watts:.0f}, and ${dollars:.2f}/h.")

# %%
bill = ex.training_cost.or_reference(training_cost)


def step_on(num_nodes, batch_size, jitter=0.05):
    """The seconds of a step on servers of SATURNV."""
    layers = times_of(resnet, batch_size, batch_size / (fixed + batch_size * per_image))
    network = FatTree(num_nodes, INFINIBAND, "halving_doubling")
    return np.mean(distribute.simulate(layers, network, jitter=jitter).step_seconds)


def row_of(num_devices, batch_size):
    """A row of the table of trainings."""
    seconds = fixed + batch_size * per_image  # of one device alone
    if num_devices > 1:
        seconds = step_on(num_devices // 8, batch_size)
    figures = bill(num_devices, batch_size, seconds, min_images, CRITICAL_BATCH, watts, dollars)
    return (num_devices, batch_size, num_devices * batch_size / seconds, *figures)


device_counts = [1, *(8 * n for n in NODES)]
names = ["devices", "images each", "images/s", "hours", "kWh", "dollars"]
trainings = pd.DataFrame([row_of(n, b) for b in (64, 16) for n in device_counts], columns=names)
trainings.round(2)

# %% [markdown]
# ## Something to show a friend
# The slide is about images per second, which the first panel shows. Now look at the other two
# panels. Where does the time leave the dotted line of ideal scaling, and what happens to the cost
# there? The crosses are published trainings of 90 passes: one hour on 256 P100 (Goyal and others),
# and 15 minutes on 1024 P100 (Akiba and others).

# %%
figure, panels = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for size, color in ((64, BLUE), (16, ORANGE)):
    part = trainings[trainings["images each"] == size]
    for panel, name in zip(panels, ("images/s", "hours", "dollars"), strict=True):
        panel.plot(part["devices"], part[name], "o-", color=color, label=f"{size} images each")
one = trainings.iloc[0]
line = np.array([1, 992])
panels[0].plot(line, line * one["images/s"], ":", color=NEUTRAL, label="ideal")
panels[1].plot(line, one["hours"] / line, ":", color=NEUTRAL, label="ideal")
panels[2].axhline(one["dollars"], linestyle=":", color=NEUTRAL, label="ideal")
panels[1].plot([256, 1024], [1, 0.25], "x", color=GREEN, markersize=9, label="published")
for panel, title, unit in zip(
    panels,
    ("Rate", "Time to train", "Cost to train"),
    ("images per second", "hours", "dollars"),
    strict=True,
):
    panel.set(xscale="log", yscale="log", xlabel="devices", ylabel=unit, title=title)
    panel.grid(alpha=0.3)
    panel.legend(fontsize=8)
panels[2].set_yscale("linear")
panels[2].set_ylim(0)
show(figure, "Rate, time and cost over the number of devices, for 64 and 16 images on each.")

# %%
many = trainings[trainings["devices"] == 8 * NODES[-1]].set_index("images each")
for size, training in many.iterrows():
    rate, speedup = training["images/s"] / one["images/s"], one["hours"] / training["hours"]
    print(
        f"{8 * NODES[-1]} devices, {size} images each: {rate:.0f} times the rate, {speedup:.0f} "
        f"times as fast, {training['dollars'] / one['dollars']:.1f} times the cost, "
        f"{training['kWh']:.0f} kWh."
    )

# %% [markdown]
# Both published trainings had 32 images on each GPU. How long do they take in the simulation, first
# with 90 passes, and then with the number of images from the formula?

# %%
for name, nodes, published in (("Goyal", 32, 1.0), ("Akiba", 128, 0.25)):
    seconds = step_on(nodes, 32)
    passes = 90 * 1.28e6 / (8 * nodes * 32) * seconds / 3600
    by_formula = bill(8 * nodes, 32, seconds, min_images, CRITICAL_BATCH, watts, dollars)[0]
    print(f"{name}, {8 * nodes} P100: published {published} h, ", end="")
    print(f"simulated {passes:.2f} h for 90 passes, {by_formula:.2f} h by the formula")

# %% [markdown]
# With 90 passes, the simulated times are shorter than the published ones. The simulation leaves out
# reading, decoding and augmenting the images, so its rate is an upper bound. The times by the
# formula depend on the critical batch, of which we know only the order of magnitude. With a careful
# warm-up, both groups needed no more than 90 passes, with up to 32,768 images in a batch. So for
# these trainings, a critical batch of 20,000 is too small. If it is wrong by a factor of three, the
# cost for eight devices changes by a few percent, but the cost for 992 devices with 64 images each
# by a factor of two or more.

# %% [markdown]
# ## The challenge
# Find the cheapest way to train within a deadline. `train_on(num_nodes, batch_size, algorithm)`
# simulates a training with 1 to 124 nodes, with 4, 8, 16, 32 or 64 images per device, and with
# "ring" or "halving_doubling" as the algorithm. The result has the attributes `hours` and
# `dollars`. The bar: for each of three deadlines, your plan costs at most 2 % more than the
# cheapest one, and you call `train_on` at most 80 times.


# %% tags=["exercise"]
def plan_training(train_on, deadline):
    """The number of nodes, images per device, and algorithm of a plan for so many hours."""
    ### BEGIN SOLUTION
    plans = {}
    for batch_size in (4, 8, 16, 32, 64):
        low, high = 0, 124  # with `low` nodes the deadline is missed
        while high - low > 1:
            middle = (low + high) // 2
            if train_on(middle, batch_size, "halving_doubling").hours <= deadline:
                high = middle
            else:
                low = middle
        training = train_on(high, batch_size, "halving_doubling")
        if training.hours <= deadline:
            plans[training.dollars] = (high, batch_size, "halving_doubling")
    return plans[min(plans)]
    ### END SOLUTION


ex.plan_training.check(plan_training)  # also ex.plan_training.hint() and .solution()

# %% [markdown]
# ## What you learned
# More images per second do not always mean a shorter training: beyond the critical batch, more
# devices cost more and save little time. A simulated efficiency is an upper bound, so compare the
# simulation with measurements before you use it for larger numbers of devices. You can check a
# claim about speed by computing the rate of a single device and comparing it with the peak on the
# data sheet.

# %% [markdown]
# ## What to try next
# - Set `DATASET` to your own images, and measure their noise scale.
# - Run `distribute.measure_scaling("small_vgg", max_workers=4)`, or pass your own network as
#   `"module:function"`. Which network hides more of its communication?
# - Replace the P100 by the H100: multiply the rates by the ratio of their peaks in
#   `devices.specs()`, and keep the network. How much lower is the efficiency?
# - Let the batch grow during training, in proportion to the noise scale. How much cheaper is the
#   training?

# %% [markdown]
# ## References
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slides on DGX-1 and SATURNV.
# - TensorFlow, *Benchmarks*, May 2017, `docs_src/performance/benchmarks.md`: the P100.
# - J. Keuper and F.-J. Pfreundt, *Distributed training of deep neural networks*, 2016,
#   [arXiv:1609.06870](https://arxiv.org/abs/1609.06870): the Xeon Phi.
# - *Nvidia welcomes Intel into AI era: fancy a benchmark deathmatch?*, The Register, 2016:
#   the two hours. NVIDIA, *How NVIDIA built DGX-1*, 2016: its price.
# - Y. You et al., *ImageNet training in minutes*, 2017,
#   [arXiv:1709.05011](https://arxiv.org/abs/1709.05011): 512 Xeon Phi.
# - P. Goyal et al., *Training ImageNet in 1 hour*, 2017,
#   [arXiv:1706.02677](https://arxiv.org/abs/1706.02677); T. Akiba et al., *15 minutes*, 2017,
#   [arXiv:1711.04325](https://arxiv.org/abs/1711.04325); A. Sergeev and M. Del Balso, *Horovod*,
#   2018, [arXiv:1802.05799](https://arxiv.org/abs/1802.05799).
# - S. McCandlish et al., *An empirical model of large-batch training*, 2018,
#   [arXiv:1812.06162](https://arxiv.org/abs/1812.06162): the noise scale.
# - G. Amdahl, 1967, and J. Gustafson, *Reevaluating Amdahl's law*, 1988: the laws.
