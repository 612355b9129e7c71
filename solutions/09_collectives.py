# ---
# title: Collectives
# summary: >-
#   Many workers train one network, and at each step everyone needs the sum of all gradients. You
#   write the ring all-reduce, see its pieces move, show that no algorithm sends less, and measure
#   real processes: up to which size does latency count, and from which size on bandwidth?
# objectives:
#   - write a ring all-reduce as the program of one rank, with send and receive
#   - say how many bytes each collective must send at least, and why
#   - convert a measured time to algorithm and bus bandwidth, as nccl-tests does
#   - predict the time of a collective from latency and bandwidth, and choose the algorithm by size
#   - fit latency and bandwidth to measured times, and say which of them limits a training
#   - compare this machine with published figures of NVLink, and explain the difference
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
# may change its weights, it needs the sum of all four gradients. For ResNet-50 these are 102 MB
# from everyone, to everyone, at each step. Who sends what to whom?
#
# Below is an answer, in slow motion. A worker is called a *rank*; each row is one. Its array is cut
# into four pieces. Each rank has a color, and a stripe of that color means that the data of that
# rank are in the piece. Watch one column: what happens in the first three steps, and what in the
# last three?

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

from dltlab import distribute, models
from dltlab.checks import collectives as ex
from dltlab.display import NEUTRAL, PALETTE, show

tf.config.set_visible_devices([], "GPU")  # those are for the processes that are measured

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
# ## Rank 0 does it
# First the simplest way. Every rank sends its array to rank 0, which adds them and sends the sum
# back. The function below is the program of *one* rank; all ranks run it at the same time. `comm`
# is how a rank reaches the others: its own number `comm.rank`, their number `comm.size`,
# `comm.send(array, target)`, and `comm.receive(source)`, which waits until an array has come.
# Programs for MPI look like this.


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
# `distribute.all_reduce` runs it on four ranks and records the messages. In a step, a rank sends at
# most one message and receives at most one. Arrows show the messages. Which rank is always busy,
# and how many of the others are idle?

# %%
run = distribute.all_reduce(arrays, algorithm=by_rank_0)
print("largest error:", max(np.abs(output - total).max() for output in run.outputs))
run.show()

# %%
pd.DataFrame(
    {"sent": run.bytes_sent, "received": run.bytes_received}, index=pd.Index(range(4), name="rank")
) / run.num_bytes

# %% [markdown]
# The table counts in arrays. Rank 0 sends and receives n − 1 of them, one after the other: with
# 1,000 ranks, 999. The links between the others carry nothing.

# %% [markdown]
# ## A ring
# So let everyone work. Cut the array into n pieces, and put the ranks into a ring: each sends only
# to its right neighbor, the next rank, and receives only from its left one. In each step, all ranks
# send a piece at the same time, each a different one. What arrives is added to one's own piece and
# sent on in the next step. A piece that has passed all ranks contains the sum.
#
# ### Exercise 1: reduce-scatter
# After n − 1 steps, rank r shall have piece r of the sum. So piece r must come to rank r last. At
# which rank does it start? Which piece, then, does a rank send in step 0, and which in each step
# after that? Python's `%` counts around the ring: `-1 % 4` is 3.


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
# Now look at your own messages. After the last step, which cells have all four colors?

# %%
scatter = ex.reduce_scatter.or_reference(reduce_scatter)  # yours once it passes
distribute.reduce_scatter(arrays, algorithm=scatter).show()

# %% [markdown]
# ### Exercise 2: all-gather
# Each rank now has one piece of the sum, and needs the others. Go around the ring once more. This
# time what arrives is complete, so there is nothing to add.


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
# One after the other, they are an all-reduce. These are your messages, first as a strip and then
# moving. How many ranks send in each step? How many arrays does a rank send in all six steps
# together?

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
# ## How little is possible?
# Can a better algorithm send less? Follow a single number of the array. The n ranks hold n values
# of it. One message can join two partial sums to one, so it takes at least n − 1 messages until the
# sum is somewhere. Then n − 1 ranks do not have it yet: n − 1 more messages. That is 2(n − 1) for
# each number. For an array of N bytes, all ranks together send at least 2(n − 1)N, and if n ranks
# share this evenly, each sends
#
# $$\frac{2(n-1)}{n} N$$
#
# No algorithm in which ranks add can do with less. Below is what the busiest rank sends, counted
# from the messages. The line of rank 0 soon leaves the figure. Which of the others touch the floor,
# and at which numbers of ranks?

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
# ## The five functions of the slide
# *NCCL functions: all-reduce, all-gather, reducescatter, reduce, broadcast*, says the slide of
# 2017. You have written three of them. In a reduce, only one rank, the root, gets the sum. In a
# broadcast, the root's array goes to everyone. NCCL sends it around the ring in pieces, one behind
# the other. Watch how the pieces follow each other. Why are there more steps than in an all-gather?

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
# The first rank sends for four steps, and the last piece then needs two more to the end of the
# ring. Now all five, with what the busiest rank sends, for 4 ranks and for 64. The size is that of
# the whole array.

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
# You measure an all-reduce. Divide the size of the array by the time, and you have the *algorithm
# bandwidth*. With more ranks it gets smaller, even if all links are equally fast, since more bytes
# have to pass for the same array. So nccl-tests, NVIDIA's benchmark, also prints the *bus
# bandwidth*: the bytes that a link must carry at least, divided by the time. It can be compared
# with the speed of the link.
#
# ### Exercise 3: bus bandwidth
# Write it for all five functions. The table has the numbers; you know the formulas behind them.


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
# The slides give the NVLink of a P100 with 160 GB/s, both directions together: 80 GB/s in each. How
# long must the 102 MB of a ResNet-50 take at least, on the eight GPUs of a DGX-1? And on 992 of
# them with such links?

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
# a time before the first byte arrives, and each byte adds $\beta$ seconds, one divided by the
# bandwidth: $\alpha + \beta m$ for a message of $m$ bytes. All messages of a step are sent at the
# same time.
#
# ### Exercise 4: the time of a ring
# Predict it for an array of `num_bytes`.


# %% tags=["exercise", "nbval-check-output"]
def ring_seconds(num_bytes, num_ranks, alpha, beta):
    """The time of a ring all-reduce, in seconds."""
    ### BEGIN SOLUTION
    steps = 2 * (num_ranks - 1)
    return steps * (alpha + beta * num_bytes / num_ranks)
    ### END SOLUTION


ex.ring_seconds.check(ring_seconds)  # also ex.ring_seconds.hint() and ex.ring_seconds.solution()

# %% [markdown]
# A *tree* works differently: in each step, half of the ranks that are left give their whole array
# to another one. Rank 0 has the sum after log₂ n steps, and log₂ n more bring it to everyone. Here
# are both for 8 ranks with 10 µs and 10 GB/s. On both axes each line is a factor of 10. Up to which
# size is the tree faster?

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
# Where the lines cross, both take the same time. Look at how the size changes with the number of
# ranks:

# %%
for n in (8, 64, 512):
    tree_wins = [
        size
        for size in np.geomspace(1, 1e9, 2000)
        if tree_seconds(size, n, ALPHA, BETA) < predict(size, n, ALPHA, BETA)
    ]
    print(f"{n:4} ranks: the tree is faster up to {max(tree_wins) / 1e3:5,.0f} kB")

# %% [markdown]
# ## The real thing
# So far the ranks were threads that only counted. Now each is a process of its own, started by
# `dltlab launch`, and the bytes really move. `dltlab bench collectives` in a terminal does the same
# as this cell: an all-reduce of growing arrays, each sum checked, with every transport that works
# here. `ring` is the algorithm you wrote, over sockets. `shared_memory` lets the processes of one
# host read each other's arrays. `tensorflow` are TensorFlow's own collectives: NCCL between GPUs,
# gRPC between processors. `mpi` is Open MPI, if it is installed. The columns are those of
# nccl-tests.

# %%
measured = distribute.benchmark_collectives(
    WORKERS, TRANSPORTS or None, min_bytes=256, max_bytes=MAX_BYTES
)
print(measured.report())

# %% [markdown]
# On the left the time, on the right the bus bandwidth; dotted, how fast a process copies as many
# bytes in memory. Go from left to right along a line of the left panel: where is it flat, and where
# does it begin to rise like the size?

# %%
measured.show()

# %% [markdown]
# ### Exercise 5: latency and bandwidth
# Two numbers describe such a line: the time is nearly $\alpha + \beta b$, with the size $b$ in
# bytes. Fit them, so that the squares of the *relative* errors are smallest: the error of each size
# divided by its measured time. With absolute errors, only the largest sizes would count.


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
# Now your fit of what was measured. Where both parts are equal, at $b = \alpha / \beta$, half of
# the time is latency. Left of it, latency counts, and half as many bytes save next to nothing.
# Right of it, bandwidth counts.

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
# The line is a model: caches and buffers make some sizes faster and others slower, and so do other
# programs that run at the same time. The last column shows it. `distribute.fit_alpha_beta` fits the
# same line, never with a negative number, and draws it. Here for the first transport:

# %%
first = [row for row in measured.times if row.transport == lines.transport[0]]
result = distribute.fit_alpha_beta([row.num_bytes for row in first], [row.seconds for row in first])
result.show()
print(result.summary)

# %% [markdown]
# What does that mean for a training? The gradient of ResNet-50 consists of more than a hundred
# arrays, most of them small. One can reduce each as soon as it is computed, or copy all into one
# array first. Predict both with your numbers:

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
# Packing all has a price: it cannot begin before the last gradient is there. So frameworks pack a
# few megabytes at a time, well to the right of the size at which half is latency. In labs 10 and 12
# you see how much of it hides behind the computing.
#
# The ring takes 2(n − 1) steps, so its fit, the first line above, also gives latency and bandwidth
# of one message. With these, predict the packed all-reduce on more ranks, each with a link like
# this one. What grows with the number of ranks, and what hardly does?

# %%
line, steps = lines.iloc[0], 2 * (WORKERS - 1)
message = line.alpha / steps, line.beta * WORKERS / steps  # alpha and beta
for n in (2, 8, 64, 512):
    seconds, latency = predict(gradient, n, *message), predict(0, n, *message)
    print(f"{n:4} ranks: {1e3 * seconds:7.1f} ms, of which latency {1e3 * latency:6.1f} ms")

# %% [markdown]
# ## Beside the published
# How far is this machine from GPUs? Sylvain Jeaugey of NVIDIA, who develops NCCL, gives the numbers
# to expect. The NVLink of an A100 has a line rate of 300 GB/s in each direction, of which some 240
# are left for data, and an all-reduce of eight reaches a bus bandwidth of about 230. For eight
# H100: a line rate of 450 GB/s, 370 by a ring, and 480 where the NVLink switch takes part. A user
# measured 10 µs for 32 bytes on two A100. For us, the limit is how fast a process copies in memory.

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
# Two things differ where the processes run on CPUs. The link is far slower: every byte goes through
# the memory of one host, which all processes share. And less of it is used: over sockets, a message
# is copied into a buffer of the operating system and out of it again, and the cores that copy also
# add. On NVLink, a GPU writes into the memory of its neighbor, and adds while the next bytes
# arrive. The last row is stranger still: more than the link can carry.

# %%
ex.faster_than_the_link.ask()

# %% tags=["solution"]
ex.faster_than_the_link.answer("d")

# %% [markdown]
# ## Something to show a friend
# All in one figure: from a few bytes between two processes to a gigabyte between eight GPUs. Points
# are measured, the line of the A100 follows from the two published numbers, 10 µs and 230 GB/s. A
# dotted line marks where half of the time is latency. Where does it lie for fast links?

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
# A ring is best for large arrays, and slow for small ones. Write an all-reduce for 8 ranks that is
# good at both. The check runs it with 1 kB and with 4 MB, and computes its time with 10 µs and 10
# GB/s. The bar: at most half of a ring's time with 1 kB, and no more than a ring's with 4 MB. Any
# rank may send to any other; `rank ^ 4` is a partner at distance 4, whose partner you are.


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
# If yours has passed, these are its messages; with `.animate()` they move. A piece is as large as
# the smallest message.

# %%
fast = ex.fast_all_reduce.or_reference(fast_all_reduce)
distribute.all_reduce(list(np.ones((8, 8))), algorithm=fast).show()

# %% [markdown]
# ## What you learned
# An all-reduce is a reduce-scatter and an all-gather; in a ring, each rank sends 2(n − 1)/n of the
# array, and no algorithm in which the ranks add can send less. Its time is a number of latencies
# plus the bytes over the bandwidth, so that small arrays want few steps and large ones want little
# traffic. The bus bandwidth makes measurements comparable, and the size at which half of the time
# is latency says how much to send at once.

# %% [markdown]
# ## What to try next
# - Set `WORKERS` to 4 in the cell tagged `parameters`. Which of the two numbers changes more?
# - In a terminal: `dltlab bench collectives -n 4 -e 100000000 -f 10`. With `pip install
#   'dltlab[mpi]'` and Open MPI, it also measures MPI.
# - Run your ring on 7 ranks with an array of 5 numbers. Is it still correct?
# - Write a broadcast that passes pieces down the ring, and compare its steps with the table.
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
