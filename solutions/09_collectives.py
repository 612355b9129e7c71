# ---
# title: Collectives
# summary: >-
#   When many workers train one network, each of them needs the sum of all gradients at every step.
#   You write the ring all-reduce, watch its pieces move, show that no algorithm sends less, and
#   measure real processes: at which sizes does latency limit the time, and at which bandwidth?
# objectives:
#   - write a ring all-reduce as the program of one rank, with send and receive
#   - derive the minimum number of bytes that each collective must send
#   - convert a measured time to algorithm and bus bandwidth, as nccl-tests does
#   - predict the time of a collective from latency and bandwidth, and choose the algorithm by size
#   - fit latency and bandwidth to measured times, and tell which of them limits a training
#   - compare this machine with published figures for NVLink, and explain the difference
# minutes: {read: 40, exercise: 60, compute: 2}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: []
# requires: [01_first_network]
# profiles:
#   smoke: {TRANSPORTS: [ring], MAX_BYTES: 65536, RUN_CHALLENGE: false}
#   workshop: {}
#   full: {WORKERS: 4, MAX_BYTES: 268435456}
# ---

# %% [markdown]
# ## The question
# Four workers train one network. Each computes a gradient from its own examples. Before any of them
# can update its weights, it needs the sum of all four gradients. For ResNet-50, each worker
# contributes 102 MB and needs a sum of 102 MB, at every step. Who sends what to whom?
#
# The animation below shows one answer. A worker is called a *rank*, and each row is one rank. Its
# array is cut into four pieces. Each rank has a color; a stripe of that color in a piece means that
# the piece contains data from that rank. Watch one column: what happens in the first three steps,
# and what happens in the last three?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

from dltlab import distribute, models
from dltlab.checks import collectives as ex
from dltlab.display import NEUTRAL, PALETTE, show

tf.config.set_visible_devices([], "GPU")  # GPUs are left to the measured processes

# %% tags=["parameters"]
WORKERS = 2  # real processes whose all-reduce is measured
TRANSPORTS = []  # such as ["ring", "shared_memory"]; empty: all that can be used on this machine
MAX_BYTES = 16777216  # of the largest array that is measured
RUN_CHALLENGE = True

# %%
arrays = list(np.random.default_rng(1).normal(size=(4, 12)))  # one for each of four ranks
total = np.sum(arrays, axis=0)
distribute.all_reduce(arrays).animate()

# %% [markdown]
# ## All through rank 0
# We start with the simplest algorithm. Every rank sends its array to rank 0, which adds the arrays
# and sends the sum back. The function below is the program of *one* rank; all ranks run it at the
# same time. A rank communicates through `comm`: `comm.rank` is its own number, `comm.size` is the
# number of ranks, `comm.send(array, target)` sends an array, and `comm.receive(source)` waits until
# an array has arrived. MPI programs are written in the same style.


# %%
def by_rank_0(array, comm):
    """Send all arrays to rank 0, which adds them and sends the sum back."""
    if comm.rank != 0:
        comm.send(array, 0)
        return comm.receive(0)
    for source in range(1, comm.size):
        array = array + comm.receive(source)
    for target in range(1, comm.size):
        comm.send(array, target)
    return array


# %% [markdown]
# `distribute.all_reduce` runs this function on four ranks and records the messages, shown as
# arrows. In a step, a rank sends at most one message and receives at most one. Which rank is always
# busy, and how many of the others are idle in each step?

# %%
run = distribute.all_reduce(arrays, algorithm=by_rank_0)
print("largest error:", max(np.abs(output - total).max() for output in run.outputs))
run.show()

# %%
pd.DataFrame(
    {"sent": run.bytes_sent, "received": run.bytes_received}, index=pd.Index(range(4), name="rank")
) / run.num_bytes

# %% [markdown]
# The unit of the table is one array. Rank 0 receives n − 1 arrays and sends n − 1 arrays, one after
# the other: with 1,000 ranks, 999 each way. The links between the other ranks carry nothing.

# %% [markdown]
# ## A ring
# A ring gives all ranks the same amount of work. Cut the array into n pieces, and arrange the ranks
# in a ring: each rank sends only to its right neighbor, the next rank, and receives only from its
# left neighbor. In each step, all ranks send at the same time, each a different piece. A rank adds
# the piece that arrives to its own, and sends the result on in the next step. A piece that has
# passed through all ranks contains the sum.
#
# ### Exercise 1: reduce-scatter
# After n − 1 steps, rank r must hold piece r of the sum. So piece r reaches rank r last. At which
# rank does it start? Which piece does a rank therefore send in step 0, and which in each later
# step? Python's `%` operator wraps around the ring: `-1 % 4` is 3.


# %% tags=["exercise", "nbval-check-output"]
def reduce_scatter(array, comm):
    """The part of the sum that belongs to this rank: piece `rank` of n."""
    n, rank = comm.size, comm.rank
    left, right = (rank - 1) % n, (rank + 1) % n
    pieces = np.array_split(array, n)
    ### BEGIN SOLUTION
    for step in range(n - 1):
        comm.send(pieces[(rank - 1 - step) % n], right)
        arriving = (rank - 2 - step) % n
        pieces[arriving] = pieces[arriving] + comm.receive(left)
    return pieces[rank]
    ### END SOLUTION


ex.reduce_scatter.check(reduce_scatter)  # also ex.reduce_scatter.hint() and .solution()

# %% [markdown]
# Now look at the messages of your function. After the last step, which cells have all four colors?

# %%
scatter = ex.reduce_scatter.or_reference(reduce_scatter)  # yours once it passes
distribute.reduce_scatter(arrays, algorithm=scatter).show()

# %% [markdown]
# ### Exercise 2: all-gather
# Each rank now has one piece of the sum, and needs the others. Send the pieces around the ring once
# more. This time the pieces are complete, so there is nothing to add.


# %% tags=["exercise", "nbval-check-output"]
def all_gather(part, comm):
    """The whole array, of which rank r has brought piece r, its `part`."""
    n, rank = comm.size, comm.rank
    left, right = (rank - 1) % n, (rank + 1) % n
    pieces = [part] * n  # replace all but your own
    ### BEGIN SOLUTION
    for step in range(n - 1):
        comm.send(pieces[(rank - step) % n], right)
        pieces[(rank - 1 - step) % n] = comm.receive(left)
    return np.concatenate(pieces)
    ### END SOLUTION


ex.all_gather.check(all_gather)  # also ex.all_gather.hint() and ex.all_gather.solution()

# %% [markdown]
# A reduce-scatter followed by an all-gather is an all-reduce. Here are the messages of your two
# functions, first as a strip and then as an animation. How many ranks send in each step? How many
# arrays does a rank send in all six steps together?

# %%
gather = ex.all_gather.or_reference(all_gather)  # yours once it passes


def ring(array, comm):
    """All-reduce: reduce-scatter, then all-gather."""
    return gather(scatter(array, comm), comm)


own = distribute.all_reduce(arrays, algorithm=ring)
own.show()

# %%
print("largest error:", max(np.abs(output - total).max() for output in own.outputs))
print("arrays that each rank sends:", own.bytes_sent / own.num_bytes)
own.animate()

# %% [markdown]
# ## The lower bound
# Can a better algorithm send less? Consider a single element of the array. The n ranks hold n
# values of it. One message can combine two partial sums into one, so it takes at least n − 1
# messages until one rank has the sum. The other n − 1 ranks need n − 1 more messages to get it. For
# an array of N bytes, all ranks together therefore send at least 2(n − 1)N bytes. If they share
# this evenly, each sends
#
# $$\frac{2(n-1)}{n} N$$
#
# If the ranks do the additions, the busiest rank of any algorithm sends at least this much. The
# figure shows this lower bound as "floor", and what the busiest rank sends, counted from the
# messages. The line of "by rank 0" soon leaves the figure. Which others reach the floor, and at
# which numbers of ranks?

# %%
algorithms = {
    "by rank 0": by_rank_0,
    "tree": "tree",
    "halving and doubling": "halving_doubling",
    "your ring": ring,
}
counts = range(2, 17)
busiest = {}
for name, algorithm in algorithms.items():
    busiest[name] = []
    for n in counts:
        run = distribute.all_reduce([np.ones(16 * n)] * n, algorithm=algorithm)
        busiest[name].append(run.bytes_sent.max() / run.num_bytes)
floor = [2 * (n - 1) / n for n in counts]
ratio = max(np.divide(busiest["your ring"], floor))
print(f"Your ring sends at most {ratio:.3f} times the floor.")

# %%
figure, axis = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for color, (name, values) in zip(PALETTE, busiest.items(), strict=False):
    axis.plot(counts, values, "o-", color=color, markersize=4, label=name)
axis.plot(counts, floor, color=NEUTRAL, linestyle="--", linewidth=4, alpha=0.5, label="floor")
axis.set(xlabel="number of ranks", ylabel="sent by the busiest rank (arrays)", ylim=(0, 6.5))
axis.set_xticks(counts[::2])
axis.set_title("What the busiest rank sends in an all-reduce")
axis.grid(alpha=0.3)
axis.legend(fontsize=9)
show(figure, "Arrays sent by the busiest rank over the number of ranks: the ring is on the floor.")

# %%
ex.more_ranks.ask()

# %% tags=["solution"]
ex.more_ranks.answer("c")

# %% [markdown]
# ## Five collectives
# A slide of 2017 lists the *NCCL functions: all-reduce, all-gather, reducescatter, reduce,
# broadcast*. You have written three of them. In a reduce, only one rank, the root, gets the sum. In
# a broadcast, every rank gets the root's array. Here a broadcast passes the array around the ring
# in pieces, as a pipeline. Why does it take more steps than an all-gather?

# %%
runs = {
    "reduce_scatter": distribute.reduce_scatter(arrays),
    "all_gather": distribute.all_gather(np.array_split(total, 4)),
    "all_reduce": distribute.all_reduce(arrays),
    "reduce": distribute.reduce(arrays, algorithm="ring"),
    "broadcast": distribute.broadcast(arrays[0], 4, algorithm="ring"),
}
runs["broadcast"].show()

# %% [markdown]
# The root sends for four steps, and the last piece then needs two more to reach the end of the
# ring. The table below shows all five collectives for 4 and for 64 ranks, with the number of steps
# and what the busiest rank sends. The unit is the whole array.

# %%
ones = [np.ones(64)] * 64
many = {
    "reduce_scatter": distribute.reduce_scatter(ones),
    "all_gather": distribute.all_gather(ones[0].reshape(64, 1)),
    "all_reduce": distribute.all_reduce(ones),
    "reduce": distribute.reduce(ones, algorithm="ring"),
    "broadcast": distribute.broadcast(ones[0], 64, algorithm="ring"),
}
pd.DataFrame(
    {
        (f"{count} ranks", column): [value(run) for run in group.values()]
        for count, group in ((4, runs), (64, many))
        for column, value in (
            ("steps", lambda run: len(run.steps)),
            ("sent (arrays)", lambda run: run.bytes_sent.max() / run.num_bytes),
        )
    },
    index=list(runs),
)

# %% [markdown]
# ## Algorithm and bus bandwidth
# The size of the array divided by the time of an all-reduce is its *algorithm bandwidth*. It
# decreases with the number of ranks even if all links are equally fast, because each link carries
# more bytes for the same array. So NVIDIA's benchmark, nccl-tests, also prints the *bus bandwidth*:
# the minimum number of bytes that a link must carry, divided by the time. It can be compared with
# the bandwidth of the link.
#
# ### Exercise 3: bus bandwidth
# Write a function for all five collectives. Derive the formulas from the numbers in the table.


# %% tags=["exercise", "nbval-check-output"]
def bus_bandwidth(collective, num_bytes, seconds, num_ranks):
    """The bus bandwidth in bytes per second.

    `collective` is "all_reduce", "all_gather", "reduce_scatter", "reduce" or "broadcast".
    """
    ### BEGIN SOLUTION
    n = num_ranks
    factors = {
        "all_reduce": 2 * (n - 1) / n,
        "all_gather": (n - 1) / n,
        "reduce_scatter": (n - 1) / n,
        "reduce": 1,
        "broadcast": 1,
    }
    return factors[collective] * num_bytes / seconds
    ### END SOLUTION


ex.bus_bandwidth.check(bus_bandwidth)  # also ex.bus_bandwidth.hint() and .solution()

# %% [markdown]
# According to the slides, NVLink gives a P100 160 GB/s, which is 80 GB/s in each direction. How
# long does an all-reduce of ResNet-50's 102 MB take at least on the eight GPUs of a DGX-1? And on
# 992 GPUs with such links?

# %%
sizes = [4 * int(np.prod(weight.shape)) for weight in models.resnet50().trainable_weights]
gradient = sum(sizes)
print(f"ResNet-50: {len(sizes)} arrays, {gradient / 1e6:.0f} MB")
bandwidth = ex.bus_bandwidth.or_reference(bus_bandwidth)  # yours once it passes
for n in (8, 992):
    seconds = bandwidth("all_reduce", gradient, 1.0, n) / 80e9  # in one second: the bytes
    print(
        f"{n} ranks: {1e3 * seconds:.2f} ms, an algorithm bandwidth of "
        f"{gradient / seconds / 1e9:.0f} GB/s"
    )

# %% [markdown]
# ## Latency
# Is a ring always best? For 992 ranks it takes 1,982 steps. Each message has a *latency* $\alpha$,
# the time before the first byte arrives, and each byte adds $\beta$ seconds, the inverse of the
# bandwidth. A message of $m$ bytes takes $\alpha + \beta m$ seconds. All messages of a step are
# sent at the same time.
#
# ### Exercise 4: the time of a ring
# Predict the time of a ring all-reduce for an array of `num_bytes`.


# %% tags=["exercise", "nbval-check-output"]
def ring_seconds(num_bytes, num_ranks, alpha, beta):
    """The time of a ring all-reduce, in seconds."""
    ### BEGIN SOLUTION
    steps = 2 * (num_ranks - 1)
    return steps * (alpha + beta * num_bytes / num_ranks)
    ### END SOLUTION


ex.ring_seconds.check(ring_seconds)  # also ex.ring_seconds.hint() and ex.ring_seconds.solution()

# %% [markdown]
# A *tree* works differently. In each step, half of the remaining ranks send their whole partial sum
# to another rank and are done. Rank 0 has the sum after log₂ n steps, and log₂ n more steps
# distribute it to all ranks. The figure shows both algorithms for 8 ranks with 10 µs and 10 GB/s.
# Both axes are logarithmic. Up to which size is the tree faster?

# %%
ALPHA, BETA = 10e-6, 1 / 10e9
predict = ex.ring_seconds.or_reference(ring_seconds)  # yours once it passes


def tree_seconds(num_bytes, num_ranks, alpha, beta):
    """The time of an all-reduce along a tree."""
    return 2 * np.ceil(np.log2(num_ranks)) * (alpha + beta * num_bytes)


span = np.geomspace(100, 1e9, 200)
figure, axis = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
for color, name, model in ((PALETTE[0], "ring", predict), (PALETTE[1], "tree", tree_seconds)):
    seconds = np.array([model(size, 8, ALPHA, BETA) for size in span])
    axis.plot(span, 1e6 * seconds, color=color, label=name)
axis.set(xscale="log", yscale="log", xlabel="size (bytes)", ylabel="time (µs)")
axis.set_title("All-reduce of 8 ranks: 10 µs latency, 10 GB/s")
axis.grid(alpha=0.3)
axis.legend()
show(figure, "Time over size of ring and tree: the tree is faster for small arrays.")

# %%
ex.who_wins.ask()

# %% tags=["solution"]
ex.who_wins.answer("a")

# %% [markdown]
# Where the lines cross, both take the same time. How does this size change with the number of
# ranks?

# %%
for n in (8, 64, 512):
    tree_wins = [
        size
        for size in np.geomspace(1, 1e9, 2000)
        if tree_seconds(size, n, ALPHA, BETA) < predict(size, n, ALPHA, BETA)
    ]
    print(f"{n:4} ranks: the tree is faster up to {max(tree_wins) / 1e3:5,.0f} kB")

# %% [markdown]
# ## Measure real processes
# So far the ranks were threads, and we counted their messages. Now each rank is a separate process,
# started by `dltlab launch`, and we measure time. Like `dltlab bench collectives` in a terminal,
# the cell runs an all-reduce with arrays of increasing size, with every transport that works on
# this machine, and checks every sum. `ring` is the algorithm you wrote, over sockets. With
# `shared_memory`, the processes of one host read each other's arrays. `tensorflow` uses
# TensorFlow's own collectives: NCCL between GPUs, gRPC between CPUs. `mpi` is Open MPI, if it is
# installed. The columns are those of nccl-tests.

# %%
measured = distribute.benchmark_collectives(
    WORKERS, TRANSPORTS or None, min_bytes=256, max_bytes=MAX_BYTES
)
print(measured.report())

# %% [markdown]
# The left panel shows the time, the right panel the bus bandwidth. The dotted line shows how fast a
# process copies the same number of bytes in memory. Follow a line in the left panel: where is it
# flat, and where does it begin to rise in proportion to the size?

# %%
measured.show()

# %% [markdown]
# ### Exercise 5: latency and bandwidth
# Two numbers describe such a line: the time is approximately $\alpha + \beta b$, where $b$ is the
# size in bytes. Fit them so that the sum of the squared *relative* errors is smallest; the relative
# error of a size is its error divided by the measured time. With absolute errors, the largest sizes
# would dominate the fit.


# %% tags=["exercise", "nbval-check-output"]
def fit_line(num_bytes, seconds):
    """Alpha (in seconds) and beta (in seconds per byte) of measured times."""
    ### BEGIN SOLUTION
    matrix = np.column_stack([1 / seconds, num_bytes / seconds])
    alpha, beta = np.linalg.lstsq(matrix, np.ones(len(seconds)))[0]
    return alpha, beta
    ### END SOLUTION


ex.fit_line.check(fit_line)  # also ex.fit_line.hint() and ex.fit_line.solution()

# %% [markdown]
# Now apply your fit to the measurements. At $b = \alpha / \beta$ both parts are equal, and half of
# the time is latency. Far below this size, the time is mostly latency, and halving the bytes saves
# almost nothing. Far above it, bandwidth determines the time.

# %%
fit = ex.fit_line.or_reference(fit_line)  # yours once it passes
rows = []
for name in dict.fromkeys(row.transport for row in measured.times):
    times = [row for row in measured.times if row.transport == name]
    b, t = (np.array([getattr(row, key) for row in times]) for key in ("num_bytes", "seconds"))
    alpha, beta = np.maximum(fit(b, t), 1e-15)  # noise can make a parameter negative
    rows.append((name, alpha, beta, alpha / beta, np.abs((alpha + beta * b) / t - 1).max()))
lines = pd.DataFrame(rows, columns=["transport", "alpha", "beta", "half", "error"])
pd.DataFrame(
    {
        "transport": lines.transport,
        "latency (µs)": (1e6 * lines.alpha).round(1),
        "algorithm bandwidth (GB/s)": (1e-9 / lines.beta).round(3),
        "half of the time is latency at (kB)": (lines.half / 1e3).round(1),
        "largest error of the line": lines.error.round(2),
    }
)

# %% [markdown]
# The line is only a model. Caches and buffers make some sizes faster and others slower, and other
# programs running at the same time disturb the measurement. The last column shows the largest
# deviation. `distribute.fit_alpha_beta` fits the same line, allows no negative parameters, and
# draws it. Here it is for the first transport:

# %%
first = [row for row in measured.times if row.transport == lines.transport[0]]
result = distribute.fit_alpha_beta([row.num_bytes for row in first], [row.seconds for row in first])
result.show()
print(result.summary)

# %% [markdown]
# What does this mean for training? The gradient of ResNet-50 consists of more than a hundred
# arrays, most of them small. We can reduce each array as soon as it is computed, or copy all of
# them into one array first. The next cell predicts both times from your numbers:

# %%
for line in lines.itertuples():
    one_by_one = sum(line.alpha + line.beta * size for size in sizes)
    packed = line.alpha + line.beta * gradient
    print(
        f"{line.transport:13} one by one {1e3 * one_by_one:7.1f} ms, of which "
        f"{len(sizes) * line.alpha / one_by_one:.0%} latency; packed {1e3 * packed:7.1f} ms, of "
        f"which {line.alpha / packed:.1%}"
    )

# %% [markdown]
# Packing everything has a cost: the all-reduce cannot begin before the last gradient is computed.
# So frameworks pack the gradients into buckets; in PyTorch's DistributedDataParallel, a bucket has
# 25 MB by default. A bucket should be much larger than the size at which half of the time is
# latency. In labs 10 and 12 you see how much of the communication overlaps with computation.
#
# The ring, the first row of the table unless you changed `TRANSPORTS`, takes 2(n − 1) steps. So its
# fit also gives the latency and bandwidth of a single message. The next cell uses them to predict
# the packed all-reduce on more ranks, each with a link like this one. Which part of the time grows
# in proportion to the number of ranks, and which part approaches a limit?

# %%
line, steps = lines.iloc[0], 2 * (WORKERS - 1)
message = line.alpha / steps, line.beta * WORKERS / steps  # alpha and beta
for n in (2, 8, 64, 512):
    seconds, latency = predict(gradient, n, *message), predict(0, n, *message)
    print(f"{n:4} ranks: {1e3 * seconds:7.1f} ms, of which latency {1e3 * latency:6.1f} ms")

# %% [markdown]
# ## Compare with published results
# How does this machine compare with GPUs? Sylvain Jeaugey, a developer of NCCL at NVIDIA, states
# what to expect. The NVLink of an A100 has a line rate of 300 GB/s in each direction, of which
# about 240 remain for data; an all-reduce on eight A100 reaches a bus bandwidth of about 230. On an
# H100, the line rate is 450 GB/s; eight H100 reach 370 with a ring, and 480 if the NVLink switch
# does the additions. A user measured 10 µs for 32 bytes on two A100. For this machine, the table
# gives the measured speed of a memory copy.

# %%
largest = [row for row in measured.times if row.num_bytes == measured.times[-1].num_bytes]
best = min(largest, key=lambda row: row.seconds)
copy = best.num_bytes / best.copy_seconds / 1e9
here = f"this machine, {best.transport}, {WORKERS} processes"
table = pd.DataFrame(
    [
        (here, best.bandwidth.busbw / 1e9, copy),
        ("8 A100, NVLink", 230, 300),
        ("8 H100, NVLink, ring", 370, 450),
        ("8 H100, NVLink SHARP", 480, 450),
    ],
    columns=["all-reduce", "bus bandwidth (GB/s)", "line rate or memory copy (GB/s)"],
)
table["share of it"] = table.iloc[:, 1] / table.iloc[:, 2]
table.round(2)

# %% [markdown]
# Why are processes on CPUs slower? First, every byte passes through the memory of one host, which
# all processes share. Second, the cores that copy the data also add it. Over sockets, each message
# is also copied into a buffer of the operating system and out again. With NVLink, a GPU writes
# directly into the memory of its neighbor, and adds while the next bytes arrive. Now look at the
# last row: the bus bandwidth is higher than the line rate of the link.

# %%
ex.faster_than_the_link.ask()

# %% tags=["solution"]
ex.faster_than_the_link.answer("d")

# %% [markdown]
# ## Something to show a friend
# This figure shows everything together, from a few bytes between processes on this machine to
# gigabytes between eight GPUs. The points are measured. The line of the A100 is an estimate from
# two published numbers, the 10 µs of two GPUs and the 230 GB/s of eight. Dotted lines mark the
# sizes at which half of the time is latency. Where is this size for the fastest link?

# %%
figure, axis = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
span = np.geomspace(32, 4e9, 200)
a100_alpha, a100_beta = 10e-6, 2 * (8 - 1) / 8 / 230e9  # beta counts bytes of the array
for color, line in zip(PALETTE, lines.itertuples(), strict=False):
    times = [row for row in measured.times if row.transport == line.transport]
    values = [row.bandwidth.busbw / 1e9 for row in times]
    axis.plot([row.num_bytes for row in times], values, "o", color=color, label=line.transport)
    factor = 2 * (WORKERS - 1) / WORKERS
    axis.plot(span, factor * span / (line.alpha + line.beta * span) / 1e9, color=color, alpha=0.5)
    axis.axvline(line.half, color=color, linestyle=":")
speed = 2 * (8 - 1) / 8 * span / (a100_alpha + a100_beta * span) / 1e9
axis.plot(span, speed, color="black", label="8 A100 (published)")
axis.axvline(a100_alpha / a100_beta, color="black", linestyle=":")
axis.set(xscale="log", yscale="log", xlabel="size (bytes)", ylabel="bus bandwidth (GB/s)")
axis.set_ylim(min(row.bandwidth.busbw for row in measured.times) / 2e9, 1e3)
axis.set_title("All-reduce, from processes on this machine to eight A100")
axis.grid(alpha=0.3)
axis.legend(fontsize=9)
show(figure, "Bus bandwidth over size for each transport and for GPUs: each rises, then is flat.")
print(f"Half of the time of the A100 is latency at {a100_alpha / a100_beta / 1e3:,.0f} kB.")

# %% [markdown]
# ## The challenge
# A ring is fast for large arrays and slow for small ones. Write an all-reduce for 8 ranks that is
# fast for both. The check runs it with 1 kB and with 4 MB, and computes the time for 10 µs and 10
# GB/s. The bar: at most half of a ring's time with 1 kB, and no more than a ring's time with 4 MB.
# Any rank may send to any other. `rank ^ 4` pairs the ranks at distance 4: 0 with 4, 1 with 5, and
# so on.


# %% tags=["exercise"]
def fast_all_reduce(array, comm):
    """The sum of the arrays of 8 ranks, on every rank."""
    ### BEGIN SOLUTION
    start, stop, halves = 0, len(array), []
    array = array.copy()
    for distance in (4, 2, 1):  # reduce-scatter: halve the part that is left
        middle = (start + stop) // 2
        lower, upper = slice(start, middle), slice(middle, stop)
        kept, sent = (upper, lower) if comm.rank & distance else (lower, upper)
        comm.send(array[sent], comm.rank ^ distance)
        array[kept] += comm.receive(comm.rank ^ distance)
        halves.append((kept, sent, distance))
        start, stop = kept.start, kept.stop
    for kept, missing, distance in reversed(halves):  # all-gather: the same backwards
        comm.send(array[kept], comm.rank ^ distance)
        array[missing] = comm.receive(comm.rank ^ distance)
    return array
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.fast_all_reduce.check(fast_all_reduce)  # also ex.fast_all_reduce.hint() and .solution()

# %% [markdown]
# If your function has passed, these are its messages; `.animate()` shows them moving. A piece is as
# large as the smallest message.

# %%
fast = ex.fast_all_reduce.or_reference(fast_all_reduce)
distribute.all_reduce(list(np.ones((8, 8))), algorithm=fast).show()

# %% [markdown]
# ## What you learned
# A ring all-reduce is a reduce-scatter followed by an all-gather. Each rank sends 2(n − 1)/n of the
# array, and if the ranks share the work evenly and do the additions, none can send less. The time
# is one latency for each step, plus the bytes divided by the bandwidth. So small arrays need an
# algorithm with few steps, and large arrays one that sends few bytes. The bus bandwidth makes
# measurements with different numbers of ranks comparable. The size at which half of the time is
# latency tells you how much to send at once.

# %% [markdown]
# ## What to try next
# - Set `WORKERS` to 4 in the cell tagged `parameters`. Which changes more, latency or bandwidth?
# - In a terminal: `dltlab bench collectives -n 4 -e 100000000 -f 10`. With `pip install
#   'dltlab[mpi]'` and Open MPI, it also measures MPI.
# - Run your ring on 7 ranks with an array of 5 numbers. Is it still correct?
# - Write a broadcast that passes pieces around the ring, and compare its steps with the table.
# - On a machine with several GPUs, the transport `tensorflow` is NCCL. What is its bus bandwidth?

# %% [markdown]
# ## References
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slides on NCCL, and the bandwidth of NVLink.
# - P. Patarasuk and X. Yuan, *Bandwidth optimal all-reduce algorithms for clusters of
#   workstations*, Journal of Parallel and Distributed Computing 69, 2009: the ring and its floor.
# - R. Thakur, R. Rabenseifner and W. Gropp, *Optimization of collective communication operations in
#   MPICH*, International Journal of High Performance Computing Applications 19, 2005: the choice by
#   size, and halving and doubling.
# - NVIDIA, nccl-tests,
#   [doc/PERFORMANCE.md](https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md): the
#   bus bandwidth.
# - S. Jeaugey in [nccl-tests issue 149](https://github.com/NVIDIA/nccl-tests/issues/149) (2023) on
#   A100, and in [issue 212](https://github.com/NVIDIA/nccl-tests/issues/212) (2024) on H100; the
#   latency is from [NCCL issue 583](https://github.com/NVIDIA/nccl/issues/583) (2021).
# - K. He et al., *Deep residual learning for image recognition*, CVPR 2016,
#   [arXiv:1512.03385](https://arxiv.org/abs/1512.03385): ResNet-50.
