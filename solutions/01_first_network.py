# ---
# title: Your first network
# summary: >-
#   Can forty lines of code learn to read handwriting? You build a linear classifier and find out
#   where it fails, build a convolutional network that does better, write one step of its training
#   yourself, watch it over-fit, and paint digits for it to read.
# objectives:
#   - turn a network's scores into probabilities, and its mistakes into one number, the loss
#   - build and train a linear classifier and a convolutional network with Keras
#   - write a step of gradient descent and say what the learning rate does
#   - recognise over-fitting in a pair of curves and measure what helps against it
#   - compare your result honestly with a published one
# minutes: {read: 40, exercise: 50, compute: 2}
# memory_gb: 2
# devices: {gpu: none}
# datasets: [digits, mnist]
# requires: []
# profiles:
#   smoke: {STEPS: 20, SEEDS: 1, RUN_CHALLENGE: false}
#   workshop: {}
#   full: {DATASET: mnist, STEPS: 4000, SEEDS: 10}
# ---

# %% [markdown]
# ## The question
# Here are some digits that people wrote by hand. You read them without effort. Now try to write
# down the rule by which you tell a 3 from an 8, so exactly that a machine could follow it.
#
# Nobody has managed that well. In this lab we do not write the rule: we show the machine examples
# and let it find one. Can forty lines of code do that? Run the next four cells and look first.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn import svm

from dltlab import data, devices, training
from dltlab.checks import first_network as ex
from dltlab.display import show
from dltlab.training import Monitor
from dltlab.widgets import DigitPad, tensorboard

devices.setup(precision="float32", seed=1)

# %% tags=["parameters"]
DATASET = "digits"  # or "mnist": larger pictures, and more of them
STEPS = 500  # steps in each training
SEEDS = 3  # trainings behind a mean
RUN_CHALLENGE = True  # the challenge at the end trains five networks


# %%
BATCH_SIZE = 64  # pictures in each step
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # told apart by colour-blind readers too

train_images, train_labels = data.arrays(DATASET, "train")
test_images, test_labels = data.arrays(DATASET, "test")


def show_pictures(pictures, titles, title, alt, columns=10):
    """Draw grey pictures (n, height, width, 1) in rows, each under its title."""
    rows = -(-len(pictures) // columns)
    lines = max(str(text).count("\n") for text in titles) + 1
    height = 0.3 + (0.75 + 0.2 * lines) * rows
    figure, axes = plt.subplots(rows, columns, figsize=(0.75 * columns, height))
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, text in zip(axes.flat, pictures, titles, strict=False):
        axis.imshow(picture[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axis.set_title(text, fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    show(figure, alt)


# %%
show_pictures(
    train_images[:30],
    train_labels[:30],
    "Thirty handwritten digits, each under what its writer meant",
    "Thirty small grey pictures of handwritten digits with their labels above them.",
)

# %% [markdown]
# ## Look at the data
# Always look before you train. Three things to find in the next output: how many pictures there
# are, what shape one of them has, and between which values its pixels lie.

# %%
print("training pictures:", train_images.shape, train_images.dtype)
print("test pictures:    ", test_images.shape)
print("pixels from", train_images.min(), "to", train_images.max())
print("pictures of each digit:", np.bincount(train_labels))

# %% [markdown]
# The shape reads (pictures, height, width, channels). A grey picture has one channel, a colour
# picture three.
#
# To the machine a picture is nothing but a table of numbers. Here is one, both ways. Find the ink
# in the table on the right.

# %%
picture = train_images[10, ..., 0]
step = len(picture) // 8  # of larger pictures, show some of the numbers
figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.6))
left.imshow(picture, cmap="gray_r", vmin=0, vmax=1)
left.set_title(f"What you see: a {train_labels[10]}")
right.imshow(picture[::step, ::step], cmap="gray_r", vmin=0, vmax=1, alpha=0.15)
right.set_title("What the machine gets" + (f", each {step}rd pixel" if step > 1 else ""))
for (row, column), value in np.ndenumerate(picture[::step, ::step]):
    right.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=8)
for axis in (left, right):
    axis.set(xticks=[], yticks=[])
show(figure, "A handwritten digit as a picture, and beside it as a table of grey values.")

# %% [markdown]
# We never train on the test pictures. They are the exam: a network that has seen the exam paper
# proves nothing. We also set a fifth of the training pictures aside, the *validation* pictures.
# They tell us during training how the network does on digits it does not learn from.

# %%
order = np.random.default_rng(1).permutation(len(train_images))
valid, fit = np.split(order, [len(order) // 5])
valid_images, valid_labels = train_images[valid], train_labels[valid]
fit_images, fit_labels = train_images[fit], train_labels[fit]
print(
    f"{len(fit_labels)} to learn from, {len(valid_labels)} to validate, {len(test_labels)} to test"
)

# %% [markdown]
# ## A linear classifier
# Start with the simplest thing that could work. Give every pixel a weight for each of the ten
# digits: positive if ink there speaks for the digit, negative if it speaks against it. A digit's
# *score* is the sum of weight × pixel over the picture, plus a constant, the *bias*. The highest
# score wins.
#
# Scores (the field calls them *logits*) can be any numbers. We would like probabilities: none
# negative, ten of them adding up to 1. The *softmax* does that. It raises e to each score and
# divides by the sum:
#
# $$p_i = \frac{e^{z_i}}{\sum_j e^{z_j}}$$
#
# ### Exercise 1: the softmax
# Write it. One trap: $e^{1000}$ is too large for a computer's numbers. Does it change any $p_i$ if
# you subtract the same amount from all the scores of a picture first?


# %% tags=["exercise", "nbval-check-output"]
def softmax(logits):
    """Probabilities (n, 10) from logits (n, 10), with NumPy; each row adds up to 1."""
    ### BEGIN SOLUTION
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
    ### END SOLUTION


ex.softmax.check(softmax)  # also ex.softmax.hint() and ex.softmax.solution()

# %% [markdown]
# Now three made-up scores. The middle one leads by 2. By how much does its probability lead? Guess,
# then run.

# %%
probabilities = ex.softmax.or_reference(softmax)(np.array([[1.0, 3.0, 1.0]]))
print(np.round(probabilities, 3))

# %% [markdown]
# ### Exercise 2: how wrong is it?
# To improve, the machine needs one number that says how wrong it is: the *loss*. Take the
# probability $p$ that the network gave to the digit that was really written. If $p$ is 1, the loss
# should be 0. If $p$ is nearly 0, the network was sure of something false, and the loss should be
# large. The function $-\ln p$ does just that. Its mean over the pictures is the *cross-entropy*.


# %% tags=["exercise", "nbval-check-output"]
def cross_entropy(probabilities, labels):
    """The mean of -ln(p) over n pictures, p being the probability of the true digit.

    `probabilities` has the shape (n, 10); `labels` (n,) holds the true digits.
    """
    ### BEGIN SOLUTION
    true = probabilities[np.arange(len(labels)), labels]
    return -np.mean(np.log(true))
    ### END SOLUTION


ex.cross_entropy.check(cross_entropy)  # also ex.cross_entropy.hint() and .solution()

# %% [markdown]
# Before you train anything, know what "knows nothing" looks like.

# %%
ex.first_loss.ask()

# %% tags=["solution"]
ex.first_loss.answer("c")

# %% [markdown]
# ### Build it and train it
# A Keras network is a list of *layers*, and each computes new numbers from those of the one before.
# The linear classifier has two: `Flatten` lays the pixels out in a row, `Dense(10)` holds the
# weights and the biases. Look at two things: how many numbers it has to learn, and how close the
# untrained network's loss is to your answer.

# %%
keras.utils.set_random_seed(1)
linear = keras.Sequential(
    [keras.Input(train_images.shape[1:]), layers.Flatten(), layers.Dense(10)],
    name="linear",
)
untrained = linear.predict(test_images, verbose=0)
probabilities = ex.softmax.or_reference(softmax)(untrained)
loss = ex.cross_entropy.or_reference(cross_entropy)(probabilities, test_labels)
print(f"{linear.count_params():,} numbers to learn; loss before training {loss:.2f}")

# %% [markdown]
# `compile` says how to train: which loss, and which optimizer moves the weights. `fit` trains. One
# pass over all the training pictures is an *epoch*. It goes in small steps, each on 64 pictures;
# soon you write such a step yourself. Every network in this lab gets about the same number of
# steps, so that the comparisons are fair. `callbacks` are called after each epoch: our `Monitor`
# draws.
#
# Watch the two curves on the left while they grow. Do training and validation part?


# %%
def epochs_for(images):
    """Passes over `images` that make about STEPS steps."""
    return max(1, round(STEPS * BATCH_SIZE / len(images)))


linear.compile(
    optimizer=keras.optimizers.Adam(0.01),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = linear.fit(
    fit_images,
    fit_labels,
    batch_size=BATCH_SIZE,
    epochs=epochs_for(fit_images),
    validation_data=(valid_images, valid_labels),
    validation_batch_size=512,
    callbacks=[Monitor("A linear classifier")],
    verbose=0,
)


# %%
def accuracy(model, images, labels):
    """The fraction of `images` that the model reads rightly."""
    batches = np.array_split(images, -(-len(images) // 512))
    scores = np.concatenate([model(batch, training=False) for batch in batches])
    return np.mean(scores.argmax(axis=1) == labels)


print(f"linear classifier, test accuracy: {accuracy(linear, test_images, test_labels):.3f}")

# %% [markdown]
# That is good for something so simple. Ten numbers per pixel, and it reads most handwriting that it
# has never seen. Are we done?
#
# ## Why that is not enough
# We can look into this network. Each digit has one weight for each pixel, so its weights are a
# picture. Blue speaks for the digit, red against it. Which digits can you make out?

# %%
weights = linear.layers[-1].get_weights()[0].reshape(*train_images.shape[1:3], 10)
limit = np.abs(weights).max()
figure, axes = plt.subplots(2, 5, figsize=(7.5, 3.1), layout="constrained")
for digit, axis in enumerate(axes.flat):
    drawn = axis.imshow(weights[..., digit], cmap="RdBu", vmin=-limit, vmax=limit)
    axis.set(title=str(digit), xticks=[], yticks=[])
figure.suptitle("The weights of the linear classifier, a picture for each digit")
figure.colorbar(drawn, ax=axes, label="weight per unit of ink")
show(figure, "Ten pictures of weights, one per digit: blue speaks for the digit, red against it.")

# %% [markdown]
# Each picture is a stencil. The network lays all ten over the digit and asks which fits best. It
# has one stencil for all the ways in which people write a 1, and the stencil is nailed to its
# place. Here is what it gets wrong: the title says what was meant → what was read.

# %%
read = linear.predict(test_images, verbose=0).argmax(axis=1)
wrong = np.flatnonzero(read != test_labels)
show_pictures(
    test_images[wrong[:20]],
    [f"{test_labels[i]} → {read[i]}" for i in wrong[:20]],
    f"{min(20, len(wrong))} of the linear classifier's {len(wrong)} mistakes (meant → read)",
    "Handwritten digits that the linear classifier read wrongly, with both labels.",
)

# %% [markdown]
# Some of these you would read at once. And a stencil that is nailed to its place suggests an
# experiment: move the digit a little. You would hardly notice. What will the network do?
#
# ### Exercise 3: move the pictures
# For that, write a function that moves pictures. What leaves the picture is lost, and what enters
# is empty.


# %% tags=["exercise", "nbval-check-output"]
def shift(images, down, right):
    """The images (n, height, width, 1) moved `down` rows and `right` columns, filled with 0.

    Negative numbers move up and to the left. `images` itself stays as it is.
    """
    ### BEGIN SOLUTION
    height, width = images.shape[1:3]
    rows, columns = abs(down), abs(right)
    padded = np.pad(images, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    top, left = rows - down, columns - right
    return padded[:, top : top + height, left : left + width]
    ### END SOLUTION


ex.shift.check(shift)  # also ex.shift.hint() and ex.shift.solution()

# %% [markdown]
# Now move every test picture by an eighth of its width: one pixel for the digits, three for MNIST.
# The upper row is as written, the lower row moved. Would you lose a single one?

# %%
move = ex.shift.or_reference(shift)  # yours once it passes
pixel = test_images.shape[2] // 8
shown = np.concatenate([test_images[:10], move(test_images[:10], 0, pixel)])
show_pictures(
    shown,
    [*test_labels[:10], *test_labels[:10]],
    "Ten test digits, and the same ten moved to the right",
    "Two rows of the same ten digits; in the lower row each is a little further to the right.",
)

# %%
print(f"as written:          {accuracy(linear, test_images, test_labels):.3f}")
print(f"moved to the right:  {accuracy(linear, move(test_images, 0, pixel), test_labels):.3f}")
print(f"moved down:          {accuracy(linear, move(test_images, pixel, 0), test_labels):.3f}")

# %% [markdown]
# You still read every digit. The linear classifier does not.

# %%
ex.why_shift.ask()

# %% tags=["solution"]
ex.why_shift.answer("b")

# %% [markdown]
# ## A convolutional network
# What makes a stroke a stroke does not depend on where it lies. So instead of one large stencil for
# each digit, take many small ones, 3 × 3 pixels each, and slide them over the whole picture. That
# is a *convolution*. Here are two, set by hand: one answers to the upper and lower edges of
# strokes, the other to left and right edges. Compare where they light up: blue on one side of a
# stroke, red on the other.

# %%
kernel = np.float32([[1, 1, 1], [0, 0, 0], [-1, -1, -1]])
kernels = np.stack([kernel, kernel.T], axis=-1)[:, :, np.newaxis]
responses = tf.nn.conv2d(train_images[:1], kernels, strides=1, padding="SAME")[0].numpy()
figure, axes = plt.subplots(1, 3, figsize=(7.5, 2.7))
axes[0].imshow(train_images[0, ..., 0], cmap="gray_r")
axes[0].set_title("The digit")
for axis, response, name in zip(axes[1:], responses.T, ("Horizontal", "Vertical"), strict=True):
    axis.imshow(response.T, cmap="RdBu", vmin=-3, vmax=3)
    axis.set_title(f"{name} edges")
for axis in axes:
    axis.set(xticks=[], yticks=[])
show(figure, "A digit, and the answers of a horizontal and a vertical edge detector to it.")

# %% [markdown]
# A convolutional network learns its own small stencils. A second layer of them looks at the answers
# of the first and finds combinations: corners, curves, ends of strokes. `MaxPooling2D` keeps the
# strongest answer in each 2 × 2 block, so the picture becomes coarser and small movements matter
# less. At the end, `Flatten` and `Dense(10)` vote as before.
#
# ### Exercise 4: build one
# Build a network of convolutions with `activation="relu"`, a pooling layer, and ten logits at the
# end. The `relu` sets negative answers to 0. Without such a bend, layer upon layer would still be
# linear. Leave the softmax out. The loss applies it, as `from_logits=True` says.


# %% tags=["exercise", "nbval-check-output"]
def build_cnn(input_shape):
    """A convolutional network from pictures of `input_shape` (height, width, 1) to ten logits."""
    ### BEGIN SOLUTION
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.3),  # below you see what it is good for
            layers.Dense(10),
        ]
    )
    ### END SOLUTION


ex.build_cnn.check(build_cnn)  # also ex.build_cnn.hint() and ex.build_cnn.solution()

# %% [markdown]
# Where are the weights? Read the last column. How much of it belongs to the convolutions that do
# the looking, and how much to the vote at the end?

# %%
build = ex.build_cnn.or_reference(build_cnn)  # yours once it passes
cnn = build(train_images.shape[1:])
for layer in cnn.layers:
    print(f"{layer.name:20} {layer.output.shape!s:22} {layer.count_params():8,}")

# %% [markdown]
# ## One step of training
# How does a network learn? By very many very small steps. In each step:
#
# 1. run some pictures through the network and compute the loss;
# 2. ask how the loss would change if each weight grew a little: these numbers are the *gradient*;
# 3. move every weight a little in the direction in which the loss falls.
#
# ### Exercise 5: write the step
# TensorFlow does the second part for you. Inside `with tf.GradientTape() as tape:` it takes notes
# of what you compute, and `tape.gradient(loss, weights)` reads the notes backwards. It cannot read
# NumPy, so your functions from above do not serve here; Keras has the same loss, which you gave to
# `compile`. The optimizer does the third part: `optimizer.apply_gradients(zip(gradients,
# weights))`.


# %% tags=["exercise", "nbval-check-output"]
def train_step(model, optimizer, images, labels):
    """Move the weights of `model` one step down the gradient, and return the loss before it.

    The loss is the mean cross-entropy of the logits `model(images, training=True)`.
    """
    ### BEGIN SOLUTION
    loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        loss = loss_function(labels, model(images, training=True))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss
    ### END SOLUTION


ex.train_step.check(train_step)  # also ex.train_step.hint() and ex.train_step.solution()

# %% [markdown]
# Now run it again and again, each time on 64 other pictures. The optimizer here is the plainest of
# all, `SGD`: weight minus *learning rate* × gradient. We do it with three learning rates. One
# creeps, one gets somewhere, one leaps about. Which is which?

# %%
step = ex.train_step.or_reference(train_step)  # yours once it passes
losses = {}
for learning_rate in (0.05, 0.2, 1.0):
    keras.utils.set_random_seed(1)
    model = build(train_images.shape[1:])
    optimizer = keras.optimizers.SGD(learning_rate)
    losses[learning_rate] = []
    with training.until_interrupted():
        for _ in range(STEPS // 10):
            chosen = np.random.choice(len(fit_images), BATCH_SIZE, replace=False)
            loss = step(model, optimizer, fit_images[chosen], fit_labels[chosen])
            losses[learning_rate].append(loss)

# %%
figure, axis = plt.subplots(figsize=(7, 3.2))
for (learning_rate, values), colour, marker in zip(
    losses.items(), (BLUE, GREEN, ORANGE), "o^s", strict=True
):
    axis.plot(values, color=colour, marker=marker, markersize=3, label=f"{learning_rate:g}")
axis.axhline(np.log(10), color="gray", linestyle=":", label="guessing")
axis.set(xlabel="gradient step", ylabel="loss", yscale="log")
axis.set_yticks([0.3, 1, 3, 10], ["0.3", "1", "3", "10"], minor=False)
axis.set_yticks([], minor=True)
axis.set_title(f"{STEPS // 10} steps of gradient descent")
axis.legend(title="learning rate", fontsize=8, loc="lower left")
show(figure, "The loss over gradient steps for three learning rates, and that of guessing.")

# %% [markdown]
# Too small a learning rate wastes your time. Too large a one steps over the valley, again and
# again, and may leave the network no better than guessing. It is the first number to try when
# training goes badly.
#
# ## The same step, many times
# `fit` does what your function does, again and again. We use `Adam`, an optimizer that adapts the
# size of the step for each weight. The second callback writes a record for TensorBoard, which we
# open in a moment.

# %%
keras.utils.set_random_seed(1)
cnn = build(train_images.shape[1:])
cnn.compile(
    optimizer=keras.optimizers.Adam(0.002),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = cnn.fit(
    fit_images,
    fit_labels,
    batch_size=BATCH_SIZE,
    epochs=epochs_for(fit_images),
    validation_data=(valid_images, valid_labels),
    validation_batch_size=512,
    callbacks=[
        Monitor("A convolutional network"),
        keras.callbacks.TensorBoard("runs/first_network/cnn"),
    ],
    verbose=0,
)

# %% [markdown]
# Does it beat the stencils? And is it as lost as they were when the digits move? Four numbers to
# compare, two in each line.

# %%
moved_images = move(test_images, 0, pixel)
for name, model in {"linear": linear, "convolutional": cnn}.items():
    written = accuracy(model, test_images, test_labels)
    moved = accuracy(model, moved_images, test_labels)
    print(f"{name:14} as written {written:.3f}   moved {moved:.3f}")

# %% [markdown]
# Better at both, but the second number is still poor. The convolutions do not care where a stroke
# is. The vote at the end does: `Flatten` gives each place its own weights. And why should it know
# better? It has never seen a digit out of place.
#
# So show it some. Your `shift` makes eight new pictures out of each old one, at no cost: the label
# stays the same. This is called *augmentation*.
#
# The next cell also puts everything that training takes into one function. Three details are new.
# The learning rate begins higher and falls to nothing along a cosine, so that the last steps are
# small. Everything random hangs on `seed`. And `training.fit` is dltlab's: it trains as Keras'
# `fit` does, but checks the data first.


# %%
def with_neighbours(images, labels):
    """The images and the same moved by one pixel in each of eight directions, with labels."""
    places = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    moved = [move(images, down, right) for down, right in places]
    return np.concatenate(moved), np.tile(labels, len(places))


def trained(images, labels, seed):
    """A convolutional network, trained on these images (n, height, width, 1)."""
    keras.utils.set_random_seed(seed)
    epochs = epochs_for(images)
    steps = epochs * -(-len(images) // BATCH_SIZE)
    model = build(images.shape[1:])
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.004, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    training.fit(model, (images, labels), batch_size=BATCH_SIZE, epochs=epochs, title=None)
    return model


# %%
enough = STEPS * BATCH_SIZE // 9 + 1  # pictures, each in nine places, for about STEPS steps
cnn_moved = trained(*with_neighbours(fit_images[:enough], fit_labels[:enough]), seed=1)
written = accuracy(cnn_moved, test_images, test_labels)
moved = accuracy(cnn_moved, moved_images, test_labels)
print(f"augmented      as written {written:.3f}   moved {moved:.3f}")

# %% [markdown]
# The same network and about as many steps. Only the pictures changed. Here are all three, for
# movements further to both sides.

# %%
figure, axis = plt.subplots(figsize=(7, 3.2))
distances = np.arange(-2, 3) * pixel
for (name, model), colour, marker in zip(
    {"linear": linear, "convolutional": cnn, "augmented": cnn_moved}.items(),
    (ORANGE, BLUE, GREEN),
    "os^",
    strict=True,
):
    values = [accuracy(model, move(test_images, 0, d), test_labels) for d in distances]
    axis.plot(distances, values, color=colour, marker=marker, label=name)
axis.set(xlabel="movement to the right (pixels)", ylabel="test accuracy", ylim=(0, 1.03))
axis.set_xticks(distances)
axis.set_title("How far a digit may move before it is misread")
axis.legend()
show(figure, "Test accuracy of three networks against the movement of the digits.")

# %% [markdown]
# ## TensorBoard
# The curves above vanish when you close the notebook without saving. TensorBoard keeps a record of
# every run and lays runs over each other. It reads what the callback wrote into the folder `runs`.
# Look for `epoch_loss`: it shows *train* and *validation* in one picture.

# %%
tensorboard("runs")

# %% [markdown]
# ## Over-fitting, seen
# What if we have few examples and a very large network? Take 50 pictures, and a network with two
# layers of 512 numbers each: thousands of weights for each picture. Watch both panels. At first
# every curve gets better. Which one turns round?

# %%
few_images, few_labels = fit_images[:50], fit_labels[:50]
validation = tf.data.Dataset.from_tensor_slices((valid_images, valid_labels)).batch(512)


def build_large(input_shape, dropout=0.0):
    """Two large dense layers."""
    hidden = [layers.Dense(512, activation="relu"), layers.Dropout(dropout)]
    hidden += [layers.Dense(512, activation="relu"), layers.Dropout(dropout)]
    return keras.Sequential([keras.Input(input_shape), layers.Flatten(), *hidden, layers.Dense(10)])


def fit_with_few(model, images, labels, title=None):
    """Train for STEPS / 3 steps of 10 pictures; the accuracy and loss after each epoch."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])
    return training.fit(
        model,
        (images, labels),
        batch_size=10,
        epochs=max(1, round(STEPS / 3 * 10 / len(images))),
        validation=validation,
        title=title,
    ).history


# %%
keras.utils.set_random_seed(1)
large = build_large(train_images.shape[1:])
print(f"{large.count_params():,} weights for {len(few_images)} pictures")
history = fit_with_few(large, few_images, few_labels, "A large network, 50 pictures")

# %%
best = int(np.argmin(history["val_loss"]))
print(f"training accuracy at the end:   {history['accuracy'][-1]:.3f}")
print(f"validation accuracy at the end: {history['val_accuracy'][-1]:.3f}")
print(f"validation loss: lowest {history['val_loss'][best]:.3f} after epoch {best + 1}, ", end="")
print(f"{history['val_loss'][-1]:.3f} at the end")

# %% [markdown]
# The network knows its 50 pictures by heart. On other pictures its loss fell for a few epochs and
# has grown ever since. The two curves have parted: that is *over-fitting*.

# %%
ex.overfitting.ask()

# %% tags=["solution"]
ex.overfitting.answer("d")

# %% [markdown]
# What helps? Do not believe a list: measure. Each line below changes one thing. Dropout sets half
# of a layer's numbers to 0, at random, in each step of training. The convolutional network is the
# one from above. Then it gets the eight neighbours of each picture, too. The last line goes back to
# the large network and gives it twenty times as many pictures. All make the same number of steps.

# %%
shape = train_images.shape[1:]
near_images, near_labels = with_neighbours(few_images, few_labels)
more_images, more_labels = fit_images[:1000], fit_labels[:1000]
trials = {
    "with dropout": (build_large(shape, dropout=0.5), few_images, few_labels),
    "convolutional": (build(shape), few_images, few_labels),
    "convolutional, augmented": (build(shape), near_images, near_labels),
    "large, 1,000 pictures": (build_large(shape), more_images, more_labels),
}
results = {"large, 50 pictures": history}
for name, (model, images, labels) in trials.items():
    results[name] = fit_with_few(model, images, labels)

# %%
print(f"{'':26} training  validation  lowest validation loss")
for name, log in results.items():
    print(f"{name:26} {log['accuracy'][-1]:8.3f} {log['val_accuracy'][-1]:11.3f}", end="")
    print(f"{min(log['val_loss']):16.3f}")
share = history["val_accuracy"][-1]
noise = np.sqrt(share * (1 - share) / len(valid_labels))
print(f"\n{share:.3f} of {len(valid_labels)} pictures is uncertain by about {noise:.3f}.")

# %% [markdown]
# Mind the last line before you call a difference a difference. By accuracy one line stands out
# above the others: more pictures help more than any trick. The loss tells a little more. Dropout
# lowers it, and so do the neighbours: where you cannot have new pictures, moved ones are something.
# And whichever you choose, held-out pictures are what told you.
#
# ## What does it get wrong?
# ### Exercise 6: the confusion matrix
# One number hides much. A *confusion matrix* shows what: row by row what was meant, column by
# column what was read. The right answers lie on the diagonal. Everything else is a confusion with a
# name.


# %% tags=["exercise", "nbval-check-output"]
def confusion_matrix(labels, predictions):
    """A 10 × 10 array: entry [i, j] counts the pictures of digit i that were read as j."""
    ### BEGIN SOLUTION
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (labels, predictions), 1)
    return matrix
    ### END SOLUTION


ex.confusion_matrix.check(confusion_matrix)  # also ex.confusion_matrix.hint() and .solution()

# %% [markdown]
# Here it is for the augmented network on the test pictures. Which two digits does it confuse most?

# %%
scores = cnn_moved.predict(test_images, verbose=0)
read = scores.argmax(axis=1)
matrix = ex.confusion_matrix.or_reference(confusion_matrix)(test_labels, read)
figure, axis = plt.subplots(figsize=(5, 4.4))
axis.imshow(np.log1p(matrix), cmap="Blues")
for (meant, seen), count in np.ndenumerate(matrix):
    colour = "white" if meant == seen else ("black" if count else "lightgray")
    axis.text(seen, meant, count, ha="center", va="center", color=colour, fontsize=9)
axis.set(xlabel="digit read", ylabel="digit meant", xticks=range(10), yticks=range(10))
axis.set_title(f"{np.trace(matrix)} of {len(read)} test digits read rightly")
show(figure, "The confusion matrix of the augmented network on the test digits.")

# %% [markdown]
# And here are the mistakes themselves, the most confident first. The title says what was meant →
# what was read, and the probability that the network gave to its reading. Be fair: would you have
# read them?

# %%
confidence = ex.softmax.or_reference(softmax)(scores).max(axis=1)
wrong = np.flatnonzero(read != test_labels)
wrong = wrong[np.argsort(-confidence[wrong])][:16]
show_pictures(
    test_images[wrong],
    [f"{test_labels[i]} → {read[i]}\n{confidence[i]:.2f}" for i in wrong],
    "The augmented network's mistakes (meant → read, probability)",
    "The test digits that the augmented network read wrongly, most confident first.",
    columns=8,
)

# %% [markdown]
# ## Beside a published figure
# How good is that? Compare with something that others published. Scikit-learn's gallery opens with
# these very digits: its example "Recognizing hand-written digits" trains a support vector
# classifier, a strong method from before deep learning, on the first half of the data and tests it
# on the second. It reports an accuracy of 0.97. First we run it ourselves.

# %%
digits, digit_labels = data.arrays("digits", "all")
half = len(digits) // 2
rows = digits.reshape(len(digits), -1) * 16  # the example's pixels run from 0 to 16
classifier = svm.SVC(gamma=0.001).fit(rows[:half], digit_labels[:half])
svc_accuracy = classifier.score(rows[half:], digit_labels[half:])
print(f"support vector classifier: {svc_accuracy:.4f} (published: 0.97)")

# %% [markdown]
# The published figure stands. Now ours, on the same split. A single training may be lucky, so we
# train several networks from different seeds, and report the mean and the spread.

# %%
near, near_labels = with_neighbours(digits[:half], digit_labels[:half])
ours = []
for seed in range(SEEDS):
    model = trained(near, near_labels, seed)
    ours.append(accuracy(model, digits[half:], digit_labels[half:]))
    print(f"convolutional network, seed {seed}: {ours[-1]:.4f}")
print(f"mean {np.mean(ours):.4f}, from {min(ours):.4f} to {max(ours):.4f}")

# %% [markdown]
# Is the comparison fair? The training pictures, the test pictures and the question are the same.
# But our network saw eight neighbours of each picture, and the classifier did not. So give them to
# the classifier too. And take the neighbours from the network. Who wins then?

# %%
helped = svm.SVC(gamma=0.001).fit(near.reshape(len(near), -1) * 16, near_labels)
plain = trained(digits[:half], digit_labels[:half], seed=0)
alone = accuracy(plain, digits[half:], digit_labels[half:])
print("                            as published   with neighbours")
print(f"support vector classifier {svc_accuracy:14.4f}", end="")
print(f"{helped.score(rows[half:], digit_labels[half:]):18.4f}")
print(f"convolutional network     {alone:14.4f}{np.mean(ours):18.4f}")

# %% [markdown]
# Each of these figures is uncertain by about 0.006, with 899 test pictures. With the network of our
# solution, the classifier is at least as good without the neighbours. They help both, but the
# network several times as much, and then it is ahead. Is it so with yours? Say it that way: not
# "networks are better", but "this network with these pictures is".
#
# ## The challenge
# Now alone. Write the function that trains the best reader of these digits you can. The check calls
# it with five seeds, gives it the training pictures only, and lets the five networks read the
# held-out quarter. The bar: 0.985 on average. The check takes about twenty seconds.
#
# You may use everything above. Try your ideas on the validation pictures, so that the held-out
# ones stay an exam.


# %% tags=["exercise"]
def train_reader(images, labels, seed):
    """A Keras model, trained on images (n, 8, 8, 1) and labels (n,); it gives ten scores for each.

    Everything random follows from `seed`.
    """
    ### BEGIN SOLUTION
    keras.utils.set_random_seed(seed)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = [(row, column) for row in range(3) for column in range(3)]
    images = np.concatenate(
        [padded[:, row : row + 8, column : column + 8] for row, column in corners]
    )
    labels = np.tile(labels, len(corners))
    stack = [layers.Conv2D(32, 3, padding="same", activation="relu") for _ in range(2)]
    stack += [layers.MaxPooling2D(), layers.Conv2D(64, 3, padding="same", activation="relu")]
    stack += [layers.Flatten(), layers.Dropout(0.3), layers.Dense(10)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    steps = 3 * -(-len(images) // 64)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.004, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    training.fit(model, (images, labels), batch_size=64, epochs=3, title=None)
    return model
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.train_reader.check(train_reader)  # also ex.train_reader.hint() and .solution()

# %% [markdown]
# ## Paint a digit
# Now it is your turn to write. Click pixels to paint a digit, or press *Example* for one from the
# data. At each click the network reads what is there. When does it make up its mind? Which single
# pixel turns a 3 into an 8?


# %%
to_probabilities = ex.softmax.or_reference(softmax)


def read_painting(picture):
    """The probabilities of the ten digits for one picture (1, 8, 8, 1)."""
    return to_probabilities(model(picture, training=False).numpy())


pad = DigitPad(read_painting, examples=digits[half:])
pad.paint(digits[half + 10])
pad.show()

# %% [markdown]
# Does it misread you more often than you thought? The pad knows only ink and paper, and the
# network has learned from grey pictures. That costs something. How much? Make all the held-out
# digits black and white, too, and measure.

# %%
black_and_white = (digits[half:] >= 0.5).astype("float32")
print(f"grey:            {accuracy(model, digits[half:], digit_labels[half:]):.3f}")
print(f"black and white: {accuracy(model, black_and_white, digit_labels[half:]):.3f}")

# %% [markdown]
# A network is only as good as its training pictures are like those it is used on. Your hand is not
# in them either.
#
# ## What you learned
# A network turns numbers into scores, the softmax turns scores into probabilities, and training
# lowers the loss, step by step, down the gradient. What a network can learn depends on how it looks
# at the data and on the data themselves: small sliding stencils read moved digits better than large
# fixed ones, and with moved copies far better. Only pictures that it has not seen tell you how good
# it is, and only a comparison on equal terms tells you what made it so.

# %% [markdown]
# ## What to try next
# - In the cell tagged `parameters`, set `DATASET = "mnist"` and run all: 70,000 larger pictures.
#   Which of the numbers above change, and which conclusions?
# - Train the challenge's network on black and white pictures, and give it to the pad.
# - Leave pooling out of `build_cnn`, or double its stencils. What does that cost, what does it
#   gain?
# - Raise the bar of the challenge yourself: what is the best mean of five seeds that you can reach?

# %% [markdown]
# ## References
# - E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI Machine Learning
#   Repository, 1998, [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49): the digits.
# - Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, *Gradient-based learning applied to document
#   recognition*, Proceedings of the IEEE 86, 1998: MNIST, and the convolutional network.
# - *Recognizing hand-written digits*, in the gallery of examples of
#   [scikit-learn](https://scikit-learn.org): the support vector classifier with an accuracy of
#   0.97.
# - N. Srivastava et al., *Dropout: a simple way to prevent neural networks from overfitting*,
#   Journal of Machine Learning Research 15, 2014.
# - D. Kingma and J. Ba, *Adam: a method for stochastic optimization*, ICLR 2015.
