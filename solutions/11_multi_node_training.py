# ---
# title: Multi-node training
# summary: >-
#   A training on many machines is many copies of one program. You start them, let them meet, share
#   the data among them, decide what only one of them may do, kill one on purpose, and find the one
#   that holds up the others. All of it happens here with real processes, and the same commands run
#   on a cluster.
# objectives:
#   - start the workers of a training, and see from the logs which of them did what
#   - share data so that no row is lost, read twice, or waited for
#   - write a checkpoint that a crash cannot damage
#   - lose a worker in the middle of a training and end with the same weights
#   - find a straggler, and say what it costs
#   - compute how often to write a checkpoint
#   - write the job for Slurm
# minutes: {read: 35, exercise: 60, compute: 3}
# memory_gb: 4
# devices: {gpu: none}
# datasets: [digits]
# requires: [01_first_network]
# profiles:
#   smoke: {EPOCHS: 1, STEPS: 10, RESTART: false, RUN_CHALLENGE: false}
#   workshop: {}
#   full: {EPOCHS: 30, STEPS: 500}
# ---

# %% [markdown]
# ## The question
# In 2024 a language model, Llama 3, was trained on 16,384 GPUs. In 54 days there were 419
# unexpected interruptions, most of them by broken hardware. If each GPU fails as often as those
# did, how long does a training on fewer of them run until something breaks?

# %%
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf

from dltlab import data
from dltlab.checks import multi_node_training as ex
from dltlab.display import NEUTRAL, PALETTE, show

tf.config.set_visible_devices([], "GPU")  # all is measured on the processor
BLUE, ORANGE, GREEN = PALETTE[:3]

# %% tags=["parameters"]
WORKERS = 2  # of the trainings
EPOCHS = 6  # of each training
STEPS = 100  # in which a straggler is looked for
RESTART = True  # kill a worker, and let the training go on
RUN_CHALLENGE = True

# %%
RUNS = Path("runs/multi_node_training")
RUNS.mkdir(parents=True, exist_ok=True)
LLAMA_GPUS, LLAMA_DAYS, LLAMA_FAILURES = 16_384, 54, 419
mtbf = LLAMA_DAYS * 24 * 3600 / LLAMA_FAILURES  # seconds, the mean time between failures
gpus = np.array([8, 64, 992, LLAMA_GPUS])
days = mtbf * LLAMA_GPUS / gpus / 86_400

figure, axis = plt.subplots(figsize=(7, 3.6), layout="constrained")
axis.plot(gpus, days, "o-", color=BLUE)
for number, time in zip(gpus, days, strict=True):
    text = f"{time:,.0f} days" if time > 2 else f"{24 * time:.1f} hours"
    axis.annotate(text, (number, time), (6, 6), textcoords="offset points")
axis.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="days between two failures")
axis.set(xlim=(5, 90_000), ylim=(0.05, 2000), title="The more devices, the sooner one fails")
axis.set_xticks(gpus, [f"{number:,}" for number in gpus])
show(
    figure, f"A falling line: {days[0]:,.0f} days with 8 GPUs, {24 * days[-1]:.1f} hours with all."
)

# %% [markdown]
# Eight GPUs are one machine, 992 the cluster SATURNV of the slides. Still, Llama 3 is reported to
# have spent more than 90 % of the time training. How is that done? We find out with two processes
# on this machine. They share no memory, so they behave as if they ran on two machines.
#
# ## Launch
# A worker is a process that runs your script. This script only prints which worker it is.

# %% tags=["active-ipynb"]
# %%writefile runs/multi_node_training/hello.py
# import os
#
# from dltlab import distribute
#
# worker = distribute.worker()
# print(f"I am rank {worker.rank} of {worker.world_size}, process {os.getpid()}.")
# print(f"On this host I am number {worker.local_rank} of {worker.local_world_size}.")

# %% [markdown]
# `dltlab launch -n 2 -- hello.py` runs it twice. In a terminal you would type just that; here a
# small function does it. Look at the start of each line: the launcher adds which worker wrote it.


# %%
def start(*words, stderr=subprocess.STDOUT):
    """Start `dltlab launch` with these words."""
    command = [Path(sys.executable).with_name("dltlab"), "launch", *words]
    return subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def launch(*words):
    """Run `dltlab launch` with these words, show what it writes, and return that."""
    print("$ dltlab launch", *words)
    process = start(*words)
    output = ""
    try:
        for line in process.stdout:
            output += line
            print(line, end="", flush=True)
    except KeyboardInterrupt:  # the stop button
        process.terminate()
        raise
    print("exit code", process.wait())
    return output


output = launch("-n", WORKERS, "--log-dir", RUNS / "hello", "--", RUNS / "hello.py")

# %% [markdown]
# The two lines of one worker stay in order; those of different workers may be mixed. So every rank
# also has a log file of its own, which is the first place to look on a cluster.

# %%
for path in sorted((RUNS / "hello").glob("*.log")):
    print(path, "|", path.read_text().splitlines()[-1])

# %% [markdown]
# On several machines there is a launcher on each, and a worker has a number on its *node* and one
# in the whole job, its *rank*. The ranks of node 0 come first, then those of node 1, and so on.
#
# ### Exercise 1: the rank
# Nodes may have different numbers of workers. What is the rank of worker `local_rank` on node
# `node`?


# %% tags=["exercise", "nbval-check-output"]
def rank_of(node, local_rank, workers_per_node):
    """The rank of a worker; `workers_per_node` has the number of workers on each node."""
    ### BEGIN SOLUTION
    return sum(workers_per_node[:node]) + local_rank
    ### END SOLUTION


ex.rank_of.check(rank_of)  # also ex.rank_of.hint() and ex.rank_of.solution()

# %% [markdown]
# ## Rendezvous
# How do launchers on different machines find each other? All are given one address, that of node 0,
# where its launcher waits for the others. What if one does not come? We start only node 0 of two,
# and let it wait for one second. (The default is five minutes.)

# %%
os.environ.pop("DLTLAB_JOB_TOKEN", None)  # the next cell sets it
address = f"127.0.0.1:{np.random.default_rng().integers(20_000, 30_000)}"
place = ["--nodes", 2, "--rendezvous", address, "--log-dir", RUNS / "rendezvous"]
output = launch(*place, "--node-rank", 0, "--start-timeout", 1, "--", RUNS / "hello.py")

# %% [markdown]
# It names the node that is missing, and prints the command to run there. The command contains a
# secret, `DLTLAB_JOB_TOKEN`: without it, anyone on the network could join. All launchers need the
# same one. Now we start both, each in a process of its own, as on two machines.

# %%
os.environ["DLTLAB_JOB_TOKEN"] = os.urandom(16).hex()
hosts = [
    start(*place, "--node-rank", node, "--", RUNS / "hello.py", stderr=subprocess.DEVNULL)
    for node in range(2)
]
for node, host in enumerate(hosts):
    print(f"node {node}:", host.communicate()[0], sep="\n")

# %% [markdown]
# ## Share the data
# Each worker computes the gradient of its own rows, and the mean of all gradients is that of the
# whole batch (lab 09 shows how it is computed). So the rows must be divided.
#
# ### Exercise 2: a share
# The shares are contiguous and in the order of the ranks, and their sizes differ by at most one
# row. Where the rows cannot be divided evenly, the first workers get one row more.


# %% tags=["exercise", "nbval-check-output"]
def share(num_rows, rank, size):
    """The first row of a worker's share, and the first row after it; `size` workers share."""
    ### BEGIN SOLUTION
    rows, rest = divmod(num_rows, size)
    start = rank * rows + min(rank, rest)
    return start, start + rows + (rank < rest)
    ### END SOLUTION


ex.share.check(share)  # also ex.share.hint() and ex.share.solution()

# %% [markdown]
# `data.load(…, shard=(rank, size))` does this for a data set. In every epoch it shuffles all rows
# before it divides them, for which all workers need the same seed. Here are the shares of three
# workers. Is any row read twice? Do the three batches of a step make up the batch that one worker
# would have?

# %%
size, batch_size = 3, 8
shares = [
    list(data.load("digits", batch_size=batch_size, seed=1, shard=(rank, size)))
    for rank in range(size)
]
rows = [{image.numpy().tobytes() for images, _ in part for image in images} for part in shares]
for rank, part in enumerate(shares):
    lengths = [len(labels) for _, labels in part]
    print(f"rank {rank}: {len(lengths)} batches, {sum(lengths)} rows, the last batch {lengths[-1]}")
print("rows of rank 0 that rank 1 has, too:", len(rows[0] & rows[1]))

first = np.concatenate([part[0][1] for part in shares])
whole = next(iter(data.load("digits", batch_size=size * batch_size, seed=1)))[1]
print("labels of the first step:", first, "the same as one worker's:", np.array_equal(first, whole))

# %% [markdown]
# All workers have the same number of rows: if necessary, one or two rows are left out, different
# ones in each epoch. Why is that needed?

# %%
ex.one_batch_less.ask()

# %% tags=["solution"]
ex.one_batch_less.answer("b")

# %% [markdown]
# ## What one worker alone must do
# All workers run the same script. What if it ends with `model.save("network.keras")`? Then all of
# them write one file at the same time. So only rank 0 writes. There is a second danger: it may be
# killed while it writes.
#
# ### Exercise 3: a checkpoint that is always complete
# Write the chunks to the file `path`, on rank 0 only. At every moment there must be a complete file
# at `path`: the old one or the new one.


# %% tags=["exercise", "nbval-check-output"]
def save(path, chunks, rank):
    """Write `chunks`, which yields bytes, to the file `path`, a `pathlib.Path`.

    Returns whether this worker has written.
    """
    ### BEGIN SOLUTION
    if rank != 0:
        return False
    beside = path.with_name(f"{path.name}.new")
    with beside.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
    beside.replace(path)
    return True
    ### END SOLUTION


ex.save.check(save)  # also ex.save.hint() and ex.save.solution()

# %% [markdown]
# A test: writing is interrupted when half of the new checkpoint is written, as if the process were
# killed. What is in the file?

# %%
checkpoint = RUNS / "checkpoint"
saving = ex.save.or_reference(save)  # yours once it passes


def killed_halfway():
    """Yield half of a checkpoint."""
    yield b"the new"
    raise KeyboardInterrupt


saving(checkpoint, [b"the old checkpoint"], 0)
try:
    saving(checkpoint, killed_halfway(), 0)
except KeyboardInterrupt:
    print(checkpoint.read_text())

# %% [markdown]
# ## Train
# Now a training. `distribute.join()` meets the other workers. `distribute.prepare` lets Keras'
# `fit` average the gradients of all workers in each step; `sharded=True` says that each worker
# reads its own rows only. `distribute.Checkpoint` writes a checkpoint after each epoch, only on
# rank 0, and in the same way as your function. A `fit` that finds one continues from it.
#
# The first file is for later: a callback that records when each step is done, and kills its own
# process after `kill` steps, with no chance to clean up; and a checkpoint that prints how long it
# takes.

# %% tags=["active-ipynb"]
# %%writefile runs/multi_node_training/faults.py
# import os
# import signal
# import time
#
# from dltlab import distribute
# import keras
#
#
# class Fault(keras.callbacks.Callback):
#     def __init__(self, folder, worker, kill):
#         super().__init__()
#         self.steps = (folder / f"steps{worker.rank}.txt").open("a", buffering=1)
#         self.attempt, self.kill, self.num_steps = worker.attempt, kill, 0
#
#     def on_epoch_begin(self, epoch, logs=None):
#         self.epoch = epoch
#
#     def on_train_batch_end(self, batch, logs=None):
#         self.num_steps += 1
#         self.steps.write(f"{self.attempt} {self.epoch} {batch} {time.time()}\n")
#         if self.attempt == 0 and self.num_steps == self.kill:
#             os.kill(os.getpid(), signal.SIGKILL)
#
#
# class TimedCheckpoint(distribute.Checkpoint):
#     def on_epoch_end(self, epoch, logs=None):
#         start = time.time()
#         super().on_epoch_end(epoch, logs)
#         print(f"checkpoint written in {time.time() - start:.3f} s")

# %% tags=["active-ipynb"]
# %%writefile runs/multi_node_training/train.py
# import sys
# from pathlib import Path
#
# from dltlab import data, distribute  # before Keras: it hides TensorFlow's messages
# import keras
# import numpy as np
# from faults import Fault, TimedCheckpoint
#
# folder, epochs = Path(sys.argv[1]), int(sys.argv[2])
# kills = dict(tuple(map(int, word.split(":"))) for word in sys.argv[3:])  # rank: step
# group = distribute.join()
# keras.utils.set_random_seed(1)
# layers = [keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(10)]
# model = keras.Sequential([keras.Input(data.info("digits").shape), *layers])
# loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# model.compile("adam", loss, metrics=["accuracy"])
# distribute.prepare(model, group, sharded=True)
#
# shard = (group.rank, group.size)
# train = data.load("digits", batch_size=60 // group.size, seed=1, shard=shard)
# checkpoint = TimedCheckpoint(folder / "checkpoints")
# fault = Fault(folder, distribute.worker(), kills.get(group.rank))
# callbacks = [checkpoint, fault]
# model.fit(train.take(22), epochs=epochs, verbose=2, shuffle=False, callbacks=callbacks)
# if group.rank == 0:
#     np.savez(folder / "weights.npz", *model.get_weights())

# %% [markdown]
# First we run the same script in this notebook, without a launcher: a group of one. Its weights are
# what the workers must reproduce.


# %%
def new_folder(name):
    """Make an empty folder, without what an earlier run may have left."""
    shutil.rmtree(RUNS / name, ignore_errors=True)
    (RUNS / name).mkdir()
    return RUNS / name


new_folder("single")
# %run runs/multi_node_training/train.py runs/multi_node_training/single $EPOCHS


def weights_of(name):
    """The weights that a training has written."""
    with np.load(RUNS / name / "weights.npz") as file:
        return [file[key] for key in file.files]


def largest_difference(name):
    """The largest difference between the weights of a training and those of the group of one."""
    pairs = zip(weights_of(name), weights_of("single"), strict=True)
    return max(np.abs(ours - theirs).max() for ours, theirs in pairs)


def train(name, *words, kills=()):
    """Train with the launcher; return what it writes."""
    folder = new_folder(name)
    words = ["-n", WORKERS, "--log-dir", folder / "logs", *words]
    return launch(*words, "--", RUNS / "train.py", folder, EPOCHS, *kills)


# %% [markdown]
# Then with the launcher. What do the workers print? And are the weights the same?

# %%
output = train("together")
checkpoint_seconds = np.median([float(text) for text in re.findall(r"written in (\S+) s", output)])
print(f"largest difference of a weight: {largest_difference('together'):.1e}")

# %% [markdown]
# Only rank 0 prints its progress, and the weights are those of one process up to rounding.
#
# ## Kill a worker
# The last rank is killed at a random step of the second epoch. With `--max-restarts 1` the launcher
# may start all workers once more. Before you run it: from which epoch will they continue?

# %%
kill_at = np.random.default_rng().integers(23, 44)  # an epoch has 22 steps
victim = WORKERS - 1
if RESTART:
    train("killed", "--max-restarts", 1, kills=[f"{victim}:{kill_at}"])
    print(f"largest difference of a weight: {largest_difference('killed'):.1e}")

# %% [markdown]
# Read the log from the top. The last rank is gone; the others notice it and end. The launcher names
# the rank that failed first (and suspects a lack of memory, the most frequent reason), and starts
# all of them again. They find the checkpoint and continue with the epoch that was not finished. The
# final weights are the same as if nothing had happened.

# %%
ex.why_all.ask()

# %% tags=["solution"]
ex.why_all.answer("c")

# %% [markdown]
# ## Something to show a friend
# The callback has recorded when each step was done. Orange steps were lost, because they came after
# the last checkpoint.

# %%
columns = ["attempt", "epoch", "step", "time"]
name = "killed" if RESTART else "together"
tables = [
    pd.read_csv(RUNS / name / f"steps{rank}.txt", sep=" ", names=columns) for rank in range(WORKERS)
]
begin = min(table["time"].min() for table in tables)
figure, axis = plt.subplots(figsize=(8, 1.4 + 0.6 * WORKERS), layout="constrained")
for rank, table in enumerate(tables):
    is_lost = table.duplicated(["epoch", "step"], keep="last")
    for steps, color in ((table[~is_lost], BLUE), (table[is_lost], ORANGE)):
        axis.eventplot(steps["time"] - begin, lineoffsets=rank, linelengths=0.7, colors=color)
if RESTART:
    died = tables[victim].query("attempt == 0")["time"].max() - begin
    axis.plot(died, victim, "X", color="black", markersize=11)
axis.set(xlabel="seconds since the first step", ylabel="rank", yticks=range(WORKERS))
num_lost = max(table.duplicated(["epoch", "step"]).sum() for table in tables)
axis.set_title(f"A training of {WORKERS} workers; lost steps: {num_lost}")
axis.spines[["top", "right"]].set_visible(False)
show(figure, f"A tick for each step of each rank; a gap after the failure; lost steps: {num_lost}.")

# %%
restart_seconds = 10.0  # if nobody was killed
if RESTART:
    before, after = (
        [table.query(f"attempt == {attempt}")["time"] for table in tables] for attempt in (0, 1)
    )
    restart_seconds = min(times.min() for times in after) - max(times.max() for times in before)
print(f"restart {restart_seconds:.1f} s, a checkpoint {1e3 * checkpoint_seconds:.0f} ms")

# %% [markdown]
# During the restart, the launcher ends the other workers, and each new worker imports TensorFlow
# and traces its training step again.
#
# ## How often to write a checkpoint
# A checkpoint costs time. Without one, a failure costs more. So there is a best interval between
# checkpoints.
#
# ### Exercise 4: the fraction of time that is lost
# Every `interval` seconds of training, a checkpoint is written. There is a failure every `mtbf`
# seconds on average, at any moment. What fraction of the time is lost? Assume that it is small, and
# add up checkpoints, restarts, and work that is done again.


# %% tags=["exercise", "nbval-check-output"]
def lost_share(interval, checkpoint, restart, mtbf):
    """The share of time that is lost; all arguments are in seconds."""
    ### BEGIN SOLUTION
    return checkpoint / interval + (interval / 2 + restart) / mtbf
    ### END SOLUTION


ex.lost_share.check(lost_share)  # also ex.lost_share.hint() and ex.lost_share.solution()

# %% [markdown]
# We use the failure rate of Llama 3, one in about three hours. The first curve is for our
# checkpoint and our restart. For the second we assume a large cluster: twenty seconds for a
# checkpoint, five minutes for a restart. J. Young found in 1974 where such a curve is lowest:
#
# $$interval = \sqrt{2 \cdot checkpoint \cdot mtbf}$$

# %%
lost = ex.lost_share.or_reference(lost_share)  # yours once it passes
intervals = np.geomspace(0.2, mtbf, 300)
cases = {
    "measured here": (checkpoint_seconds, restart_seconds, BLUE),
    "a large cluster, assumed": (20, 300, ORANGE),
}
figure, axis = plt.subplots(figsize=(8, 4), layout="constrained")
for label, (checkpoint, restart, color) in cases.items():
    axis.plot(
        intervals, [lost(x, checkpoint, restart, mtbf) for x in intervals], color=color, label=label
    )
    best = np.sqrt(2 * checkpoint * mtbf)
    least = lost(best, checkpoint, restart, mtbf)
    axis.plot(best, least, "o", color=color)
    print(f"{label}: a checkpoint every {best:,.0f} s, lost {least:.2%}")
axis.axhline(0.1, color=NEUTRAL, linestyle="--", label="10 %: Llama 3 lost less")
axis.set(xscale="log", yscale="log", ylim=(2e-4, 1), title="The best interval between checkpoints")
axis.set(xlabel="interval between checkpoints (s)", ylabel="share of the time that is lost")
axis.legend()
show(figure, "Two curves, each with a lowest point, and a line at 10 %.")

# %% [markdown]
# ## Beside a published number
# Llama 3 spent *more than 90 %* of the time training. What would our two processes reach at the
# same rate of failures? And how long may each failure cost if 10 % are lost?

# %%
ours = 1 - lost(np.sqrt(2 * checkpoint_seconds * mtbf), checkpoint_seconds, restart_seconds, mtbf)
print(f"here: {ours:.2%} of the time, Llama 3: more than 90 %")
print(f"10 % of {mtbf / 3600:.1f} hours are {0.1 * mtbf / 60:.0f} minutes for each failure")

# %% [markdown]
# Why do they differ? Our network is tiny, and two processes are started again on a machine that
# works. There, 405 billion weights and the state of their optimizer take terabytes. The broken GPU
# must be found among 16,384, its machine replaced, and thousands of processes started, each of
# which reads its part. And their figure also includes planned interruptions.
#
# ## Find the straggler
# A worker that has died is noticed. One that is slow is not: nothing fails. We let four workers
# make steps. Each "computes" by waiting as long as its device would take; one of the devices is too
# hot and therefore slow.

# %% tags=["active-ipynb"]
# %%writefile runs/multi_node_training/steps.py
# import json
# import sys
# import time
# from pathlib import Path
#
# from dltlab import distribute
#
# file, num_steps = Path(sys.argv[1]), int(sys.argv[2])
# group = distribute.join()
# rows, overhead, seconds_per_row = (values[group.rank] for values in json.loads(file.read_text()))
# compute, whole = [], []
# for _ in range(num_steps):
#     start = time.perf_counter()
#     time.sleep(overhead + rows * seconds_per_row)  # the device computes
#     compute.append(time.perf_counter() - start)
#     group.exchange(None)  # waits for all, as the sum of the gradients does
#     whole.append(time.perf_counter() - start)
# times = group.exchange([compute, whole])
# if group.rank == 0:
#     file.write_text(json.dumps(times))


# %%
def run_steps(name, rows):
    """Make steps with a number of rows for each worker; return seconds (2, workers, steps)."""
    file = RUNS / f"{name}.json"
    file.write_text(json.dumps([rows, overhead, seconds_per_row]))
    launch("-n", len(rows), "--log-dir", RUNS / name, "--", RUNS / "steps.py", file, STEPS)
    return np.moveaxis(np.array(json.loads(file.read_text())), 1, 0)


generator = np.random.default_rng()
seconds_per_row = (0.0002 * generator.uniform(0.95, 1.05, 4)).tolist()
seconds_per_row[generator.integers(4)] *= 1.6  # who may it be?
overhead = generator.uniform(0.001, 0.003, 4).tolist()
compute, whole = run_steps("straggler", [64] * 4)
pd.DataFrame({"ms per step": 1e3 * np.median(whole, axis=1)}).rename_axis("rank").round(2)

# %% [markdown]
# A step takes equally long on every worker, since each waits for the slowest. So the time of a step
# does not show which worker is slow. What shows it is how much of the step a worker computes, and
# how much it waits.

# %%
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
busy, total = 1e3 * np.median(compute, axis=1), 1e3 * np.median(whole, axis=1)
ranks = np.arange(len(busy))
axis.barh(ranks, busy, color=BLUE, label="computes")
axis.barh(ranks, total - busy, left=busy, color=ORANGE, label="waits for the others")
axis.set(xlabel="milliseconds of a step (median)", ylabel="rank", yticks=ranks)
axis.set_title("Equal steps, unequal work")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
axis.spines[["top", "right"]].set_visible(False)
show(figure, "A bar for each rank: how long it computes, and how long it waits.")

# %% [markdown]
# ### Exercise 5: find the straggler
# Which worker is it, and by what factor do all steps together take longer because of it? Any worker
# may be slow in a single step, so look at the median. A step takes as long as the slowest worker in
# it.


# %% tags=["exercise", "nbval-check-output"]
def find_straggler(compute):
    """The slow worker, and the time of all steps over their time without it.

    `compute` has the shape (workers, steps): the seconds for which each worker computes.
    """
    ### BEGIN SOLUTION
    worker = np.argmax(np.median(compute, axis=1))
    others = np.delete(compute, worker, axis=0)
    return worker, compute.max(axis=0).sum() / others.max(axis=0).sum()
    ### END SOLUTION


ex.find_straggler.check(find_straggler)  # also .hint() and .solution()

# %%
worker, factor = ex.find_straggler.or_reference(find_straggler)(compute)
print(f"rank {worker} makes every step take {factor:.2f} times as long")
print(f"in truth rank {np.argmax(seconds_per_row)} is slow")

# %% [markdown]
# ## Slurm
# On a cluster you do not start launchers by hand. You write what you need into a script, submit it
# to a scheduler such as Slurm, and wait for your turn. `--dry-run slurm` writes the script, here
# for two nodes with four workers each.

# %%
job = ["--nodes", 2, "-n", 4, "--cores", 8, "--gpus", 1, "--max-restarts", 3]
script = launch(*job, "--dry-run", "slurm", "--", "train.py", "runs", 30)

# %% [markdown]
# The lines with `#SBATCH` say what the job needs. `requeue` lets Slurm start the job again when a
# node is lost; it then continues from the last checkpoint. `srun` starts one launcher on each node.
# Each knows its place from Slurm's variables, so no address is needed. `dltlab launch … > job.sh`
# writes the script to a file, and `sbatch job.sh` submits it. `squeue` shows the queue, `scancel`
# ends a job.

# %%
ex.who_runs_it.ask()

# %% tags=["solution"]
ex.who_runs_it.answer("b")

# %% [markdown]
# ## The challenge
# The hot device stays in the cluster. Do all others have to wait for it? Not if it gets fewer rows.
# A worker with n rows needs `overhead + n * seconds_per_row`. Divide the batch so that the step,
# which is as long as the slowest worker, is as short as possible. The bar: on 30 clusters of 2 to
# 16 workers, your steps take on average at most 1 % longer than the shortest possible.


# %% tags=["exercise"]
def balance(batch_size, seconds_per_row, overhead):
    """The number of rows of each worker, whole numbers that add up to `batch_size`.

    `seconds_per_row` and `overhead` are arrays with a number for each worker.
    """
    ### BEGIN SOLUTION
    rows = np.zeros(len(overhead), int)
    for _ in range(batch_size):
        rows[np.argmin(overhead + (rows + 1) * seconds_per_row)] += 1
    return rows
    ### END SOLUTION


if RUN_CHALLENGE:
    ex.balance.check(balance)  # also ex.balance.hint() and ex.balance.solution()

# %% [markdown]
# Now with real processes: how much shorter is a step of the cluster above?

# %%
balancing = ex.balance.or_reference(balance)
if RUN_CHALLENGE:
    rows = balancing(4 * 64, np.array(seconds_per_row), np.array(overhead))
    _, balanced = run_steps("balanced", np.asarray(rows).tolist())
    before, after = (1e3 * np.median(times) for times in (whole, balanced))
    print(f"rows {rows}: {after:.1f} ms for a step instead of {before:.1f} ms")

# %% [markdown]
# ## What you learned
# A training on many machines is one program in many processes, which meet at an address, share the
# rows, and agree after every step. One of them writes checkpoints, each complete or not at all, and
# when a worker dies all go back to the last one and lose minutes instead of the run. A slow worker
# slows all of them, and it shows only in how long the others wait.

# %% [markdown]
# ## What to try next
# - Kill rank 0 instead, the one that writes: `victim = 0`.
# - Write nonsense into the newest file in a folder `checkpoints`, and train on in it with more
#   epochs. What does `distribute.Checkpoint` do?
# - In a terminal, stop a worker while it trains with `kill -STOP` and its process ID. How long does
#   it take until the others say who is missing?
# - `dltlab launch --dry-run kubernetes --image IMAGE -- train.py` writes a manifest for `kubectl`.
#   Find in it what Slurm's script has.
# - Two machines? Start the command of the section on the rendezvous on both, with the address of
#   one.
# - Lab 12 asks how much faster many machines are.

# %% [markdown]
# ## References
# - A. Grattafiori et al., *The Llama 3 herd of models*, 2024,
#   [arXiv:2407.21783](https://arxiv.org/abs/2407.21783), section 3.3.4: interruptions, and the
#   share of effective training time.
# - J. W. Young, *A first order approximation to the optimum checkpoint interval*, Communications of
#   the ACM 17, 1974.
# - J. Chen et al., *Revisiting distributed synchronous SGD*, 2016,
#   [arXiv:1604.00981](https://arxiv.org/abs/1604.00981): what stragglers cost, and spare workers.
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: DGX-1 and SATURNV.
