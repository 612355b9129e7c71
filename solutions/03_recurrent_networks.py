# ---
# title: Recurrent networks
# summary: >-
#   What does a network remember, and why does it forget? You write one step of a recurrent network,
#   follow its gradient back through time, write the LSTM and the GRU and compare them with Keras,
#   forecast a chaotic series, tell sequences apart by their order alone, and measure what decides
#   how fast all of it runs.
# objectives:
#   - write the step of a plain recurrent network, of an LSTM and of a GRU
#   - say why gradients vanish or explode over many steps, and what helps
#   - forecast a series, and judge the forecast against baselines and published figures
#   - handle sequences of unequal length with padding, masks and buckets
#   - tell whether the fast kernel of a GPU will run for a layer, and why not
#   - compute when the weights of a recurrent network can stay on the chip
# minutes: {read: 60, exercise: 80, compute: 2}
# memory_gb: 3
# devices: {gpu: optional}
# datasets: [mackey_glass]
# requires: [01_first_network]
# profiles:
#   smoke: {STEPS: 10, ORDER_STEPS: 10, LENGTHS: [4, 16], RUN_CHALLENGE: false}
#   workshop: {}
#   full: {STEPS: 6000, ORDER_STEPS: 1000, LENGTHS: [8, 32, 128, 512]}
# ---

# %% [markdown]
# ## The question
# Below is a curve that never repeats itself. It comes from a simple rule of 1977 for how the body
# renews its blood cells: tomorrow's value depends on today's, and on the one of 17 days ago. Cover
# the right half with your hand. Could you go on drawing?
#
# A network that sees one value at a time can do nothing with it. It needs a memory. In this lab you
# build one, look at why it forgets, and let it go on drawing. Look at the curve first: where is it
# easy to guess what comes next, and where is it not?

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from dltlab import data, devices, training
from dltlab.checks import recurrent_networks as ex
from dltlab.display import show

devices.setup(precision="float32", seed=1)

# %% tags=["parameters"]
STEPS = 500  # steps in the training of the forecaster
ORDER_STEPS = 250  # steps in each training on sequences of symbols
LENGTHS = [8, 32, 128]  # of the sequences whose time is measured
RUN_CHALLENGE = True  # the challenge at the end trains two networks

# %%
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # told apart by colour-blind readers too

train, valid, test = (
    data.series("mackey_glass", split) for split in ("train", "validation", "test")
)
figure, axis = plt.subplots(figsize=(8, 2.5), layout="constrained")
axis.plot(train[:600], color=BLUE)
axis.axvline(300, color="black", linestyle=":")
axis.set(xlabel="time (steps)", ylabel="value")
axis.set_title("The Mackey-Glass series: 600 of its 8,000 training values")
show(figure, "A wavy curve that nearly repeats itself and never quite does, over 600 steps.")

# %% [markdown]
# ## One step
# Give the network a *state* $h$: a few numbers that it carries from step to step. At each step it
# takes the new input $x$ and its old state, and makes its new state of both:
#
# $$h_t = \tanh(x_t W + h_{t-1} U + b)$$
#
# $W$ is called the kernel, $U$ the recurrent kernel, $b$ the bias. They are the same at every step.
# The tanh keeps every number of the state between -1 and 1. That is all: a *recurrent network* is
# this line, applied again and again.
#
# ### Exercise 1: the step
# Write it for a batch of `b` sequences at once. Row by row the arrays hold one sequence each.


# %% tags=["exercise", "nbval-check-output"]
def rnn_step(x, h, kernel, recurrent_kernel, bias):
    """The new state (b, units) from the input x (b, inputs) and the old state h (b, units)."""
    ### BEGIN SOLUTION
    return np.tanh(x @ kernel + h @ recurrent_kernel + bias)
    ### END SOLUTION


ex.rnn_step.check(rnn_step)  # also ex.rnn_step.hint() and ex.rnn_step.solution()

# %% [markdown]
# Keras' `SimpleRNN` does the same. Here it gets two sequences of 50 steps. We copy its weights,
# take 50 steps with yours, and compare after every one. How large may the difference be? Keras
# computes in numbers of about seven digits.

# %%
sequences = np.random.default_rng(1).normal(size=(2, 50, 3)).astype("float32")
simple = layers.SimpleRNN(8, return_sequences=True)
theirs = np.asarray(simple(sequences))
step = ex.rnn_step.or_reference(rnn_step)  # yours once it passes

h, ours = np.zeros((2, 8)), []
for t in range(50):
    h = step(sequences[:, t], h, *simple.get_weights())
    ours.append(h)
difference = np.abs(np.stack(ours, axis=1) - theirs).max()
print(f"largest difference in 50 steps: {difference:.1e}, below 1e-5: {difference < 1e-5}")

# %% [markdown]
# ## Back through time
# How does such a network learn? A loss at the last step depends on the last state, that on the one
# before, and so on back to the first. Back-propagation follows this chain backwards. At each step
# back, the gradient is multiplied by the slope of that step. After a hundred steps it has been
# multiplied a hundred times. What happens to a number that is multiplied a hundred times by 0.9? By
# 1.1?
#
# ### Exercise 2: one step back
# Given the gradient of the loss with respect to the state $h_t$, find the one with respect to
# $h_{t-1}$. You need two facts. The slope of $\tanh$ where it has the value $h$ is $1 - h^2$. And
# what a matrix does forwards, its transpose does backwards.


# %% tags=["exercise", "nbval-check-output"]
def step_back(gradient, state, recurrent_kernel):
    """The gradient (b, units) for the old state, from the `gradient` for the new `state`."""
    ### BEGIN SOLUTION
    return (gradient * (1 - state**2)) @ recurrent_kernel.T
    ### END SOLUTION


ex.step_back.check(step_back)  # also ex.step_back.hint() and ex.step_back.solution()

# %% [markdown]
# Now a hundred steps forwards and a hundred back, with random weights. The only thing we change is
# how large the recurrent weights are. For each step back we note how long the gradient is.

# %%
back = ex.step_back.or_reference(step_back)  # yours once it passes


def gradient_lengths(gain, units=100, steps=100):
    """The length of the gradient for the state 0, 1, 2, … steps back, divided by the first."""
    random = np.random.default_rng(1)
    kernel = random.normal(0, 0.3, (1, units))
    recurrent_kernel = random.normal(0, gain / np.sqrt(units), (units, units))
    states = [np.zeros((1, units))]
    for x in random.normal(size=(steps, 1, 1)):
        states.append(step(x, states[-1], kernel, recurrent_kernel, 0))
    gradient = random.normal(size=(1, units))
    lengths = [np.linalg.norm(gradient)]
    for state in reversed(states[1:]):
        gradient = back(gradient, state, recurrent_kernel)
        lengths.append(np.linalg.norm(gradient))
    return np.array(lengths) / lengths[0]


# %% [markdown]
# Two more curves belong to an LSTM, a network that you build in a moment. It carries a second
# state, the *cell state*, and a *forget gate* decides at each step how much of that is kept.
# TensorFlow follows its gradient for us.


# %%
def lstm_gradient_lengths(forget_bias, units=100, steps=100):
    """The same for the cell state of an LSTM whose forget gates have this bias."""
    cell = layers.LSTMCell(units)
    cell.build((1, 1))
    kernel, recurrent_kernel, bias = cell.get_weights()
    bias[units : 2 * units] = forget_bias
    cell.set_weights([kernel, recurrent_kernel, bias])
    random = np.random.default_rng(1)
    state = [tf.zeros((1, units)), tf.zeros((1, units))]
    cell_states = []
    with tf.GradientTape() as tape:
        for x in random.normal(size=(steps + 1, 1, 1)).astype("float32"):
            _, state = cell(x, state)
            cell_states.append(state[1])
        loss = tf.reduce_sum(cell_states[-1] * random.normal(size=(1, units)))
    gradients = tape.gradient(loss, cell_states)
    lengths = np.array([np.linalg.norm(each) for each in reversed(gradients)])
    return lengths / lengths[0]


# %% [markdown]
# Mind the vertical axis: from line to line it is a factor of 100,000. Which curves fall, which
# rise? And the two of the LSTM: are they alike?

# %%
curves = {
    "plain, small weights (× 0.5)": (gradient_lengths(0.5), BLUE, "-"),
    "plain, medium weights (× 1.1)": (gradient_lengths(1.1), GREEN, "-"),
    "plain, large weights (× 3)": (gradient_lengths(3.0), ORANGE, "-"),
    "LSTM, forget bias 1 (as Keras begins)": (lstm_gradient_lengths(1.0), "black", "--"),
    "LSTM, forget bias 5": (lstm_gradient_lengths(5.0), "black", ":"),
}
figure, axis = plt.subplots(figsize=(8, 3.6), layout="constrained")
for name, (lengths, colour, style) in curves.items():
    axis.plot(lengths, color=colour, linestyle=style, label=name)
axis.set(xlabel="steps back in time", ylabel="length of the gradient (relative)", yscale="log")
axis.set_ylim(1e-20, 1e20)
axis.set_title("What is left of a gradient on its way back through time")
axis.legend(loc="upper left", fontsize=8)
axis.grid(alpha=0.3)
show(figure, "Gradient lengths over 100 steps back: three plain networks and two LSTMs, log scale.")

# %% [markdown]
# A gradient that has shrunk to nothing says nothing: whatever happened then cannot be learned from.
# That is the *vanishing* gradient. One that has grown by many powers of ten is no better: it drowns
# all the others, and the step it causes leads nowhere. That is the *exploding* gradient. Between
# the two lies a narrow edge.

# %%
ex.forgetting.ask()

# %% tags=["solution"]
ex.forgetting.answer("c")

# %% [markdown]
# ## Clipping
# Against vanishing helps another kind of network. Against exploding helps something simpler: where
# the gradient is too long, make the step shorter and keep its direction.
#
# ### Exercise 3: clip
# A network has several arrays of weights, so its gradient is a list of arrays. Taken together they
# are one long vector. If that is longer than `limit`, multiply all of it by one factor so that its
# length becomes `limit`. Else leave it alone.


# %% tags=["exercise", "nbval-check-output"]
def clip(gradients, limit):
    """A list of the gradients, all shortened by one factor where together they are too long."""
    ### BEGIN SOLUTION
    length = np.sqrt(sum(np.sum(gradient**2) for gradient in gradients))
    factor = limit / max(length, limit)
    return [gradient * factor for gradient in gradients]
    ### END SOLUTION


ex.clip.check(clip)  # also ex.clip.hint() and ex.clip.solution()

# %% [markdown]
# Does it matter? A small test: a plain network reads 40 random numbers and shall say the one that
# came five steps before the end. Its weights begin a little too large, and so does the learning
# rate. We train it twice, from the same start, on the same numbers.

# %%
shorten = ex.clip.or_reference(clip)  # yours once it passes


def train_with(limit, steps=120):
    """The losses, and the lengths of the gradient before it is clipped, in each step."""
    keras.utils.set_random_seed(1)
    begin = keras.initializers.Orthogonal(gain=1.2, seed=1)
    stack = [layers.SimpleRNN(64, recurrent_initializer=begin), layers.Dense(1)]
    model = keras.Sequential([keras.Input((40, 1)), *stack])
    optimizer = keras.optimizers.SGD(0.03, momentum=0.9)

    @tf.function
    def loss_and_gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - x[:, -5]) ** 2)
        return loss, tape.gradient(loss, model.trainable_variables)

    record = []
    with training.until_interrupted():
        for x in np.random.default_rng(1).normal(size=(steps, 32, 40, 1)).astype("float32"):
            loss, gradients = loss_and_gradients(x)
            gradients = [gradient.numpy() for gradient in gradients]
            record.append((float(loss), np.sqrt(sum(np.sum(each**2) for each in gradients))))
            shortened = shorten(gradients, limit)
            optimizer.apply_gradients(zip(shortened, model.trainable_variables, strict=True))
    return np.reshape(record, (-1, 2)).T


# %% [markdown]
# On the left the loss: 1 is what guessing 0 costs. On the right how long the gradient was before
# anything was done to it. Look for the first large jump on the right, and at what the loss does
# from there on.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.9), layout="constrained")
for name, limit, colour, style in (("free", 1e9, ORANGE, "-"), ("clipped at 1", 1.0, BLUE, "--")):
    losses, lengths = train_with(limit)
    left.plot(losses, color=colour, linestyle=style, label=name)
    right.plot(lengths, color=colour, linestyle=style, label=name)
left.axhline(1, color="gray", linestyle=":", label="guessing 0")
right.axhline(1, color="gray", linestyle=":", label="limit")
left.set(xlabel="training step", ylabel="loss", yscale="log")
right.set(xlabel="training step", ylabel="length of the gradient", yscale="log")
figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
right.legend(*[part[-1:] for part in right.get_legend_handles_labels()], fontsize=8)
figure.suptitle("The same training, with free and with clipped gradients")
show(figure, "Loss and gradient length in 120 steps, of a free and of a clipped training.")

# %% [markdown]
# One step with a gradient many times too long, and the weights are somewhere else, where the
# gradients are longer still. The clipped training meets long gradients, too. It takes them as a
# direction. In Keras that is `clipnorm` for each array, or `global_clipnorm` for all together, as
# you wrote it.

# %% [markdown]
# ## The LSTM
# Now the other kind of network. The *long short-term memory* of 1997 keeps a cell state $c$ that is
# only ever multiplied by a gate and added to. A *gate* is a number between 0 and 1 for each entry
# of the state, computed from the input and the old state. There are three: $i$ lets new things in,
# $f$ keeps old ones, $o$ lets out what others may see. The candidate $g$ is what could be written.
#
# $$i, f, o = \sigma(x W + h U + b), \quad g = \tanh(x W + h U + b)$$
# $$c_t = f \cdot c_{t-1} + i \cdot g, \qquad h_t = o \cdot \tanh(c_t)$$
#
# Each of the four has weights of its own.

# %% [markdown]
# ### Exercise 4: the LSTM's step
# Keras keeps the four kernels side by side in one array of shape (inputs, 4 · units), in the order
# **i, f, g, o** (it calls g "c"). So does it with the recurrent kernels and the biases. One matrix
# product gives all four sums, and `np.split(z, 4, axis=1)` takes them apart. You need a sigmoid,
# $\sigma(z) = 1 / (1 + e^{-z})$: write it inside.


# %% tags=["exercise", "nbval-check-output"]
def lstm_step(x, h, c, kernel, recurrent_kernel, bias):
    """The new state and the new cell state, both (b, units), from x (b, inputs), h and c."""
    ### BEGIN SOLUTION
    z = x @ kernel + h @ recurrent_kernel + bias
    i, f, g, o = np.split(z, 4, axis=1)
    i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
    c = f * c + i * np.tanh(g)
    return o * np.tanh(c), c
    ### END SOLUTION


ex.lstm_step.check(lstm_step)  # also ex.lstm_step.hint() and ex.lstm_step.solution()

# %% [markdown]
# Against Keras again: the same two sequences, its weights copied across.

# %%
lstm = layers.LSTM(8, return_sequences=True)
theirs = np.asarray(lstm(sequences))
lstm_by_hand = ex.lstm_step.or_reference(lstm_step)  # yours once it passes

h, c, ours = np.zeros((2, 8)), np.zeros((2, 8)), []
for t in range(50):
    h, c = lstm_by_hand(sequences[:, t], h, c, *lstm.get_weights())
    ours.append(h)
difference = np.abs(np.stack(ours, axis=1) - theirs).max()
print(f"largest difference in 50 steps: {difference:.1e}, below 1e-5: {difference < 1e-5}")

# %% [markdown]
# ## The GRU
# The *gated recurrent unit* of 2014 does without a cell state. One gate $z$ says how much of the
# old state stays, and $1 - z$ how much of the candidate $g$ comes in. A second gate $r$, the
# *reset* gate, says how much of the old state the candidate may look at.
#
# $$h_t = z \cdot h_{t-1} + (1 - z) \cdot g$$

# %% [markdown]
# There are two versions of it, and files of weights do not fit from one to the other. The first
# paper resets the state *before* the matrix; a later version resets *after* it:
#
# $$\text{before:}\quad g = \tanh(x W + b + (r \cdot h)\, U)$$
# $$\text{after:}\quad g = \tanh(x W + b_1 + r \cdot (h\, U + b_2))$$
#
# Why would one want the second? Then $h U$ is one matrix product for all three parts, done before
# $r$ is known. That is what the fast kernel does, so it is Keras' default, `reset_after=True`.

# %% [markdown]
# ### Exercise 5: the GRU's step
# Write both. Keras' order is **z, r, g** (it calls g "h"). With `reset_after=True` the bias has two
# rows, (2, 3 · units): row 0 is added to $x W$, row 1 to $h U$. With `False` it is one row, (3 ·
# units,), added to $x W$.


# %% tags=["exercise", "nbval-check-output"]
def gru_step(x, h, kernel, recurrent_kernel, bias, reset_after):
    """The new state (b, units) from the input x (b, inputs) and the old state h (b, units)."""
    ### BEGIN SOLUTION
    units = h.shape[1]
    input_bias, recurrent_bias = bias if reset_after else (bias, 0)
    xz, xr, xg = np.split(x @ kernel + input_bias, 3, axis=1)
    hz, hr, hg = np.split(h @ recurrent_kernel + recurrent_bias, 3, axis=1)
    z, r = 1 / (1 + np.exp(-xz - hz)), 1 / (1 + np.exp(-xr - hr))
    if reset_after:
        g = np.tanh(xg + r * hg)
    else:
        g = np.tanh(xg + (r * h) @ recurrent_kernel[:, 2 * units :])
    return z * h + (1 - z) * g
    ### END SOLUTION


ex.gru_step.check(gru_step)  # also ex.gru_step.hint() and ex.gru_step.solution()

# %% [markdown]
# Both against Keras. Look at the shape of the bias, too: it tells you which version a file of
# weights was made with. The layers get random biases here, as a bias of zeros would hide a mistake.

# %%
gru_by_hand = ex.gru_step.or_reference(gru_step)  # yours once it passes
for reset_after in (True, False):
    gru = layers.GRU(
        8, return_sequences=True, reset_after=reset_after, bias_initializer="random_normal"
    )
    theirs = np.asarray(gru(sequences))
    weights = gru.get_weights()
    h, difference = np.zeros((2, 8)), 0.0
    for t in range(50):
        h = gru_by_hand(sequences[:, t], h, *weights, reset_after)
        difference = max(difference, np.abs(h - theirs[:, t]).max())
    print(f"reset_after={reset_after!s:5}  bias {weights[2].shape!s:8}", end="")
    print(f"  largest difference {difference:.1e}, below 1e-5: {difference < 1e-5}")

# %% [markdown]
# ## A forecast
# Back to the curve. The task that people have compared methods on since the 1980s: given the curve
# up to now, what will be its value 84 steps ahead? The error is measured as *normalised* root mean
# square error, NRMSE: divided by the standard deviation of the values. Who always says the mean
# gets exactly 1.
#
# ### Exercise 6: windows
# To train, cut the series into windows of `length` values, the next one beginning `stride` values
# later. Each value of a window has a target: the value of the series `horizon` steps after it. So
# targets have the shape of the inputs. Take every window whose last target is still in the series.


# %% tags=["exercise", "nbval-check-output"]
def windows(series, length, horizon, stride):
    """Inputs and targets, both (n, length), cut from a `series` (m,)."""
    ### BEGIN SOLUTION
    starts = np.arange(0, len(series) - length - horizon + 1, stride)
    places = starts[:, np.newaxis] + np.arange(length)
    return series[places], series[places + horizon]
    ### END SOLUTION


ex.windows.check(windows)  # also ex.windows.hint() and ex.windows.solution()

# %% [markdown]
# First what costs nothing. *Persistence* says: it will be as it is now. A *linear autoregression*
# says: a weighted sum of the last 100 values; least squares finds the weights. Guess before you
# run: is persistence better than always saying the mean?

# %%
HORIZON, PAST = 84, 100
cut = ex.windows.or_reference(windows)  # yours once it passes
mean, deviation = train.mean(), train.std()
scaled_train, scaled_test = (train - mean) / deviation, (test - mean) / deviation


def nrmse(forecasts, targets):
    """Root mean square error, divided by the standard deviation of the targets."""
    return float(np.sqrt(np.mean((forecasts - targets) ** 2)) / np.std(targets))


past, ahead = cut(scaled_train, PAST, HORIZON, 1)
past_test, ahead_test = cut(scaled_test, PAST, HORIZON, 1)
with_one = np.column_stack([past, np.ones(len(past))]).astype("float64")
weights = np.linalg.lstsq(with_one, ahead[:, -1])[0]
linear = past_test @ weights[:-1] + weights[-1]
errors = {
    "always the mean": nrmse(0, ahead_test[:, -1]),
    "persistence": nrmse(past_test[:, -1], ahead_test[:, -1]),
    "linear autoregression, 100 values": nrmse(linear, ahead_test[:, -1]),
}
print("\n".join(f"{name:35} {error:.3f}" for name, error in errors.items()))

# %% [markdown]
# The curve swings, and 84 steps later it tends to be on the other side. A linear rule halves the
# error, and there it ends: what makes this curve is not linear.
#
# Now two networks. The first has no memory: it gets the same 100 values at once, through two dense
# layers. The second is an LSTM. It gets one value at a time and gives a forecast after each. In its
# first 100 steps it has not seen enough, so these forecasts are cut off and count for nothing.

# %%
dense = keras.Sequential(
    [
        keras.Input((PAST,)),
        *[layers.Dense(64, activation="relu") for _ in range(2)],
        layers.Dense(1),
    ]
)
recurrent = keras.Sequential(
    [
        keras.Input((None, 1)),
        layers.LSTM(64, return_sequences=True),
        layers.Cropping1D((PAST, 0)),  # the first steps
        layers.Dense(1),
    ]
)
long, long_ahead = cut(scaled_train, 2 * PAST, HORIZON, 10)
samples = {
    "dense network, 100 values": (dense, past, ahead[:, -1:], 128),
    "LSTM, one value at a time": (recurrent, long[..., None], long_ahead[:, PAST:, None], 32),
}
print(f"{'':27} weights   inputs")
for name, (model, inputs, _, _) in samples.items():
    print(f"{name:27} {model.count_params():7,}   {inputs.shape}")

# %% [markdown]
# Both make about the same number of steps, with the same schedule: the learning rate rises, then
# falls to nothing. Gradients are clipped. Look at how the LSTM's loss falls: it takes its time.

# %%
figure, axis = plt.subplots(figsize=(7.5, 3), layout="constrained")
for (name, (model, inputs, targets, size)), colour, style in zip(
    samples.items(), (ORANGE, BLUE), ("--", "-"), strict=True
):
    epochs, steps = max(1, round(STEPS * size / len(inputs))), -(-len(inputs) // size)
    rate = training.one_cycle(0.01, epochs * steps)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), "mse")
    keras.utils.set_random_seed(1)
    clock = time.perf_counter()
    history = training.fit(model, (inputs, targets), batch_size=size, epochs=epochs, title=None)
    done = int(model.optimizer.iterations)
    print(f"{name:27} {done} steps in {time.perf_counter() - clock:.0f} s")
    loss = history.history.get("loss", [])  # of each finished epoch
    axis.plot(steps * np.arange(1, len(loss) + 1), loss, style, color=colour, label=name)
axis.set(xlabel="training step", ylabel="mean square error", yscale="log")
axis.set_title("Two networks learn to forecast")
axis.legend(fontsize=8)
show(figure, "The loss of a dense network and of an LSTM over the steps of their training.")

# %% [markdown]
# And the test series, that none of them has seen. The LSTM reads it from beginning to end once.

# %%
whole_test = scaled_test[np.newaxis, :-HORIZON, np.newaxis]
lstm_forecast = recurrent.predict(whole_test, verbose=0)[0, :, 0]
lstm_target = scaled_test[PAST + HORIZON :]
errors["dense network, 100 values"] = nrmse(dense.predict(past_test, verbose=0), ahead_test[:, -1:])
errors["LSTM, one value at a time"] = nrmse(lstm_forecast, lstm_target)
print("\n".join(f"{name:35} {error:.4f}" for name, error in errors.items()))

# %%
span = slice(200, 500)
figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
axis.plot(lstm_target[span], color="black", linewidth=3, alpha=0.3, label="the true value")
axis.plot(scaled_test[PAST:-HORIZON][span], color=ORANGE, linestyle=":", label="persistence")
axis.plot(linear[1:][span], color=GREEN, linestyle="--", label="linear")
axis.plot(lstm_forecast[span], color=BLUE, label="LSTM")
axis.set(xlabel="time (steps)", ylabel="value (standard deviations)", ylim=(-2.6, 3.4))
axis.set_title("Forecasts made 84 steps earlier")
axis.legend(ncols=4, fontsize=8, loc="upper center")
show(figure, "The true series and three forecasts of it, made 84 steps ahead, over 300 steps.")

# %% [markdown]
# Two lessons. A network with a bend in it beats the linear rule by far, with memory or without. And
# the LSTM, which sees one value at a time, found by itself what to keep of the past. Was it worth
# it? In 2001 Gers, Eck and Schmidhuber, one of whom had invented the LSTM, reported that on the
# Mackey-Glass series it did *not* do better than networks with a window of past values. They
# advised to use it where simpler methods fail. What do your numbers say?

# %% [markdown]
# ## Beside a published figure
# In 2001 Herbert Jaeger published an error on this task that was about a hundred times smaller than
# those before. His network was a plain recurrent one, with 400 units. And he did not train its
# recurrent weights at all. He drew them at random. Only the last layer, from the state to the next
# value, was fitted, by least squares. That is an *echo state network*: a random memory in which the
# past echoes, and a linear rule that reads it.

# %% [markdown]
# You have all it takes: your `rnn_step`, and a linear fit. The network learns to say the *next*
# value. To look 84 steps ahead, it takes its own forecast as its next input, 84 times.


# %%
def echo_state_network(num_units, seed, scale=0.3):
    """Random weights for `rnn_step`: kernel, recurrent kernel and bias. Nobody trains them."""
    random = np.random.default_rng(seed)
    kernel = random.uniform(-scale, scale, (1, num_units))
    recurrent_kernel = random.normal(0, 1 / np.sqrt(num_units), (num_units, num_units))
    return kernel, recurrent_kernel, random.uniform(-scale, scale, num_units)


def echoes(series, weights):
    """The state (m, units) after each value of a series (m,)."""
    h, states = np.zeros((1, weights[1].shape[0])), []
    for value in series:
        h = step(np.full((1, 1), value), h, *weights)
        states.append(h[0])
    return np.array(states)


def go_on(h, weights, readout, steps):
    """What the network says next (steps, b), from states h (b, units), if it hears only itself."""
    said = []
    for _ in range(steps):
        said.append(h @ readout[:-1] + readout[-1])
        h = step(said[-1][:, np.newaxis], h, *weights)
    return np.array(said)


# %% [markdown]
# The fit is one call to a solver. The small number on the diagonal, the *ridge*, keeps the weights
# of the last layer from growing. These computations run in double precision, and now that matters:
# an error made once is fed back 84 times.

# %%
UNITS, WASHOUT = 400, 200  # units; first states that are left out, as they know too little
clock = time.perf_counter()
weights = echo_state_network(UNITS, seed=1)
states = echoes(scaled_train.astype("float64"), weights)[WASHOUT:-1]
design = np.column_stack([states, np.ones(len(states))])
square = design.T @ design / len(design) + 1e-11 * np.eye(UNITS + 1)
readout = np.linalg.solve(square, design.T @ scaled_train[WASHOUT + 1 :] / len(design))
seconds = time.perf_counter() - clock

test_states = echoes(scaled_test.astype("float64"), weights)
starts = np.arange(WASHOUT, len(scaled_test) - HORIZON, 10)
ahead_of_starts = go_on(test_states[starts], weights, readout, HORIZON)[-1]
errors["echo state network, 400 units"] = nrmse(ahead_of_starts, scaled_test[starts + HORIZON])
print(f"{UNITS + 1} numbers were fitted in {seconds:.1f} s.")

# %%
published = {
    "best local model before 2001": 0.0088,
    "echo state network, 400 units, 3,000 values": 0.00028,
    "echo state network, 400 units, 21,000 values": 0.00012,
}
for title, results in {"measured here": errors, "published": published}.items():
    print(f"{title + ', NRMSE 84 steps ahead':50}")
    for name, error in results.items():
        print(f"  {name:50} {error:.5f}")

# %% [markdown]
# Source: H. Jaeger, GMD Report 148, 2001, section 6.4; the local model as quoted there.
#
# Is the comparison fair? The equation is the same, and so is the distance of 84 steps. But the
# solutions of the equation are not the same ones, ours are rounded to seven digits, and Jaeger
# squeezed the values through a tanh and tuned a few numbers by hand. We tuned less, and on more
# values: 8,000. His errors are means of 20 to 100 forecasts, ours of about 170.

# %% [markdown]
# And is an LSTM then a bad idea? Here the series has no noise at all, and its rule is simple. Least
# squares makes the most of that: it finds the exact minimum, which a few hundred steps of gradient
# descent do not. At the end of this lab you can try what a little noise does to that lead.

# %% [markdown]
# ## Something to show a friend
# Now let the echo state network hear the first 500 values of the test series, and then nothing more
# but itself. It has to draw the rest alone. Where does the blue curve leave the grey one? In a
# chaotic series every error grows, so it must, sooner or later.

# %%
BEGIN, ALONE = 500, 1200
alone = go_on(test_states[BEGIN : BEGIN + 1], weights, readout, ALONE)[:, 0]
truth = scaled_test[BEGIN + 1 : BEGIN + 1 + ALONE]
apart = np.flatnonzero(np.abs(alone - truth) > 0.3)
parted = int(apart[0]) if len(apart) else ALONE

figure, axis = plt.subplots(figsize=(8.5, 2.6), layout="constrained")
axis.plot(truth, color="black", linewidth=3, alpha=0.3, label="the true series")
axis.plot(alone, color=BLUE, linewidth=1, label="the network, alone")
axis.axvline(parted, color=ORANGE, linestyle="--", label=f"more than 0.3 apart: step {parted}")
axis.set(xlabel="steps since it last heard the series", ylabel="value (standard deviations)")
axis.set(ylim=(-2.6, 3.6), xlim=(0, ALONE))
axis.set_title("A network goes on by itself")
axis.legend(ncols=3, fontsize=8, loc="upper center")
show(figure, f"The true series and the network's own; they part after {parted} of {ALONE} steps.")

# %% [markdown]
# After the two have parted, is the network lost? Take the last 400 values of both, and plot each
# over the one 17 steps before. The true series draws a figure that it never leaves, its
# *attractor*. What does the network draw?

# %%
figure, axes = plt.subplots(1, 2, figsize=(6.2, 3), layout="constrained", sharey=True)
for axis, values, name in zip(axes, (truth, alone), ("true series", "network, alone"), strict=True):
    axis.plot(values[-417:-17], values[-400:], color=BLUE, linewidth=0.8)
    axis.set(xlabel="value (standard deviations)", ylabel="value 17 steps later")
    axis.set_title(f"The {name}")
show(figure, "Two looping figures that look alike: the attractors of the series and the network.")

# %% [markdown]
# ## Where only the order counts
# *The dog bites the man* and *the man bites the dog* have the same words. Whoever only counts words
# cannot tell them apart. Here is such a task, as plain as can be. In each sequence there is one A
# and one B, among other letters. Which of the two comes first? We make the sequences in pairs that
# differ in nothing but that. And they are of unequal length, as sentences are.


# %%
LETTERS = ".ABcdefghij"  # 0 is the padding
LONGEST = 60


def letter_sequences(count, seed):
    """Symbols (count, LONGEST), padded with 0; whether A comes first; the lengths."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(4 + random.geometric(1 / 16, count // 2), LONGEST).repeat(2)
    symbols = random.integers(3, len(LETTERS), (count // 2, LONGEST)).repeat(2, axis=0)
    symbols[np.arange(LONGEST) >= lengths[:, np.newaxis]] = 0
    for pair in range(0, count, 2):
        first, second = np.sort(random.choice(lengths[pair], 2, replace=False))
        symbols[pair, [first, second]] = 1, 2
        symbols[pair + 1, [first, second]] = 2, 1
    return symbols.astype("int32"), np.tile([1, 0], count // 2), lengths


symbols, is_a_first, lengths = letter_sequences(4000, seed=1)
test_symbols, test_is_a_first, test_lengths = letter_sequences(2000, seed=2)
for row in range(6):
    text = "".join(LETTERS[symbol] for symbol in symbols[row])
    print(f"{text}  {'A' if is_a_first[row] else 'B'} first")

# %% [markdown]
# The dots are *padding*: a batch is a table, and its rows must be equally long. But the network
# shall not read them. A *mask* says which steps count. `Embedding(…, mask_zero=True)` gives each
# symbol a few learned numbers and passes on a mask that leaves out the zeros; layers that know what
# to do with a mask use it.
#
# Three networks: one that takes the mean over the steps and so has no memory, one with a GRU, and
# the same GRU without the mask. Which of them can do it? They all get the same number of steps.


# %%
def letter_network(*stack, mask=True):
    """A network from symbols to one logit a sequence, or one a step."""
    embedding = layers.Embedding(len(LETTERS), 16, mask_zero=mask)
    return keras.Sequential(
        [keras.Input((None,), dtype="int32"), embedding, *stack, layers.Dense(1)]
    )


def trained(model, targets):
    """`model`, trained on the letter sequences."""
    inputs = symbols[: 64 * ORDER_STEPS]
    epochs = round(ORDER_STEPS * 64 / len(inputs))
    rate = training.one_cycle(0.01, epochs * -(-len(inputs) // 64))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), loss)
    training.fit(model, (inputs, targets[: len(inputs)]), batch_size=64, epochs=epochs, title=None)
    return model


def says_a(model):
    """Whether the model says that A comes first, for each test sequence."""
    return model(test_symbols).numpy()[..., 0] > 0


# %%
keras.utils.set_random_seed(1)
mean_of_steps = [layers.GlobalAveragePooling1D(), layers.Dense(64, activation="relu")]
networks = {
    "mean over the steps": letter_network(*mean_of_steps),
    "GRU": letter_network(layers.GRU(32)),
    "GRU without the mask": letter_network(layers.GRU(32), mask=False),
}
for name, model in networks.items():
    right = says_a(trained(model, is_a_first)) == test_is_a_first
    print(f"{name:22} {np.mean(right):.3f} of the test sequences")

# %%
ex.memoryless.ask()

# %% tags=["solution"]
ex.memoryless.answer("b")

# %% [markdown]
# And the GRU without the mask? It has to carry what it read through up to fifty steps of padding,
# to where the answer is given, and the gradient has to come all that way back. In this short
# training it hardly learns anything. With more steps it may. With the mask there is nothing to
# carry: the state stays as it is where the mask says no.
#
# ## Padding costs
# The masked steps do not count, but they are computed. How many are there? That depends on which
# sequences share a batch.
#
# ### Exercise 7: the share of the padding
# Take sequences of these lengths in batches of `batch_size`, in the given order. Each batch is
# padded to its own longest sequence; the last one may hold fewer. What share of all computed steps
# is padding?


# %% tags=["exercise", "nbval-check-output"]
def padded_share(lengths, batch_size):
    """The share, between 0 and 1, of the steps that are padding; `lengths` has the shape (n,)."""
    ### BEGIN SOLUTION
    batches = [lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size)]
    return 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)
    ### END SOLUTION


ex.padded_share.check(padded_share)  # also ex.padded_share.hint() and .solution()

# %% [markdown]
# Three ways to batch the test sequences: all padded to the longest of all, as above; as they come,
# each batch padded to its own longest; and in *buckets*, where sequences of similar length share a
# batch. `tf.data` has the buckets ready: it takes the boundaries. The mask makes sure that the
# answers are the same. What do the padding and the time look like?

# %%
share = ex.padded_share.or_reference(padded_share)  # yours once it passes


def without_padding(row, length):
    """The symbols of a row that are no padding."""
    return row[:length]


rows = tf.data.Dataset.from_tensor_slices((test_symbols, test_lengths)).map(without_padding)
ways = {
    "to the longest of all": tf.data.Dataset.from_tensor_slices(test_symbols).batch(64),
    "as they come": rows.padded_batch(64),
    "buckets": rows.bucket_by_sequence_length(tf.size, [8, 12, 18, 26, 36, 50], [64] * 7),
}
print("by your function:")
print(f"as they come      {share(test_lengths, 64):.3f}")
print(f"sorted by length  {share(np.sort(test_lengths), 64):.3f}")

# %%
read = tf.function(networks["GRU"], input_signature=[tf.TensorSpec((None, None), tf.int32)])
shares, times = {}, {}
for name, way in ways.items():
    batches = list(way)
    shares[name] = np.mean(np.concatenate([np.ravel(batch) for batch in batches]) == 0)
    seconds = []
    for _ in range(4):  # the first is not counted: TensorFlow prepares itself
        clock = time.perf_counter()
        for batch in batches:
            read(batch)
        seconds.append(time.perf_counter() - clock)
    times[name] = np.median(seconds[1:])
    print(f"{name:22} {shares[name]:.3f} padding, {1000 * times[name]:5.0f} ms")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained", sharey=True)
left.barh(list(shares), list(shares.values()), color=ORANGE)
right.barh(list(times), [1000 * seconds for seconds in times.values()], color=BLUE)
left.set(xlabel="share of the steps that are padding", ylabel="batches", xlim=(0, 1))
right.set(xlabel="time for 2,000 sequences (ms)", ylabel="")
left.invert_yaxis()
figure.suptitle("What padding costs, and what buckets save")
show(figure, "The share of padding and the time, for three ways to make batches of sequences.")

# %% [markdown]
# ## In both directions
# A recurrent network at step 10 knows what came before, and nothing of what follows. For a forecast
# that must be so. For a text that lies there complete it need not: `Bidirectional` runs a second
# layer from the end to the beginning, and puts both states side by side.
#
# Ask for the answer at *every* step now: does A come first in this sequence? A network that only
# looks back can know it from the first A or B on. One that looks both ways knows it everywhere.
# Here is how many are right at each step.

# %%
keras.utils.set_random_seed(1)
each_step = np.repeat(is_a_first[:, np.newaxis, np.newaxis], LONGEST, axis=1)
directions = {
    "forwards": letter_network(layers.GRU(24, return_sequences=True)),
    "both ways": letter_network(layers.Bidirectional(layers.GRU(24, return_sequences=True))),
}
counted = test_symbols > 0
figure, axis = plt.subplots(figsize=(8, 3.2), layout="constrained")
for (name, model), colour, style in zip(
    directions.items(), (ORANGE, BLUE), ("--", "-"), strict=True
):
    right = (says_a(trained(model, each_step)) == test_is_a_first[:, np.newaxis]) & counted
    axis.plot(right.sum(axis=0)[:40] / counted.sum(axis=0)[:40], style, color=colour, label=name)
axis.axhline(0.5, color="gray", linestyle=":", label="guessing")
axis.set(xlabel="step", ylabel="share of right answers", ylim=(0.4, 1.05))
axis.set_title("Which comes first? Asked at each step")
axis.legend(fontsize=8, loc="lower right")
show(figure, "The share of right answers over the steps, for a GRU forwards and one both ways.")

# %% [markdown]
# ## A series in pieces
# Sometimes a sequence does not come at once: a sensor sends a hundred values, then the next
# hundred. With `stateful=True` a layer begins each batch where the last one ended. You must then
# fix the size of the batch, and call `reset_state()` where a new series begins. Forget that, and it
# goes on with the memory of the old one.
#
# We give the LSTM of the forecast its test series in pieces of 100, once keeping the state, once
# resetting it before each piece. Compare with what it did in one go.

# %%
PIECE = 100
in_pieces = layers.LSTM(64, return_sequences=True, stateful=True)
pieces = keras.Sequential([keras.Input(batch_shape=(1, PIECE, 1)), in_pieces, layers.Dense(1)])
pieces.set_weights(recurrent.get_weights())
answer_to = tf.function(pieces)
count = whole_test.shape[1] // PIECE
for name, keep in (("state kept", True), ("state reset", False)):
    in_pieces.reset_state()
    forecast = []
    for piece in np.split(whole_test[:, : count * PIECE], count, axis=1):
        if not keep:
            in_pieces.reset_state()
        forecast.append(answer_to(piece).numpy()[0, :, 0])
    forecast = np.concatenate(forecast)[PAST:]
    print(f"{name:12} NRMSE {nrmse(forecast, lstm_target[: len(forecast)]):.4f}")
in_one_go = nrmse(lstm_forecast[: len(forecast)], lstm_target[: len(forecast)])
print(f"{'in one go':12} NRMSE {in_one_go:.4f}")

# %% [markdown]
# ## The fast path
# The loop over the steps is what makes these networks slow: each step waits for the one before, and
# each is small. NVIDIA's library cuDNN holds the whole loop in one kernel. Keras uses it by itself,
# on a GPU, if the layer asks for nothing that the kernel cannot do. If it does, Keras falls back to
# a loop without a word, and you wonder why your training is many times slower.
#
# `training.check_cudnn` reads the conditions off a layer. Which of them does this one break?

# %%
print(training.check_cudnn(layers.GRU(64, reset_after=False, recurrent_dropout=0.2)))

# %% [markdown]
# A line with a question mark depends on the data. Give it a mask, and it is answered. A mask must
# be *right-padded*: first the steps that count, then the others, and never none at all. Here are a
# good one and a bad one.

# %%
for mask in ([[True, True, False]], [[False, True, True]]):
    last = training.check_cudnn(layers.LSTM(64), mask=mask).conditions[-1]
    print(mask, "→", last)

# %% [markdown]
# Now a few layers as people write them. The table leaves out the GPU, so that it says the same on
# every machine. Before you look: which of them would be fast?

# %%
candidates = {
    "LSTM(64)": layers.LSTM(64),
    'LSTM(64, activation="relu")': layers.LSTM(64, activation="relu"),
    "LSTM(64, use_bias=False)": layers.LSTM(64, use_bias=False),
    "GRU(64, unroll=True)": layers.GRU(64, unroll=True),
    "Bidirectional(GRU(64))": layers.Bidirectional(layers.GRU(64)),
    "RNN(LSTMCell(64))": layers.RNN(layers.LSTMCell(64)),
}
broken = {
    name: [each.name for each in training.check_cudnn(layer).broken if "GPU" not in each.name]
    for name, layer in candidates.items()
}
pd.DataFrame({"does not hold": {name: ", ".join(each) or "–" for name, each in broken.items()}})

# %%
ex.keeps_the_kernel.ask()

# %% tags=["solution"]
ex.keeps_the_kernel.answer("c")

# %% [markdown]
# Now the clock. Four ways to run the same LSTM over a batch of 32 sequences: the layer; the layer
# unrolled, which lays all steps out one after the other; a loop over the cell, `RNN(LSTMCell)`; and
# the layer compiled by XLA, TensorFlow's compiler, which cannot use cuDNN. The first call prepares
# and compiles, so we time it apart from the later ones. On which of the two figures does unrolling
# look bad?

# %%
rows = []
for length in LENGTHS:
    batch = tf.random.normal((32, length, 16))
    choices = {
        "layer": (layers.LSTM(64), False),
        "unrolled": (layers.LSTM(64, unroll=True), False),
        "cell loop": (layers.RNN(layers.LSTMCell(64)), False),
        "XLA": (layers.LSTM(64, use_cudnn=False), True),
    }
    for name, (layer, compiled) in choices.items():
        layer.build(batch.shape)
        run = tf.function(layer, jit_compile=compiled)
        seconds = []
        for _ in range(21):
            clock = time.perf_counter()
            run(batch).numpy()
            seconds.append(time.perf_counter() - clock)
        rows.append((name, length, seconds[0], 1000 * np.median(seconds[1:])))
timing = pd.DataFrame(rows, columns=["choice", "length", "first call (s)", "later call (ms)"])
timing.pivot(index="choice", columns="length").round(2)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
styles = zip(choices, (BLUE, ORANGE, GREEN, "black"), "os^D", strict=True)
for name, colour, marker in styles:
    one = timing[timing["choice"] == name]
    for axis, column in zip(axes, ("first call (s)", "later call (ms)"), strict=True):
        axis.plot(one["length"], one[column], marker=marker, color=colour, label=name)
        axis.set(
            xlabel="length of the sequences (steps)", ylabel=column, xscale="log", yscale="log"
        )
        axis.set_xticks(LENGTHS, LENGTHS)
        axis.tick_params(axis="x", which="minor", bottom=False)
axes[1].legend(fontsize=8)
figure.suptitle("An LSTM of 64 units on 32 sequences: time by length and choice")
show(figure, "Time of the first and of a later call by sequence length, for four choices.")

# %% [markdown]
# Every choice takes longer for longer sequences: no one escapes the loop. The unrolled layer pays
# for it once more in the first call, in which every step is laid out as operations of its own.
# Which later call is the shortest depends on your machine, so measure on the one you train on. On a
# GPU, the line called *layer* is cuDNN's kernel.
#
# ## Persistent networks
# A slide of 2017 lists what NVIDIA's library has for such networks: "LSTM, GRU, and Persistent
# RNNs". What persists there? The weights. They are the same at every step, and yet a loop of matrix
# products loads them from memory at every step anew. A persistent kernel loads them once and keeps
# them in the registers of the chip.
#
# Is that worth the trouble? That is arithmetic.

# %% [markdown]
# ### Exercise 8: what a step costs
# Look at the recurrent part of one step of an LSTM only, $h U$ for a batch. How many operations is
# it, if a multiplication and an addition are two? And how many bytes of weights must be loaded, if
# each takes `bytes_each`?


# %% tags=["exercise", "nbval-check-output"]
def lstm_step_cost(units, batch, bytes_each):
    """The operations of h·U in one step of an LSTM, and the bytes of the weights U."""
    ### BEGIN SOLUTION
    weights = units * 4 * units
    return 2 * batch * weights, bytes_each * weights
    ### END SOLUTION


ex.lstm_step_cost.check(lstm_step_cost)  # also ex.lstm_step_cost.hint() and .solution()

# %% [markdown]
# Divide the two: operations for each byte. It does not depend on the size of the network, only on
# the batch. A chip can do so many operations in the time in which it loads a byte; with fewer to
# do, it waits. The same slides give both for two GPUs: 10 trillion operations and 720 GB a second
# for the P100, 120 and 900 for the V100. From which batch on are they busy? We count 4 bytes a
# weight for the P100 and 2 for the V100, whose 120 holds for half precision.

# %%
cost = ex.lstm_step_cost.or_reference(lstm_step_cost)  # yours once it passes
gpus = {"P100": (10e12, 720e9, 4, BLUE, "-"), "V100": (120e12, 900e9, 2, ORANGE, "--")}
batches = 2 ** np.arange(11)
figure, axis = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for name, (peak, bandwidth, size, colour, style) in gpus.items():
    intensity = np.divide(*np.transpose([cost(1024, int(batch), size) for batch in batches]))
    reached = np.minimum(peak, intensity * bandwidth)
    axis.plot(batches, reached / 1e12, style, color=colour, marker="o", markersize=4, label=name)
    enough = peak / bandwidth / (intensity[0])
    print(f"{name}: busy from a batch of {enough:.0f}; at a batch of 4 it does", end=" ")
    print(
        f"{intensity[2] * bandwidth / 1e12:.2f} of {peak / 1e12:.0f} trillion operations a second"
    )
axis.set(xscale="log", yscale="log", xlabel="batch (sequences)")
axis.set(ylabel="operations (trillion / s)", xticks=batches[::2], xticklabels=batches[::2])
axis.set_title("At most, if the weights are loaded at each step")
axis.legend()
axis.grid(alpha=0.3)
show(
    figure, "The largest rate of operations by batch for a P100 and a V100: it rises, then is flat."
)

# %% [markdown]
# So at small batches the loop is slow because of the loading, and keeping the weights on the chip
# would pay. In 2016 a group at Baidu did it: 2.8 trillion operations a second at a batch of 4, on a
# Titan X. That card loads 336 GB a second, says its data sheet. What would be the most without
# persistence?
#
# And which networks fit? The slides give the caches: L2 of 4 and 6 MB, L1 of 1.3 and 10 MB. The
# registers, 256 KB in each of 56 and 80 processors, make 14 and 20 MB: they are the largest memory
# on the chip.

# %%
operations, loaded = cost(1024, 4, 4)
print(f"Titan X, batch of 4: at most {operations / loaded * 336e9 / 1e12:.2f} trillion a second\n")
places = {
    ("P100", "registers"): 56 * 256 * 1024,
    ("P100", "L2 cache"): 4e6,
    ("P100", "L1 caches"): 1.3e6,
    ("V100", "registers"): 80 * 256 * 1024,
    ("V100", "L2 cache"): 6e6,
    ("V100", "L1 caches"): 10e6,
}


def largest(matrices, bytes_each):
    """The largest number of units whose recurrent weights fit, for each place."""
    return {where: int(np.sqrt(size / bytes_each / matrices)) for where, size in places.items()}


fits = {"LSTM, float32": largest(4, 4), "LSTM, float16": largest(4, 2)}
fits |= {"plain, float32": largest(1, 4), "plain, float16": largest(1, 2)}
pd.DataFrame(fits).rename_axis(["GPU", "largest number of units in"])

# %% [markdown]
# The published rate is far above that bound, so the weights cannot have come from memory at each
# step. The table shows the limit of the idea: beyond that many units the weights have to be loaded
# again. In truth some registers are needed for other things, so the largest network is smaller.
#
# Is it so on your machine? Measure the recurrent product for two sizes and growing batches. If the
# loading is what costs, a step takes nearly as long for 8 sequences as for one.

# %%
rates = {}
for units in (128, 1024):
    kernel = np.random.default_rng(1).normal(size=(units, 4 * units)).astype("float32")
    for batch in 2 ** np.arange(7):
        state = np.ones((batch, units), "float32")
        seconds = []
        for _ in range(20):
            clock = time.perf_counter()
            state @ kernel
            seconds.append(time.perf_counter() - clock)
        operations, loaded = cost(units, int(batch), 4)
        rates[units, batch] = operations / np.median(seconds[5:]) / 1e9

# %%
figure, axis = plt.subplots(figsize=(7.5, 3.4), layout="constrained")
for units, colour, marker in ((128, GREEN, "^"), (1024, BLUE, "o")):
    points = [(batch, rate) for (size, batch), rate in rates.items() if size == units]
    megabytes = cost(units, 1, 4)[1] / 1e6
    label = f"{units} units, {megabytes:.1f} MB of weights"
    axis.plot(*zip(*points, strict=True), marker=marker, color=colour, label=label)
axis.set(xscale="log", yscale="log", xlabel="batch (sequences)", ylabel="operations (billion / s)")
axis.set_xticks([1, 4, 16, 64], [1, 4, 16, 64])
axis.set_title("The recurrent product of an LSTM on this machine's processor")
axis.legend(fontsize=8)
axis.grid(alpha=0.3)
show(figure, "Measured rate of operations by batch for a small and a large LSTM: both rise.")

# %% [markdown]
# The same rise as in the figure before: a larger batch makes more of each byte. Nothing about that
# belongs to GPUs alone. In lab 05 the whole arithmetic of training is done in this way.

# %% [markdown]
# ## The challenge
# Now alone. Write the best forecaster of the Mackey-Glass series that you can. The check trains it
# from two seeds on the training series, gives it 80 stretches of 500 values of the test series, and
# asks for the value 84 steps after the end of each. The bar: a mean NRMSE of 0.0005, which is about
# where Jaeger was in 2001.
#
# Any method will do. Helpers go inside the function. Try your ideas on the validation series, so
# that the test series stays an exam.


# %% tags=["exercise"]
def train_forecaster(series, seed):
    """A function from histories (n, 500) to forecasts (n,), 84 steps on; random only by `seed`."""
    ### BEGIN SOLUTION
    random, units = np.random.default_rng(seed), 800
    kernel, bias = random.uniform(-0.3, 0.3, (2, units))
    recurrent_kernel = random.normal(0, 1 / np.sqrt(units), (units, units))
    h, states = np.zeros((1, units)), []
    scaled = (series - 0.93) / 0.23  # about its mean and standard deviation

    def slow_step(x, h):
        return h / 2 + np.tanh(np.outer(x, kernel) + h @ recurrent_kernel + bias) / 2

    for x in scaled[:-1]:
        h = slow_step(x, h)
        states.append(h[0])
    states = np.array(states[200:])
    square = states.T @ states + 1e-8 * np.eye(units)
    readout = np.linalg.solve(square, states.T @ scaled[201:])

    def forecast(histories):
        h = np.zeros((len(histories), units))
        for x in (histories.T - 0.93) / 0.23:
            h = slow_step(x, h)
        for _ in range(83):
            h = slow_step(h @ readout, h)
        return h @ readout * 0.23 + 0.93

    return forecast
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.train_forecaster.check(train_forecaster)  # also ex.train_forecaster.hint() and .solution()

# %% [markdown]
# ## What you learned
# A recurrent network is one small function, applied again and again to a state; what it can learn
# about the past depends on what is left of a gradient after many steps, and gates and clipping are
# the answers to its vanishing and exploding. It earns its keep where the order matters, and whether
# it does is for baselines to say: a linear rule, a window, a network that ignores order. How fast
# it runs is decided by the loop: how much of it is padding, whether one kernel holds it, and how
# often the weights have to be loaded.

# %% [markdown]
# ## What to try next
# - Make the series harder: `data.mackey_glass(8000, seed=1, tau=30.0)`. Which of the methods
#   suffers most?
# - Add a hundredth of a standard deviation of noise to the series. What is left of the echo state
#   network's lead?
# - Make the sequences of letters longer: up to 200. Does a `SimpleRNN` in the place of the GRU
#   still learn which comes first?
# - On a machine with a GPU, time the first figure of the fast path again. How long must a sequence
#   be for the kernel to be ten times faster than the loop?

# %% [markdown]
# ## References
# - M. C. Mackey and L. Glass, Science 197, 287, 1977,
#   [doi:10.1126/science.267326](https://doi.org/10.1126/science.267326): the series.
# - S. Hochreiter and J. Schmidhuber, *Long short-term memory*, Neural Computation 9, 1997.
# - K. Cho et al., 2014, [arXiv:1406.1078](https://arxiv.org/abs/1406.1078): the GRU.
# - R. Pascanu, T. Mikolov and Y. Bengio, *On the difficulty of training recurrent neural networks*,
#   ICML 2013: gradients that vanish and explode, and clipping.
# - F. Gers, D. Eck and J. Schmidhuber, *Applying LSTM to time series predictable through
#   time-window approaches*, ICANN 2001.
# - H. Jaeger, *The "echo state" approach to analysing and training recurrent neural networks*, GMD
#   Report 148, 2001; H. Jaeger and H. Haas, *Harnessing nonlinearity*, Science 304, 78, 2004.
# - G. Diamos et al., *Persistent RNNs: stashing recurrent weights on-chip*, ICML 2016.
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, Teratec, June 2017: the slides.
