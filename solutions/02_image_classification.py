# ---
# title: Image classification
# summary: >-
#   What do AlexNet, GoogLeNet, VGG-16 and ResNet-50 cost, and how many errors do they make? You
#   write a convolution, count what it costs, build a residual block, train a small network, measure
#   what each part of the recipe buys, and look inside. Then you classify photographs with a network
#   that was trained on ImageNet, and teach it new classes from 25 images of each.
# objectives:
#   - compute a convolution by hand, and the parameters and multiply-adds of any convolution
#   - build a residual block and a one-cycle schedule
#   - measure over several seeds what each part of a recipe buys
#   - compare two networks on the same images with McNemar's test
#   - classify a photograph with a pretrained network, correctly preprocessed
#   - transfer a pretrained network to few images, with staged unfreezing
# minutes: {read: 45, exercise: 75, compute: 5}
# memory_gb: 4
# devices: {gpu: optional}
# datasets: [shapes, digits, cifar10]
# requires: [01_first_network]
# profiles:
#   smoke:
#     NETWORKS: [VGG-16]
#     STEPS: 1
#     SHORT_STEPS: 1
#     SEEDS: 1
#     FEW_STEPS: 1
#     BLOCKS: 1
#     MAX_IMAGES: 16
#     SIDE: 32
#     RUN_CHALLENGE: false
#   workshop: {}
#   full:
#     DATASET: cifar10
#     STEPS: 12000
#     SHORT_STEPS: 400
#     SEEDS: 5
#     FEW_STEPS: 400
#     SEARCH: true
#     MAX_IMAGES: 10000
#     SIDE: 224
# ---

# %% [markdown]
# ## The question
# In 2012 a network called AlexNet won the ImageNet competition, in which photographs had to be
# assigned to a thousand classes. It had 61 million parameters and was trained for five to six days
# on two graphics cards. Three years later a network with less than half of the parameters made less
# than half of the mistakes. What had changed?
#
# In this lab you take such networks apart. Then you train a smaller one on the images below: find
# the shape in each. (The backgrounds have nothing to do with it.) Finally you take a network that
# others trained on ImageNet, and teach it new classes.
#
# Rates and comparisons are decided on *validation* images; the *test* images of `DATASET` are used
# once, and then only by the challenge.

# %%
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers
from scipy import stats
from sklearn.datasets import load_sample_images

from dltlab import data, devices, models, training
from dltlab.checks import image_classification as ex
from dltlab.display import NEUTRAL, PALETTE, show
from dltlab.errors import Unavailable

# %% tags=["parameters"]
NETWORKS = ("AlexNet", "GoogLeNet", "VGG-16", "ResNet-50")  # to count, VGG-16 layer by layer
DATASET = "shapes"  # or "cifar10", or images of your own: dltlab data import FOLDER --name NAME
STEPS = 300  # steps of 64 images in the main training
SHORT_STEPS = 80  # steps in each of the trainings that are repeated, on handwritten digits
SEEDS = 3  # repetitions of these trainings
FEW_STEPS = 60  # of 25 images, in each training on 25 images of each class
SEARCH = False  # whether each of the repeated trainings searches for its learning rate again
BLOCKS = 8  # in a deep chain without shortcuts, and in one with them
MAX_IMAGES = 1000  # at most so many validation images, and test images, measure an accuracy
PHOTOS = ""  # a photograph of your own, or a folder of them
PRETRAINED = "efficientnet_lite0"  # or one of keras.applications, as "mobilenet_v2.MobileNetV2"
CUT = "blocks_15"  # its last block, by the name of the first layer; "block_16" in MobileNetV2
SIDE = 96  # pixels of an image for transfer; 224 with a network of keras.applications
RUN_CHALLENGE = True  # the challenge at the end trains one more network

# %%
devices.setup(precision="float32", seed=1)

BATCH_SIZE = 64
EAGER = STEPS < 20  # so few steps are faster than compiling one
BLUE, ORANGE = PALETTE[:2]

info = data.info(DATASET)
class_names, shape = info.class_names, tuple(info.shape)
num_classes = len(class_names)
train_images, train_labels = data.arrays(DATASET, "train")
held_out = []
for split in ("validation", "test"):
    if split in info.split_names:
        images, labels = data.arrays(DATASET, split)
        order = np.random.default_rng(1).permutation(len(labels))  # else class may follow class
        held_out.append((images[order], labels[order]))
if len(held_out) == 1:  # there is no validation split: divide the test images
    held_out = list(zip(*(np.array_split(part, 2) for part in held_out[0]), strict=True))
(val_images, val_labels), (test_images, test_labels) = (
    (images[:MAX_IMAGES], labels[:MAX_IMAGES]) for images, labels in held_out
)


# %%
def show_images(images, titles, title, alt, columns=10):
    """Draw images (n, height, width, channels) in rows, each under its title."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(0.95 * columns, 0.4 + 1.15 * rows))
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, text in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(text, fontsize=9)
    figure.suptitle(title)
    figure.tight_layout()
    show(figure, alt)


show_images(
    val_images[:20],
    [class_names[label] for label in val_labels[:20]],
    f"Twenty validation images of {DATASET}",
    "Twenty small images, each under the name of its class.",
)

# %% [markdown]
# ## A convolution by hand
# A convolution lays a small table of weights, the *kernel*, on the image, multiplies each weight by
# the pixel under it, and adds up the products. Then it moves one pixel on and does the same. The
# sums are a new image. (As in lab 01, this is strictly a *cross-correlation*: the kernel is not
# rotated.)
#
# ### Exercise 1: the convolution
# Write it for one gray image and one kernel. Use only the places where the whole kernel lies in the
# image: a 3 × 3 kernel makes the image two rows and two columns smaller.


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
# Three kernels, set by hand. The first takes the mean of nine pixels. The second compares the
# pixels above with those below. The third compares a pixel with its four neighbors. What will each
# make of the image on the left? All panels have the same scale, on which mid-gray is 0.

# %%
number = int(np.argmax(val_images[:20].mean(axis=-1).std(axis=(1, 2))))  # of most contrast
gray = val_images[number].mean(axis=-1)
kernels = {
    "mean": np.full((3, 3), 1 / 9),
    "horizontal edges": np.array([[1, 1, 1], [0, 0, 0], [-1, -1, -1]]) / 3,
    "spots and lines": np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]]) / 4,
}
apply = ex.convolve.or_reference(convolve)  # yours once it passes
panels = {f"image: {class_names[val_labels[number]]}": gray}
panels |= {name: apply(gray, kernel) for name, kernel in kernels.items()}
largest = max(np.abs(panel).max() for panel in panels.values())
figure, axes = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
for axis, (name, panel) in zip(axes, panels.items(), strict=True):
    drawn = axis.imshow(panel, cmap="gray", vmin=-largest, vmax=largest)
    axis.set(title=name, xticks=[], yticks=[])
figure.colorbar(drawn, ax=axes, label="value")
show(figure, "A gray image, its local mean, its horizontal edges, and its spots and lines.")

# %% [markdown]
# ## What a layer costs
# The weights of the kernels are learned: they are *parameters*, and say what a layer costs in
# memory. For each weight at each place, the layer does one multiplication and one addition, a
# *multiply-add*: their number is the cost in compute. A layer has many kernels. Each sees all
# channels of the input and makes one channel of the output, to which one more parameter is added,
# its *bias*.
#
# ### Exercise 2: count
# How many parameters does a convolution have, and how many multiply-adds does it do for one image?
# The output is as high and as wide as the input (`padding="same"`). Try it on two layers of VGG-16:
# the second, with 64 channels in and out at 224 × 224, and the last convolution, with 512 at
# 14 × 14. Which has more parameters, and which more multiply-adds?


# %% tags=["exercise", "nbval-check-output"]
def conv_cost(height, width, channels_in, channels_out, size):
    """Parameters, and multiply-adds for an image, of a convolution with size × size kernels."""
    ### BEGIN SOLUTION
    weights = size * size * channels_in * channels_out
    return weights + channels_out, height * width * weights
    ### END SOLUTION


ex.conv_cost.check(conv_cost)  # also ex.conv_cost.hint() and ex.conv_cost.solution()

# %% [markdown]
# ## Four classic networks
# `models.cost` counts every layer of a network in this way. Here are four networks of 2012 to 2015,
# untrained, and their published errors on ImageNet: how often the true class is not among the five
# most probable ones. Which network has the most parameters, which costs the most compute, and which
# makes the fewest errors? The last column tests a claim of 2017, that training AlexNet takes 27,000
# operations for each byte of input: a multiply-add is two operations, the backward pass costs twice
# the forward pass, and a pixel has three bytes.

# %%
builders = {
    "AlexNet": models.alexnet,
    "GoogLeNet": models.googlenet,
    "VGG-16": models.vgg16,
    "ResNet-50": models.resnet50,
}
published = {"AlexNet": 19.8, "GoogLeNet": 10.1, "VGG-16": 9.9, "ResNet-50": 7.8}
classic = {name: models.cost(builders[name]()) for name in NETWORKS}
rows = {}
for name, cost in classic.items():
    pixels = cost.input_bytes / 4 / 3  # float32, three channels
    rows[name] = {
        "parameters (million)": cost.params / 1e6,
        "multiply-adds (billion)": cost.macs / 1e9,
        "published top-5 error (%)": published[name],
        "operations per byte": 2 * 3 * cost.macs / (3 * pixels),
    }
pd.DataFrame(rows).T.round(2)

# %% [markdown]
# GoogLeNet has a ninth of AlexNet's parameters and half of its errors. VGG-16 does ten times the
# multiply-adds of GoogLeNet for about the same error. For AlexNet, our count is 4% above the claim.
# For VGG the same talk says 150,000, a fourth of our count, without saying what it counts.
#
# Where does VGG-16 spend its parameters and its multiply-adds? (*Activations* are the numbers that
# one layer passes on to the next.)

# %%
classic["VGG-16"].show()

# %% [markdown]
# The convolutions cost the compute, and the dense layers hold the parameters. Most of those are in
# the first dense layer, which sees all 7 × 7 × 512 numbers at once. GoogLeNet and ResNet-50 take
# the mean over the 49 places first.
#
# ## The block that made networks deep
# In 2015, a plain network of 34 layers was worse than one of 18, even on its training images. The
# remedy was one line: let a block of layers compute only a *change*, and add it to its input,
# through a *shortcut*. This is a *residual* block.
#
# ### Exercise 3: the residual block
# Build one in the order of its second version: normalize, ReLU, convolve; once more; then add the
# input. *Batch normalization* brings each channel to mean 0 and variance 1 over all places of a
# batch, then scales and shifts it. So the convolutions need no bias: `use_bias=False`.


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
# `models.small_resnet` is one convolution, then three such blocks, then the mean over all places
# and one dense layer. Each block halves the image and doubles the channels. Its input and output
# then differ in shape, so its shortcut is not the input itself: it goes through a 1 × 1 convolution
# with stride 2, a *projection*. Which layers have the parameters, and which the multiply-adds?

# %%
network = models.small_resnet(num_classes, shape)
models.cost(network).show()

# %% [markdown]
# ## The learning rate
# Which *learning rate* is good here? If it is too small, the loss hardly falls; if it is too large,
# the loss grows.
#
# First the images. Each is shifted by a few pixels, and mirrored with a probability of 1/2, each
# time anew. This is *augmentation*. The next cell shows ten versions of one image. The one after it
# runs a *range test*: for up to 200 steps it trains with a rate that grows from step to step.
# (AdamW is Adam with *weight decay*: each step also shrinks the weights a little.) From which rate
# on does the loss fall, and where does it turn?

# %%
AUGMENTATION = data.augmentation(crop=max(1, shape[0] // 8), flip=True)
change = AUGMENTATION.layers(*shape[:2])


def augmented(images):
    """A batch, shifted and mirrored at random."""
    for layer in change:
        images = layer(images, training=True)
    return images


show_images(
    np.asarray(augmented(np.repeat(train_images[:1], 10, axis=0))),
    [class_names[train_labels[0]]] * 10,
    "One training image, augmented ten times",
    "Ten versions of one image, each shifted and some of them mirrored.",
)


# %%
def batches(augment=AUGMENTATION, seed=1):
    """Batches of the training images, without an end."""
    load = {"batch_size": BATCH_SIZE, "augment": augment, "seed": seed}
    return data.load(DATASET, "train", **load).repeat()


def compiled(model, rate=0.001):
    """`model`, ready to be trained with this learning rate or schedule."""
    model.compile(
        optimizer=keras.optimizers.AdamW(rate, weight_decay=0.02),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=EAGER,
        jit_compile=False,  # compiling with XLA takes longer than these trainings gain by it
    )
    return model


num_steps = max(2, min(STEPS, 200))
compiled(network)
test = training.lr_range_test(network, batches(), lowest=1e-4, highest=1, num_steps=num_steps)
test.show()

# %% [markdown]
# The dotted line is at the lowest smoothed loss. A constant rate should be well below it, as the
# dashed line is: nearer to it, a training may diverge.
#
# But the best rate changes. While the weights are still random, large steps can do harm. Later,
# they are fast. At the end, small steps come closer to a minimum. The *one-cycle* schedule is at
# its peak only for a moment, so the peak may be larger than a good constant rate. Here it is 0.02.
#
# ### Exercise 4: the schedule
# The rate begins at peak / 25, rises along a straight line to the peak during the first 30% of the
# steps, and falls along half a cosine to 0 at step `num_steps`. (`training.one_cycle` is the same
# for the optimizers of Keras.)


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
# ## Train it
# When does the validation loss fall fastest, and what happens at the end, when the rate goes to 0?
# (Early on, it may jump far above the training loss: in validation, batch normalization uses moving
# averages, which lag behind.)
#
# The second cell draws the confusion matrix and the mistakes with the highest probability. Its
# table says for each class what fraction of its images was recognized (*recall*), and what fraction
# of those assigned to it belong there (*precision*). Which two classes are confused most, and would
# you have known better?

# %%
PEAK = 0.02


def is_correct(model, images, labels):
    """Whether the model classifies each of the images correctly."""
    parts = range(0, len(images), 250)
    scores = [model(images[first : first + 250], training=False) for first in parts]
    return np.concatenate(scores).argmax(axis=1) == labels


steps = max(1, STEPS // 10)
epochs = STEPS // steps
keras.utils.set_random_seed(1)
network = compiled(models.small_resnet(num_classes, shape), training.one_cycle(PEAK, STEPS))
validation = (val_images[:500], val_labels[:500])
fit_options = {"steps_per_epoch": steps, "validation": validation, "title": "small_resnet"}
_ = training.fit(network, batches(), epochs=epochs, **fit_options)

# %%
evaluation = training.evaluate(network, (val_images, val_labels), class_names)
evaluation.show()
evaluation

# %% [markdown]
# ## Look inside
# The *filters* are the kernels of the first convolution, as images. The *feature maps* are what
# four of the layers make of one image. *Grad-CAM* estimates which places in the last of them raised
# the score of the predicted class. Here it looks at the mistake with the highest probability, if
# there is one. Which part of the image may have misled the network?

# %%
worst = evaluation.worst[0] if evaluation.worst else None
inspected = worst.image if worst else val_images[0]
true_name = worst.true if worst else class_names[val_labels[0]]
print(f"true class: {true_name}")
training.inspect(network, inspected, class_names=class_names).show()

# %% [markdown]
# ## What does each part buy?
# The recipe has batch normalization, shortcuts, augmentation and a schedule. To learn what a part
# buys, leave it out and train again, with the same number of steps. Without the part, another
# learning rate may be best, and another seed gives another accuracy. So each variant has a peak of
# its own, the best of four on validation images (of five for the constant rate) in a training with
# one more seed. These rates were found once, with the settings of this lab; after a change of
# settings, `SEARCH = True` searches again. The trainings are small: half of the channels, on lab
# 01's digits of 8 × 8 pixels.


# %%
cycle = ex.one_cycle.or_reference(one_cycle)  # yours once it passes
RATES = [0.002, 0.006, 0.02, 0.06]  # tried in a search


def repeat(model, start, train, num_steps, images, labels, rate, rates=RATES, schedule=cycle):
    """Train from the weights `start(seed)` on `train(seed)`, at `rate` or the best of a search."""

    def run(seed, peak):
        keras.utils.set_random_seed(seed)
        model.set_weights(start(seed))
        for variable in model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        for step, batch in enumerate(train(seed).take(num_steps)):
            model.optimizer.learning_rate = schedule(step, num_steps, peak)
            model.train_on_batch(*batch)
        return is_correct(model, images, labels), model.get_weights()

    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # Keras' 0.99 is too slow for so few steps
    searched = {peak: run(SEEDS, peak) for peak in rates} if SEARCH else {}
    tried = {peak: correct.mean() for peak, (correct, _) in searched.items()}
    rate = max(tried, key=tried.get, default=rate)
    runs = [run(seed, rate) for seed in range(SEEDS)] + ([searched[rate]] if SEARCH else [])
    correct, weights = np.array([run[0] for run in runs[:SEEDS]]), [run[1] for run in runs]
    return SimpleNamespace(model=model, rate=rate, tried=tried, weights=weights, correct=correct)


# %%
def show_seeds(runs, title):
    """Draw the validation accuracy of each seed and their mean, a row for each of the `runs`."""
    figure, axis = plt.subplots(figsize=(8, 1.2 + 0.4 * len(runs)), layout="constrained")
    accuracies = np.array([run.correct.mean(axis=1) for run in runs.values()])
    means, rows = accuracies.mean(axis=1), np.arange(len(runs))
    for seed in range(SEEDS):
        places = rows + 0.4 * ((seed + 0.5) / SEEDS - 0.5)
        color, marker = PALETTE[seed % len(PALETTE)], "osD^vP"[seed % 6]
        axis.plot(accuracies[:, seed], places, marker, color=color, label=f"seed {seed}")
    axis.plot(means, rows, "|", color=NEUTRAL, markersize=20, markeredgewidth=2, label="mean")
    axis.set(yticks=rows, yticklabels=list(runs), ylim=(len(runs) - 0.5, -0.5))
    axis.set(xlabel="validation accuracy", ylabel="training", title=title)
    axis.grid(alpha=0.3)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    texts = [f"{name} {mean:.2f}" for name, mean in zip(runs, means, strict=True)]
    show(figure, f"{title}. Mean validation accuracy: {', '.join(texts)}.")


def summary(runs, reference):
    """A table of the learning rates, of each seed's difference, and of a search for the rates."""
    rates = sorted({rate for run in runs.values() for rate in run.tried})
    rows, minus = {}, f"minus {reference}, seed"
    for name, run in runs.items():
        gains = (run.correct.mean(axis=1) - runs[reference].correct.mean(axis=1)).round(3)
        tried = {rate: f"{accuracy:.3f}" for rate, accuracy in run.tried.items()}
        rows[name] = {("learning", "rate"): f"{run.rate:g}"}
        rows[name] |= {(minus, str(seed)): f"{gain:+.3f}" for seed, gain in enumerate(gains)}
        rows[name] |= {("accuracy for rate", f"{rate:g}"): tried.get(rate, "") for rate in rates}
    return pd.DataFrame(rows).T


# %% [markdown]
# Leaving the shortcuts out removes their projections, too, with 3.5% of the parameters. Where the
# best of the four rates was the largest, 0.06, a larger one may be better still. The digits are
# shifted by a pixel, but not mirrored, and their test images serve for validation here.
#
# In the figure, a color is a seed, and a bar their mean. The table has the rates and the
# differences, seed by seed: one that changes its sign decides nothing, and by chance alone three
# have the same sign in one case out of four. Which parts matter after so few steps? Guess first.

# %%
digit_images, digit_labels = data.arrays("digits", "test")  # here only for validation
shift = data.augmentation(crop=1)


@cache
def new_weights(model, seed):
    """The weights of a new network with the layers of `model`."""
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model).get_weights()


def train_digits(model, rate, augment=shift, **options):
    """Train a network on the digits, SHORT_STEPS steps for each seed, from new weights."""

    def train(seed):
        load = {"batch_size": BATCH_SIZE, "augment": augment, "seed": seed}
        return data.load("digits", "train", **load).repeat()

    start = partial(new_weights, model)
    steps, images, labels = SHORT_STEPS, digit_images, digit_labels
    return repeat(model, start, train, steps, images, labels, rate, **options)


# %%
small = {"num_classes": 10, "input_shape": (8, 8, 1), "width": 8}
resnet = compiled(models.small_resnet(**small))


def constant(step, num_steps, peak):
    """The same rate in each step."""
    return peak


unnormalized = compiled(models.small_resnet(**small, batch_norm=False))
plain = compiled(models.small_resnet(**small, residual=False))
ablation = {
    "everything": train_digits(resnet, 0.02),
    "no normalization": train_digits(unnormalized, 0.02),
    "no shortcuts": train_digits(plain, 0.06),
    "no augmentation": train_digits(resnet, 0.006, augment=None),
    "constant rate": train_digits(resnet, 0.002, rates=[0.0006, *RATES], schedule=constant),
}
show_seeds(ablation, f"{SHORT_STEPS} steps on digits, {SEEDS} seeds")
summary(ablation, "everything")

# %% [markdown]
# A part that helps here need not help elsewhere. Augmentation makes every image harder, and usually
# pays off once a network has seen its images so often that it begins to memorize them. Shortcuts
# were made for *deep* networks, and this one has seven convolutions in a row. So go deeper: chains
# of blocks with 24 channels, a shallow one without shortcuts, a deep one without, and a deep one
# with yours. A plain deep network could compute all that a plain shallow one can. Does it learn to?
# The lines under the figure tell whether it classifies even its training images worse. And is the
# deep one with shortcuts as good as the shallow one, after so few steps?


# %%
def chain(num_blocks, shortcut):
    """`num_blocks` residual blocks, or the same layers without the sum."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(24, 4, strides=2, padding="same")(inputs)
    for _ in range(num_blocks):
        if shortcut:
            x = block(x, 24)
            continue
        for _ in range(2):
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.Conv2D(24, 3, padding="same", use_bias=False)(x)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
    return keras.Model(inputs, layers.Dense(10)(x))


block = ex.residual_block.or_reference(residual_block)  # yours once it passes

# %%
shallow = max(1, BLOCKS // 4)
chains = {
    f"{BLOCKS} blocks": train_digits(compiled(chain(BLOCKS, False)), 0.006),
    f"{shallow} blocks, shallow": train_digits(compiled(chain(shallow, False)), 0.02),
    f"{BLOCKS} blocks, shortcuts": train_digits(compiled(chain(BLOCKS, True)), 0.06),
}
show_seeds(chains, f"Chains of blocks: {SHORT_STEPS} steps on digits, {SEEDS} seeds")
for name, run in chains.items():
    accuracies = []
    for weights in run.weights[:SEEDS]:
        run.model.set_weights(weights)
        accuracies.append(is_correct(run.model, *data.arrays("digits", "train")).mean())
    print(f"{name}: training accuracy {', '.join(f'{value:.3f}' for value in accuracies)}")
summary(chains, f"{BLOCKS} blocks")

# %%
ex.why_shortcut.ask()

# %% tags=["solution"]
ex.why_shortcut.answer("b")

# %% [markdown]
# ## Two networks on the same images
# Take one seed: is the network with everything better than the one without shortcuts? Both
# classified the *same* images. Where both are correct, or both wrong, an image says nothing about
# the difference. What counts is the images on which exactly one is correct. If the networks were
# equally good, each of those would be like the toss of a fair coin. This is *McNemar's test*.
#
# ### Exercise 5: McNemar's test
# Return the two-sided p-value of the exact test: how probable a result at least as uneven would be
# if the coin were fair. For k heads in n tosses it is `stats.binomtest(k, n).pvalue`; with no toss,
# p is 1. The next cell tests the networks of each seed. Does the same one win each time, with a
# small p? That speaks for the recipe, not just for one trained network.


# %% tags=["exercise", "nbval-check-output"]
def mcnemar(first, second):
    """The p-value of two arrays that say whether each image was classified correctly."""
    ### BEGIN SOLUTION
    only_first = np.sum(first & ~second)
    differ = np.sum(first != second)
    return stats.binomtest(only_first, differ).pvalue if differ else 1.0
    ### END SOLUTION


ex.mcnemar.check(mcnemar)  # also ex.mcnemar.hint() and ex.mcnemar.solution()

# %%
p_value = ex.mcnemar.or_reference(mcnemar)  # yours once it passes
with_all, without = ablation["everything"].correct, ablation["no shortcuts"].correct
for seed, (first, second) in enumerate(zip(with_all, without, strict=True)):
    print(
        f"seed {seed}: everything {first.mean():.3f}, no shortcuts {second.mean():.3f}; "
        f"only one correct: {np.sum(first & ~second)} and {np.sum(second & ~first)}, "
        f"p = {p_value(first, second):.2g}"
    )

# %%
ex.which_is_better.ask()

# %% tags=["solution"]
ex.which_is_better.answer("c")

# %% [markdown]
# ## A network that was trained on ImageNet
# EfficientNet-Lite0 was trained on 1.28 million photographs of the 1,000 classes of ImageNet. Its
# authors published 4.7 million parameters, 407 million multiply-adds, and 75.1% of the validation
# images classified correctly. What does `models.cost` count?


# %%
def load_pretrained(name):
    """A network with weights of ImageNet, and how Keras preprocesses its pixels from 0 to 255."""
    if name == "efficientnet_lite0":
        return models.efficientnet_lite0(input_shape=(None, None, 3), weights="imagenet"), None
    module, _, network = name.partition(".")
    module = getattr(keras.applications, module, None)
    if not hasattr(module, network):
        raise Unavailable(f'Keras has no {name}, but for example "mobilenet_v2.MobileNetV2"')
    try:
        network = getattr(module, network)(weights="imagenet", classifier_activation=None)
    except Exception as error:  # Keras raises this class where it cannot download
        raise Unavailable(
            f"Keras cannot load the weights of {name} ({error}). Connect this machine to the "
            'network, or set PRETRAINED = "efficientnet_lite0", whose weights are installed'
        ) from error
    return network, module.preprocess_input


try:
    pretrained, keras_preprocess = load_pretrained(PRETRAINED)
    imagenet_names = models.imagenet_class_names()
except Unavailable as error:
    print(f"{error}. Until then the weights are random, and the results below mean nothing.")
    pretrained, keras_preprocess = models.efficientnet_lite0(input_shape=(None, None, 3)), None
    imagenet_names, CUT = [f"class {label}" for label in range(1000)], "blocks_15"
cost = models.cost(pretrained, (224, 224, 3))
print(f"{pretrained.name}: {cost.trainable_params / 1e6:.2f} million parameters to train,")
print(f"{cost.params - cost.trainable_params:,} means and variances, ", end="")
print(f"{cost.macs / 1e6:.0f} million multiply-adds")

# %% [markdown]
# The parameters agree. `models.cost` does not count normalization, activations and sums, which may
# be why its multiply-adds are a little fewer.
#
# A pretrained network needs its pixels as they were in its training; conventions differ.
#
# ### Exercise 6: preprocess
# `data.arrays` gives pixels from 0 to 1. EfficientNet-Lite0 was trained on (pixel - 127) / 128,
# with pixels from 0 to 255.
#
# The cells after the exercise classify two photographs that come with scikit-learn, or yours: set
# `PHOTOS` to a file or a folder. The network sees the middle of each, at 224 × 224, and gives each
# of the 1,000 classes a probability; it knows no others. What would you say is in them? The last
# cell preprocesses the same photographs wrongly. Nothing fails: which mistakes would you notice,
# and which would only cost accuracy?


# %% tags=["exercise", "nbval-check-output"]
def preprocess(images):
    """The network's input for images (n, height, width, 3) with values from 0 to 1."""
    ### BEGIN SOLUTION
    return (255 * images - 127) / 128
    ### END SOLUTION


ex.preprocess.check(preprocess)  # also ex.preprocess.hint() and ex.preprocess.solution()

# %%
prepare = ex.preprocess.or_reference(preprocess)  # yours once it passes
if keras_preprocess:

    def prepare(images):
        return keras_preprocess(255 * images)


def read_photos(source):
    """The middle of each photograph, (n, 224, 224, 3) from 0 to 1, and the names of the files."""
    paths = [Path(name) for name in load_sample_images().filenames]
    if source:
        path = Path(source).expanduser()
        paths = (
            [file for file in sorted(path.iterdir()) if file.is_file()] if path.is_dir() else [path]
        )
    photos = [data.read_image(path, 256, "crop")[16:-16, 16:-16] for path in paths[:4]]
    return np.stack(photos) / np.float32(255), [path.name for path in paths[:4]]


def imagenet_probabilities(inputs):
    """The probabilities (n, 1000) of ImageNet's classes."""
    return np.asarray(keras.ops.softmax(pretrained(inputs, training=False)))


# %%
photos, files = read_photos(PHOTOS)
probabilities = imagenet_probabilities(prepare(photos))
size = (9, 2.4 * len(photos))
figure, axes = plt.subplots(len(photos), 2, figsize=size, layout="constrained", squeeze=False)
found = []
for (left, right), photo, file, scores in zip(axes, photos, files, probabilities, strict=True):
    top = np.argsort(scores)[::-1][:5]
    left.imshow(photo)
    left.set(title=file, xticks=[], yticks=[])
    right.barh([imagenet_names[label] for label in top], scores[top], color=BLUE)
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="probability", ylabel="class")
    found.append(f"{file}: {imagenet_names[top[0]]} {scores[top[0]]:.2f}")
show(figure, f"Photographs and their five most probable classes; {', '.join(found)}.")

# %%
inputs = {
    "as in its training": prepare(photos),
    "pixels from 0 to 1": photos,
    "pixels from 0 to 255": 255 * photos,
    "preprocessed twice": prepare(prepare(photos)),
}
all_scores = imagenet_probabilities(np.concatenate(list(inputs.values())))
rows = {}
for name, scores in zip(inputs, np.split(all_scores, len(inputs)), strict=True):
    best = [f"{imagenet_names[row.argmax()]} {row.max():.2f}" for row in scores]
    rows[name] = dict(zip(files, best, strict=True))
pd.DataFrame(rows).T

# %% [markdown]
# ## Few images
# Say you have 25 images of each class. Can a network that was trained on photographs help with the
# classes of `DATASET`?
#
# To save time, the network is cut in two before its last block. The *trunk*, all before the cut,
# stays as it is: we compute its feature maps once for each image. Only the *tail* is trained.


# %%
layer = next(layer for layer in pretrained.layers if layer.name.startswith(CUT))
trunk = keras.Model(pretrained.input, layer.input)
last_block = keras.Model(layer.input, pretrained.output)
tail = keras.models.clone_model(last_block)  # the pretrained network itself stays as it is
tail.set_weights(last_block.get_weights())
run_trunk = trunk if EAGER else tf.function(trunk)


def maps_of(images, prepare=prepare):
    """The trunk's feature maps of images from 0 to 1, which are enlarged to SIDE × SIDE."""
    parts, size = [], max(1, 50 * 96**2 // SIDE**2)  # so many images at a time fit into memory
    for first in range(0, len(images), size):
        colored = np.repeat(images[first : first + size], 3 // images.shape[-1], axis=-1)
        parts.append(run_trunk(prepare(tf.image.resize(colored, (SIDE, SIDE)))))
    return np.concatenate(parts)


# %%
def no_change(images):
    """The pixels from 0 to 255 as they are."""
    return 255 * images


def few_of_each(seed):
    """The numbers of 25 training images of each class."""
    order = np.random.default_rng(seed).permutation(len(train_labels))
    return np.concatenate(
        [order[train_labels[order] == label][:25] for label in range(num_classes)]
    )


few = [few_of_each(seed) for seed in range(SEEDS + SEARCH)]  # a search needs one more
few_maps = [maps_of(train_images[rows]) for rows in few]
few_val = val_images[:500], val_labels[:500]
val_maps = maps_of(few_val[0])
print(f"{len(few[0])} images of {num_classes} classes; feature maps {few_maps[0].shape[1:]}")

# %% [markdown]
# ### Exercise 7: a new head
# The last layer of the tail gives the scores of ImageNet's classes. The layers before it give the
# *features*, a list of numbers for each image. Keep those, and put a new last layer on them, for
# the new classes.


# %% tags=["exercise", "nbval-check-output"]
def with_new_head(base, num_classes):
    """A model whose layers are those of `base` but the last, and a new dense layer."""
    ### BEGIN SOLUTION
    features = base.layers[-2].output
    return keras.Model(base.input, layers.Dense(num_classes)(features))
    ### END SOLUTION


ex.with_new_head.check(with_new_head)  # also ex.with_new_head.hint() and .solution()

# %% [markdown]
# ### Exercise 8: staged unfreezing
# A new head begins with random weights, so its first gradients may spoil the features below it.
# Training in *stages* avoids this: first the head alone, all else *frozen*, then also the block
# below it. Whether that is better than training both at once, you measure below.
#
# Batch normalization needs care. In training, it uses the mean and variance of the batch and
# updates its moving averages. Frozen, Keras' layer for it runs in *inference mode* and keeps the
# statistics of ImageNet, which rest on far more images than yours. So your function keeps it
# frozen; one of the trainings below does not, for comparison.


# %% tags=["exercise", "nbval-check-output"]
def unfreeze(model, num_layers):
    """`model`, with only its last layers trainable, and no batch normalization."""
    ### BEGIN SOLUTION
    model.trainable = True  # the model as a whole, and all of its layers
    for place, layer in enumerate(model.layers):
        is_last = place >= len(model.layers) - num_layers
        layer.trainable = is_last and not isinstance(layer, layers.BatchNormalization)
    return model
    ### END SOLUTION


ex.unfreeze.check(unfreeze)  # also ex.unfreeze.hint() and ex.unfreeze.solution()

# %% [markdown]
# Six trainings, on the same images for each seed: `small_resnet` with half of the channels from
# scratch, augmented, with five times as many steps; the new head alone; the head on features of
# raw pixels, from 0 to 255; the whole tail after the head; the whole tail at once, with the steps
# of both stages; and the tail after the head with batch normalization in training mode. Their rates
# were found as above, on images of one more seed. Guess their order before you run the cells.


# %%
def few_batches(inputs, augment=False):
    """A function of a seed that gives batches without an end of the few images, or their maps."""

    def train(seed):
        examples = tf.data.Dataset.from_tensor_slices((inputs[seed], train_labels[few[seed]]))
        examples = examples.shuffle(len(few[seed]), seed=seed).repeat().batch(25)
        if not augment:
            return examples
        return examples.map(lambda images, labels: (augmented(images), labels))

    return train


new_head = ex.with_new_head.or_reference(with_new_head)  # yours once it passes
unfrozen = ex.unfreeze.or_reference(unfreeze)
model = new_head(tail, num_classes)
pretrained_weights = tail.get_weights()


def head_start(seed):
    """The weights of ImageNet, and new ones for the head."""
    return pretrained_weights[:-2] + new_head(tail, num_classes).layers[-1].get_weights()


def after_head(seed):
    """The weights after the training of the head."""
    return transfer["new head"].weights[seed]


# %%
transfer = {}
few_images = [train_images[rows] for rows in few]
raw_maps = [maps_of(images, no_change) for images in few_images]
train, raw_train = few_batches(few_maps), few_batches(raw_maps)
val = {"images": val_maps, "labels": few_val[1], "rate": 0.006}
raw_val = val | {"images": maps_of(few_val[0], no_change)}
scratch = compiled(models.small_resnet(num_classes, shape, width=8))

transfer["from scratch"] = repeat(
    scratch,
    partial(new_weights, scratch),
    few_batches(few_images, augment=True),
    5 * FEW_STEPS,
    *few_val,
    rate=0.02,
)
compiled(unfrozen(model, 1))
transfer["new head"] = repeat(model, head_start, train, FEW_STEPS, **val)
transfer["new head, raw pixels"] = repeat(model, head_start, raw_train, FEW_STEPS, **raw_val)

compiled(unfrozen(model, len(model.layers)))
transfer["then the tail"] = repeat(model, after_head, train, FEW_STEPS, **val)
transfer["tail at once"] = repeat(model, head_start, train, 2 * FEW_STEPS, **val)
model.trainable = True  # batch normalization, too
compiled(model)
transfer["tail, norms trained"] = repeat(model, after_head, train, FEW_STEPS, **val)
show_seeds(transfer, f"25 images of each class of {DATASET}, {SEEDS} seeds")
summary(transfer, "then the tail")

# %% [markdown]
# Points of one color are trainings on the same images. Are stages better than the tail at once in
# each of them? Both take equally many steps, but at once the tail is trained in all of them, after
# the head only in half; and the one-cycle schedule begins with small steps in any case. How much
# the features help depends on how similar the new images are to ImageNet's (see Yosinski et al.).
#
# ## The test images, once
# Every choice has been made. Now the test images: for the network that was trained on all images,
# and for the transfer of each seed. An accuracy on n images has a standard error of up to 0.5 / √n.
# Which differences are much larger?

# %%
finals = {"small_resnet, all images": [is_correct(network, test_images, test_labels)]}
test_maps = maps_of(test_images)
for name in ("from scratch", "new head", "then the tail", "tail at once"):
    finals[f"{name}, 25 a class"] = []
    for weights in transfer[name].weights[:SEEDS]:
        transfer[name].model.set_weights(weights)
        inputs = test_images if name == "from scratch" else test_maps
        finals[f"{name}, 25 a class"].append(is_correct(transfer[name].model, inputs, test_labels))
rows = {}
for name, correct in finals.items():
    accuracies = np.mean(correct, axis=1)
    rows[name] = {
        "mean": accuracies.mean(),
        "lowest": accuracies.min(),
        "highest": accuracies.max(),
    }
print(f"test accuracy on {len(test_labels):,} images")
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# ## Something to show a friend
# Take a photograph of something on your desk, set `PHOTOS` to its path, run that cell, and then
# those that classify photographs. Or teach it your own classes, from 40 photographs of each, of
# which 30% are held out: put them in a folder for each class, run
# `dltlab data import FOLDER --name NAME`, and set `DATASET = "NAME"`.
#
# ## The challenge
# What is the best network for `shapes` with at most 100,000 parameters, a third of those above? The
# check calls your function with the 10,000 training images and measures the network on the 2,000
# test images. The bar: 0.8. What passes enters `runs/image_classification/leaderboard.csv`. Choose
# on the validation images: each look at the test images makes them worth less.


# %% tags=["exercise"]
def train_classifier(images, labels, seed):
    """A Keras model of at most 100,000 parameters, trained; it gives ten scores for an image.

    `images` are float32 (n, 32, 32, 3) in [0, 1], `labels` int64 (n,). Everything random follows
    from `seed`.
    """
    ### BEGIN SOLUTION
    keras.utils.set_random_seed(seed)
    model = models.small_resnet(10, (32, 32, 3), width=8)
    train = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(labels)).batch(64)
    rate = training.one_cycle(0.02, 3 * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.02), loss, jit_compile=False)
    training.fit(model, train, epochs=3, title=None)
    return model
    ### END SOLUTION


if RUN_CHALLENGE:
    ex.train_classifier.check(train_classifier)  # also ex.train_classifier.hint() and .solution()
    ex.leaderboard("runs/image_classification/leaderboard.csv")

# %% [markdown]
# ## What you learned
# A convolution uses one small table of weights at every place, so it has few parameters and many
# multiply-adds, and both can be counted before any training. What a part of a recipe buys depends
# on the network and the training: several seeds tell, and for two given networks McNemar's test. A
# network that was trained on many images gives features for few: preprocess its pixels as in its
# training.
#
# ## What to try next
# - Import the JPEGs of CIFAR-10 and set `DATASET` to their name. What changes with few images?
# - Set `SHORT_STEPS = 400` and `SEARCH = True`. Which parts of the recipe matter now?
# - Replace `small_resnet` with `models.small_vgg` or `models.small_inception`. Which is best for
#   its multiply-adds?
# - Where Keras may download weights, set `PRETRAINED = "mobilenet_v2.MobileNetV2"`,
#   `CUT = "block_16"`, `SIDE = 224` and `SEARCH = True`.

# %% [markdown]
# ## References
# - A. Krizhevsky, I. Sutskever and G. Hinton, *ImageNet classification with deep convolutional
#   neural networks*, NeurIPS 2012: AlexNet, and its five to six days on two graphics cards.
# - C. Szegedy et al., *Going deeper with convolutions*, CVPR 2015,
#   [arXiv:1409.4842](https://arxiv.org/abs/1409.4842): GoogLeNet; K. Simonyan and A. Zisserman,
#   *Very deep convolutional networks for large-scale image recognition*, ICLR 2015,
#   [arXiv:1409.1556](https://arxiv.org/abs/1409.1556): VGG.
# - The top-5 errors are those of single models on the center crop of ImageNet's validation images:
#   AlexNet from its replication in Caffe (models/bvlc_alexnet/readme.md in github.com/BVLC/caffe),
#   GoogLeNet from table 3 of its paper, VGG-16 and ResNet-50 from
#   github.com/KaimingHe/deep-residual-networks.
# - K. He et al., *Deep residual learning for image recognition*, CVPR 2016,
#   [arXiv:1512.03385](https://arxiv.org/abs/1512.03385), and *Identity mappings in deep residual
#   networks*, ECCV 2016, [arXiv:1603.05027](https://arxiv.org/abs/1603.05027): the block.
# - S. Ioffe and C. Szegedy, *Batch normalization*, ICML 2015,
#   [arXiv:1502.03167](https://arxiv.org/abs/1502.03167).

# %% [markdown]
# - L. Smith and N. Topin, *Super-convergence*, 2017,
#   [arXiv:1708.07120](https://arxiv.org/abs/1708.07120): the one-cycle schedule, with straight
#   lines; its half cosine is that of the library [fastai](https://docs.fast.ai); L. Smith,
#   *Cyclical learning rates for training neural networks*, 2015,
#   [arXiv:1506.01186](https://arxiv.org/abs/1506.01186): the range test.
# - Q. McNemar, *Note on the sampling error of the difference between correlated proportions or
#   percentages*, Psychometrika 12, 1947; T. Dietterich, *Approximate statistical tests for
#   comparing supervised classification learning algorithms*, Neural Computation 10, 1998.
# - M. Tan and Q. Le, *EfficientNet*, ICML 2019,
#   [arXiv:1905.11946](https://arxiv.org/abs/1905.11946); the figures of EfficientNet-Lite0 are from
#   models/official/efficientnet/lite in the repository of TensorFlow's TPU models.
# - J. Yosinski et al., *How transferable are features in deep neural networks?*, NeurIPS 2014,
#   [arXiv:1411.1792](https://arxiv.org/abs/1411.1792).
# - R. Selvaraju et al., *Grad-CAM*, ICCV 2017,
#   [arXiv:1610.02391](https://arxiv.org/abs/1610.02391).
# - G. Roth and F. Courteille, *Towards accelerated deep learning in HPC and hyperscale
#   architectures*, NVIDIA, Teratec Forum 2017: the talk with 27,000 operations for each byte.
