# ---
# title: Text to image
# summary: >-
#   Type a caption, get an image. You write the loss of a StackGAN with its two stages, then flow
#   matching with its sampler, and train both on the same captions for the same time. A judge that
#   neither of them has seen counts which words are obeyed, also in combinations that were never
#   shown. At the end, a text box paints what you type.
# objectives:
#   - write StackGAN's conditioning augmentation and its divergence
#   - make a discriminator read captions, with mismatched pairs
#   - recognize mode collapse in images and in numbers
#   - write the path, the velocity and the sampler of flow matching
#   - trade diversity for obedience by classifier-free guidance
#   - compute an inception score, and say what it does not see
# minutes: {read: 40, exercise: 60, compute: 5}
# memory_gb: 3
# devices: {gpu: optional}
# datasets: [captioned_shapes]
# requires: [02_image_classification]
# profiles:
#   smoke:
#     JUDGE_IMAGES: 240
#     JUDGE_EPOCHS: 1
#     COLLAPSE_STEPS: 10
#     SECONDS: 0.2
#     PARTS: 1
#     WIDTH: 64
#     GAN_WIDTH: 8
#     XLA: false
#     STEPS: 2
#     SCORED: 12
#     GUIDANCES: [1.0, 2.0]
#   workshop: {}
#   full: {SECONDS: 600, WIDTH: 1024, GAN_WIDTH: 64, JUDGE_IMAGES: 48000, STEPS: 24}
# ---

# %% [markdown]
# ## The question
# A slide of 2017 shows images that a network, StackGAN, has painted from sentences. Two networks
# compete, and the images grow in two stages. Today's systems, such as Stable Diffusion 3, learn to
# turn noise into an image along a path instead. What did the change bring?
#
# On a laptop we cannot paint birds. Our captions name a size, a color, a shape and a place. Here
# are some of them, with the images that belong to them.

# %%
import time

import keras
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import tensorflow as tf
from keras import layers

from dltlab import data, devices, models, record, training
from dltlab.checks import text_to_image as ex
from dltlab.display import PALETTE, show
from dltlab.errors import LabError
from dltlab.widgets import CaptionPainter

devices.setup(precision="float32", seed=1)

# %% tags=["parameters"]
JUDGE_IMAGES = 12_000  # that train the judge
JUDGE_EPOCHS = 4
COLLAPSE_STEPS = 1500  # of training a GAN on a ring of points
SECONDS = 100.0  # of training for each of the two methods
SHARE = 0.7  # of this time for the first stage of the GAN
PARTS = 4  # of each training, after which its images are scored
WIDTH = 512  # units of the flow network's dense layers
GAN_WIDTH = 24  # channels of the first convolutions of the GAN's networks
BATCH = 64
XLA = True  # compile the training steps with XLA
STEPS = 12  # of the sampler
SCORED = 216  # seen and as many unseen captions that are scored
GUIDANCES = [0.0, 1.0, 2.0, 4.0]

# %%
COLORS = dict(zip([*data.CAPTION_ATTRIBUTES, "all four"], [*PALETTE[:4], "black"], strict=True))
rng = np.random.default_rng(1)


def load(split):
    """Images in [-1, 1] and the numbers of their captions."""
    images, labels = data.arrays("captioned_shapes", split)
    return 2 * images - 1, labels


def gallery(rows, labels, title):
    """Show rows of images in [-1, 1], a column for each caption."""
    size = (1.15 * len(labels), 1.15 * len(rows) + 1)
    figure, axes = plt.subplots(
        len(rows), len(labels), figsize=size, layout="constrained", squeeze=False
    )
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(np.clip((image + 1) / 2, 0, 1), interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=9)
    for axis, label in zip(axes[0], labels, strict=True):
        size, color, shape, place = data.read_caption(data.CAPTIONS[label]).values()
        axis.set_title(f"{size} {color}\n{shape}, {place}", fontsize=8)
    figure.suptitle(title)
    captions = "; ".join(data.CAPTIONS[label] for label in labels)
    show(figure, f"{title}. Rows: {', '.join(rows)}. Columns: {captions}.")


# %%
train_images, train_labels = load("train")
test_images, test_labels = load("test")
seen = np.setdiff1d(np.arange(len(data.CAPTIONS)), data.UNSEEN_CAPTIONS)
unseen = np.array(data.UNSEEN_CAPTIONS)
by_caption = np.argsort(test_labels, kind="stable").reshape(len(data.CAPTIONS), -1)
shown = np.concatenate([seen[[56, 99, 125, 175]], unseen[[7, 10, 21, 12]]])
gallery({"real": test_images[by_caption[shown, 0]]}, shown, "Captions and their images")
print(f"{len(seen)} captions in the training images, {len(unseen)} that are never shown.")

# %% [markdown]
# The four captions at the right are *unseen*: the training has no image of them, though it shows
# each of their words in other combinations. A network that paints them has learned what the words
# mean, and has not only memorized images.
#
# A caption becomes a vector with one entry for each known word. The order of the words is lost,
# which does no harm here. What happens if a word is unknown?

# %%
vectors = data.caption_vectors(data.CAPTIONS)
print(data.CAPTIONS[shown[0]], "->", vectors[shown[0]].astype(int))
try:
    data.caption_vectors(["a purple elephant at the left"])
except LabError as error:
    print(error)

# %% [markdown]
# ## A judge
# How do we measure whether an image obeys its caption? A network that names the four attributes
# of an image can do it. This *judge* must not be trained with what it judges, and it must be nearly
# always correct on real images. It gets images of its own, of all captions, also the unseen ones.

# %%
judge = models.caption_judge([len(words) for words in data.CAPTION_ATTRIBUTES.values()])
losses = [keras.losses.SparseCategoricalCrossentropy(from_logits=True) for _ in judge.outputs]
rate = keras.optimizers.schedules.CosineDecay(0.004, JUDGE_EPOCHS * JUDGE_IMAGES // 128)
judge.compile(keras.optimizers.Adam(rate), losses, jit_compile=False)
judge_images, judge_labels = data.captioned_shapes(JUDGE_IMAGES, seed=9)
judge_images = judge_images.astype("float32") / 127.5 - 1
examples = judge_images, tuple(data.attributes_of(judge_labels).T)
_ = training.fit(judge, examples, epochs=JUDGE_EPOCHS, batch_size=128, title=None)


# %%
def judged(images):
    """The judge's probabilities, an array (n, values) for each attribute."""
    logits = judge.predict(images, batch_size=256, verbose=0)
    return [keras.ops.convert_to_numpy(keras.ops.softmax(part)) for part in logits]


def obeyed(images, labels):
    """Which attributes are obeyed, and whether all four are; booleans (n, 5)."""
    named = np.stack([part.argmax(axis=1) for part in judged(images)], axis=1)
    right = named == data.attributes_of(labels)
    return np.column_stack([right, right.all(axis=1)])


reliability = pd.Series(obeyed(test_images, test_labels).mean(axis=0), list(COLORS), name="correct")
print("The judge on real images that it has not seen:")
reliability.round(4).to_frame()

# %% [markdown]
# What follows cannot be measured more exactly than the judge sees.
#
# ## Two networks compete
# A *generator* turns random numbers into images. A *discriminator* sees real and painted images and
# tells them apart. Each learns from the other. If all goes well, painted images cannot be told from
# real ones in the end.
#
# Often, it does not go well. Here a GAN learns points on a ring, in eight clusters. The
# discriminator looks at one point at a time. Would it notice if the generator painted only one
# cluster? Look at where the orange points are at three moments.


# %%
def small_network(num_inputs, num_outputs):
    """Three dense layers."""
    hidden = [layers.Dense(64, activation="relu") for _ in range(2)]
    return keras.Sequential([keras.Input((num_inputs,)), *hidden, layers.Dense(num_outputs)])


def new_optimizer(variables, rate, **options):
    """Adam, with its own variables made."""
    optimizer = keras.optimizers.Adam(rate, **options)
    optimizer.build(variables)
    return optimizer


def update(tape, loss, variables, optimizer):
    """Change variables along the gradient of a loss."""
    optimizer.apply(tape.gradient(loss, variables), variables)


clusters = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], axis=1)
ring_generator, ring_discriminator = small_network(4, 2), small_network(2, 1)
ring_optimizers = [
    new_optimizer(network.trainable_variables, 0.002, beta_1=0.5)
    for network in (ring_generator, ring_discriminator)
]


# %%
@tf.function
def train_ring(points):
    """One step of both networks."""
    with tf.GradientTape() as d_tape, tf.GradientTape() as g_tape:
        painted = ring_generator(tf.random.normal((points.shape[0], 4)))
        real, fake = ring_discriminator(points), ring_discriminator(painted)
        d_loss = tf.reduce_mean(tf.nn.softplus(-real) + tf.nn.softplus(fake))
        g_loss = tf.reduce_mean(tf.nn.softplus(-fake))
    update(d_tape, d_loss, ring_discriminator.trainable_variables, ring_optimizers[1])
    update(g_tape, g_loss, ring_generator.trainable_variables, ring_optimizers[0])


def ring(count):
    """Points near the eight clusters, float32 (count, 2)."""
    points = clusters[rng.integers(8, size=count)] + rng.normal(0, 0.03, (count, 2))
    return points.astype("float32")


moments = []
for step in range(COLLAPSE_STEPS):
    train_ring(tf.constant(ring(128)))
    if (step + 1) % max(1, COLLAPSE_STEPS // 3) == 0:
        moments.append((step + 1, ring_generator(rng.normal(size=(500, 4))).numpy()))

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), layout="constrained", sharex=True, sharey=True)
reached = []
real = ring(500)
for axis, (step, points) in zip(axes, moments[:3], strict=True):
    distances = np.linalg.norm(points[:, np.newaxis] - clusters, axis=-1)
    near = np.bincount(distances.argmin(axis=1)[distances.min(axis=1) < 0.2], minlength=8)
    reached.append(int((near >= 5).sum()))
    axis.scatter(*real.T, s=4, color=PALETTE[0], label="real")
    axis.scatter(*points.T, s=4, color=PALETTE[1], label="painted")
    axis.set(title=f"step {step:,}: {reached[-1]} of 8 clusters", xlabel="x", aspect="equal")
    axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6))
axes[0].set_ylabel("y")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
show(figure, f"Clusters of a ring that have painted points, at three moments: {reached}.")

# %% [markdown]
# If clusters are missing, or come and go, that is *mode collapse*: each painted point alone looks
# real, and the variety is lost. For images, we will measure variety, too.
#
# ## Conditions with noise
# StackGAN turns a caption into a condition of the generator. If similar captions had single points
# as their conditions, the generator would only learn these points. So each caption gets a Gaussian,
# with a mean μ and a variance σ² for each number, and a condition is drawn from it. To keep the
# Gaussians wide, their Kullback–Leibler divergence from the standard normal distribution is added
# to the loss:
#
# $$\tfrac12 \sum_i \left(\sigma_i^2 + \mu_i^2 - 1 - \ln\sigma_i^2\right)$$
#
# ### Exercise 1: conditioning augmentation
# A random draw has no gradient. But mean + standard deviation · noise has one, if the noise is
# drawn beforehand. Use TensorFlow's functions, so that gradients can be computed.


# %% tags=["exercise", "nbval-check-output"]
def augment_condition(mean, log_variance, noise):
    """The conditions (n, d), and their divergence, one number: the mean over the captions.

    `mean`, `log_variance` and `noise` are float32 (n, d); the noise is standard normal.
    """
    ### BEGIN SOLUTION
    conditions = mean + tf.exp(log_variance / 2) * noise
    terms = tf.exp(log_variance) + mean**2 - 1 - log_variance
    return conditions, tf.reduce_mean(tf.reduce_sum(terms, axis=1)) / 2
    ### END SOLUTION


ex.augment_condition.check(augment_condition)  # also .hint() and .solution()

# %% [markdown]
# ## A discriminator that reads
# The discriminator gets an image *and* a caption.

# %%
ex.why_mismatched.ask()

# %% tags=["solution"]
ex.why_mismatched.answer("c")

# %% [markdown]
# ### Exercise 2: a third kind of pair
# The discriminator gives logits; σ of a logit is its probability that a pair is real and fits. Real
# images with their captions have the weight 1. Real images with *another* caption, and painted
# images with theirs, have the weight ½ each:
#
# $$-\ln\sigma(\text{real}) - \tfrac12\ln\bigl(1-\sigma(\text{mismatched})\bigr)
# - \tfrac12\ln\bigl(1-\sigma(\text{fake})\bigr)$$
#
# Take the mean over the pairs. Logits may be large.


# %% tags=["exercise", "nbval-check-output"]
def discriminator_loss(real, mismatched, fake):
    """The loss, one number; all logits are float32 (n, 1)."""
    ### BEGIN SOLUTION
    others = tf.nn.softplus(mismatched) + tf.nn.softplus(fake)
    return tf.reduce_mean(tf.nn.softplus(-real) + others / 2)
    ### END SOLUTION


ex.discriminator_loss.check(discriminator_loss)  # also .hint() and .solution()

# %% [markdown]
# ## Stage I: a sketch of 16 × 16 pixels
# Stage I paints small images: colors and places, rough shapes. StackGAN has noise of 100 numbers,
# conditions of 128, and trains each stage for 600 epochs; ours has 32 and 32, and some seconds. The
# next two cells use your two functions in one training step.

# %%
condition_of = ex.augment_condition.or_reference(augment_condition)  # yours once it passes
loss_of = ex.discriminator_loss.or_reference(discriminator_loss)
KL_WEIGHT, PIXEL_WEIGHT, GAN_RATE = 0.003, 2.0, 6e-4
small_train = train_images.reshape(-1, 16, 2, 16, 2, 3).mean(axis=(2, 4))

encoder = models.caption_encoder(vectors.shape[1])
generator = models.stackgan_generator(width=GAN_WIDTH)
refiner = models.stackgan_refiner(vectors.shape[1], width=GAN_WIDTH)
discriminators = {
    size: models.stackgan_discriminator(size, vectors.shape[1], width=GAN_WIDTH)
    for size in (16, 32)
}
painters = {
    16: encoder.trainable_variables + generator.trainable_variables,
    32: refiner.trainable_variables,
}
g_optimizers = {size: new_optimizer(painters[size], GAN_RATE, beta_1=0.5) for size in (16, 32)}
d_optimizers = {
    size: new_optimizer(network.trainable_variables, GAN_RATE, beta_1=0.5)
    for size, network in discriminators.items()
}
gan = [encoder, generator, refiner, *discriminators.values()]
print(f"{sum(network.count_params() for network in gan):,} parameters in five networks")


# %%
def discriminate(size, images, fakes, captions, others):
    """The logits of real, mismatched and painted pairs."""
    pairs = [tf.concat([images, images, fakes], 0), tf.concat([captions, others, captions], 0)]
    return tf.split(discriminators[size](pairs, training=True), 3)


@tf.function(jit_compile=XLA)
def train_stage_one(images, captions, others):
    """One step of the networks of stage I."""
    with tf.GradientTape() as d_tape, tf.GradientTape() as g_tape:
        mean, log_variance = encoder(captions, training=True)
        condition, divergence = condition_of(mean, log_variance, tf.random.normal(tf.shape(mean)))
        fakes = generator([tf.random.normal((BATCH, 32)), condition], training=True)
        real, mismatched, fake = discriminate(16, images, fakes, captions, others)
        d_loss = loss_of(real, mismatched, fake)
        g_loss = tf.reduce_mean(tf.nn.softplus(-fake)) + KL_WEIGHT * divergence
    update(d_tape, d_loss, discriminators[16].trainable_variables, d_optimizers[16])
    update(g_tape, g_loss, painters[16], g_optimizers[16])


def paint_stage_one(captions):
    """Images (n, 16, 16, 3) in [-1, 1] for captions (n, words)."""
    mean, log_variance = encoder(captions)
    condition, _ = condition_of(mean, log_variance, tf.random.normal(mean.shape))
    return generator([tf.random.normal((len(captions), 32)), condition]).numpy()


# %% [markdown]
# The trainings of the GAN and of the flow follow the clock. Each gets its seconds, without the time
# for compiling and scoring. After each part of them the judge looks at images of the same captions.

# %%
watched = rng.choice(seen, 96, replace=False)


def batch():
    """Images, small images, captions, and other captions, of random rows."""
    rows, others = rng.integers(len(train_images), size=(2, BATCH))
    captions, wrong = vectors[train_labels[rows]], vectors[train_labels[others]]
    return train_images[rows], small_train[rows], captions, wrong


def train_for(seconds, step, paint, begin=0.0):
    """Call `step` for so long, with the share of the time that is over; rows of scores."""
    step(0.0)  # compiles
    rows, used, count = [], 0.0, 0
    for part in range(1, PARTS + 1):
        while used < seconds * part / PARTS:
            start = time.perf_counter()
            step(used / seconds)
            used += time.perf_counter() - start
            count += 1
        scores = obeyed(paint(vectors[watched]), watched).mean(axis=0)
        rows.append((begin + used, *scores))
    print(f"Steps: {count:,}, in {used:.0f} s")
    return rows


def enlarged(images):
    """Images of 32 × 32 pixels, interpolated."""
    return tf.image.resize(images, (32, 32)).numpy()


# %%
def stage_one(progress):
    """A step of stage I."""
    _, small, captions, others = batch()
    train_stage_one(small, captions, others)


gan_history = train_for(
    SHARE * SECONDS, stage_one, lambda captions: enlarged(paint_stage_one(captions))
)
stage_one_images = paint_stage_one(vectors[shown])

# %% [markdown]
# ## Stage II: details
# Stage II reads the small image and the caption again, and paints 32 × 32 pixels. We train it with
# small versions of real images. That has an advantage over StackGAN's way, which takes the images
# of stage I: the large image that belongs to it is known, and we can add the difference of the
# pixels to the loss. It has a drawback: stage II never learns to repair what stage I does wrong.


# %%
@tf.function(jit_compile=XLA)
def train_stage_two(images, small, captions, others):
    """One step of the networks of stage II."""
    with tf.GradientTape() as d_tape, tf.GradientTape() as g_tape:
        fakes = refiner([small, captions], training=True)
        real, mismatched, fake = discriminate(32, images, fakes, captions, others)
        d_loss = loss_of(real, mismatched, fake)
        difference = tf.reduce_mean(tf.abs(fakes - images))
        g_loss = tf.reduce_mean(tf.nn.softplus(-fake)) + PIXEL_WEIGHT * difference
    update(d_tape, d_loss, discriminators[32].trainable_variables, d_optimizers[32])
    update(g_tape, g_loss, painters[32], g_optimizers[32])


def paint_gan(captions):
    """Images (n, 32, 32, 3) in [-1, 1] for captions (n, words)."""
    return refiner([paint_stage_one(captions), captions]).numpy()


gan_history += train_for(
    (1 - SHARE) * SECONDS,
    lambda progress: train_stage_two(*batch()),
    paint_gan,
    begin=SHARE * SECONDS,
)
rows = {"stage I": stage_one_images, "both stages": paint_gan(vectors[shown])}
gallery(rows, shown, "The GAN; the four captions at the right are unseen")

# %% [markdown]
# ## From noise to image along a line
# *Flow matching* has no opponent. Take an image and noise of the same size, and connect them by a
# straight line: at the time t = 0 there is the noise, at t = 1 the image. A point on the line moves
# with a constant velocity. A network sees such points and learns to say where they go. To paint,
# one begins with noise and follows what the network says.
#
# ### Exercise 3: the path and its velocity
# Each image has its own time. The velocity is the derivative of the point by the time.


# %% tags=["exercise", "nbval-check-output"]
def straight_path(images, noise, times):
    """The points (n, height, width, channels) on the path at `times`, and their velocities.

    `images` and `noise` are float32 (n, height, width, channels), `times` float32 (n,) in [0, 1].
    """
    ### BEGIN SOLUTION
    t = times[:, None, None, None]
    return (1 - t) * noise + t * images, images - noise
    ### END SOLUTION


ex.straight_path.check(straight_path)  # also ex.straight_path.hint() and .solution()

# %% [markdown]
# What should the network predict? Its velocity would be an image full of noise, hard to paint for a
# small network. So our network predicts the *clean image*, and the velocity follows from it: the
# way that is left, divided by the time that is left,
#
# $$v = \frac{\text{clean} - x_t}{1 - t}.$$
#
# Many images may lead to the same noisy point, and the error is smallest for their mean. So early
# predictions should be blurred. A figure below will show it.
#
# At random, one caption in ten is left out (all zeros), so that the network also learns to paint
# without one. We will need this. In the end, the weights are replaced by their average over the
# last steps (`use_ema`), which depends less on the last batches.

# %%
path_of = ex.straight_path.or_reference(straight_path)
PEAK, EARLY, DROPPED, WEIGHT_LIMIT = 2e-3, 1.5, 0.1, 0.5
network = models.flow_network(vectors.shape[1], width=WIDTH)
flow_optimizer = new_optimizer(
    network.trainable_variables, PEAK, use_ema=True, ema_momentum=0.99, global_clipnorm=1.0
)
print(f"{network.count_params():,} parameters in one network")


@tf.function(jit_compile=XLA)
def train_flow(images, captions):
    """One step of the flow network."""
    times = tf.random.uniform((BATCH,)) ** EARLY  # above 1, more of them are near the noise
    captions *= tf.cast(tf.random.uniform((BATCH, 1)) > DROPPED, tf.float32)
    points, velocities = path_of(images, tf.random.normal(tf.shape(images)), times)
    left = (1 - times)[:, None, None, None]
    with tf.GradientTape() as tape:
        clean = network([points, times[:, None], captions], training=True)
        # The error of the velocity, but for times near 1, where it would be far too large.
        error = (clean - points - left * velocities) / tf.maximum(left, WEIGHT_LIMIT)
        loss = tf.reduce_mean(error**2)
    update(tape, loss, network.trainable_variables, flow_optimizer)


# %% [markdown]
# ### Exercise 4: the sampler
# Painting takes `num_steps` steps of equal length, from the time 0 to 1. In each, ask for the clean
# image at the *beginning* of the step, compute the velocity, and go along it.


# %% tags=["exercise", "nbval-check-output"]
def sample(predict, noise, num_steps):
    """Where the points arrive at the time 1, an array like `noise`, where they begin.

    `predict(x, t)` gives the clean images for points `x`, all at the time `t`, a float.
    """
    ### BEGIN SOLUTION
    x = noise
    for step in range(num_steps):
        t = step / num_steps
        velocity = (predict(x, t) - x) / (1 - t)
        x = x + velocity / num_steps
    return x
    ### END SOLUTION


ex.sample.check(sample)  # also ex.sample.hint() and ex.sample.solution()

# %% [markdown]
# ## Guidance
# The network can predict with a caption and without one. The difference says what the caption
# changes. *Classifier-free guidance* (Ho and Salimans, 2022) goes further in this direction:
# without + guidance · (with − without).

# %%
ex.guidance_of_two.ask()

# %% tags=["solution"]
ex.guidance_of_two.answer("c")

# %%
sampler = ex.sample.or_reference(sample)


@tf.function(reduce_retracing=True)  # as the number of images differs
def guided(points, times, captions, guidance):
    """Clean images, predicted with guidance."""
    nothing = tf.zeros_like(captions)
    inputs = [tf.concat(pair, 0) for pair in ([points] * 2, [times] * 2, [captions, nothing])]
    with_caption, without = tf.split(network(inputs, training=False), 2)
    return without + guidance * (with_caption - without)


def predictor(captions, guidance):
    """A function of points and a time, for the sampler."""

    def predict(points, t):
        times = np.full((len(points), 1), t, "float32")
        points = np.asarray(points, "float32")
        return guided(points, times, captions, tf.constant(guidance, tf.float32)).numpy()

    return predict


def paint_flow(captions, guidance=2.0):
    """Images (n, 32, 32, 3) in [-1, 1] for captions (n, words)."""
    noise = rng.standard_normal((len(captions), 32, 32, 3), "float32")
    return np.clip(sampler(predictor(captions, guidance), noise, STEPS), -1, 1)


# %% [markdown]
# Now it trains as long as the GAN did, on the same captions and images. Its rate rises within the
# first 2 % of the time, then falls to zero.


# %%
def flow_step(progress):
    """A step of the flow network, with the learning rate of this moment."""
    rise, fall = min(1.0, 0.01 + progress / 0.02), max(0.0, 1 - progress)
    flow_optimizer.learning_rate.assign(PEAK * rise * fall + 1e-6)
    images, _, captions, _ = batch()
    train_flow(images, captions)


flow_history = train_for(SECONDS, flow_step, paint_flow)
flow_optimizer.finalize_variable_values(network.trainable_variables)

# %% [markdown]
# Which attributes are learned first, which last? Compare both methods. The curves are for seen
# captions, and for the flow's weights before they were averaged; the dotted line is where stage II
# begins.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained", sharey=True)
histories = {"GAN": gan_history, "flow matching, guidance 2": flow_history}
for axis, (name, history) in zip(axes, histories.items(), strict=True):
    seconds, *curves = np.transpose(history)
    for (attribute, color), curve in zip(COLORS.items(), curves, strict=True):
        axis.plot(seconds, curve, "o-", color=color, label=attribute)
    axis.set(title=name, xlabel="seconds of training", ylim=(-0.03, 1.03))
axes[0].axvline(SHARE * SECONDS, color="gray", linestyle=":")
axes[0].set_ylabel("fraction obeyed")
axes[1].legend()
ends = [f"{name} {history[-1][-1]:.2f}" for name, history in histories.items()]
show(figure, f"Attributes obeyed over the time; all four, at the end: {', '.join(ends)}.")

# %% [markdown]
# What happens while the flow paints? The upper row shows the points on the path, the lower one what
# the network predicts there. When is the place decided, when the shape?

# %%
one = vectors[shown[-1:]]
points, predictions = [], []


def recorded(x, t):
    """Predict, and keep what was seen and said."""
    points.append(np.asarray(x)[0])
    predictions.append(predictor(one, 2.0)(x, t)[0])
    return predictions[-1][np.newaxis]


sampler(recorded, rng.standard_normal((1, 32, 32, 3), "float32"), 8)
figure, axes = plt.subplots(2, 8, figsize=(9.5, 2.9), layout="constrained")
for axis, image in zip(axes.ravel(), points + predictions, strict=True):
    axis.imshow(np.clip((image + 1) / 2, 0, 1), interpolation="nearest")
    axis.set(xticks=[], yticks=[])
for step, axis in enumerate(axes[0]):
    axis.set_title(f"t = {step / 8:.3g}", fontsize=9)
axes[0, 0].set_ylabel("point", fontsize=9)
axes[1, 0].set_ylabel("prediction", fontsize=9)
figure.suptitle(data.CAPTIONS[shown[-1]])
show(figure, "Eight steps from noise to an image, and the clean image predicted in each.")

# %% [markdown]
# ## Scores
# For years, generated images were compared by the *inception score* (Salimans and others, 2016). A
# judge gives each image probabilities p of classes; here, the classes are the 240 captions. Good
# images have certain classes, and a good collection has many different ones. With p̄, the mean of p
# over the images, the score is exp of the mean of
#
# $$\sum_k p_k\,(\ln p_k - \ln \bar p_k).$$
#
# ### Exercise 5: the inception score
# A probability may be 0. It contributes 0.


# %% tags=["exercise", "nbval-check-output"]
def inception_score(probabilities):
    """The score, one number, for probabilities (images, classes)."""
    ### BEGIN SOLUTION
    mean = probabilities.mean(axis=0)
    logs = [np.log(np.maximum(values, 1e-12)) for values in (probabilities, mean)]
    return np.exp(np.sum(probabilities * (logs[0] - logs[1]), axis=1).mean())
    ### END SOLUTION


ex.inception_score.check(inception_score)  # also ex.inception_score.hint() and .solution()

# %%
ex.blind_score.ask()

# %% tags=["solution"]
ex.blind_score.answer("b")

# %% [markdown]
# Here are all scores. *Diversity* is the deviation among eight images of the same caption, as a
# fraction of that among real images: place, size and brightness vary a little. Which method obeys
# more captions, and does it also obey unseen ones? Which attribute fails if one fails? Is there
# less diversity than in real images?
#
# Each method was trained once. Repetitions would scatter, so small differences mean nothing. The
# settings of the GAN are close to StackGAN's, those of the flow were chosen with more tries: this
# table does not say what the best GAN can do in this time.

# %%
score_of = ex.inception_score.or_reference(inception_score)
labels = np.concatenate([np.resize(rng.permutation(part), SCORED) for part in (seen, unseen)])
alike = np.repeat(shown, 8)


def paint_real(labels):
    """Real images of captions, each another one."""
    places = pd.Series(labels).groupby(labels).cumcount().to_numpy()
    return test_images[by_caption[labels, places % by_caption.shape[1]]]


def spread(images):
    """The deviation among the images of each caption of `alike`."""
    groups = images.reshape(len(shown), 8, *images.shape[1:])
    return float(np.sqrt(groups.var(axis=1, ddof=1).mean()))


def scores(paint):
    """A row of scores of a function that paints captions, given as labels."""
    images = paint(labels)
    right = obeyed(images, labels)
    parts = np.einsum("na,nb,nc,nd->nabcd", *judged(images)).reshape(len(labels), -1)
    row = {f"{name} obeyed": right[:, place].mean() for place, name in enumerate(COLORS)}
    row["all four, seen"] = right[:SCORED, -1].mean()
    row["all four, unseen"] = right[SCORED:, -1].mean()
    row["inception score"] = float(score_of(parts))
    row["diversity"] = spread(paint(alike)) / spread(paint_real(alike))
    return row


# %%
rows = {
    "real images": scores(paint_real),
    "GAN, stage I, enlarged": scores(lambda labels: enlarged(paint_stage_one(vectors[labels]))),
    "GAN, both stages": scores(lambda labels: paint_gan(vectors[labels])),
}
for guidance in GUIDANCES:
    rows[f"flow, guidance {guidance:g}"] = scores(
        lambda labels, guidance=guidance: paint_flow(vectors[labels], guidance)
    )
table = pd.DataFrame(rows).T
table.round(3)

# %%
flow, both = table.loc["flow, guidance 2"], table.loc["GAN, both stages"]
bars = {
    "flow, seen captions": (flow["all four, seen"], 0.95),
    "flow, unseen captions": (flow["all four, unseen"], 0.90),
    "GAN, color": (both["color obeyed"], 0.95),
    "GAN, place": (both["place obeyed"], 0.95),
}
for name, (value, bar) in bars.items():
    print(f"{name:22} {value:.3f}, {'reaches' if value >= bar else 'misses'} the bar of {bar:.2f}")
    record(name, float(value))
print(f"{'GAN, shape':22} {both['shape obeyed']:.3f}, without a bar")
record("GAN, shape", float(both["shape obeyed"]))
rows = {
    "real": paint_real(shown),
    "GAN": paint_gan(vectors[shown]),
    "flow, guidance 2": paint_flow(vectors[shown]),
}
gallery(rows, shown, "Side by side; the four captions at the right are unseen")

# %% [markdown]
# And eight images of one caption each, with other random numbers. Would you notice a collapse?

# %%
same = np.repeat(shown[-1], 8)
rows = {
    "real": paint_real(same),
    "GAN": paint_gan(vectors[same]),
    "flow, guidance 2": paint_flow(vectors[same]),
}
gallery(rows, same, "The same caption eight times")

# %% [markdown]
# More guidance should make images obey more and vary less. Up to which guidance do your numbers
# show it?

# %%
guided_rows = table.loc[[f"flow, guidance {guidance:g}" for guidance in GUIDANCES]]
figure, axis = plt.subplots(figsize=(6, 3.2), layout="constrained")
for column, color in zip(
    ["all four, seen", "all four, unseen", "diversity"], PALETTE[:3], strict=True
):
    axis.plot(GUIDANCES, guided_rows[column], "o-", color=color, label=column)
axis.set(xlabel="guidance", ylabel="fraction", title="Obedience and diversity over guidance")
axis.set_ylim(bottom=0)
axis.legend()
values = ", ".join(f"{value:.2f}" for value in guided_rows["all four, seen"])
show(figure, f"Fractions over guidance; all four attributes, seen captions: {values}.")

# %% [markdown]
# ## Beside published scores
# An inception score depends on its judge. StackGAN's is a network with the classes of the data set,
# ours has 240 captions: compare only scores of the same data. Then see what later work measures:
# GenEval (Ghosh and others, 2023) lets detectors count how many prompts are obeyed, as our judge
# does.

# %%
published = [
    ("StackGAN, birds (CUB)", "2016", "inception score", 3.70),
    ("StackGAN, flowers (Oxford-102)", "2016", "inception score", 3.20),
    ("StackGAN, COCO", "2016", "inception score", 8.45),
    ("latent diffusion, COCO", "2021", "inception score", 30.29),
    ("Stable Diffusion 3 (rectified flow)", "2024", "GenEval, prompts obeyed", 0.74),
    ("this GAN, shapes", "here", "inception score", both["inception score"]),
    ("this flow, shapes", "here", "inception score", flow["inception score"]),
    ("this GAN, shapes", "here", "prompts obeyed, seen", both["all four, seen"]),
    ("this flow, shapes", "here", "prompts obeyed, seen", flow["all four, seen"]),
]
frame = pd.DataFrame(published, columns=["system", "year", "score", "value"])
frame.set_index("system").round(2)

# %% [markdown]
# What is the same today, and what is not? *Latent diffusion* paints in the small space of an
# autoencoder instead of pixels; in our network, a patch of 4 × 4 pixels becomes 16 numbers, also to
# save work. *Rectified flow*, in Stable Diffusion 3, has the straight path of exercise 3. Text is
# read by large language models, and the network is a Transformer (lab 19).
#
# ## Something to show a friend
# Type a caption and press Enter. Leave something out, or use a word that it does not know. What
# does guidance 0 paint, and what guidance 6?

# %%
painter = CaptionPainter(
    lambda captions, guidance: (paint_flow(data.caption_vectors(captions), guidance) + 1) / 2,
    caption="a large magenta cross at the right",
    seed=1,
)
painter.show()

# %% [markdown]
# ## The challenge
# Each call of a large network costs time and money. How well can you paint with eight calls? Your
# sampler may choose its times, and use earlier predictions again. It is tried on three
# distributions of points whose exact paths are known. The bar: on each, at most 0.4 of the error of
# exercise 4's sampler with as many calls.


# %% tags=["exercise"]
def sample_with_few_calls(predict, noise, num_calls):
    """As `sample`, with at most `num_calls` calls of `predict`, and times of your choice."""
    ### BEGIN SOLUTION
    times = 1 - (1 - np.linspace(0, 1, num_calls + 1)) ** 1.5  # shorter steps at the end
    x, old, old_start = noise, None, None
    for number in range(num_calls):
        start, end = times[number], times[number + 1]
        clean = middle = predict(x, start)
        if old is not None:  # go on along the line through the last two predictions
            middle = clean + (clean - old) * (end - start) / 2 / (start - old_start)
        old, old_start = clean, start
        x = x + (end - start) * (middle - x) / (1 - start)
    return x
    ### END SOLUTION


ex.sample_with_few_calls.check(sample_with_few_calls)  # also .hint() and .solution()

# %% [markdown]
# Does it help on images, too? The difference is that from 64 small steps with the same noise.

# %%
better = ex.sample_with_few_calls.or_reference(sample_with_few_calls)
some = rng.choice(seen, 48, replace=False)
predict = predictor(vectors[some], 2.0)
noise = rng.standard_normal((48, 32, 32, 3), "float32")
fine = sampler(predict, noise, 64)
for name, way in {"exercise 4": sampler, "your sampler": better}.items():
    difference = np.sqrt(np.mean((np.asarray(way(predict, noise, 8)) - fine) ** 2))
    print(f"{name:14} 8 calls: difference {difference:.3f}")

# %% [markdown]
# ## What you learned
# A GAN learns from an opponent, and needs help to read captions and to keep its variety; flow
# matching learns from a squared error along straight paths, and pays with several calls for each
# image. A judge that is kept apart shows what is obeyed, attribute by attribute, also in unseen
# combinations. Guidance trades diversity for obedience, and an inception score does not see the
# caption at all.
#
# ## What to try next
# - Leave the mismatched pairs out of `loss_of`. Which attributes does the GAN still obey?
# - Let the network predict the velocity instead of the clean image. What gets worse?
# - Set `SECONDS = 300` for both. Does the GAN learn shapes?
# - Set `DROPPED = 0`. What does guidance do then?

# %% [markdown]
# ## References
# - H. Zhang and others, *StackGAN*, 2016, [arXiv:1612.03242](https://arxiv.org/abs/1612.03242).
# - S. Reed and others, *Generative adversarial text to image synthesis*, 2016,
#   [arXiv:1605.05396](https://arxiv.org/abs/1605.05396): mismatched pairs.
# - T. Salimans and others, *Improved techniques for training GANs*, 2016,
#   [arXiv:1606.03498](https://arxiv.org/abs/1606.03498): the inception score.
# - Y. Lipman and others, *Flow matching for generative modeling*, 2022,
#   [arXiv:2210.02747](https://arxiv.org/abs/2210.02747).
# - J. Ho and T. Salimans, *Classifier-free diffusion guidance*, 2022,
#   [arXiv:2207.12598](https://arxiv.org/abs/2207.12598).
# - R. Rombach and others, *High-resolution image synthesis with latent diffusion models*, 2021,
#   [arXiv:2112.10752](https://arxiv.org/abs/2112.10752).
# - P. Esser and others, *Scaling rectified flow transformers*, 2024,
#   [arXiv:2403.03206](https://arxiv.org/abs/2403.03206).
# - D. Ghosh and others, *GenEval*, 2023, [arXiv:2310.11513](https://arxiv.org/abs/2310.11513).
