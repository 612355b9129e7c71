"""Exercises of lab 01, Your first network."""

import numpy as np

from dltlab.exercises import attempt, correct, exercise, question, require, wrong

# TensorFlow takes seconds to import, so the checks that need it import it themselves.


@exercise(
    "First the powers, `np.exp(logits)`. Then divide each of them by the sum of its own row.",
    "`a.sum(axis=1, keepdims=True)` sums each row and keeps the shape (n, 1), so that dividing "
    "(n, 10) by it divides each row by its own sum.",
    "Against powers that are too large: subtract `logits.max(axis=1, keepdims=True)` first. It "
    "divides all the powers of a row by the same number, and the softmax does not notice.",
)
def softmax(answer):
    """Three rows of moderate logits, then one of large ones."""
    logits = np.random.default_rng(1).normal(size=(3, 10))
    given = logits.copy()
    value = _array(answer(given))
    require(
        value.shape == logits.shape,
        f"For logits of shape (3, 10) you return the shape {value.shape}; one probability for each "
        "logit is wanted.",
    )
    require((given == logits).all(), "Your function changes the logits that it was given.")
    require((value >= 0).all(), f"A probability is negative: {value.min():.3f}.")
    sums = value.sum(axis=1)
    require(
        np.allclose(sums, 1),
        f"The first row adds up to {sums[0]:.3f}, not 1. Over which axis do you sum?",
    )
    with np.errstate(divide="ignore"):
        ratios = np.log(value[:, 1:] / value[:, :-1])
    require(
        np.allclose(ratios, np.diff(logits)),
        "Each row adds up to 1, but the powers are not those of e: where one score leads another "
        "by 1, its probability must be e times as large.",
    )
    with np.errstate(all="ignore"):
        large = np.asarray(answer(logits + 1000))
    require(
        np.isfinite(large).all(),
        f"For scores near 1000 you return {large[0, 0]}. What may you subtract from the scores "
        "without changing the result?",
    )
    require(
        np.allclose(large, value, atol=1e-6),
        "Adding 1000 to all the scores of an image changes your probabilities; it should not.",
    )
    apart = np.zeros((2, 10))
    apart[0, 0] = 1000
    with np.errstate(all="ignore"):
        one_large, all_zero = answer(apart)
    require(
        np.isclose(one_large[0], 1),
        f"For a score of 1000 among zeros you return {one_large[0]}. Subtract the row's maximum.",
    )
    require(
        np.allclose(all_zero, 0.1),
        f"For ten zeros you return {all_zero[0]} where another image has a score of 1000. "
        "Subtract from each row its own maximum.",
    )


def _array(value):
    require(
        isinstance(value, np.ndarray),
        f"You return an object of type `{type(value).__name__}`; a NumPy array is wanted.",
    )
    return value


@softmax.accepts
def _(logits):
    from scipy.special import softmax

    return softmax(logits, axis=1)


@softmax.accepts
def _(logits):
    return np.stack([np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in logits])


@softmax.rejects("the shape (3,)")
def _(logits):
    return np.exp(logits).sum(axis=1)


@softmax.rejects("a NumPy array is wanted")
def _(logits):
    import tensorflow as tf

    return tf.nn.softmax(logits)


@softmax.rejects("Subtract the row's maximum")
def _(logits):
    powers = np.exp(logits - logits.mean(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@softmax.rejects("Subtract from each row its own maximum")
def _(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum(axis=1, keepdims=True)


@softmax.rejects("A probability is negative")
def _(logits):
    return logits / logits.sum(axis=1, keepdims=True)


@softmax.rejects("Over which axis")
def _(logits):
    return np.exp(logits) / np.exp(logits).sum()


@softmax.rejects("could not be broadcast")
def _(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1)


@softmax.rejects("not those of e")
def _(logits):
    return 2**logits / (2**logits).sum(axis=1, keepdims=True)


@softmax.rejects("For scores near 1000")
def _(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@softmax.rejects("changes your probabilities")
def _(logits):
    powers = np.exp(np.minimum(logits, 500))
    return powers / powers.sum(axis=1, keepdims=True)


@softmax.rejects("changes the logits")
def _(logits):
    logits -= logits.max(axis=1, keepdims=True)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@exercise(
    "From row 0 take the column `labels[0]`, from row 1 the column `labels[1]`, and so on.",
    "NumPy takes one entry from each row with two lists of indices: "
    "`probabilities[np.arange(len(labels)), labels]`.",
    "`np.log` is the natural logarithm. Take the mean of the logarithms last, and mind the minus.",
)
def cross_entropy(answer):
    """Four images, all with different probabilities."""
    powers = np.exp(np.random.default_rng(1).normal(size=(4, 10)))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    labels = np.array([3, 0, 7, 3])
    true = probabilities[np.arange(4), labels]
    given = probabilities.copy()
    value = answer(given, labels.copy())
    with attempt("reading the number that you return"):
        value = np.asarray(value, float)
    require(
        (given == probabilities).all(),
        "Your function changes the probabilities that it was given.",
    )
    require(
        value.ndim == 0,
        f"You return an array of shape {value.shape}; one number is wanted, the mean.",
    )
    require(
        value > 0, f"You return {value:.3f}. A loss is positive: ln of a number below 1 is not."
    )
    wanted = -np.log(true)
    require(
        not np.isclose(value, wanted.sum()),
        "You return the sum over the four images, not their mean.",
    )
    require(
        not np.isclose(value, -np.log(true.mean())),
        "You return the logarithm of the mean; wanted is the mean of the logarithms.",
    )
    require(
        not np.isclose(value, -np.mean(np.log(probabilities[:, labels]))),
        "You use the columns of all four labels for every image. Each image has its own label.",
    )
    require(
        not np.isclose(value, np.mean(wanted) / np.log(10))
        and not np.isclose(value, np.mean(wanted) / np.log(2)),
        "Your logarithm has another base than e.",
    )
    require(
        np.isclose(value, np.mean(wanted)),
        f"For four images you return {value:.3f}, which is not the mean of their -ln(p).",
    )


@cross_entropy.accepts
def _(probabilities, labels):
    return sum(-np.log(row[label]) for row, label in zip(probabilities, labels, strict=True)) / len(
        labels
    )


@cross_entropy.accepts
def _(probabilities, labels):
    return -(np.eye(10)[labels] * np.log(probabilities)).sum(axis=1).mean()


@cross_entropy.rejects("changes the probabilities")
def _(probabilities, labels):
    np.log(probabilities, out=probabilities)
    return -np.mean(probabilities[np.arange(len(labels)), labels])


@cross_entropy.rejects("the number that you return raised")
def _(probabilities, labels):
    return f"{-np.log(probabilities[np.arange(len(labels)), labels]).mean():.2f} nats"


@cross_entropy.rejects("Is there a `return`?")
def _(probabilities, labels):
    np.mean(-np.log(probabilities[np.arange(len(labels)), labels]))


@cross_entropy.rejects("one number is wanted")
def _(probabilities, labels):
    return -np.log(probabilities[np.arange(len(labels)), labels])


@cross_entropy.rejects("A loss is positive")
def _(probabilities, labels):
    return np.mean(np.log(probabilities[np.arange(len(labels)), labels]))


@cross_entropy.rejects("the sum over the four images")
def _(probabilities, labels):
    return -np.sum(np.log(probabilities[np.arange(len(labels)), labels]))


@cross_entropy.rejects("the mean of the logarithms")
def _(probabilities, labels):
    return -np.log(np.mean(probabilities[np.arange(len(labels)), labels]))


@cross_entropy.rejects("its own label")
def _(probabilities, labels):
    return -np.mean(np.log(probabilities[:, labels]))


@cross_entropy.rejects("another base")
def _(probabilities, labels):
    return -np.mean(np.log10(probabilities[np.arange(len(labels)), labels]))


@cross_entropy.rejects("which is not the mean")
def _(probabilities, labels):
    return -np.mean(np.log(probabilities.max(axis=1)))


@cross_entropy.rejects("out of bounds")
def _(probabilities, labels):
    return -np.mean(np.log(probabilities[labels]))


@question
def first_loss():
    """An untrained network gives each of the ten digits about the same probability.

    What is its cross-entropy, about?
    """
    return [
        wrong("0.1", "That is the probability of each digit. What is -ln of it?"),
        wrong("0.9", "It will read nine of ten digits wrongly, but the loss asks for -ln(p)."),
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
)
def shift(answer):
    """Images that are no squares, moved in every direction."""
    images = np.random.default_rng(1).uniform(0.1, 1, size=(2, 5, 6, 1)).astype("float32")
    given = images.copy()
    for down, right_ in ((1, 0), (-1, 0), (0, 1), (0, -1), (2, -1), (-3, 2), (0, 0)):
        value = _array(answer(given, down, right_))
        call = f"shift(images, {down}, {right_})"
        require((given == images).all(), f"`{call}` changes the images that it was given.")
        require(
            value.shape == images.shape,
            f"`{call}` returns the shape {value.shape} for images of shape {images.shape}.",
        )
        require(
            (down, right_) == (0, 0)
            or not np.array_equal(value, np.roll(images, (down, right_), (1, 2))),
            f"`{call}`: what leaves the image comes back in on the other side. Empty it there.",
        )
        wanted = _moved(images, down, right_)
        require(
            down == right_ or not np.array_equal(value, _moved(images, right_, down)),
            f"`{call}`: rows and columns are swapped.",
        )
        require(
            (down, right_) == (0, 0) or not np.array_equal(value, _moved(images, -down, -right_)),
            f"`{call}` moves the image the other way.",
        )
        require(np.array_equal(value, wanted), f"`{call}` does not put every pixel in its place.")


def _moved(images, down, right_):
    moved = np.zeros_like(images)
    height, width = images.shape[1:3]
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right_ < width:
                moved[:, row, column] = images[:, row - down, column - right_]
    return moved


@shift.accepts
def _(images, down, right):
    from scipy.ndimage import shift

    return shift(images, (0, down, right, 0), order=0)


@shift.accepts
def _(images, down, right):
    moved = np.roll(images, (down, right), axis=(1, 2))
    if down > 0:
        moved[:, :down] = 0
    if down < 0:
        moved[:, down:] = 0
    if right > 0:
        moved[:, :, :right] = 0
    if right < 0:
        moved[:, :, right:] = 0
    return moved


@shift.rejects("comes back in on the other side")
def _(images, down, right):
    return np.roll(images, (down, right), axis=(1, 2))


@shift.rejects("rows and columns are swapped")
def _(images, down, right):
    return _moved(images, right, down)


@shift.rejects("the other way")
def _(images, down, right):
    return _moved(images, -down, -right)


@shift.rejects("returns the shape")
def _(images, down, right):
    return images[:, down:, right:]


@shift.rejects("changes the images")
def _(images, down, right):
    images[:] = _moved(images, down, right)
    return images


@shift.rejects("every pixel in its place")
def _(images, down, right):
    return images


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
            "To this network an image is a list of pixels. That two of them are neighbors is "
            "nothing it knows. A network that slides its stencils over the image can do better.",
        ),
        wrong(
            "It was not trained for long enough.",
            "Its curves were nearly flat at the end. More of the same training would not help.",
        ),
        wrong(
            "It has learned the training images by heart.",
            "Then it would fail on the test digits as they were written. It does well on those.",
        ),
    ]


@exercise(
    "A list of layers in `keras.Sequential([...])`: input, convolutions, pooling, and the vote.",
    "`layers.Conv2D(32, 3, padding='same', activation='relu')` holds 32 stencils of 3 × 3 pixels. "
    "`layers.MaxPooling2D()` comes after it.",
    "Begin with `keras.Input(input_shape)`, and end with `layers.Flatten()` and `layers.Dense(10)` "
    "without an activation.",
)
def build_cnn(answer):
    """Two sizes of images; layers, and what the network does with random images."""
    import keras

    random = np.random.default_rng(1)
    for shape in ((8, 8, 1), (28, 28, 1)):
        model = answer(shape)
        require(
            isinstance(model, keras.Model),
            f"You return `{type(model).__name__}`, not a Keras model.",
        )
        require(
            getattr(model, "inputs", None),
            "Your model does not know the shape of its images yet. Begin with "
            "`keras.Input(input_shape)`.",
        )
        images = random.uniform(-3, 3, size=(8, *shape)).astype("float32")
        with attempt(f"calling your model on images of shape {shape}"):
            scores = _scores(model, images)
        require(
            np.shape(scores) == (8, 10),
            f"For 8 images of shape {shape} your model returns the shape {np.shape(scores)}; ten "
            "logits for each are wanted.",
        )
    require(
        any(isinstance(layer, keras.layers.Conv2D) for layer in _all_layers(model)),
        "There is no convolution in your model: use `layers.Conv2D`.",
    )
    require(
        not np.allclose(scores.sum(axis=1), 1, atol=1e-4),
        "Your model returns probabilities. Leave the softmax out; the loss applies it.",
    )
    require(
        scores.min() < 0,
        "None of your model's scores is negative. Leave the activation of the last layer out.",
    )
    there, back, nowhere = (_scores(model, factor * images) for factor in (1, -1, 0))
    bend = np.abs(there + back - 2 * nowhere).max() / np.abs(scores).max()
    require(
        bend > 1e-4,
        "Your model is linear: many layers, but no more than the stencils from before. Give the "
        "convolutions an activation.",
    )
    require(
        any("Pooling" in type(layer).__name__ for layer in _all_layers(model)),
        "There is no pooling layer in your model: use `layers.MaxPooling2D`.",
    )
    return f"Correct: {answer((8, 8, 1)).count_params():,} numbers to learn for 8 × 8 pixels."


def _scores(model, images):
    import keras

    return keras.ops.convert_to_numpy(model(images, training=False))


def _all_layers(model):
    for layer in model.layers:
        yield from _all_layers(layer) if hasattr(layer, "layers") else [layer]


@build_cnn.accepts
def _(input_shape):
    import keras

    x = inputs = keras.Input(input_shape)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3)(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


@build_cnn.rejects("Is there a `return`?")
def _(input_shape):
    _cnn(input_shape)


@build_cnn.rejects("not a Keras model")
def _(input_shape):
    return _cnn(input_shape).layers


@build_cnn.rejects("Begin with `keras.Input(input_shape)`")
def _(input_shape):
    import keras

    flatten, vote = keras.layers.Flatten(), keras.layers.Dense(10)
    return keras.Sequential([keras.layers.Conv2D(8, 3, activation="relu"), flatten, vote])


@build_cnn.rejects("There is no pooling layer")
def _(input_shape):
    return _cnn(input_shape)


@build_cnn.rejects("incompatible")
def _(input_shape):
    return _cnn((8, 8, 1))


@build_cnn.rejects("returns the shape (8, 8, 8, 10)")
def _(input_shape):
    import keras

    convolution = keras.layers.Conv2D(10, 3, padding="same", activation="relu")
    return keras.Sequential([keras.Input(input_shape), convolution])


@build_cnn.rejects("There is no convolution")
def _(input_shape):
    import keras

    hidden = keras.layers.Dense(64, activation="relu")
    flatten = keras.layers.Flatten()
    return keras.Sequential([keras.Input(input_shape), flatten, hidden, keras.layers.Dense(10)])


@build_cnn.rejects("Leave the softmax out")
def _(input_shape):
    return _cnn(input_shape, last="softmax")


@build_cnn.rejects("Leave the activation of the last layer out")
def _(input_shape):
    return _cnn(input_shape, last="relu")


@build_cnn.rejects("Your model is linear")
def _(input_shape):
    return _cnn(input_shape, activation=None)


def _cnn(input_shape, activation="relu", last=None):
    import keras

    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Conv2D(8, 3, activation=activation),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation=last),
        ]
    )


@exercise(
    "Inside `with tf.GradientTape() as tape:` compute the logits and from them the loss. Outside "
    "it, ask for the gradients and apply them.",
    "`keras.losses.SparseCategoricalCrossentropy(from_logits=True)` makes a function; call it with "
    "`(labels, logits)`, in this order.",
    "`tape.gradient(loss, model.trainable_variables)` returns a list of gradients, one for each "
    "variable; `optimizer.apply_gradients(zip(gradients, model.trainable_variables))` moves them.",
)
def train_step(answer):
    """A linear network, for which the gradient can be written down."""
    import keras
    import tensorflow as tf

    random = np.random.default_rng(1)
    images = random.uniform(size=(16, 4, 4, 1)).astype("float32")
    labels = random.integers(10, size=16)
    flags = []

    class Flag(keras.layers.Layer):
        """Notes how it is called."""

        def call(self, inputs, training=None):
            flags.append(training)
            return inputs

    dense = keras.layers.Dense(10)
    model = keras.Sequential([keras.Input((4, 4, 1)), Flag(), keras.layers.Flatten(), dense])
    flags.clear()
    dense.kernel.assign(random.normal(size=dense.kernel.shape))
    rate = 0.5
    optimizer = keras.optimizers.SGD(rate)
    before = [np.array(each) for each in dense.get_weights()]
    wanted_loss, gradients = _loss_and_gradients(images, labels, *before)

    loss = answer(model, optimizer, tf.constant(images), tf.constant(labels))

    after = [np.array(each) for each in dense.get_weights()]
    moves = [new - old for new, old in zip(after, before, strict=True)]
    require(
        any(move.any() for move in moves),
        "No weight has moved. Does the optimizer get to apply the gradients?",
    )
    with attempt("reading the loss that you return"):
        loss = np.asarray(loss, float)
    require(loss.ndim == 0, f"The loss that you return has the shape {loss.shape}: take its mean.")
    along = -sum(np.sum(move * each) for move, each in zip(moves, gradients, strict=True))
    require(along > 0, "The weights moved up the gradient, and the loss has grown.")
    steps = int(optimizer.iterations)
    require(
        steps == 1,
        f"The optimizer was used {steps} times; let it move the weights, once for all of them.",
    )
    require(
        not np.isclose(loss, _loss_and_gradients(images, labels, *after)[0], rtol=1e-4),
        "You return the loss after the step; return the one before it.",
    )
    require(
        not np.isclose(loss, wanted_loss * len(images), rtol=1e-4),
        f"You return the sum over the {len(images)} images; take the mean.",
    )
    require(
        np.isclose(loss, wanted_loss, rtol=1e-4),
        f"You return a loss of {float(loss):.3f}, which is not the mean cross-entropy of these "
        "logits. Does the loss know that it gets logits?",
    )
    require(
        all(np.allclose(m, -rate * g, atol=1e-4) for m, g in zip(moves, gradients, strict=True)),
        "The loss is right, but the weights did not move along its gradient.",
    )
    require(
        flags[:1] == [True],
        "The loss and the gradient are right. One thing is missing: call the model with "
        "`training=True`, or layers such as Dropout do not do their work.",
    )


def _loss_and_gradients(images, labels, kernel, bias):
    """The mean cross-entropy of a linear network, and its gradients."""
    pixels = images.reshape(len(images), -1)
    logits = pixels @ kernel + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    truth = np.eye(10)[labels]
    error = (probabilities - truth) / len(labels)
    return -np.log((probabilities * truth).sum(axis=1)).mean(), (
        pixels.T @ error,
        error.sum(axis=0),
    )


@train_step.accepts
def _(model, optimizer, images, labels):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        loss = tf.reduce_mean(loss)
    optimizer.apply(tape.gradient(loss, model.trainable_weights), model.trainable_weights)
    return float(loss)


@train_step.rejects("returns nothing")
def _(model, optimizer, images, labels):
    _step(model, optimizer, images, labels)


@train_step.rejects("No weight has moved")
def _(model, optimizer, images, labels):
    return _loss(model, images, labels)


@train_step.rejects("up the gradient")
def _(model, optimizer, images, labels):
    return -_step(model, optimizer, images, labels, sign=-1)


@train_step.rejects("The optimizer was used 0 times")
def _(model, optimizer, images, labels):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = _loss(model, images, labels)
    for variable, gradient in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        variable.assign_sub(0.5 * gradient)
    return loss


@train_step.rejects("after the step")
def _(model, optimizer, images, labels):
    _step(model, optimizer, images, labels)
    return _loss(model, images, labels)


@train_step.rejects("Does the loss know that it gets logits?")
def _(model, optimizer, images, labels):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        probabilities = tf.nn.softmax(model(images, training=True))
        loss = _mean_loss(labels, probabilities)
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


@train_step.rejects("the sum over the 16 images")
def _(model, optimizer, images, labels):
    return _step(model, optimizer, images, labels, sign=16)


@train_step.rejects("take its mean")
def _(model, optimizer, images, labels):
    return [_step(model, optimizer, images, labels)] * 2


@train_step.rejects("did not move along its gradient")
def _(model, optimizer, images, labels):
    return _step(model, optimizer, images, labels, sign=16) / 16


@train_step.rejects("training=True")
def _(model, optimizer, images, labels):
    return _step(model, optimizer, images, labels, training=False)


@train_step.rejects("No gradients provided")
def _(model, optimizer, images, labels):
    import tensorflow as tf

    loss = _loss(model, images, labels)
    with tf.GradientTape() as tape:
        pass
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss


def _mean_loss(labels, logits):
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)


def _loss(model, images, labels):
    return _mean_loss(labels, model(images, training=True))


def _step(model, optimizer, images, labels, sign=1, training=True):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = sign * _mean_loss(labels, model(images, training=training))
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
    "Begin with `np.zeros((10, 10), int)`, go through the pairs of label and prediction, and add 1 "
    "at the entry of each pair.",
    "`for label, prediction in zip(labels, predictions):` goes through the pairs. Without a loop: "
    "`np.add.at(matrix, (labels, predictions), 1)`.",
)
def confusion_matrix(answer):
    """Ten images, among them one confusion that happens twice."""
    labels = np.array([0, 1, 2, 3, 4, 5, 8, 8, 8, 9])
    predictions = np.array([0, 1, 2, 3, 4, 5, 1, 1, 3, 9])
    matrix = _array(answer(labels, predictions))
    require(matrix.shape == (10, 10), f"You return the shape {matrix.shape}, not (10, 10).")
    require(matrix.any(), "Every entry of your matrix is 0.")
    require(
        matrix[1, 8] != 2,
        "Row 1, column 8 counts the eights that were read as ones: rows and columns are swapped.",
    )
    require(
        matrix[8, 1] != 1,
        "Two eights were read as ones, and you count one. `matrix[labels, predictions] += 1` adds "
        "only once where a pair occurs twice.",
    )
    require(matrix[0, 0] > 0, "You count the mistakes only; the right answers belong in it, too.")
    total = matrix.sum()
    require(total == 10, f"For ten images, your entries add up to {total:g}.")
    wanted = [[np.sum((labels == i) & (predictions == j)) for j in range(10)] for i in range(10)]
    require(np.array_equal(matrix, wanted), "Some of your counts are not in their place.")
    require(
        np.issubdtype(matrix.dtype, np.integer),
        f"Your counts are right, but they have the type {matrix.dtype}. Counts are whole numbers: "
        "begin with `np.zeros((10, 10), int)`.",
    )
    zeros = np.zeros(300, int)
    matrix = _array(answer(zeros, zeros))
    require(
        matrix.shape == (10, 10),
        f"For images that are all zeros you return the shape {matrix.shape}, not (10, 10).",
    )
    require(
        matrix[0, 0] == 300,
        f"You count 300 zeros as {matrix[0, 0]}: numbers of the type {matrix.dtype} end before.",
    )


@confusion_matrix.accepts
def _(labels, predictions):
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predictions, labels=range(10))


@confusion_matrix.accepts
def _(labels, predictions):
    return np.bincount(10 * labels + predictions, minlength=100).reshape(10, 10)


@confusion_matrix.rejects("not (10, 10)")
def _(labels, predictions):
    return np.bincount(predictions, minlength=10)


@confusion_matrix.rejects("all zeros you return the shape (1, 1)")
def _(labels, predictions):
    size = max(labels.max(), predictions.max()) + 1
    counts = np.bincount(size * labels + predictions, minlength=size * size)
    return counts.reshape(size, size)


@confusion_matrix.rejects("You count 300 zeros as 44")
def _(labels, predictions):
    matrix = np.zeros((10, 10), "uint8")
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


@confusion_matrix.rejects("have the type float64")
def _(labels, predictions):
    matrix = np.zeros((10, 10))
    np.add.at(matrix, (labels, predictions), 1)
    return matrix


@confusion_matrix.rejects("Every entry of your matrix is 0")
def _(labels, predictions):
    return np.zeros((10, 10), int)


@confusion_matrix.rejects("rows and columns are swapped")
def _(labels, predictions):
    return np.bincount(10 * predictions + labels, minlength=100).reshape(10, 10)


@confusion_matrix.rejects("adds only once")
def _(labels, predictions):
    matrix = np.zeros((10, 10), int)
    matrix[labels, predictions] += 1
    return matrix


@confusion_matrix.rejects("the right answers belong in it")
def _(labels, predictions):
    counts = np.bincount(10 * labels + predictions, minlength=100).reshape(10, 10)
    return counts - np.diag(np.diag(counts))


@confusion_matrix.rejects("add up to 1.")
def _(labels, predictions):
    counts = np.bincount(10 * labels + predictions, minlength=100).reshape(10, 10)
    return counts / len(labels)


@confusion_matrix.rejects("not in their place")
def _(labels, predictions):
    counts = np.bincount(10 * labels + predictions, minlength=100).reshape(10, 10)
    counts[[2, 3]] = counts[[3, 2]]
    return counts


BAR, CHALLENGE_SEEDS = 0.985, 5


@exercise(
    "What helped most above? Neighbors, and a learning rate that falls. Begin with both.",
    "A rate that falls along a cosine: `keras.optimizers.schedules.CosineDecay(0.004, steps)` in "
    "the place of the learning rate.",
    "Two convolutions of 32 stencils before the pooling and one of 64 after it, with "
    "`layers.Dropout(0.3)` before the last layer, is enough, given five passes over the images "
    "and their neighbors.",
)
def train_reader(answer):
    """Trains from five seeds on three quarters of the digits, and tests on the held-out quarter."""
    import keras

    from dltlab import data

    images, labels = data.arrays("digits", "train")
    test_images, test_labels = data.arrays("digits", "test")
    accuracies = []
    previous = np.empty(0)
    for seed in range(CHALLENGE_SEEDS):
        model = answer(images.copy(), labels.copy(), seed)
        require(
            isinstance(model, keras.Model),
            f"You return `{type(model).__name__}`, not a Keras model. Return the model.",
        )
        with attempt("asking your model for the scores of the held-out digits"):
            scores = _scores(model, test_images)
        wanted = (len(test_labels), 10)
        require(
            scores.shape == wanted,
            f"Your model returns the shape {scores.shape}; ten scores for each image are "
            f"wanted, {wanted}.",
        )
        require(
            not np.array_equal(scores, previous),
            f"Seeds {seed - 1} and {seed} give the same network. Begin with "
            "`keras.utils.set_random_seed(seed)`.",
        )
        previous = scores
        accuracies.append(np.mean(scores.argmax(axis=1) == test_labels))
        best_mean = np.mean(accuracies + [1] * (CHALLENGE_SEEDS - len(accuracies)))
        require(
            best_mean >= BAR,
            f"The share of the held-out digits that your networks read: {_listed(accuracies)}. A "
            f"mean of {BAR} over {CHALLENGE_SEEDS} seeds is out of reach now.",
        )
    return f"A mean of {np.mean(accuracies):.4f} ({_listed(accuracies)}); the bar is {BAR}."


def _listed(accuracies):
    return ", ".join(f"{accuracy:.4f}" for accuracy in accuracies)


@train_reader.rejects("Return the model")
def _(images, labels, seed):
    model = _cnn((8, 8, 1))
    model.compile(loss="mse")
    return model.fit(images[:1], np.zeros((1, 10)), verbose=0)


@train_reader.rejects("the scores of the held-out digits raised")
def _(images, labels, seed):
    import keras

    flatten, vote = keras.layers.Flatten(), keras.layers.Dense(10)
    return keras.Sequential([keras.Input((28, 28, 1)), flatten, vote])


@train_reader.rejects("ten scores for each image are wanted")
def _(images, labels, seed):
    import keras

    flatten = keras.layers.Flatten()
    return keras.Sequential([keras.Input((8, 8, 1)), flatten, keras.layers.Dense(1)])


@train_reader.rejects("Seeds 0 and 1 give the same network")
def _(images, labels, seed):
    import keras

    flatten, vote = keras.layers.Flatten(), keras.layers.Dense(10)
    model = keras.Sequential([keras.Input((8, 8, 1)), flatten, vote])
    pixels = np.column_stack([images.reshape(len(images), -1), np.ones(len(images))])
    weights = np.linalg.lstsq(pixels, np.eye(10)[labels])[0]
    vote.set_weights([weights[:-1], weights[-1]])
    return model


@train_reader.rejects("out of reach now")
def _(images, labels, seed):
    import keras

    keras.utils.set_random_seed(seed)
    model = _cnn((8, 8, 1))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images, labels, epochs=1, verbose=0)
    return model
