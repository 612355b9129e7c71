# ---
# title: Experiments
# summary: >-
#   One training gives one number. You turn a notebook into an experiment: a grid, a random search
#   and Optuna's search on the same budget, seeds and a paired comparison, folds, early stopping,
#   successive halving and pruning. You kill a sweep and let it go on, measure what corrected labels
#   are worth, and promote the best model.
# objectives:
#   - run a notebook many times with different parameters, and resume after a kill
#   - write a random search, and explain why it beats a grid when few parameters matter
#   - compare two settings over several seeds, as pairs
#   - divide images into folds, and estimate an accuracy from all of them
#   - save epochs with early stopping, successive halving and pruning
#   - compare versions of the data, promote a model, and roll back
# minutes: {read: 40, exercise: 60, compute: 5}
# memory_gb: 4
# devices: {gpu: none}
# datasets: [digits, shapes]
# requires: [02_image_classification]
# profiles:
#   smoke:
#     JOBS: 1
#     SIDE: 1
#     EPOCHS: 1
#     SEEDS: 2
#     MORE_SWEEPS: false
#     RUN_CHALLENGE: false
#   workshop: {}
#   full: {EPOCHS: 20, SEEDS: 20, CHALLENGE_SECONDS: 1200, CHALLENGE_BAR: 0.7}
# ---

# %% [markdown]
# ## The question
# Suppose you train a network on the images below. With a dropout of 0.2, it classifies 94.8 % of
# the validation images correctly, and with 0.3, 95.2 %. Is 0.3 better? Would another learning rate
# have been better still? And what is left if the machine restarts at night, after 40 of 100
# trainings?
#
# To answer such questions, you need many trainings. In 2015, NVIDIA's DIGITS gave its users a queue
# of trainings. They asked for more: a search over parameters, early stopping, k-fold validation,
# pause and resume. In this lab you do all of that with one notebook.
#
# This lab needs a few more packages: `pip install 'dltlab[batch]'`.

# %%
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jupytext
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import display
from PIL import Image
from scipy import stats

from dltlab import batch, data, widgets
from dltlab.checks import experiments as ex
from dltlab.course import Course
from dltlab.display import NEUTRAL, PALETTE, show
from dltlab.models import load_model

# %% tags=["parameters"]
JOBS = 2  # runs at a time
SIDE = 4  # values of each parameter in the grid; all searches have SIDE × SIDE runs
EPOCHS = 12  # of each run
SEEDS = 6  # repetitions of each of two settings
MORE_SWEEPS = True  # folds, early stopping, successive halving, pruning and versions of the data
CHALLENGE_SECONDS = 240  # the budget of the challenge: the seconds of all runs together
CHALLENGE_BAR = 0.5  # its bar, the accuracy on test images
RUN_CHALLENGE = True

# %%
RUNS = Path("runs/experiments")
RUNS.mkdir(parents=True, exist_ok=True)
for old in RUNS.glob("*/"):  # of an earlier time, so that all runs are made now
    shutil.rmtree(old)
BLUE, ORANGE, GREEN = PALETTE[:3]

digits, classes = data.arrays("digits", "train")
figure, axes = plt.subplots(1, 12, figsize=(9, 1.3), layout="constrained")
for axis, image, label in zip(axes, digits, classes, strict=False):
    axis.imshow(image, cmap="gray_r")
    axis.set_title(label)
    axis.axis("off")
show(figure, "Twelve handwritten digits of 8 × 8 pixels, each under its class.")

# %% [markdown]
# ## A notebook with parameters
# We write the training as a notebook. The cell tagged `parameters` gives defaults, and each run of
# the notebook may replace them. A fifth of the training images, the fold `FOLD`, is held out for
# validation.
#
# Large images pass through convolutions with stride 2 until their maps are 8 × 8. Two dense layers
# follow, with dropout between them. `dltlab.record` records a metric of the run: here the
# validation accuracy of each epoch.

# %% tags=["active-ipynb"]
# %%writefile runs/experiments/train.py
# # %% tags=["parameters"]
# DATASET = "digits"
# LEARNING_RATE = 0.01
# DROPOUT = 0.2
# WIDTH = 16  # channels of the first convolution; a quarter of the units of the first dense layer
# EPOCHS = 12
# PATIENCE = 0  # stop after so many epochs without improvement; 0: never
# FOLD = 0  # of 5
# SEED = 0
#
# # %%
# import dltlab
# from dltlab import data
# import keras
# import numpy as np
# import tensorflow as tf
# from keras import layers
#
# keras.utils.set_random_seed(SEED)
# x, y = data.arrays(DATASET, "train")
# if "validation" in data.info(DATASET).split_names:  # of shapes, or imported images
#     x_val, y_val = data.arrays(DATASET, "validation")
# else:
#     order = np.random.default_rng(0).permutation(len(x))
#     held_out = np.array_split(order, 5)[FOLD]
#     rest = np.setdiff1d(order, held_out)
#     x, y, x_val, y_val = x[rest], y[rest], x[held_out], y[held_out]

# %% tags=["active-ipynb"]
# %%writefile -a runs/experiments/train.py
#
# # %%
# stack, size, width = [keras.Input(x.shape[1:])], x.shape[1], WIDTH
# while size > 8:
#     stack.append(layers.Conv2D(width, 3, strides=2, padding="same", activation="relu"))
#     size, width = size // 2, 2 * width
# num_classes = len(data.info(DATASET).class_names)
# stack += [layers.Flatten(), layers.Dense(4 * WIDTH, activation="relu")]
# stack += [layers.Dropout(DROPOUT), layers.Dense(num_classes)]
# model = keras.Sequential(stack)
# optimizer = keras.optimizers.Adam(LEARNING_RATE)
# loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# optimizer.build(model.trainable_variables)
#
#
# @tf.function
# def train(images, labels, batches):
#     for rows in batches:
#         with tf.GradientTape() as tape:
#             scores = model(tf.gather(images, rows), training=True)
#             value = loss(tf.gather(labels, rows), scores)
#         optimizer.apply(tape.gradient(value, model.trainable_variables))

# %% tags=["active-ipynb"]
# %%writefile -a runs/experiments/train.py
#
# # %%
# rng = np.random.default_rng(SEED)
# images, labels, best = tf.constant(x), tf.constant(y), -1.0
# for epoch in range(EPOCHS):
#     batches = rng.permutation(len(x))[: len(x) // 64 * 64].reshape(-1, 64)
#     train(images, labels, tf.constant(batches))
#     scores = np.concatenate([model(part) for part in np.array_split(x_val, len(x_val) // 200)])
#     accuracy = float(np.mean(scores.argmax(axis=1) == y_val))
#     if accuracy > best:
#         best, best_epoch, weights = accuracy, epoch, model.get_weights()
#     dltlab.record("accuracy", accuracy, step=epoch)
#     dltlab.record("epochs", epoch + 1)
#     if PATIENCE and epoch - best_epoch >= PATIENCE:
#         model.set_weights(weights)
#         dltlab.record("accuracy", best)
#         break
# model.save("model.keras")

# %% [markdown]
# `jupytext` makes a notebook of the text. Then `run_batch` runs it, once with the default
# parameters. Each run has a folder. It contains the executed notebook, which you can open, its log,
# its metrics, and in `files` whatever the notebook wrote, here the model.

# %%
TRAIN = RUNS / "train.ipynb"
jupytext.write(jupytext.read(RUNS / "train.py", fmt="py:percent"), TRAIN)
TEMPLATE = batch.read_template(str(TRAIN), Course.find())


def table_of(records):
    """A table of runs: a row for each, with status, parameters, metrics and times."""
    rows = []
    for record in records:
        row = {"run": record.id, "status": str(record.state.status)}
        row |= record.run.parameters | record.values
        rows.append(row | {"started": record.state.started, "ended": record.state.ended})
    return pd.DataFrame(rows).set_index("run")


def run_all(name, parameters):
    """Run the notebook once with each dict of parameters; return a table in their order."""
    runs = [TEMPLATE.run({"EPOCHS": EPOCHS} | values) for values in parameters]
    result = batch.run_batch(runs, RUNS / name, jobs=JOBS)
    return table_of(result.records).loc[[run.id for run in runs]]


# %%
first = run_all("first", [{}])
folder = RUNS / "first" / first.index[0]
for path in sorted(folder.rglob("*")):
    if path.is_file():
        print(path.relative_to(folder))
first

# %% [markdown]
# ## A grid
# Which learning rate, and which dropout? A *grid* tries every combination of a few values. A sweep
# file names the notebook and the values. In a terminal you would type `dltlab sweep grid.toml --out
# runs/experiments/grid`. Here a function does that.
#
# In the table, compare the rows, then the columns. Which parameter matters? Below it is one number
# for each: the variance of the means of its values, as a fraction of the variance of all runs.

# %%
RATES = np.geomspace(1e-4, 1, SIDE).round(6).tolist()
DROPOUTS = np.linspace(0, 0.6, SIDE).round(6).tolist()


def start_sweep(name, text, epochs):
    """Write the sweep file `name`, start `dltlab sweep` with it, and return the process."""
    file = RUNS / f"{name}.toml"
    file.write_text(f'notebook = "train.ipynb"\nparameters = {{EPOCHS = {epochs}}}\n{text}')
    dltlab = Path(sys.executable).with_name("dltlab")
    command = [dltlab, "sweep", file, "--out", RUNS / name, "--jobs", JOBS]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(list(map(str, command)), **output)


def sweep(name, text, epochs=EPOCHS):
    """Run a sweep, print how it ended, and return a table of its runs."""
    process = start_sweep(name, text, epochs)
    try:
        lines = process.communicate()[0].splitlines()
    finally:
        process.terminate()  # after the stop button
    print(*(lines if process.returncode else lines[-2:]), sep="\n")
    return table_of(batch.read_records(RUNS / name))


# %%
grid_file = f"""
[grid]
LEARNING_RATE = {RATES}
DROPOUT = {DROPOUTS}
"""
grid = sweep("grid", grid_file)
print((RUNS / "grid.toml").read_text())
grid.pivot(index="LEARNING_RATE", columns="DROPOUT", values="accuracy").round(3)

# %%
for name in ("LEARNING_RATE", "DROPOUT"):
    means = grid.groupby(name)["accuracy"].transform("mean")
    fraction = means.var() / grid["accuracy"].var()
    print(f"{name}: explains {fraction:.2f} of the variance of the accuracy")

# %% [markdown]
# ## Random search
# The grid has SIDE × SIDE runs, but only SIDE learning rates. A random search draws both parameters
# anew for each run. The learning rate is drawn on a *logarithmic scale*: as many values between
# 0.001 and 0.01 as between 0.01 and 0.1.
#
# ### Exercise 1: random parameters
# `uniform` has a row for each run and a column for each parameter, with numbers between 0 and 1.
# Map them to values: 0 becomes `low`, 1 becomes `high`. In between, the value is uniform, or its
# logarithm is.


# %% tags=["exercise", "nbval-check-output"]
def random_parameters(uniform, ranges):
    """A dict of parameters for each row of `uniform`.

    `ranges` has (low, high, is_log) for each name, in the order of the columns.
    """
    ### BEGIN SOLUTION
    runs = []
    for row in uniform:
        run = {}
        for number, (name, (low, high, is_log)) in zip(row, ranges.items(), strict=True):
            run[name] = low * (high / low) ** number if is_log else low + (high - low) * number
        runs.append(run)
    return runs
    ### END SOLUTION


ex.random_parameters.check(random_parameters)  # also ex.random_parameters.hint() and .solution()

# %%
RANGES = {"LEARNING_RATE": (1e-4, 1.0, True), "DROPOUT": (0.0, 0.6, False)}
draw = ex.random_parameters.or_reference(random_parameters)  # yours once it passes
uniform = np.random.default_rng(17).random((SIDE**2, 2))
drawn = [{name: float(value) for name, value in run.items()} for run in draw(uniform, RANGES)]
randomly = run_all("random", drawn)
randomly[["LEARNING_RATE", "DROPOUT", "accuracy"]].sort_values("accuracy").tail(3).round(4)

# %% [markdown]
# The figure below has one panel for each parameter and search. Look at the ticks under the points:
# each is a value that was tried. How many values of the learning rate did each search try?

# %%
figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharey=True, layout="constrained")
searches = {"Grid": (grid, BLUE), "Random search": (randomly, ORANGE)}
for row, (title, (table, color)) in zip(axes, searches.items(), strict=True):
    for axis, name in zip(row, RANGES, strict=True):
        axis.plot(table[name], table["accuracy"], "o", color=color)
        axis.plot(table[name], np.full(len(table), -0.06), "|", color=NEUTRAL, markersize=12)
        axis.set_title(f"{title}: {table[name].nunique()} values of {name}")
        axis.set(xlabel=name, ylabel="validation accuracy", ylim=(-0.12, 1.05))
        axis.grid(alpha=0.3)
    row[0].set_xscale("log")
show(figure, "Validation accuracy over learning rate and over dropout, for grid and random search.")

# %% [markdown]
# This is the argument of Bergstra and Bengio (2012). A search should try many values of the
# parameters that matter. You do not know beforehand which these are. A grid spends most of its runs
# on the same few values again; in a random search, every run tries a new value of every parameter.

# %%
ex.why_random.ask()

# %% tags=["solution"]
ex.why_random.answer("b")

# %% [markdown]
# How many random runs are as good as the grid? The best of the first k runs depends on their order.
# The mean over all choices of k runs does not.
#
# ### Exercise 2: the expected best
# What is the best accuracy of k runs on average, over all choices of k different runs?


# %% tags=["exercise", "nbval-check-output"]
def expected_best(scores, k):
    """The mean of the best score in a choice of k runs, over all choices."""
    ### BEGIN SOLUTION
    return np.mean([max(choice) for choice in itertools.combinations(scores, k)])
    ### END SOLUTION


ex.expected_best.check(expected_best)  # also ex.expected_best.hint() and .solution()

# %% [markdown]
# ## Optuna's search
# Both searches choose all runs beforehand. Optuna's TPE (tree-structured Parzen estimator) looks at
# the runs that have ended, and draws more often where the good ones were. It gets the same budget.

# %%
search_file = f"""
[search]
trials = {SIDE**2}
objective = "accuracy"
direction = "maximize"
sampler = "TPESampler"
seed = 1
LEARNING_RATE = {{low = 1e-4, high = 1.0, log = true}}
DROPOUT = {{low = 0.0, high = 0.6}}
"""
tpe = sweep("tpe", search_file)
tpe[["LEARNING_RATE", "DROPOUT", "accuracy"]].sort_values("accuracy").tail(3).round(4)

# %%
best_of = ex.expected_best.or_reference(expected_best)  # yours once it passes
sizes = np.arange(1, len(randomly) + 1)
curve = np.array([best_of(randomly["accuracy"].tolist(), int(k)) for k in sizes])
in_order = tpe.sort_values("started")["accuracy"].cummax()
grid_best = grid["accuracy"].max()
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
axes.plot(sizes, curve, "o-", color=ORANGE, label="random search, mean over all choices")
axes.plot(sizes, in_order, "s-", color=GREEN, label="TPE, in the order of its runs")
axes.axhline(grid_best, color=BLUE, linestyle="--", label=f"best of the {len(grid)} of the grid")
axes.set(xlabel="runs", ylabel="best validation accuracy", title="Best accuracy by number of runs")
axes.grid(alpha=0.3)
axes.legend()
show(figure, "Best validation accuracy over the number of runs, for random search and TPE.")
enough = sizes[curve >= grid_best]
print(f"Best of {len(grid)} runs: grid {grid_best:.4f}, ", end="")
print(f"random {curve[-1]:.4f}, TPE {in_order.iloc[-1]:.4f}.")
if len(enough):
    print(f"Random runs that are on average as good as the grid of {len(grid)}: {enough[0]}")
else:
    print(f"The random search with {len(randomly)} runs does not reach the grid.")

# %% [markdown]
# Bergstra and Bengio drew the same curve for networks with seven parameters, on eight data sets.
# There, random searches with 8 runs were as good as grids with about 100 runs, or better. Here the
# ratio is smaller, and it may go the other way. Our grid has two parameters and tries four learning
# rates; a grid of 100 runs over seven parameters tries about two values of each. They compare
# accuracies on test images, we compare those on validation images. And each search here is one
# draw: with another seed, the random search and TPE reach another accuracy. So the figure does not
# show which search is better in general.
#
# ## Noise
# Now the two best settings of all searches. How many validation images lie between them?

# %%
found = pd.concat([grid, randomly, tpe]).drop_duplicates(["LEARNING_RATE", "DROPOUT"])
found = found.sort_values(["accuracy", "LEARNING_RATE"], ascending=False)
settings = [{name: float(row[name]) for name in RANGES} for _, row in found.iloc[:2].iterrows()]
num_validation = -(-len(digits) // 5)
gap = round(num_validation * (found["accuracy"].iloc[0] - found["accuracy"].iloc[1]))
print(f"{gap} of {num_validation} validation images lie between the two best of {len(found)} runs.")
found[["LEARNING_RATE", "DROPOUT", "accuracy"]].head(4).round(4)

# %% [markdown]
# One image more or less is no reason to prefer a setting. Another seed gives other initial weights,
# other batches and another accuracy. So we train both settings with several new seeds.
#
# What happens if the machine stops in the middle of a sweep? Try it. The cell starts `dltlab sweep`
# for the best setting, waits until a third of the runs are done, and sends SIGKILL, which no
# program can catch.


# %%
def repeats_of(setting):
    """A sweep file with one setting and new seeds: the searches have used 0."""
    values = "".join(f"{name} = [{value!r}]\n" for name, value in setting.items())
    return f"[grid]\nSEED = {list(range(1, SEEDS + 1))}\n{values}"


process = start_sweep("best", repeats_of(settings[0]), EPOCHS)
while process.poll() is None:
    done = [folder.state().status.is_final for folder in batch.run_folders(RUNS / "best")]
    if sum(done) >= max(1, SEEDS // 3):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    time.sleep(0.1)
before = table_of(batch.read_records(RUNS / "best"))
print("exit code", process.returncode)
before["status"].value_counts()

# %% [markdown]
# The folders still say how far the sweep came. The same command continues it: runs that are done
# are kept, and the others run. How many are made now? After that, the cell runs the second setting.

# %%
best = sweep("best", repeats_of(settings[0]))
kept = before.index[before["status"] == "done"]
same = (best.loc[kept, "ended"] == before.loc[kept, "ended"]).all()
print(f"runs kept: {len(kept)}, made now: {len(best) - len(kept)}")
print(f"kept runs have not been touched: {same}")
second = sweep("second", repeats_of(settings[1]))

# %%
a, b = (table.sort_values("SEED")["accuracy"].to_numpy() for table in (best, second))
figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
for x, y in zip(a, b, strict=True):
    axes.plot([0, 1], [x, y], "o-", color=NEUTRAL, alpha=0.6)
axes.plot([0, 1], [a.mean(), b.mean()], "_", color=ORANGE, markersize=30, label="mean")
axes.plot([0, 1], found["accuracy"].iloc[:2], "x", color=BLUE, markersize=10, label="the search")
axes.set_xticks([0, 1], ["the best", "the second"])
axes.set(xlim=(-0.4, 1.4), xlabel="setting", ylabel="validation accuracy")
axes.set_title(f"Two settings, {SEEDS} seeds")
axes.grid(alpha=0.3)
axes.legend()
show(figure, "Validation accuracies of two settings; lines connect runs with the same seed.")
print(f"The best setting: {found['accuracy'].iloc[0]:.4f} in the search, ", end="")
print(f"{a.mean():.4f} ± {a.std(ddof=1):.4f} with {SEEDS} seeds")

# %%
ex.best_of_many.ask()

# %% tags=["solution"]
ex.best_of_many.answer("b")

# %% [markdown]
# The lines in the figure connect runs with the same seed. They began with the same weights and had
# the same batches. What the two runs of a pair have in common cancels in their difference.
#
# ### Exercise 3: a paired comparison
# Return the mean of the differences a − b, and half of the width of its 95 % interval: the standard
# error of the mean, times the 97.5 % point of Student's t distribution with n − 1 degrees of
# freedom.


# %% tags=["exercise", "nbval-check-output"]
def paired_difference(a, b):
    """The mean of a - b, and half of the width of its 95 % interval."""
    ### BEGIN SOLUTION
    differences = np.subtract(a, b)
    n = len(differences)
    error = differences.std(ddof=1) / np.sqrt(n)
    return differences.mean(), stats.t.ppf(0.975, n - 1) * error
    ### END SOLUTION


ex.paired_difference.check(paired_difference)  # also ex.paired_difference.hint() and .solution()

# %%
compare = ex.paired_difference.or_reference(paired_difference)


def report(what, a, b):
    """Print the paired difference of two settings, and whether it can be told from 0."""
    mean, half = compare(a, b)
    verdict = "is a difference" if abs(mean) > half else "cannot be told from 0"
    print(f"{what}: {mean:+.4f} ± {half:.4f}: {verdict}")


report("best - second", a, b)

# %% [markdown]
# Lab 02 asked the same about two networks on the same test images. Other images would have given
# another difference, and so would other seeds. A fair comparison uses several seeds, compares runs
# with the same seed, and gives the interval.
#
# ## Folds
# All runs were measured on the same fifth of the images. Perhaps these are easy ones. *k-fold
# validation* divides the images into k parts, holds out each part once, and trains on the others.
#
# ### Exercise 4: folds
# Shuffle the numbers of the images, and divide them into parts whose sizes differ by at most one.


# %% tags=["exercise", "nbval-check-output"]
def make_folds(num_images, num_folds, seed):
    """A list of pairs (train, validation), arrays of the numbers of images, for each fold."""
    ### BEGIN SOLUTION
    order = np.random.default_rng(seed).permutation(num_images)
    parts = np.array_split(order, num_folds)
    return [
        (np.concatenate(parts[:fold] + parts[fold + 1 :]), parts[fold]) for fold in range(num_folds)
    ]
    ### END SOLUTION


ex.make_folds.check(make_folds)  # also ex.make_folds.hint() and ex.make_folds.solution()

# %% [markdown]
# The training notebook contains this for five folds. With `folds = 5`, a sweep sets its parameter
# `FOLD` to 0 to 4. How far apart are the folds, compared with the seeds above?

# %%
if MORE_SWEEPS:
    values = "".join(f"{name} = [{value!r}]\n" for name, value in settings[0].items())
    folds = sweep("folds", f"folds = 5\n\n[grid]\n{values}")
    accuracies = folds.sort_values("FOLD")["accuracy"]
    print("fold by fold:", *accuracies.round(4))
    print(f"mean {accuracies.mean():.4f}, standard deviation {accuracies.std():.4f}; ", end="")
    print(f"of the seeds {a.std(ddof=1):.4f}")

# %% [markdown]
# ## Fewer epochs
# Many runs of a search are bad, and often this can be seen after a few epochs. There are three ways
# to save the rest.
#
# *Early stopping* ends a run that has not improved for `PATIENCE` epochs, and restores its best
# weights. We compare runs with and without it, of up to 40 epochs, with three seeds each.

# %%
if MORE_SWEEPS:
    patience_file = f"""repeats = 3
[grid]
PATIENCE = [0, 4]
LEARNING_RATE = [{settings[0]["LEARNING_RATE"]!r}]
DROPOUT = [{settings[0]["DROPOUT"]!r}]
"""
    patience = sweep("patience", patience_file, epochs=40)
    display(patience.groupby("PATIENCE")[["epochs", "accuracy"]].mean().round(4))

# %% [markdown]
# The accuracy with early stopping is that of the best epoch, which was chosen by the validation
# images. So it is a little too high, as the accuracy of the best run of a search is.
#
# *Successive halving* decides between runs. It trains all candidates for a few epochs, keeps the
# best half, trains these twice as long, and so on, until one is left.
#
# ### Exercise 5: successive halving
# `train(candidates, epochs)` trains each candidate in a list and returns a list of accuracies. In
# each round, keep one in `factor` of the candidates, rounded down, but at least one, and train
# `factor` times as long. When one is left, train it, too, and return it.


# %% tags=["exercise", "nbval-check-output"]
def successive_halving(train, candidates, epochs, factor):
    """The candidate that is left, and the number of epochs of all trainings together."""
    ### BEGIN SOLUTION
    spent = 0
    while True:
        accuracies = train(candidates, epochs)
        spent += len(candidates) * epochs
        if len(candidates) == 1:
            return candidates[0], spent
        order = np.argsort(accuracies)[::-1]
        candidates = [candidates[place] for place in order[: max(1, len(candidates) // factor)]]
        epochs *= factor
    ### END SOLUTION


ex.successive_halving.check(successive_halving)  # also ex.successive_halving.hint() and .solution()

# %% [markdown]
# The candidates are half of the random runs. We know how each of them ended after all epochs: does
# the one that is left belong to the best?

# %%
halve = ex.successive_halving.or_reference(successive_halving)
if MORE_SWEEPS:
    candidates = drawn[: len(drawn) // 2]

    def train(candidates, epochs):
        """The accuracy of each candidate after so many epochs."""
        table = run_all("halving", [{**values, "EPOCHS": epochs} for values in candidates])
        best = table["accuracy"].max()
        print(f"candidates: {len(candidates)}, epochs of each: {epochs}, best: {best:.4f}")
        return table["accuracy"].tolist()

    winner, spent = halve(train, candidates, max(1, EPOCHS // 6), 2)
    known = randomly["accuracy"].iloc[: len(candidates)]
    place = 1 + (known > known.iloc[candidates.index(winner)]).sum()
    print(
        f"{spent} epochs instead of {len(candidates) * EPOCHS}. The one that is left was ", end=""
    )
    print(f"number {place} of the {len(candidates)} after {EPOCHS} epochs.")

# %% [markdown]
# *Pruning* does this while runs are going on. Optuna's `MedianPruner` ends a run whose best
# accuracy so far is below the median of what earlier runs had at that epoch. It knows the
# accuracies from `dltlab.record(…, step=epoch)`. Compare the epochs and the best accuracy with the
# search above.

# %%
if MORE_SWEEPS:
    pruner = 'pruner = {name = "MedianPruner", n_startup_trials = 4, n_warmup_steps = 2}\n'
    pruned = sweep("pruned", search_file.replace("seed = 1\n", f"seed = 1\n{pruner}"))
    both = {"without": tpe, "with": pruned}
    for name, table in both.items():
        ends = table["status"].value_counts().to_dict()
        print(f"{name:8} pruning: {table['epochs'].sum():.0f} epochs, {ends}, ", end="")
        print(f"best {table.loc[table['status'] == 'done', 'accuracy'].max():.4f}")

# %% [markdown]
# ## Versions of the data
# Suppose these digits are your own scans, sorted into folders by hand, and every fifth training
# image is in a wrong folder. You notice it, correct the folders, and import them again. Changed
# images become a new version: `scans@1`, `scans@2`. Both versions have the same validation images,
# with correct labels. In a sweep, the version is a parameter like any other.

# %%
ex.which_labels.ask()

# %% tags=["solution"]
ex.which_labels.answer("b")


# %%
def save_scans(folder, wrong):
    """Write the digits as image files: a fifth for validation, the others for training.

    The fraction `wrong` of the training images goes to the folder of a wrong class.
    """
    rng = np.random.default_rng(5)
    for place, (image, label) in enumerate(zip(digits, classes, strict=True)):
        split = "validation" if place % 5 == 0 else "train"
        if split == "train" and rng.random() < wrong:
            label = (label + rng.integers(1, 10)) % 10
        path = folder / split / str(label) / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * image[..., 0]).round().astype("uint8")).save(path)


if MORE_SWEEPS:
    os.environ["DLTLAB_DATA_DIR"] = str((RUNS / "data").absolute())  # for the runs, too
    for version, wrong in ((1, 0.2), (2, 0.0)):
        save_scans(RUNS / f"scans{version}", wrong)
        print(data.import_images(RUNS / f"scans{version}", "scans", size=8, test=0).summary)
    versions_file = f"""repeats = 4
[grid]
DATASET = ["scans@1", "scans@2"]
LEARNING_RATE = [{settings[0]["LEARNING_RATE"]!r}]
DROPOUT = [{settings[0]["DROPOUT"]!r}]
"""
    versions = sweep("versions", versions_file).sort_values("SEED")
    by_version = versions.groupby("DATASET")["accuracy"].apply(list)
    report("scans@2 - scans@1", by_version["scans@2"], by_version["scans@1"])

# %% [markdown]
# ## Promote a model
# Which model do we use from now on? One with the best setting, but not the one with the luckiest
# seed: its accuracy would be too high again. We take seed 1. A *model store* is a folder of
# promoted models, each with its run, parameters, metrics, and the versions of code and data. First
# we promote the model with the default parameters, then the new one. On the command line, this is
# `dltlab runs promote`.
#
# Suppose then that the new model fails in use: `roll_back` returns to the one before. Nothing is
# deleted, and the new version can be promoted again.

# %%
store = batch.ModelStore(RUNS / "models")
old_run = batch.RunFolder(RUNS / "first" / first.index[0])
new_run = batch.RunFolder(RUNS / "best" / best.index[best["SEED"] == 1][0])
for run in (old_run, new_run):
    version = store.promote(run, "digits")
    print(f"version {version.number} is {version.run}: {dict(version.parameters)}")
print("rolled back to version", store.roll_back("digits").number)
print("in use again: version", store.promote(new_run, "digits").number)

# %% [markdown]
# No decision has used the test images so far. We use them once, for both versions, and compare them
# image by image. Is the new version better? If the interval of the difference contains 0, the
# search may have found a lucky run, and we roll back.

# %%
test_images, test_labels = data.arrays("digits", "test")


def is_correct(version):
    """Whether a version of the model classifies each test image correctly."""
    scores = load_model(version.path)(test_images).numpy()
    return scores.argmax(axis=1) == test_labels


old, new = (is_correct(version) for version, _ in reversed(store.history("digits")))
print(f"accuracy on {len(old)} images: version 1 {old.mean():.4f}, version 2 {new.mean():.4f}")
differences = new.astype(float) - old
mean, half = differences.mean(), 1.96 * differences.std(ddof=1) / np.sqrt(len(differences))
print(f"version 2 - version 1: {mean:+.4f} ± {half:.4f}")
if mean > half:
    print("Version 2 is better, and stays in use.")
else:
    print("Version 2 is not shown to be better: back to version", store.roll_back("digits").number)

# %% [markdown]
# ## Something to show a friend
# `SweepPanel` shows a sweep in a notebook: its button starts the sweep, and the table follows its
# runs. Press *Start*: the search is complete, so nothing is run again.
#
# `report.html` in the folder of a sweep is one file that opens in any browser, without a network:
# a table of all runs that can be sorted, their metrics over each parameter, failures first, and
# links to the executed notebooks.
#
# `batch.compare` groups repeated runs, as `dltlab runs compare` does. TensorBoard shows the same
# runs: open its tab *HParams*, then *Parallel coordinates view*, and drag along an axis to select
# runs.

# %%
batch.SweepPanel(RUNS / "tpe.toml", out=RUNS / "tpe", jobs=JOBS).show()

# %%
print("report:", RUNS / "tpe" / "report.html")
widgets.tensorboard(str(RUNS))
batch.compare([*batch.read_records(RUNS / "best"), *batch.read_records(RUNS / "second")])

# %% [markdown]
# ## The challenge
# What is the best accuracy on `shapes` that the same notebook reaches within 20 run-minutes, the
# sum of the seconds of all runs? Here the budget is `CHALLENGE_SECONDS`, with a lower bar; the
# profile `full` has the 20 minutes. You may set any parameter of the notebook. `train(parameters)`
# runs it once for each dict in a list. Each result has `accuracy`, `seconds` and `parameters`.
# Return the result that you choose: the check measures its model on the test images. What passes
# enters `runs/experiments/leaderboard.csv`.


# %%
def train_on_shapes(parameters):
    """Run the notebook on `shapes` with each dict of parameters; return the results."""
    runs = [TEMPLATE.run({"DATASET": "shapes"} | values) for values in parameters]
    result = batch.run_batch(runs, RUNS / "shapes", jobs=JOBS)
    records = {record.id: record for record in result.records}
    results = []
    for run in runs:
        model = RUNS / "shapes" / run.id / "files" / "model.keras"
        results.append(
            SimpleNamespace(
                parameters=run.parameters,
                accuracy=records[run.id].values.get("accuracy", 0.0),
                seconds=records[run.id].state.seconds,
                model=model if model.exists() else None,
            )
        )
    return results


ex.judge_by(train_on_shapes, dataset="shapes", seconds=CHALLENGE_SECONDS, bar=CHALLENGE_BAR)


# %% tags=["exercise"]
def best_on_shapes(train, seconds):
    """The result of the best run, chosen by its accuracy; all runs may take `seconds` in all."""
    ### BEGIN SOLUTION
    rng = np.random.default_rng(1)
    epochs = 3
    results = train([{"LEARNING_RATE": 0.003, "EPOCHS": epochs}])
    while True:
        rest = seconds - sum(result.seconds for result in results)
        if rest < 3 * max(result.seconds for result in results):  # two runs, a little longer
            return max(results, key=lambda result: result.accuracy)
        epochs += 1
        rates = (10 ** rng.uniform(-3, -2, size=2)).tolist()
        results += train([{"LEARNING_RATE": rate, "EPOCHS": epochs} for rate in rates])
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.best_on_shapes.check(best_on_shapes)  # also ex.best_on_shapes.hint() and .solution()
    ex.leaderboard(RUNS / "leaderboard.csv")

# %% [markdown]
# ## What you learned
# A sweep runs a notebook many times, continues after a kill, and leaves a folder for each run, with
# everything that is needed to compare them. A search should try many values of the parameters that
# matter; the best of many runs looks better than it is, so compare settings in pairs with several
# seeds, and use the test images once. Early stopping, successive halving and pruning save epochs,
# and a model store records from which run, data and parameters a model came.

# %% [markdown]
# ## What to try next
# - Add `WIDTH` to the grid and to the random search, with the same number of runs. Does the grid
#   fall behind?
# - Make one of your notebooks an experiment: tag a cell `parameters`, call `dltlab.record`, and
#   write a sweep file. `dltlab run 02 --profile smoke` runs a lab.
# - Open two terminals, and start the same `dltlab sweep` in both. They share the runs.
# - Look at `dltlab runs list --out runs/experiments/tpe`, then pause and resume a sweep.
# - Replace `MedianPruner` by `HyperbandPruner`, which is successive halving with several starting
#   numbers of epochs.

# %% [markdown]
# ## References
# - J. Bergstra and Y. Bengio, *Random search for hyper-parameter optimization*, JMLR 13, 2012,
#   pages 281 to 305: the figures with seven parameters on eight data sets.
# - T. Akiba et al., *Optuna*, KDD 2019, [arXiv:1907.10902](https://arxiv.org/abs/1907.10902);
#   J. Bergstra et al., *Algorithms for hyper-parameter optimization*, NeurIPS 2011: TPE.
# - K. Jamieson and A. Talwalkar, *Non-stochastic best arm identification and hyperparameter
#   optimization*, AISTATS 2016, [arXiv:1502.07943](https://arxiv.org/abs/1502.07943): successive
#   halving; L. Li et al., *Hyperband*, JMLR 18, 2018.
# - X. Bouthillier et al., *Accounting for variance in machine learning benchmarks*, MLSys 2021,
#   [arXiv:2103.03098](https://arxiv.org/abs/2103.03098): seeds, splits and fair comparisons.
# - L. Yeager et al., *DIGITS: the deep learning GPU training system*, ICML AutoML workshop, 2015.
