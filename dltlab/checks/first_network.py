"""Exercises of lab 01, Your first network."""

import numpy as np

from dltlab.checks._common import (
    flat_layers,
    require_logits,
    require_model,
    scores_of,
    set_weights,
)
from dltlab.exercises import (
    Array,
    Integer,
    Number,
    correct,
    exercise,
    in_float32,
    question,
    random_arrays,
    require,
    wrong,
)

# TensorFlow takes seconds to import, so the checks that need it import it themselves.


def _describe_probabilities(value):
    if value.min() < 0:
        return f"A probability is negative: {value.min():.3f}."
    if not np.isclose(value[0].sum(), 1, atol=1e-3):
        return (
            f"The first row adds up to {value[0].sum():.3f}, not 1. Over which axis do you sum, "
            "and do you divide by this sum?"
        )
    return (
        "Your powers are not those of e: where one logit is larger than another by 1, its "
        "probability must be e times as large."
    )


@exercise(
    "First the powers, `np.exp(logits)`. Then divide each of them by the sum of its own row.",
    "`a.sum(axis=1, keepdims=True)` sums each row and keeps the shape (n, 1), so that dividing "
    "(n, 10) by it divides each row by its own sum.",
    "Large logits overflow: subtract `logits.max(axis=1, keepdims=True)` first. This divides all "
    "powers of a row by the same number, which does not change the result.",
    returns=Array("array of probabilities"),
    otherwise=_describe_probabilities,
)
def softmax():
    moderate, large = (np.round(64 * logits) / 64 for logits in random_arrays((3, 10), (5, 10)))
    yield (moderate,)
    yield (large + 1000,)  # no more digits than float32 has
    yield (np.vstack([np.arange(10) // 9 * 1000, moderate]),)


@softmax.mistakes
def _(logits):
    def normalized(powers):
        return powers / powers.sum(axis=1, keepdims=True)

    powers = np.exp(logits)
    yield "Adding 1000 to all logits changes your result.", normalized(np.exp(logits.clip(max=500)))
    yield (
        lambda value: (
            f"For logits near 1000 you return {value[0, 0]}. What may you subtract from "
            "the logits without changing the result?"
        ),
        normalized(powers),
        "`np.exp(1000)` is larger than any floating-point number, so it becomes inf, and inf / inf "
        "is nan. Only the differences between the logits of a row matter.",
    )
    yield (
        lambda value: (
            f"For a logit of 1000 among zeros you return {value[0, -1]}. Subtract the "
            "maximum of the row."
        ),
        normalized(np.exp(logits - logits.mean(axis=1, keepdims=True))),
    )
    yield (
        lambda value: (
            f"For small logits you return {value[1, 0]} where another image has a logit "
            "of 1000. Subtract from each row its own maximum."
        ),
        normalized(np.exp(logits - logits.max())),
    )
    yield (
        "You subtract the maximum of each column; subtract that of each row.",
        normalized(np.exp(logits - logits.max(axis=0))),
    )
    by_total, by_column = powers / powers.sum(), powers / powers.sum(axis=0)
    for value in (powers, by_total, by_column, normalized(2**logits), normalized(logits)):
        yield _describe_probabilities, value if logits.max() < 100 else ...


@softmax.accepts
def _(logits):
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)).astype("float32"))
    return powers / powers.sum(axis=1, keepdims=True)


@softmax.accepts
def _(logits):
    import tensorflow as tf

    return tf.nn.softmax(tf.cast(logits, "float32"))


@exercise(
    "From row 0 take the column `labels[0]`, from row 1 the column `labels[1]`, and so on.",
    "NumPy takes one entry from each row with two lists of indices: "
    "`probabilities[np.arange(len(labels)), labels]`.",
    "`np.log` is the natural logarithm. Take the mean of the logarithms last, and mind the minus.",
    returns=Number("loss"),
    otherwise=lambda loss: (
        f"You return {loss:.4g}, which is not the mean of -ln(p) over the images."
        + " A loss is positive: the ln of a number below 1 is not." * (loss < 0)
    ),
)
def cross_entropy():
    for labels in ([3, 0, 7, 3], [9, 1, 1, 5, 0, 8]):
        (logits,) = random_arrays((len(labels), 10))
        yield softmax.reference()(logits), np.array(labels)


@cross_entropy.mistakes
def _(probabilities, labels):
    true = probabilities[np.arange(len(labels)), labels]
    one_hot = np.eye(10)[labels]
    base = "Your logarithm has another base than e."
    yield "The ln of a number below 1 is negative, and a loss is positive.", np.mean(np.log(true))
    yield "You return the sum over the images, not their mean.", -np.sum(np.log(true))
    yield "You return the logarithm of the mean, not the mean of logarithms.", -np.log(true.mean())
    yield (
        "You use the columns of all labels for every image. Each image has its own label.",
        -np.mean(np.log(probabilities[:, labels])),
        "Print the shape of what you select: `:` takes all rows for each label. Name the rows, "
        "too, so that each row meets only its own label.",
    )
    yield (
        "You take the mean over all n × 10 entries, also those that are 0. There are n images.",
        -np.mean(one_hot * np.log(probabilities)),
    )
    yield (
        "You take the mean over all ten probabilities of each image. Only that of its true digit "
        "enters the loss.",
        -np.mean(np.log(probabilities)),
    )
    yield base, -np.mean(np.log10(true))
    yield base, -np.mean(np.log2(true))
    yield (
        "You use the largest probability of each image, not that of the true digit.",
        -np.mean(np.log(probabilities.max(axis=1))),
    )
    yield "The logarithm is missing: the loss of one image is -ln(p).", 1 - true.mean()
    yield "The logarithm is missing: the loss of one image is -ln(p).", -true.mean()
    yield (
        "The other nine digits of an image do not enter its loss, which is -ln(p) of the true one.",
        -np.mean(np.log(np.where(one_hot, probabilities, 1 - probabilities)).sum(axis=1)),
    )


@cross_entropy.accepts
def _(probabilities, labels):
    rows = zip(probabilities.astype("float32"), labels, strict=True)
    return sum(-np.log(row[label]) for row, label in rows) / len(labels)


@cross_entropy.accepts
def _(probabilities, labels):
    import keras

    return keras.losses.SparseCategoricalCrossentropy()(labels, probabilities)


@cross_entropy.rejects("shapes (4,) (6,)")
def _(probabilities, labels):
    return -np.mean(np.log(probabilities[np.arange(4), labels]))


@cross_entropy.rejects("an array of shape (4,); return one number")
def _(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels])


@question
def first_loss():
    """An untrained network gives each of the ten digits about the same probability.

    What is its cross-entropy, about?
    """
    return [
        wrong("0.1", "That is the probability of each digit. What is -ln of it?"),
        wrong("0.9", "It misreads nine of ten digits, but the loss asks for -ln(p)."),
        correct(
            "2.3",
            "Each digit gets p = 1/10, and -ln(1/10) = ln 10 ≈ 2.3. A training that begins far "
            "above that, or never gets below it, has a fault.",
        ),
        wrong("10", "There are ten digits, but the loss is a logarithm."),
    ]


@exercise(
    "Begin with an empty image, `np.zeros_like(images)`, and copy into it the part that remains "
    "visible. Draw it for down=1 on paper.",
    "Or make the image larger: `np.pad(images, ((0, 0), (r, r), (c, c), (0, 0)))` puts r empty "
    "rows and c empty columns around it. Then cut a window of the old size out of that.",
    "With r = abs(down) and c = abs(right), the window begins at row `r - down` and at column "
    "`c - right`. Try it with down = 1 and with down = -1.",
    returns=Array("array of images"),
    otherwise="`{call}` does not put every pixel in its place.",
)
def shift():
    small, large = (np.abs(a).astype("float32") for a in random_arrays((3, 5, 7, 1), (4, 8, 6, 1)))
    for down, right in ((1, 2), (0, 1), (2, -1)):
        yield small, down, right
    for down, right in ((-3, 2), (1, 0), (0, -1), (-1, 0), (0, 0)):
        yield large, down, right


@shift.mistakes
def _(images, down, right):
    move = shift.reference()
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    yield (
        "`{call}`: what leaves the image comes back in on the other side. Empty it there.",
        np.roll(images, (down, right), axis=(1, 2)),
        "For down = 2 the first two rows are new, for down = -2 the last two. Which columns are "
        "new for right = 1, and which for right = -1?",
    )
    yield (
        "`{call}`: what enters the image repeats its edge. It should be empty there.",
        move(padded, down, right)[:, 3:-3, 3:-3],
    )
    yield "`{call}`: rows and columns are swapped.", move(images, right, down)
    yield "`{call}` moves the images the other way.", move(images, -down, -right)
    yield "`{call}` moves the images up instead of down.", move(images, -down, right)
    yield "`{call}` moves the images left instead of right.", move(images, down, -right)
    yield "`{call}` does not move the images.", images
    yield (
        "`{call}` empties the edges, but what remains is where it was. Move it, too.",
        move(move(images, -down, -right), down, right),
    )
    yield "`{call}`: the rows do not move.", move(images, 0, right)
    yield "`{call}`: the columns do not move.", move(images, down, 0)
    yield (
        "`{call}`: negative numbers move up and to the left.",
        move(images, abs(down), abs(right)),
        "Follow one pixel on paper: for down = -1, what is in row 1 comes to row 0. A slice such "
        "as `[n:]` or `[:-n]` has another meaning where n is negative or 0.",
    )


@shift.accepts
def _(images, down, right):
    from scipy.ndimage import shift

    return shift(images, (0, down, right, 0), order=0)


@shift.accepts
def _(images, down, right):
    moved = np.zeros(images.shape).tolist()
    for image, row, column in np.ndindex(images.shape[:3]):
        if 0 <= row - down < images.shape[1] and 0 <= column - right < images.shape[2]:
            moved[image][row][column] = images[image, row - down, column - right].tolist()
    return moved


@shift.rejects("has the shape")
def _(images, down, right):
    return images[:, down:, right:]


@question
def why_shift():
    """You read the moved digits without effort. Why does the linear classifier not?"""
    return [
        wrong(
            "Some of the ink has left the image, so the digits are harder to read.",
            "Look at the two rows again: you still read every one of them.",
        ),
        correct(
            "Each weight belongs to one place. After the move, the ink meets weights that were "
            "learned for other places.",
            "To this network an image is a list of pixels. It does not know which of them are "
            "neighbors. A network that slides small kernels over the image can do better.",
        ),
        wrong(
            "It was not trained for long enough.",
            "No training image is moved, so longer training would not teach it to read moved ones.",
        ),
        wrong(
            "It has learned the training images by heart.",
            "Then it would fail on the validation digits as they were written; it does not.",
        ),
    ]


@exercise(
    "A list of layers in `keras.Sequential([...])`: input, convolutions, pooling, a dense layer.",
    "`layers.Conv2D(32, 3, padding='same', activation='relu')` has 32 kernels of 3 × 3 pixels. "
    "`layers.MaxPooling2D()` comes after it.",
    "Begin with `keras.Input(input_shape)`, and end with `layers.Flatten()` and "
    "`layers.Dense(num_classes)` without an activation.",
)
@in_float32()
def build_cnn(answer):
    """Look at the layers of a network, and at what it computes with other weights."""
    from keras import layers

    for shape, num_classes in (((28, 20, 3), 3), ((8, 8, 1), 10)):
        model = answer(shape, num_classes)
        require_model(model)
        require(
            getattr(model, "inputs", None),
            "Your model does not know the shape of its images yet. Begin with "
            "`keras.Input(input_shape)`.",
        )
        images = 100 * np.random.default_rng(1).normal(size=(6, *shape))
        scores_of(model, images, num_scores=num_classes)
    require(
        _has_layer(model, layers.Conv2D),
        "There is no convolution in your model: use `layers.Conv2D`.",
    )
    averaging = _with_average_pooling(model)
    set_weights(averaging)
    change = scores_of(averaging, images + images[0]) - scores_of(averaging, images)
    require_logits(averaging, images)
    require(
        np.ptp(change, axis=0).max() > 1e-3 * np.abs(change).max(),
        "Your convolutions are linear: several linear layers compute no more than one. Give them "
        "an activation.",
    )
    require(
        _has_layer(model, layers.MaxPooling2D, layers.AveragePooling2D)
        or _has_layer(model, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D),
        "There is no pooling layer in your model: use `layers.MaxPooling2D`.",
    )
    return f"Correct: {model.count_params():,} numbers to learn for 8 × 8 pixels."


def _has_layer(model, *kinds):
    return any(isinstance(layer, kinds) for layer in flat_layers(model))


def _with_average_pooling(model):
    """Return a model of the same layers in which only activations are not linear."""
    from keras import layers, models

    linear = {
        layers.MaxPooling2D: layers.AveragePooling2D,
        layers.GlobalMaxPooling2D: layers.GlobalAveragePooling2D,
    }

    def replace(layer):
        pooling = linear.get(type(layer))
        return pooling.from_config(layer.get_config()) if pooling else layer

    return models.clone_model(model, clone_function=replace, recursive=True)


def _cnn(input_shape, num_classes=10, *, first="relu", last=None, pooling=True):
    from keras import Input, Sequential, layers

    features = [layers.Conv2D(8, 3, activation=first)] + pooling * [layers.MaxPooling2D()]
    vote = [layers.Flatten(), layers.Dense(num_classes, activation=last)]
    return Sequential([Input(input_shape), *features, *vote])


@build_cnn.accepts
def _(input_shape, num_classes):
    from keras import Input, Model, layers, ops

    inputs = Input(input_shape)
    x = ops.relu(layers.BatchNormalization()(layers.Conv2D(8, 3)(inputs)))
    return Model(inputs, layers.Dense(num_classes)(layers.GlobalAveragePooling2D()(x)))


@build_cnn.accepts
def _(input_shape, num_classes):
    from keras import Input, Sequential, layers

    features = [layers.Conv2D(8, 3, activation="tanh", use_bias=False), layers.MaxPooling2D()]
    vote = [layers.Flatten(), layers.Dense(num_classes, "linear", bias_initializer="ones")]
    return Sequential([Input(input_shape), Sequential(features), *vote])


@build_cnn.rejects("Begin with `keras.Input(input_shape)`")
def _(input_shape, num_classes):
    from keras import Sequential, layers

    return Sequential([layers.Conv2D(8, 3), layers.Flatten(), layers.Dense(num_classes)])


@build_cnn.rejects("has the shape (6, 26, 18, 3); expected (6, 3)")
def _(input_shape, num_classes):
    from keras import Input, Sequential, layers

    return Sequential([Input(input_shape), layers.Conv2D(num_classes, 3, activation="relu")])


@build_cnn.rejects("There is no convolution")
def _(input_shape, num_classes):
    from keras import Input, Sequential, layers

    hidden = layers.Dense(64, activation="relu")
    return Sequential([Input(input_shape), layers.Flatten(), hidden, layers.Dense(num_classes)])


for _message, _answer in (
    ("has the shape (6, 10); expected (6, 3)", lambda shape, n: _cnn(shape, 10)),
    ("return a Keras model", lambda shape, n: _cnn(shape, n).layers),
    ("incompatible", lambda shape, n: _cnn((8, 8, 1), n)),
    ("There is no pooling layer", lambda shape, n: _cnn(shape, n, pooling=False)),
    ("Your convolutions are linear", lambda shape, n: _cnn(shape, n, first=None)),
    ("Leave the softmax out", lambda shape, n: _cnn(shape, n, last="softmax")),
    ("Leave the activation of the last layer out", lambda shape, n: _cnn(shape, n, last="relu")),
    ("Leave the activation of the last layer out", lambda shape, n: _cnn(shape, n, last="tanh")),
    ("Leave the activation of the last layer out", lambda shape, n: _cnn(shape, n, last="sigmoid")),
):
    build_cnn.rejects(_message)(_answer)


@exercise(
    "Write one weight's gradient down: the logit of output j is the sum over i of x[n, i] · "
    "kernel[i, j]. So a change of kernel[i, j] changes it by x[n, i], for each image n.",
    "The shapes help: each gradient has the shape of what it belongs to. Only one product of `x` "
    "and `logit_gradients` has the shape of `kernel`, and it sums over the images.",
    "The bias is added to each row, so its gradient is the sum over the rows. For `x`, multiply "
    "by the transposed kernel, `kernel.T`.",
    returns=(Array("kernel gradient"), Array("bias gradient"), Array("gradient of x")),
    otherwise={
        "kernel gradient": "Your kernel gradient is not the sum over the images of x[n, i] · "
        "logit_gradients[n, j].",
        "bias gradient": "Your bias gradient is not the sum over the images of the logit "
        "gradients.",
        "gradient of x": "Your gradient of x is not the sum over the outputs j of "
        "logit_gradients[n, j] · kernel[i, j].",
    },
)
def dense_gradients():
    for size in (4, 6):  # square, so that a missing transpose gives a wrong value and no exception
        yield random_arrays((size, size), (size, size), (size, size))


@dense_gradients.mistakes
def _(x, kernel, logit_gradients):
    of_kernel, of_bias, of_x = dense_gradients.reference()(x, kernel, logit_gradients)
    yield (
        "You return the gradients in another order: first that of the kernel, then those of the "
        "bias and of x.",
        (of_x, of_bias, of_kernel),
    )
    yield (
        "Your kernel gradient is transposed: like the kernel, it has a row for each input and a "
        "column for each output.",
        (of_kernel.T, ..., ...),
    )
    yield (
        "A transpose is missing in your kernel gradient, which must sum over the images.",
        (x @ logit_gradients, ..., ...),
        "In `a @ b`, the sum runs over the columns of `a` and the rows of `b`. The images are the "
        "rows of `x`.",
    )
    yield (
        "Your kernel gradient is the mean over the images. Return the sum: the gradient of the "
        "mean loss has its 1/n in `logit_gradients` already.",
        (of_kernel / len(x), ..., ...),
    )
    yield (
        "Your kernel gradient is that of the first image alone. Sum over all images.",
        (np.outer(x[0], logit_gradients[0]), ..., ...),
    )
    yield (
        "Your kernel gradient is a product of sums. For each image take the product, then sum.",
        (np.outer(x.sum(axis=0), logit_gradients.sum(axis=0)), ..., ...),
    )
    yield (
        "Your bias gradient has a number for each image: you sum over the outputs. Sum over the "
        "images.",
        (..., logit_gradients.sum(axis=1), ...),
    )
    yield (
        "Your bias gradient is the mean over the images. Return the sum.",
        (..., of_bias / len(x), ...),
    )
    yield (
        "All images share one bias, so its gradient has one number for each output: sum over the "
        "images.",
        (..., logit_gradients, ...),
    )
    yield (
        "A transpose is missing in your gradient of x, which must sum over the outputs.",
        (..., ..., logit_gradients @ kernel),
    )
    yield (
        "Your gradient of x is transposed: like x, it has a row for each image.",
        (..., ..., of_x.T),
    )
    yield (
        "Your gradient of x is the mean over the images. Each image has its own row.",
        (..., ..., of_x / len(x)),
    )


@dense_gradients.accepts
def _(x, kernel, logit_gradients):
    x, kernel, logit_gradients = (a.astype("float32") for a in (x, kernel, logit_gradients))
    of_kernel = np.einsum("ni,nj->ij", x, logit_gradients)
    return [of_kernel, np.ones(len(x)) @ logit_gradients, (kernel @ logit_gradients.T).T]


@dense_gradients.accepts
def _(x, kernel, logit_gradients):
    import tensorflow as tf

    x, kernel, bias = tf.constant(x), tf.constant(kernel), tf.zeros(kernel.shape[1], "float64")
    with tf.GradientTape() as tape:
        tape.watch([kernel, bias, x])
        loss = tf.reduce_sum((x @ kernel + bias) * logit_gradients)
    return tape.gradient(loss, [kernel, bias, x])


@dense_gradients.behavior
def _(answer):
    """More images than inputs, and more inputs than outputs."""
    x, kernel, logit_gradients = random_arrays((5, 3), (3, 2), (5, 2))
    of_kernel, of_bias, of_x = answer(x, kernel, logit_gradients)
    Array("kernel gradient").read(of_kernel, kernel.shape)
    Array("bias gradient").read(of_bias, kernel[0].shape)
    Array("gradient of x").read(of_x, x.shape)


@dense_gradients.rejects("Your gradient of x has the shape (3, 3); expected (5, 3)")
def _(x, kernel, logit_gradients):
    of_kernel, of_bias, of_x = dense_gradients.reference()(x, kernel, logit_gradients)
    return of_kernel, of_bias, of_x[: len(kernel)]


def _observe_step(answer, images, labels):
    """Return the loss that a training step returns, and what it does to weights and optimizer."""
    import keras
    import tensorflow as tf

    norm, dense = keras.layers.BatchNormalization(), keras.layers.Dense(10)
    model = keras.Sequential([keras.Input(images.shape[1:]), keras.layers.Flatten(), norm, dense])
    set_weights(model)
    norm.gamma.assign(20 * norm.gamma)  # a large gradient, which clipping changes,
    dense.kernel.assign(dense.kernel / 10)  # but moderate logits
    optimizer = keras.optimizers.SGD(0.5)
    before = [np.array(variable) for variable in model.trainable_variables]
    loss = answer(model, optimizer, tf.constant(images), tf.constant(labels))
    after = [np.array(variable) for variable in model.trainable_variables]
    changes = [new - old for new, old in zip(after, before, strict=True)]
    return loss, changes, int(optimizer.iterations)


@exercise(
    "Inside `with tf.GradientTape() as tape:` compute the logits and from them the loss. Outside "
    "it, ask for the gradients and apply them.",
    "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)` makes a function; call it with "
    "`(labels, logits)`, in this order.",
    "`tape.gradient(loss, model.trainable_variables)` returns a list of gradients, one for each "
    "variable; `optimizer.apply_gradients(zip(gradients, model.trainable_variables))` moves them.",
    observe=_observe_step,
    returns=(Number("loss"), [Array("change of a weight")], Integer("number of steps")),
    otherwise={
        "number of steps": "The optimizer was used {value} times; let it move the weights, once "
        "for all of them.",
        "loss": "You return a loss of {value}, which is not the mean cross-entropy of the logits. "
        "Does the loss function know that it gets logits?",
        "change of a weight": "The loss is correct, but the weights did not move by the learning "
        "rate times its gradient. Give the optimizer the gradients of all weights, as they are.",
    },
)
def train_step():
    for number in (16, 40):
        (images,) = random_arrays((number, 4, 6, 1))
        yield images.astype("float32"), np.arange(number) * 3 % 10


@train_step.mistake("The weights moved up the gradient, so the loss has grown.")
def _(model, optimizer, images, labels):
    return -_step(model, optimizer, images, labels, factor=-1)


@train_step.mistake("You return the sum over the images; take the mean.")
def _(model, optimizer, images, labels):
    return _step(model, optimizer, images, labels, factor=len(images))


@train_step.mistake("You return the loss after the step; return the one before it.")
def _(model, optimizer, images, labels):
    _step(model, optimizer, images, labels)
    return _mean_loss(labels, model(images, training=True))


@train_step.mistake("You return the loss after the step; return the one before it.")
def _(model, optimizer, images, labels):
    _step(model, optimizer, images, labels)
    return _mean_loss(labels, model(images))


@train_step.mistake(
    "The loss and the gradient are those of a model that is not training: call it with "
    "`training=True`, or layers such as Dropout do not do their work."
)
def _(model, optimizer, images, labels):
    return _step(model, optimizer, images, labels, training=False)


@train_step.accepts
def _(model, optimizer, images, labels):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(loss)
    optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
    return float(loss)


@train_step.mistake(
    "No weight has moved. Does the optimizer get to apply the gradients?",
    hint="Print the gradients. If each is None, the tape has not seen how the loss was computed.",
)
def _(model, optimizer, images, labels):
    return _mean_loss(labels, model(images, training=True))


@train_step.rejects("The optimizer was used 0 times")
def _(model, optimizer, images, labels):
    import keras

    return _step(model, keras.optimizers.SGD(0.5), images, labels)


@train_step.rejects("did not move by the learning rate times its gradient")
def _(model, optimizer, images, labels):
    return _step(model, optimizer, images, labels, factor=16) / 16


@train_step.rejects("did not move by the learning rate times its gradient")
def _(model, optimizer, images, labels):
    optimizer.global_clipnorm = 1.0
    return _step(model, optimizer, images, labels)


@train_step.rejects("Does the loss function know that it gets logits?")
def _(model, optimizer, images, labels):
    import tensorflow as tf

    return _step(model, optimizer, images, labels, change=tf.nn.softmax)


def _mean_loss(labels, logits):
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)


def _step(model, optimizer, images, labels, *, factor=1, training=True, change=lambda x: x):
    """Do one step with `factor` times the loss of the changed logits, and return that loss."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = factor * _mean_loss(labels, change(model(images, training=training)))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@question
def overfitting():
    """The training loss goes on falling, and the validation loss has begun to rise.

    What does the network learn from there on?
    """
    return [
        wrong(
            "Nothing: its learning rate is too small.",
            "The training loss goes on falling, so the weights do move.",
        ),
        wrong(
            "Nothing: two losses that part are the sign of a fault in the program.",
            "The program does what you asked: it lowers the loss of the training images.",
        ),
        wrong(
            "What all digits have in common, but it has too few weights for that.",
            "It has thousands of weights for each image, and knows all of them by heart.",
        ),
        correct(
            "What is peculiar to its 50 images. On other images, that makes it surer of its "
            "mistakes.",
            "A wrong answer that is given with more confidence costs more loss. That is why the "
            "validation loss can rise while the validation accuracy stays where it is.",
        ),
    ]


@exercise(
    "What did moved images change in the comparison above? Begin with a convolutional network and "
    "the neighbors of the training images.",
    "A rate that falls along a cosine: `keras.optimizers.schedules.CosineDecay(0.004, steps)` in "
    "the place of the learning rate.",
    "Two convolutions of 32 kernels before the pooling and one of 64 after it, with "
    "`layers.Dropout(0.3)` before the last layer, are enough, given 400 steps of 64 images and "
    "their neighbors as training images.",
    smoke={"num_images": 300, "num_seeds": 2, "bar": 0.9},
)
def train_reader(answer, num_images=None, num_seeds=5, bar=0.985):
    """Train from several seeds on three quarters of the digits, and test on the others."""
    from dltlab import data

    images, labels = (array[:num_images] for array in data.arrays("digits", "train"))
    test_images, test_labels = data.arrays("digits", "test")
    accuracies = []
    previous = np.empty(0)
    for seed in range(num_seeds):
        model = answer(images.copy(), labels.copy(), seed)
        require_model(model)
        scores = scores_of(model, test_images, num_scores=10)
        require(
            not np.array_equal(scores, previous),
            f"Seeds {seed - 1} and {seed} give the same network. Begin with "
            "`keras.utils.set_random_seed(seed)`.",
        )
        previous = scores
        accuracies.append(np.mean(scores.argmax(axis=1) == test_labels))
        listed = ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)
        require(
            np.mean(accuracies + [1] * (num_seeds - len(accuracies))) >= bar,
            f"Test accuracy of your networks, seed by seed: {listed}. A mean of {bar} over "
            f"{num_seeds} seeds can no longer be reached.",
        )
    return f"A mean test accuracy of {np.mean(accuracies):.4f} ({listed}); the bar is {bar}."


@train_reader.rejects("Seeds 0 and 1 give the same network")
def _(images, labels, seed):
    import keras

    vote = keras.layers.Dense(10)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), vote])
    pixels = np.column_stack([images.reshape(len(images), -1), np.ones(len(images))])
    *kernel, bias = np.linalg.lstsq(pixels, np.eye(10)[labels])[0]
    vote.set_weights([np.array(kernel), bias])
    return model


for _message, _reader in (
    ("return a Keras model", lambda images, labels, seed: _cnn((8, 8, 1)).layers),
    ("images of shape (8, 8, 1) raised", lambda images, labels, seed: _cnn((28, 28, 1))),
    ("expected (450, 10)", lambda images, labels, seed: _cnn((8, 8, 1), num_classes=9)),
    ("can no longer be reached", lambda images, labels, seed: _cnn((8, 8, 1))),
):
    train_reader.rejects(_message)(_reader)
