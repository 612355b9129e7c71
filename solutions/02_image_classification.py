# ---
# title: Image classification
# summary: >-
#   AlexNet, GoogLeNet, VGG-16, ResNet-50: what did each of them bring, and at what cost? You write
#   a convolution, count what it costs, build the block that made networks deep, train a small
#   modern network beside a textbook example, look inside it, and teach it new classes from 25
#   pictures of each.
# objectives:
#   - compute a convolution by hand, and the parameters and multiply-adds of any convolution
#   - compare four classic networks by cost before any training
#   - build a residual block and a one-cycle schedule
#   - measure what each part of a recipe buys, by leaving it out
#   - see what a network looks at, and where it is wrong
#   - fine-tune a network on few pictures
# minutes: {read: 45, exercise: 60, compute: 5}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: [shapes, cifar10]
# requires: [01_first_network]
# profiles:
#   smoke: {STEPS: 1, TEST_PICTURES: 100, BLOCKS: 1, PRECISION: float32, RUN_CHALLENGE: false}
#   workshop: {}
#   full: {DATASET: cifar10, STEPS: 12000}
# ---

# %% [markdown]
# ## The question
# In 2012 a network called AlexNet won a competition in which a thousand kinds of things had to be
# told apart. It had 61 million parameters and learned for about six days on two graphics cards.
# Three years later a network with less than half of the parameters made less than half of the
# mistakes. What had changed?
#
# In this lab you take such networks apart, and then train one: smaller, on a smaller task, in less
# than a minute on two processor cores. The task is the picture below. Find the shape in each: some
# are small, some turned, all lie on backgrounds that have nothing to do with them.

# %%
import time
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from dltlab import data, devices, models, training
from dltlab.checks import image_classification as ex
from dltlab.display import show

# %% tags=["parameters"]
DATASET = "shapes"  # or "cifar10", or pictures of your own: dltlab data import FOLDER --name NAME
STEPS = 470  # steps of 64 pictures in each training
TEST_PICTURES = 10_000  # at most so many measure the accuracy
BLOCKS = 8  # in a chain without shortcuts, and in one with them
PRECISION = "auto"  # mixed_bfloat16 where the machine computes faster in it; or "float32"
RUN_CHALLENGE = True  # the challenge at the end trains one more network

# %%
devices.setup(precision=PRECISION, seed=1)

BATCH_SIZE = 64
EAGER = STEPS < 20  # so few steps are faster than compiling one
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"  # told apart by colour-blind readers too

about = data.info(DATASET)
classes, shape = about.class_names, tuple(about.shape)
test_images, test_labels = data.arrays(DATASET, "test")
order = np.random.default_rng(1).permutation(len(test_images))  # else class may follow class
test_images, test_labels = (part[order[:TEST_PICTURES]] for part in (test_images, test_labels))


def show_pictures(pictures, titles, title, alt, columns=10):
    """Draw pictures (n, height, width, channels) in rows, each under its title."""
    rows = -(-len(pictures) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(0.95 * columns, 0.4 + 1.15 * rows))
    for axis in axes.flat:
        axis.axis("off")
    for axis, picture, text in zip(axes.flat, pictures, titles, strict=False):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(text, fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    show(figure, alt)


# %%
show_pictures(
    test_images[:20],
    [classes[label] for label in test_labels[:20]],
    f"Twenty test pictures of {DATASET}",
    "Twenty small colour pictures, each under the name of its class.",
)

# %% [markdown]
# ## A convolution by hand
# A convolution lays a small table of weights, the *kernel*, on the picture, multiplies each weight
# with the pixel under it, and adds the products up. Then it moves one pixel on and does the same.
# The sums, laid out in the order of the places, are a new picture.
#
# ### Exercise 1: the convolution
# Write it for one grey picture and one kernel. Use only the places where the whole kernel lies in
# the picture: a 3 × 3 kernel makes the picture two rows and two columns smaller.


# %% tags=["exercise", "nbval-check-output"]
def convolve(image, kernel):
    """The sums of products, (h - kh + 1, w - kw + 1), of an image (h, w) and a kernel (kh, kw)."""
    ### BEGIN SOLUTION
    kh, kw = kernel.shape
    height, width = image.shape[0] - kh + 1, image.shape[1] - kw + 1
    output = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            output[row, column] = np.sum(image[row : row + kh, column : column + kw] * kernel)
    return output
    ### END SOLUTION


ex.convolve.check(convolve)  # also ex.convolve.hint() and ex.convolve.solution()

# %% [markdown]
# Three kernels, set by hand. The first takes the mean of nine pixels. The second is positive above
# and negative below. The third compares a pixel with its four neighbours. What will each make of
# the picture on the left? Guess before you look.

# %%
grey = test_images[0].mean(axis=-1)
kernels = {
    "mean": np.full((3, 3), 1 / 9),
    "upper edges": np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]]),
    "spots and lines": np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]),
}
apply = ex.convolve.or_reference(convolve)  # yours once it passes
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
axes[0].imshow(grey, cmap="gray", vmin=0, vmax=1)
axes[0].set_title(f"the picture: {classes[test_labels[0]]}")
for axis, (name, kernel) in zip(axes[1:], kernels.items(), strict=True):
    axis.imshow(apply(grey, kernel), cmap="gray")
    axis.set_title(name)
for axis in axes:
    axis.set(xticks=[], yticks=[])
show(figure, "A grey picture, and what three kernels make of it: blurred, edges, spots and lines.")

# %% [markdown]
# Keras' layer computes the same. Here it gets the same picture and the same three kernels. The
# largest difference between its numbers and yours should be tiny: what is left is rounding.

# %%
layer = layers.Conv2D(3, 3, use_bias=False, dtype="float32")
layer.build((None, *grey.shape, 1))
layer.set_weights([np.stack(list(kernels.values()), axis=-1)[:, :, np.newaxis]])
theirs = np.asarray(layer(grey[np.newaxis, ..., np.newaxis])[0])
ours = np.stack([apply(grey, kernel) for kernel in kernels.values()], axis=-1)
print(f"largest difference: {np.abs(theirs - ours).max():.1e}")

# %% [markdown]
# ## What a layer costs
# A network does not choose its kernels. It learns them: they are its *parameters*. And it does one
# multiplication and one addition, a *multiply-add*, for each weight at each place. These two
# numbers say what a layer costs: the first in memory, the second in work.
#
# A layer has many kernels. Each looks at all channels of its input and makes one channel of its
# output, and to that channel one number more is added, its *bias*.
#
# ### Exercise 2: count
# How many parameters does a convolution have, and how many multiply-adds does it do for one
# picture? Assume that the output is as high and as wide as the input (`padding="same"`).


# %% tags=["exercise", "nbval-check-output"]
def conv_cost(height, width, channels_in, channels_out, size):
    """Parameters, and multiply-adds for a picture, of a convolution with size × size kernels."""
    ### BEGIN SOLUTION
    weights = size * size * channels_in * channels_out
    return weights + channels_out, height * width * weights
    ### END SOLUTION


ex.conv_cost.check(conv_cost)  # also ex.conv_cost.hint() and ex.conv_cost.solution()

# %% [markdown]
# Try it on VGG-16, a network of 2014 that is made of 3 × 3 convolutions. Its second layer has 64
# channels in and out, at 224 × 224. Its last convolution has 512, at 14 × 14. Which of the two has
# more parameters, and which has more work?

# %%
count = ex.conv_cost.or_reference(conv_cost)  # yours once it passes
for name, sizes in {"second": (224, 224, 64, 64, 3), "last": (14, 14, 512, 512, 3)}.items():
    parameters, macs = count(*sizes)
    print(f"{name:7} {parameters:10,} parameters {macs:14,} multiply-adds")

# %% [markdown]
# Early layers work, late layers remember. Keep that in mind for the next picture.
#
# ## Four classic networks
# `models.cost` counts every layer of a network that way. We build the four networks of the years
# 2012 to 2015, none of them trained, and count. Two things to look for in the table: who has the
# most parameters, and is that also the one with the most work?

# %%
classic = {
    "AlexNet": models.cost(models.alexnet()),
    "GoogLeNet": models.cost(models.googlenet()),
    "VGG-16": models.cost(models.vgg16()),
    "ResNet-50": models.cost(models.resnet50()),
}
published = {"AlexNet": 19.8, "GoogLeNet": 10.1, "VGG-16": 9.9, "ResNet-50": 7.8}
table = pd.DataFrame(
    {
        "parameters (million)": {name: cost.params / 1e6 for name, cost in classic.items()},
        "multiply-adds (billion)": {name: cost.macs / 1e9 for name, cost in classic.items()},
        "activations (MB)": {name: cost.activation_bytes / 1e6 for name, cost in classic.items()},
        "published top-5 error (%)": published,
    }
)
table.round(2)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
columns = table.columns[:2]
for axis, column, colour in zip(axes, columns, (BLUE, ORANGE), strict=True):
    axis.scatter(table[column], table["published top-5 error (%)"], color=colour, s=60)
    for name, row in table.iterrows():
        place = (row[column], row["published top-5 error (%)"])
        axis.annotate(name, place, xytext=(0, 8), textcoords="offset points", ha="center")
    axis.set(xlabel=column, ylabel="published top-5 error (%)", ylim=(5, 23), xscale="log")
    axis.set_xlim(table[column].min() / 2.5, table[column].max() * 2.5)
    axis.grid(alpha=0.3)
figure.suptitle("Four networks of 2012 to 2015: what they cost, and how often they are wrong")
show(figure, "Published error of four networks against their parameters and multiply-adds.")

# %% [markdown]
# More parameters did not make them better, and more work did only in part. GoogLeNet has a ninth of
# AlexNet's parameters and half of its mistakes. VGG-16 does ten times GoogLeNet's work for the same
# error. So where is it all spent? Here is VGG-16, layer by layer.

# %%
classic["VGG-16"].show()

# %%
ex.vgg_parameters.ask()

# %% tags=["solution"]
ex.vgg_parameters.answer("c")

# %% [markdown]
# One figure from those days to check. A well-known slide of 2017 says: training AlexNet takes about
# 27,000 floating-point operations for each byte of input. A multiply-add is two operations. The
# backward pass costs twice the forward pass. And a pixel has three bytes. Does it come out?

# %%
operations = 2 * 3 * classic["AlexNet"].macs
print(f"{operations / (227 * 227 * 3):,.0f} operations for each byte of a 227 × 227 picture")

# %% [markdown]
# That many operations on each byte is what makes such networks a good fit for processors that
# compute much faster than they can load: data come once, and are used for long.
#
# ## The block that made networks deep
# VGG's authors found that deeper was better, up to about twenty layers. Beyond that, networks
# became worse, even on the pictures they were trained on. The mend of 2015 is one line long: let a
# block of layers compute only a *change*, and add it to what came in. Its authors called that a
# *residual* block.
#
# ### Exercise 3: the residual block
# Build one in the order of its second version: normalise, ReLU, convolve; once more; then add the
# input. A *batch normalisation* brings each channel to mean 0 and variance 1 over the pictures of a
# batch. Because one follows soon, the convolutions need no bias: `use_bias=False`.


# %% tags=["exercise", "nbval-check-output"]
def residual_block(inputs, channels):
    """The maps `inputs` (height, width, channels) plus what two 3 × 3 convolutions make of them."""
    ### BEGIN SOLUTION
    x = inputs
    for _ in range(2):
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
    return layers.Add()([x, inputs])
    ### END SOLUTION


ex.residual_block.check(residual_block)  # also ex.residual_block.hint() and .solution()

# %% [markdown]
# `models.small_resnet` puts such blocks together: one convolution, then six blocks that halve the
# picture three times and double the channels, then the mean over all places and one dense layer.
# Which layers have the parameters, and which the work? It is as with the large ones.

# %%
network = models.small_resnet(len(classes), shape)
models.cost(network).show()

# %% [markdown]
# ## The learning rate
# The most important number of a recipe is the *learning rate*: how far a step goes. Too small, and
# nothing happens. Too large, and the loss explodes. A *range test* finds the two ends in a few
# seconds: train with a rate that grows from step to step, and watch the loss.
#
# First the pictures. `data.load` gives them in batches. Each is shifted by a few pixels and every
# other one mirrored, anew each time: this is *augmentation*. Here are ten versions of one picture.

# %%
AUGMENTATION = data.augmentation(crop=shape[0] // 8, flip=True)


def batches(augment=AUGMENTATION):
    """The training pictures in batches, the same from call to call."""
    return data.load(DATASET, "train", batch_size=BATCH_SIZE, augment=augment, seed=1)


change = AUGMENTATION.layers(*shape[:2])
versions = np.repeat(test_images[:1], 10, axis=0)
for each in change:
    versions = each(versions, training=True)
show_pictures(
    np.asarray(versions),
    [classes[test_labels[0]]] * 10,
    "One picture, augmented ten times",
    "Ten versions of one picture, each shifted and some of them mirrored.",
)

# %% [markdown]
# Now the test. From which rate on does the loss fall, and where does it turn?


# %%
def compiled(model, rate):
    """`model`, ready to be trained with this learning rate or schedule."""
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.02),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=EAGER,
    )
    return model


model = compiled(network, 0.001)
num_steps = max(2, min(STEPS, 200))
found = training.lr_range_test(model, batches(), lowest=1e-4, highest=1, num_steps=num_steps)
found.show()

# %% [markdown]
# Left of the dashed line learning is slow. Beyond the dotted one it gets worse. Between them is a
# rate that you could use from the first step to the last.
#
# But the best rate is not the same all the time. At the beginning the weights are random and large
# steps do harm. In the middle large steps are fast. At the end small steps find the bottom. The
# *one-cycle* schedule does just that: up along a line, down along half a cosine. It visits its peak
# only in passing, so the peak may be large: we take 0.02.
#
# ### Exercise 4: the schedule
# Write it. The rate begins at peak / 25, rises along a straight line to the peak during the first
# 30% of the steps, and falls along half a cosine to 0 at the last step.


# %% tags=["exercise", "nbval-check-output"]
def one_cycle(step, num_steps, peak):
    """The learning rate at `step`, a number from 0 to `num_steps`."""
    ### BEGIN SOLUTION
    warmup = 0.3 * num_steps
    if step < warmup:
        return peak * (1 / 25 + (1 - 1 / 25) * step / warmup)
    progress = (step - warmup) / (num_steps - warmup)
    return peak * (1 + np.cos(np.pi * progress)) / 2
    ### END SOLUTION


ex.one_cycle.check(one_cycle)  # also ex.one_cycle.hint() and ex.one_cycle.solution()

# %% [markdown]
# `training.one_cycle` is the same for Keras' optimizers. If yours agrees, its points lie on the
# line.

# %%
PEAK = 0.02
schedule = training.one_cycle(PEAK, STEPS)
rate_at = ex.one_cycle.or_reference(one_cycle)  # yours once it passes
steps = np.linspace(0, STEPS, 25)
figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
axis.plot(range(STEPS), [float(schedule(step)) for step in range(STEPS)], label="dltlab's")
axis.plot(steps, [rate_at(step, STEPS, PEAK) for step in steps], "o", color=ORANGE, label="yours")
axis.set(xlabel="step", ylabel="learning rate", title=f"One cycle of {STEPS} steps")
axis.legend()
show(figure, "The learning rate over the steps: up along a line, down along half a cosine.")

# %% [markdown]
# ## Train it
# `training.fit` is Keras' `fit` with a live figure. It also looks at every batch before the network
# does, and estimates the memory before it begins. If you press the stop button, the network is
# usable as it is then. Watch how the loss falls: fast at first, then slowly, then once more at the
# end, when the rate goes down.


# %%
def trained(model, peak=PEAK, constant=False, augment=AUGMENTATION, title=None, callbacks=()):
    """`model` after STEPS steps on one cycle, or at a constant rate; with a title, a figure."""
    keras.utils.set_random_seed(1)
    train = batches(augment)
    epochs = max(1, round(STEPS / len(train)))
    train = train.take(STEPS)  # in a very short training this is less than an epoch
    compiled(model, peak / 10 if constant else training.one_cycle(peak, epochs * len(train)))
    training.fit(model, train, epochs=epochs, title=title, callbacks=callbacks)
    return model


def accuracy(model, images=test_images, labels=test_labels):
    """The share of pictures that the model classifies rightly."""
    parts = [images[first : first + 500] for first in range(0, len(images), 500)]
    scores = np.concatenate([model(part, training=False) for part in parts])
    return np.mean(scores.argmax(axis=1) == labels)


# %%
class Clock(keras.callbacks.Callback):
    """Stops the time of training, and notes the test accuracy now and then."""

    def __init__(self, every):
        super().__init__()
        self.every, self.step = every, 0
        self.seconds, self.accuracies = [0.0], [1 / len(classes)]

    def on_train_begin(self, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step % self.every == 0:
            now = time.perf_counter()
            self.seconds.append(now - self.began)
            self.accuracies.append(accuracy(self.model, test_images[:1000], test_labels[:1000]))
            self.began += time.perf_counter() - now  # the clock stood still meanwhile


# %%
keras.utils.set_random_seed(1)
ours = Clock(every=max(1, STEPS // 12))
network = trained(models.small_resnet(len(classes), shape), title="Ours", callbacks=[ours])

# %% [markdown]
# ## Beside a textbook example
# Is that good? Train something well known on the same pictures. Keras' examples long opened with a
# "simple deep CNN" for CIFAR-10: four convolutions, two poolings, two dense layers. Its settings
# are its authors': plain RMSprop at a constant rate of 0.0001, batches of 32.


# %%
def textbook():
    """The network of Keras' example cifar10_cnn.py, compiled."""
    stack = [keras.Input(shape)]
    for channels in (32, 64):
        stack += [
            layers.Conv2D(channels, 3, padding="same", activation="relu"),
            layers.Conv2D(channels, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Dropout(0.25),
        ]
    stack += [layers.Flatten(), layers.Dense(512, activation="relu"), layers.Dropout(0.5)]
    model = keras.Sequential([*stack, layers.Dense(len(classes))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.RMSprop(0.0001), loss, metrics=["accuracy"], run_eagerly=EAGER)
    return model


keras.utils.set_random_seed(1)
steps = 2 * STEPS  # of half as many pictures
theirs = Clock(every=max(1, steps // 12))
small_batches = data.load(DATASET, "train", batch_size=32, augment=AUGMENTATION, seed=1)
_ = training.fit(
    textbook(),
    small_batches.take(steps),
    epochs=max(1, round(steps / len(small_batches))),
    title="The textbook example",
    callbacks=[theirs],
)

# %% [markdown]
# Both on one axis of time. When had ours passed what the other one reached in all of its time?

# %%
figure, axis = plt.subplots(figsize=(7, 3.2), layout="constrained")
for clock, name, colour, marker in ((ours, "ours", BLUE, "o"), (theirs, "textbook", ORANGE, "s")):
    axis.plot(clock.seconds, clock.accuracies, color=colour, marker=marker, label=name)
best = max(theirs.accuracies)
axis.axhline(best, color="gray", linestyle=":", label="the textbook's best")
axis.set(xlabel="training time (s)", ylabel="test accuracy", ylim=(0, 1))
axis.set_title(f"Ours and a textbook example on {DATASET}")
axis.legend()
show(figure, "Test accuracy over training time of our network and of a textbook example.")
print(f"textbook: {best:.3f} after {theirs.seconds[-1]:.0f} s")
for seconds, reached in zip(ours.seconds, ours.accuracies, strict=True):
    if reached > best:
        print(f"ours:     {reached:.3f} after {seconds:.0f} s, ", end="")
        print(f"{theirs.seconds[-1] / seconds:.1f} times sooner")
        break
print(f"ours:     {ours.accuracies[-1]:.3f} after {ours.seconds[-1]:.0f} s")

# %% [markdown]
# To be fair: the example is meant for many more epochs than it gets here, and ours spends its
# first seconds on being compiled. In the folder `benchmarks`, `image_training.py` gives the example
# its 25 epochs, on photographs.
#
# ## Look at the mistakes
# One number is never enough. `training.evaluate` says for each class how many of its pictures were
# found (*recall*), and how many of those that were called so are of it (*precision*). Then the
# confusion matrix, and the mistakes about which the network was surest. Which two classes are
# taken for each other, and would you have known better?

# %%
test = data.load(DATASET, "test", batch_size=500)
evaluation = training.evaluate(network, test, classes)
evaluation

# %%
evaluation.show()

# %% [markdown]
# Behind the accuracy there is an interval. It says how far off the figure may be, because other
# test pictures would have given another one.

# %%
ex.which_is_better.ask()

# %% tags=["solution"]
ex.which_is_better.answer("b")

# %% [markdown]
# ## What does each part buy?
# Our recipe has batch normalisation, shortcuts, augmentation and a schedule. Which of them matter?
# Leave out one at a time and measure. Without normalisation the network does not stand so large a
# rate, so it gets a smaller one; a constant rate is a tenth of the peak. Bet before you run.

# %%
size = {"num_classes": len(classes), "input_shape": shape}
without = {
    "batch normalisation": (models.small_resnet(**size, batch_norm=False), {"peak": 0.003}),
    "shortcuts": (models.small_resnet(**size, residual=False), {}),
    "augmentation": (models.small_resnet(**size), {"augment": None}),
    "the schedule": (models.small_resnet(**size), {"constant": True}),
}
print(f"with all of it              {accuracy(network):.3f}")
for part, (model, options) in without.items():
    print(f"without {part:19} {accuracy(trained(model, **options)):.3f}")

# %% [markdown]
# Two of the four are worth a lot, and two nothing, or less. That is no accident. Augmentation keeps
# a network from learning its pictures by heart, and nobody learns ten thousand pictures by heart in
# three passes. And shortcuts? They were made for *deep* networks, and ours has seven convolutions
# one after the other. So go deeper. Here are chains of equal blocks on small maps, without
# shortcuts and with yours. A plain deep network could do all that a plain shallow one can. Will it
# learn to?


# %%
def chain(num_blocks, shortcut):
    """`num_blocks` residual blocks, or the same layers without the sum."""
    inputs = keras.Input(shape)
    x = layers.Conv2D(24, 4, strides=max(1, shape[0] // 8), padding="same")(inputs)
    for _ in range(num_blocks):
        if shortcut:
            x = block(x, 24)
            continue
        for _ in range(2):
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.Conv2D(24, 3, padding="same", use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, layers.Dense(len(classes), dtype="float32")(x))


block = ex.residual_block.or_reference(residual_block)  # yours once it passes
for shortcut in (False, True):
    reached = accuracy(trained(chain(BLOCKS, shortcut)))
    print(f"{BLOCKS} blocks {'with' if shortcut else 'without':8} shortcuts {reached:.3f}")

# %%
ex.why_shortcut.ask()

# %% tags=["solution"]
ex.why_shortcut.answer("b")

# %% [markdown]
# ## Look inside
# What has the network learned? Three views of it, for one picture. The *filters* are the kernels of
# the first convolution, as pictures. The *activations* are what the layers made of this picture:
# fine and many at the top, coarse and few below. The last one, called Grad-CAM, asks which places
# spoke for the answer. Is that where you looked?

# %%
training.inspect(network, test_images[0], class_names=classes).show()

# %% [markdown]
# Grad-CAM is most useful where the network is wrong. Here is its surest mistake. What did it look
# at?

# %%
surest = evaluation.worst[0]
view = training.inspect(network, surest.image, class_names=classes).grad_cam()
show(view.figure(), f"{view.alt} It is really: {surest.true}.")
print(f"It is really: {surest.true}.")

# %% [markdown]
# ## Few pictures
# You rarely have a thousand pictures of each class. Say you have 25. Is that enough to train a
# network? And would it help to have trained it on something else before?
#
# We take half of the classes as the "something else", and 25 pictures of each of the others.

# %%
half = len(classes) // 2
train_images, train_labels = data.arrays(DATASET, "train")
known = train_labels < half
few = [np.flatnonzero(train_labels == label)[:25] for label in range(half, len(classes))]
few = np.concatenate(few)
new_test = test_labels >= half
print(f"known: {', '.join(classes[:half])}: {known.sum():,} pictures")
print(f"new:   {', '.join(classes[half:])}: {len(few)} pictures")


# %%
def trained_on(model, images, labels, peak, epochs):
    """`model` after `epochs` passes over these pictures, augmented, on one cycle."""
    keras.utils.set_random_seed(1)
    train = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).batch(32)
    train = train.map(lambda some, these: (augmented(some), these)).take(STEPS)
    compiled(model, training.one_cycle(peak, epochs * len(train)))
    training.fit(model, train, epochs=epochs, title=None)
    return model


def augmented(images):
    """A batch, shifted and mirrored."""
    for each in change:
        images = each(images, training=True)
    return images


epochs = max(1, 4 * STEPS // 3 // (known.sum() // 32))
base = models.small_resnet(half, shape)
trained_on(base, train_images[known], train_labels[known], PEAK / 2, epochs)
reached = accuracy(base, test_images[~new_test], test_labels[~new_test])
print(f"on the known classes: {reached:.3f}")

# %% [markdown]
# ### Exercise 5: a new head
# The last layer of this network tells the five known classes apart. All layers before it turn a
# picture into a list of numbers, its *features*. Keep those and put a new last layer on them, for
# the new classes.


# %% tags=["exercise", "nbval-check-output"]
def with_new_head(base, num_classes):
    """A model of all layers of `base` but the last, and a new dense layer of `num_classes`."""
    ### BEGIN SOLUTION
    features = base.layers[-2].output
    return keras.Model(base.input, layers.Dense(num_classes)(features))
    ### END SOLUTION


ex.with_new_head.check(with_new_head)  # also ex.with_new_head.hint() and .solution()

# %% [markdown]
# Three ways, the same number of steps each: a fresh network; the new head alone, all else frozen;
# and everything, in smaller steps, so that what was learned is not lost. How far apart will they
# be?

# %%
new_head = ex.with_new_head.or_reference(with_new_head)  # yours once it passes
num_new = len(classes) - half
fresh = models.small_resnet(num_new, shape)
frozen = new_head(base, num_new)
for layer in frozen.layers[:-1]:
    layer.trainable = False
passes = max(1, STEPS // 12)
images, labels = train_images[few], train_labels[few] - half
for name, model, peak in (
    ("from scratch", fresh, PEAK / 2),
    ("the new head alone", frozen, PEAK),
    ("fine-tuned", None, PEAK / 4),
):
    if model is None:  # after the others: it changes the layers that they share
        model = new_head(base, num_new)
        model.trainable = True
    trained_on(model, images, labels, peak, passes)
    reached = accuracy(model, test_images[new_test], test_labels[new_test] - half)
    print(f"{name:20} {reached:.3f}")

# %% [markdown]
# From scratch, 25 pictures of each class are hopeless. The features that tell discs from squares
# tell hearts from arrows, too. Whether it also pays to adjust them, compare the last two lines:
# with so few pictures it need not. This is how almost all networks are trained today: on much that
# is at hand, and then on the little that you have.
#
# It works with pictures of your own. Put them in a folder for each class, run `dltlab data import
# FOLDER --name NAME`, and set `DATASET = "NAME"` at the top. A trained network is saved with
# `network.save("mine.keras")`, and `dltlab classify mine.keras FOLDER --out answers.csv` then
# classifies a folder of pictures. The same from Python, with the test pictures as files:

# %%
folder = Path("runs/image_classification/pictures")
folder.mkdir(parents=True, exist_ok=True)
for place in range(5):
    keras.utils.save_img(folder / f"{place}.png", test_images[place], scale=True)
training.classify(network, folder, classes).iloc[:, :3]

# %% [markdown]
# ## Beside the published figures
# Now put our network into the table of the classics. It belongs there by its costs. Does it by its
# error?

# %%
own = models.cost(network)
errors = [f"{error} (top 5)" for error in published.values()]
rows = pd.DataFrame(
    {
        "parameters (million)": [*table.iloc[:, 0], own.params / 1e6],
        "multiply-adds (billion)": [*table.iloc[:, 1], own.macs / 1e9],
        "error (%)": [*errors, f"{100 * (1 - evaluation.accuracy):.1f} (top 1)"],
        "pictures": ["ImageNet, 1,000 classes"] * 4 + [f"{DATASET}, {len(classes)} classes"],
    },
    index=[*table.index, "ours"],
)
rows.round(3)

# %% [markdown]
# It does not. The four were trained on 1.28 million photographs of a thousand classes, at 224 × 224
# pixels, and are right if the true class is among their first five guesses. Ours saw ten thousand
# small pictures of ten classes, and gets one guess. Their errors can be compared with each other,
# nearly: they were published in different years, and some take the mean over several cuts of a
# picture. Ours can be compared with what else was trained on the same pictures in this lab. Costs,
# on the other hand, mean the same everywhere.

# %% [markdown]
# ## The challenge
# Now alone. What is the best network for `shapes` with at most 100,000 parameters? Ours has three
# times as many. The check calls your function with the 10,000 training pictures and lets the
# network classify the 2,000 test pictures. The bar: 0.90. Whatever passes enters
# `runs/image_classification/leaderboard.csv`, and may be beaten there: by you, or by the person
# beside you.


# %% tags=["exercise"]
def train_classifier(images, labels, seed):
    """A Keras model of at most 100,000 parameters, trained; it gives ten scores for a picture.

    `images` are float32 (n, 32, 32, 3) in [0, 1], `labels` int64 (n,). Everything random follows
    from `seed`.
    """
    ### BEGIN SOLUTION
    keras.utils.set_random_seed(seed)
    model = models.small_resnet(10, (32, 32, 3), width=8)
    train = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).batch(64)
    rate = training.one_cycle(0.02, 4 * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02), loss)
    training.fit(model, train, epochs=4, title=None)
    return model
    ### END SOLUTION


# %%
if RUN_CHALLENGE:
    ex.train_classifier.check(train_classifier)  # also ex.train_classifier.hint() and .solution()
    ex.leaderboard("runs/image_classification/leaderboard.csv")

# %% [markdown]
# ## What you learned
# A convolution is one small table of weights that is used at every place, which makes it cheap in
# parameters and rich in work; with two numbers a layer you can compare networks before you train
# any. What made networks better after 2012 was not more parameters but blocks that can be stacked,
# normalisation, and a schedule, and you measured which of them matters when. A network that has
# learned much learns something new from little.

# %% [markdown]
# ## What to try next
# - In the cell tagged `parameters`, set `DATASET = "cifar10"` and `STEPS = 4000`, and run all.
#   Which parts of the recipe matter on photographs?
# - Replace `small_resnet` by `models.small_vgg` or `models.small_inception`. Which is best for its
#   multiply-adds?
# - Set `BLOCKS = 3` in the cell tagged `parameters`. What does the chain without shortcuts reach?
# - Import pictures of your own and fine-tune on them the network that was trained on `shapes`.
# - `training.fit(…, run_dir="runs/one")` records a training for TensorBoard and keeps every
#   finished epoch. Stop it in the middle, restart the kernel, and go on with `training.resume`.

# %% [markdown]
# ## References
# - A. Krizhevsky, I. Sutskever and G. Hinton, *ImageNet classification with deep convolutional
#   neural networks*, NeurIPS 2012: AlexNet, and its six days on two graphics cards.
# - C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015,
#   [arXiv:1409.4842](https://arxiv.org/abs/1409.4842): GoogLeNet.
# - K. Simonyan and A. Zisserman, *Very deep convolutional networks for large-scale image
#   recognition*, ICLR 2015, [arXiv:1409.1556](https://arxiv.org/abs/1409.1556): VGG.
# - K. He et al., *Deep residual learning for image recognition*, CVPR 2016,
#   [arXiv:1512.03385](https://arxiv.org/abs/1512.03385), and *Identity mappings in deep residual
#   networks*, ECCV 2016, [arXiv:1603.05027](https://arxiv.org/abs/1603.05027): the block.
# - S. Ioffe and C. Szegedy, *Batch normalization*, ICML 2015,
#   [arXiv:1502.03167](https://arxiv.org/abs/1502.03167).

# %% [markdown]
# - L. Smith and N. Topin, *Super-convergence*, 2017,
#   [arXiv:1708.07120](https://arxiv.org/abs/1708.07120): the one-cycle schedule; L. Smith,
#   *Cyclical learning rates*, 2015, [arXiv:1506.01186](https://arxiv.org/abs/1506.01186): the range
#   test.
# - R. Selvaraju et al., *Grad-CAM*, ICCV 2017,
#   [arXiv:1610.02391](https://arxiv.org/abs/1610.02391).
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the slide with 27,000 operations for each byte.
# - The errors of the four networks are those of single models, as collected for the ImageNet
#   validation set.
