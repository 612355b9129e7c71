"""Exercises of lab 02, Image classification."""

from time import perf_counter

import numpy as np

from dltlab.exercises import (
    LeaderboardEntry,
    add_to_leaderboard,
    attempt,
    correct,
    exercise,
    in_float32,
    question,
    require,
    show_leaderboard,
    wrong,
)

# TensorFlow takes seconds to import, so the checks that need it import it themselves.


@exercise(
    "Two loops over the places of the answer: at each one, take the window of `image` that begins "
    "there and has the kernel's shape.",
    "The window at row r and column c is `image[r : r + kh, c : c + kw]`, with "
    "`kh, kw = kernel.shape`. Multiply it by the kernel, number by number, and add everything up.",
    "The kernel fits into h rows at h - kh + 1 places: that is the height of the answer.",
)
def convolve(answer):
    """An image that is no square, under kernels of several shapes."""
    random = np.random.default_rng(1)
    image = random.normal(size=(5, 7))
    for shape in ((3, 3), (1, 3), (2, 2)):
        kernel = random.normal(size=shape)
        given = image.copy(), kernel.copy()
        value = _array(answer(*given))
        call = f"For an image of shape {image.shape} and a kernel of shape {shape}"
        require(
            np.array_equal(given[0], image) and np.array_equal(given[1], kernel),
            "Your function changes the image or the kernel that it was given.",
        )
        wanted = _convolved(image, kernel)
        require(
            value.shape != image.shape,
            f"{call} you return the shape {value.shape}, that of the image. Use only the places "
            "where the whole kernel lies in the image.",
        )
        require(
            value.shape == wanted.shape,
            f"{call} you return the shape {value.shape}. In how many places does the kernel fit?",
        )
        require(
            not np.allclose(value, _convolved(image, kernel[::-1, ::-1])),
            f"{call} your answer is that of the kernel turned by 180°. Mathematicians turn it; "
            "networks lay it on as it is.",
        )
        require(
            not np.allclose(value, wanted / kernel.size),
            f"{call} you return the mean of the products; the sum is wanted.",
        )
        require(np.allclose(value, wanted), f"{call} some numbers are not the sums of products.")


def _convolved(image, kernel):
    windows = np.lib.stride_tricks.sliding_window_view(image, kernel.shape)
    return np.einsum("hwij,ij->hw", windows, kernel)


def _array(value):
    require(
        isinstance(value, np.ndarray),
        f"You return an object of type `{type(value).__name__}`; a NumPy array is wanted.",
    )
    return value


@convolve.accepts
def _(image, kernel):
    from scipy.signal import correlate2d

    return correlate2d(image, kernel, mode="valid")


@convolve.accepts
def _(image, kernel):
    height, width = np.subtract(image.shape, kernel.shape) + 1
    total = np.zeros((height, width))
    for (row, column), weight in np.ndenumerate(kernel):
        total += weight * image[row : row + height, column : column + width]
    return total


@convolve.rejects("a NumPy array is wanted")
def _(image, kernel):
    return _convolved(image, kernel).tolist()


@convolve.rejects("that of the image")
def _(image, kernel):
    from scipy.signal import correlate2d

    return correlate2d(image, kernel, mode="same")


@convolve.rejects("In how many places")
def _(image, kernel):
    return _convolved(image, kernel)[:-1, :-1]


@convolve.rejects("turned by 180°")
def _(image, kernel):
    from scipy.signal import convolve2d

    return convolve2d(image, kernel, mode="valid")


@convolve.rejects("the mean of the products")
def _(image, kernel):
    return _convolved(image, kernel) / kernel.size


@convolve.rejects("not the sums of products")
def _(image, kernel):
    return np.maximum(_convolved(image, kernel), 0)


@convolve.rejects("changes the image")
def _(image, kernel):
    kernel -= kernel.mean()
    return _convolved(image, kernel)


@convolve.rejects("a kernel of shape (1, 3) you return the shape (3, 5)")
def _(image, kernel):
    height, width = np.subtract(image.shape, 2)
    windows = [[image[r : r + 3, c : c + 3] for c in range(width)] for r in range(height)]
    return np.array([[np.sum(window * kernel) for window in row] for row in windows])


@exercise(
    "One kernel looks at all channels of its input: it has size × size × channels_in weights. "
    "There is one kernel for each output channel.",
    "To the weights come the biases, one for each output channel.",
    "Each weight is used once at every place of the output, and there are height × width places. "
    "The bias is only added: it multiplies nothing.",
)
def conv_cost(answer):
    """Three layers, none of them with two equal numbers."""
    for height, width, channels_in, channels_out, size in (
        (5, 7, 2, 11, 3),
        (32, 24, 3, 16, 5),
        (8, 4, 6, 10, 1),
    ):
        value = answer(height, width, channels_in, channels_out, size)
        call = f"conv_cost({height}, {width}, {channels_in}, {channels_out}, {size})"
        with attempt("unpacking what you return into two numbers"):
            parameters, macs = value
            parameters, macs = float(parameters), float(macs)
        kernels = size**2 * channels_in * channels_out
        places = height * width
        require(
            (parameters, macs) != (kernels * places, kernels + channels_out),
            f"`{call}`: the two numbers are swapped; the parameters come first.",
        )
        require(
            parameters != kernels, f"`{call}`: {parameters:,.0f} parameters. Are the biases in it?"
        )
        require(
            parameters != kernels / channels_in + channels_out,
            f"`{call}`: {parameters:,.0f} parameters. A kernel has weights for every input "
            "channel, not for one.",
        )
        require(
            parameters != kernels + channels_in,
            f"`{call}`: {parameters:,.0f} parameters. There is a bias for each output channel.",
        )
        require(
            size == 1 or parameters != kernels / size + channels_out,
            f"`{call}`: {parameters:,.0f} parameters. A kernel is size × size, not size.",
        )
        require(
            parameters == kernels + channels_out,
            f"`{call}`: {parameters:,.0f} parameters is not what the layer has.",
        )
        require(
            macs != (kernels + channels_out) * places,
            f"`{call}`: {macs:,.0f} multiply-adds. Does a bias multiply anything?",
        )
        require(
            macs != kernels,
            f"`{call}`: {macs:,.0f} multiply-adds is one for each weight. At how many places is "
            "each weight used?",
        )
        require(
            macs != 2 * kernels * places,
            f"`{call}`: {macs:,.0f} counts the multiplication and the addition; one multiply-add "
            "is both.",
        )
        require(
            macs == kernels * places,
            f"`{call}`: {macs:,.0f} multiply-adds is not what the layer does.",
        )


@conv_cost.accepts
def _(height, width, channels_in, channels_out, size):
    import keras

    inputs = keras.Input((height, width, channels_in))
    layer = keras.layers.Conv2D(channels_out, size, padding="same")
    layer(inputs)
    return np.array([layer.count_params(), height * width * np.prod(layer.kernel.shape)])


@conv_cost.rejects("swapped")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_in * channels_out
    return height * width * kernels, kernels + channels_out


@conv_cost.rejects("Are the biases in it?")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_in * channels_out
    return kernels, height * width * kernels


@conv_cost.rejects("for every input channel")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_out
    return kernels + channels_out, height * width * kernels


@conv_cost.rejects("for each output channel")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_in * channels_out
    return kernels + channels_in, height * width * kernels


@conv_cost.rejects("size × size")
def _(height, width, channels_in, channels_out, size):
    kernels = size * channels_in * channels_out
    return kernels + channels_out, height * width * kernels


@conv_cost.rejects("is not what the layer has")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_in * channels_out
    return kernels + 1, height * width * kernels


@conv_cost.rejects("Does a bias multiply anything?")
def _(height, width, channels_in, channels_out, size):
    parameters = size**2 * channels_in * channels_out + channels_out
    return parameters, height * width * parameters


@conv_cost.rejects("one for each weight")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_in * channels_out
    return kernels + channels_out, kernels


@conv_cost.rejects("one multiply-add is both")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_in * channels_out
    return kernels + channels_out, 2 * height * width * kernels


@conv_cost.rejects("is not what the layer does")
def _(height, width, channels_in, channels_out, size):
    kernels = size**2 * channels_in * channels_out
    return kernels + channels_out, (height - size + 1) * (width - size + 1) * kernels


@conv_cost.rejects("into two numbers")
def _(height, width, channels_in, channels_out, size):
    return size**2 * channels_in * channels_out + channels_out


@question
def vgg_parameters():
    """VGG-16 has 138 million parameters, ResNet-50 has 26 million. Where are most of VGG-16's?"""
    return [
        wrong(
            "In its thirteen convolutions: it has so many of them.",
            "Look at the column of parameters. All convolutions together have about 15 million. "
            "What they have most of is multiply-adds.",
        ),
        wrong(
            "In the last layer, which tells a thousand classes apart.",
            "That one has 4096 × 1000 weights, about 4 million.",
        ),
        correct(
            "In the first dense layer, which sees all 7 × 7 × 512 numbers at once.",
            "7 × 7 × 512 × 4096 = 103 million weights, each of them used once an image. GoogLeNet "
            "and ResNet-50 take the mean over the 49 places first and need no such layer.",
        ),
        wrong(
            "They are spread evenly over its sixteen layers.",
            "Then each would have 9 million. Look at the bars once more.",
        ),
    ]


@exercise(
    "Twice the same three layers: `layers.BatchNormalization()`, `layers.ReLU()`, "
    "`layers.Conv2D(channels, 3, padding='same', use_bias=False)`. Then `layers.Add()`.",
    "Keras layers are called on what comes before them: `x = layers.ReLU()(x)`. Begin with "
    "`x = layers.BatchNormalization()(inputs)` and keep `inputs` for the end.",
    "The sum comes last, with nothing after it: `return layers.Add()([x, inputs])`.",
)
@in_float32()
def residual_block(answer):
    """A block on small maps: its layers, and what it does when its convolutions do nothing."""
    import keras

    channels = 4
    inputs = keras.Input((7, 9, channels))
    outputs = answer(inputs, channels)
    require(
        isinstance(outputs, keras.KerasTensor),
        f"You return an object of type `{type(outputs).__name__}`; return what your last layer "
        "gives when it is called.",
    )
    with attempt("making a model of your block"):
        model = keras.Model(inputs, outputs)
    require(
        outputs.shape == inputs.shape,
        f"For maps of shape (7, 9, 4) your block gives {tuple(outputs.shape[1:])}. A sum needs "
        'equal shapes: `padding="same"`, and as many channels as come in.',
    )
    convolutions = [each for each in model.layers if isinstance(each, keras.layers.Conv2D)]
    require(
        len(convolutions) == 2,
        f"Your block has {len(convolutions)} convolution{'s' * (len(convolutions) != 1)}; two are "
        "wanted.",
    )
    for each in convolutions:
        require(
            tuple(each.kernel_size) == (3, 3),
            f"The kernels of `{each.name}` are {each.kernel_size[0]} × {each.kernel_size[1]}; "
            "they should be 3 × 3.",
        )
    norms = [e for e in model.layers if isinstance(e, keras.layers.BatchNormalization)]
    require(
        len(norms) == 2,
        f"Your block normalizes {len(norms)} time{'s' * (len(norms) != 1)}; it should before each "
        "of the two convolutions.",
    )
    _check_shortcut(model, convolutions)


def _check_shortcut(model, convolutions):
    """What comes in goes out when the convolutions add nothing, and the ReLUs bend."""
    import keras

    maps = np.random.default_rng(1).normal(size=(2, 7, 9, 4)).astype("float32")
    kernels = [each.get_weights() for each in convolutions]
    for each, weights in zip(convolutions, kernels, strict=True):
        each.set_weights([np.zeros_like(part) for part in weights])
    silent = keras.ops.convert_to_numpy(model(maps, training=False))
    require(
        not np.allclose(silent, 0),
        "With all its kernels set to 0 your block gives nothing but zeros: what comes in is lost. "
        "Add the inputs at the end.",
    )
    require(
        not np.allclose(silent, np.maximum(maps, 0), atol=0.02),
        "With all its kernels set to 0 your block should hand on what comes in, but the negative "
        "numbers are gone: a ReLU stands in the way of the shortcut.",
    )
    require(
        np.allclose(silent, maps, atol=1e-4),
        "With all its kernels set to 0 your block should hand on just what comes in. It changes it "
        "on the way.",
    )
    for each, weights in zip(convolutions, kernels, strict=True):
        each.set_weights(weights)
    added, mirrored = (
        keras.ops.convert_to_numpy(model(each, training=False)) - each for each in (maps, -maps)
    )
    require(
        not np.allclose(added, -mirrored, atol=1e-4),
        "Your block is linear: it does the same to -x as to x. Where is the ReLU?",
    )
    order = [type(each).__name__ for each in model.layers]
    first = next(place for place, each in enumerate(model.layers) if each in convolutions)
    require(
        "BatchNormalization" in order[:first],
        "The first thing your block does is a convolution. In this order of layers the "
        "normalization comes before it.",
    )


@residual_block.accepts
def _(inputs, channels):
    import keras
    from keras import layers

    x = inputs
    for _ in range(2):
        x = keras.activations.relu(layers.BatchNormalization()(x))
        x = layers.Conv2D(channels, 3, padding="same")(x)
    return inputs + x


@residual_block.accepts
def _(inputs, channels):
    from keras import layers

    x = layers.Activation("relu")(layers.BatchNormalization()(inputs))
    x = layers.Conv2D(channels, (3, 3), padding="same", use_bias=False)(x)
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, (3, 3), padding="same", use_bias=False)(x)
    return layers.add([inputs, x])


def _stack(inputs, channels, *, size=3, padding="same", times=2, relu=True, norm=True):
    from keras import layers

    x = inputs
    for _ in range(times):
        x = layers.BatchNormalization()(x) if norm else x
        x = layers.ReLU()(x) if relu else x
        x = layers.Conv2D(channels, size, padding=padding)(x)
    return x


@residual_block.rejects("return what your last layer gives")
def _(inputs, channels):
    from keras import layers

    return layers.Conv2D(channels, 3, padding="same")


@residual_block.rejects("needs equal shapes")
def _(inputs, channels):
    return _stack(inputs, channels, padding="valid")


@residual_block.rejects("has 1 convolution;")
def _(inputs, channels):
    return inputs + _stack(inputs, channels, times=1)


@residual_block.rejects("they should be 3 × 3")
def _(inputs, channels):
    return inputs + _stack(inputs, channels, size=5)


@residual_block.rejects("normalizes 0 times")
def _(inputs, channels):
    return inputs + _stack(inputs, channels, norm=False)


@residual_block.rejects("what comes in is lost")
def _(inputs, channels):
    return _stack(inputs, channels)


@residual_block.rejects("a ReLU stands in the way")
def _(inputs, channels):
    from keras import layers

    return layers.ReLU()(inputs + _stack(inputs, channels))


@residual_block.rejects("It changes it on the way")
def _(inputs, channels):
    return inputs + inputs + _stack(inputs, channels)


@residual_block.rejects("Your block is linear")
def _(inputs, channels):
    return inputs + _stack(inputs, channels, relu=False)


@residual_block.rejects("In this order of layers")
def _(inputs, channels):
    from keras import layers

    x = layers.Conv2D(channels, 3, padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(channels, 3, padding="same")(x)
    return layers.Add()([layers.BatchNormalization()(x), inputs])


@residual_block.rejects("Inputs have incompatible shapes")
def _(inputs, channels):
    from keras import layers

    return layers.Add()([_stack(inputs, channels, padding="valid"), inputs])


@question
def why_shortcut():
    """Set every kernel of a block without the shortcut to nearly 0, then of one with it.

    What does a stack of fifty such blocks hand on from the image, and from the error back?
    """
    return [
        wrong(
            "In both cases nearly nothing: the kernels are nearly 0.",
            "Follow the sum at the end of a block once more. Which of its two parts goes through "
            "no kernel?",
        ),
        correct(
            "Without it nearly nothing. With it the image itself, and the error back to the "
            "first layer.",
            "A block with the shortcut begins as the identity and learns what to add. So a deeper "
            "network need not be worse than a shallow one, which plain stacks of layers were.",
        ),
        wrong(
            "Without it nearly nothing. With it fifty times the image.",
            "The sum of a block is its input plus nearly 0. What goes in to the next block?",
        ),
    ]


@exercise(
    "Two cases, parted at `warmup = 0.3 * num_steps`. Below it a straight line, above it half a "
    "cosine.",
    "The line begins at peak / 25 and reaches the peak when step = warmup.",
    "Let p run from 0 at the end of the rise to 1 at the last step: "
    "p = (step - warmup) / (num_steps - warmup). Then (1 + cos(π p)) / 2 falls from 1 to 0.",
)
def one_cycle(answer):
    """The rate at the beginning, in the rise, at the top, in the fall and at the end."""
    for num_steps, peak in ((100, 2.0), (400, 0.01)):
        call = f"one_cycle({{}}, {num_steps}, {peak:g})"
        places = [num_steps * share for share in (0.0, 0.15, 0.3, 0.5, 0.65, 0.9, 1.0)]
        given = []
        for step in places:
            value = answer(step, num_steps, peak)
            with attempt("reading the number that you return"):
                given.append(float(value))
        rates = np.array(given) / peak
        require(
            num_steps == 100 or not np.allclose(rates * peak, _one_cycle(places, num_steps) * 2),
            f"`{call.format('step')}` does not follow the peak that it is given.",
        )
        require(
            rates[0] > 0,
            f"`{call.format('0')}` is 0: the first step would do nothing. Begin at peak / 25.",
        )
        require(
            np.isclose(rates[0], 0.04),
            f"`{call.format('0')}` is {rates[0] * peak:g}; the cycle begins at peak / 25.",
        )
        require(
            np.isclose(rates[2], 1),
            f"`{call.format(f'{places[2]:g}')}` is {rates[2] * peak:g}; after 30% of the steps the "
            "rate should be at its peak.",
        )
        require(
            np.isclose(rates[-1], 0, atol=1e-6),
            f"`{call.format(num_steps)}` is {rates[-1] * peak:g}; at the end the rate should be 0.",
        )
        require(
            np.isclose(rates[1], 0.52),
            f"`{call.format(f'{places[1]:g}')}` is {rates[1] * peak:g}, which is not half way up a "
            "straight line from peak / 25 to the peak.",
        )
        require(
            not np.allclose(rates[3:], 1 - (np.array(places[3:]) / num_steps - 0.3) / 0.7),
            f"`{call.format(f'{places[3]:g}')}` lies on a straight line down; it should fall along "
            "half a cosine.",
        )
        require(
            np.allclose(rates, _one_cycle(places, num_steps), atol=1e-6),
            f"`{call.format(f'{places[3]:g}')}` is {rates[3] * peak:g}: the fall is not half a "
            "cosine from the peak to 0.",
        )


def _one_cycle(steps, num_steps):
    share = np.array(steps) / num_steps
    fall = (1 + np.cos(np.pi * (share - 0.3) / 0.7)) / 2
    return np.where(share < 0.3, 0.04 + 0.96 * share / 0.3, fall)


@one_cycle.accepts
def _(step, num_steps, peak):
    return float(peak * _one_cycle([step], num_steps)[0])


@one_cycle.accepts
def _(step, num_steps, peak):
    warmup = 0.3 * num_steps
    if step <= warmup:
        return np.interp(step, [0, warmup], [peak / 25, peak])
    return peak * np.cos(np.pi / 2 * (step - warmup) / (num_steps - warmup)) ** 2


@one_cycle.rejects("does not follow the peak")
def _(step, num_steps, peak):
    return 2 * _one_cycle([step], num_steps)[0]


@one_cycle.rejects("would do nothing")
def _(step, num_steps, peak):
    return peak * _one_cycle([step], num_steps)[0] if step else 0.0


@one_cycle.rejects("the cycle begins at")
def _(step, num_steps, peak):
    return peak * (1 + np.cos(np.pi * step / num_steps)) / 2


@one_cycle.rejects("after 30% of the steps")
def _(step, num_steps, peak):
    return np.interp(step, [0, 0.5 * num_steps, num_steps], [peak / 25, peak, 0])


@one_cycle.rejects("at the end the rate should be 0")
def _(step, num_steps, peak):
    return max(peak * _one_cycle([step], num_steps)[0], peak / 25)


@one_cycle.rejects("half way up a straight line")
def _(step, num_steps, peak):
    rise = step / (0.3 * num_steps)
    return peak * (0.04 ** (1 - rise) if rise < 1 else _one_cycle([step], num_steps)[0])


@one_cycle.rejects("lies on a straight line down")
def _(step, num_steps, peak):
    return np.interp(step, [0, 0.3 * num_steps, num_steps], [peak / 25, peak, 0])


@one_cycle.rejects("is not half a cosine")
def _(step, num_steps, peak):
    rate = peak * _one_cycle([step], num_steps)[0]
    return rate if step <= 0.3 * num_steps else rate**2 / peak


@one_cycle.rejects("Reading the number")
def _(step, num_steps, peak):
    return [peak * _one_cycle([step], num_steps)[0], num_steps]


@exercise(
    "The features are what the last layer but one of `base` gives: `base.layers[-2].output`.",
    "Put a new `layers.Dense(num_classes)` on them. It gives logits: leave the activation out.",
    "A new model is made of two ends: `keras.Model(base.input, new_outputs)`.",
)
@in_float32()
def with_new_head(answer):
    """A small trained network; what the new one shares with it, and what is new."""
    import keras

    base = _small_network()
    before = [weights.copy() for weights in base.get_weights()]
    images = np.random.default_rng(1).uniform(size=(4, 8, 8, 3)).astype("float32")
    wanted = _features(base, images)
    model = answer(base, 3)
    require(
        isinstance(model, keras.Model),
        f"You return an object of type `{type(model).__name__}`; a Keras model is wanted.",
    )
    require(model is not base, "You return `base` itself. Make a new model on its features.")
    with attempt("calling your model on four images"):
        outputs = keras.ops.convert_to_numpy(model(images, training=False))
    require(
        outputs.shape == (4, 3),
        f"For 3 classes and 4 images your model gives the shape {outputs.shape}.",
    )
    require(
        all(map(np.array_equal, before, base.get_weights())),
        "Your function changes the weights of `base`.",
    )
    head = model.layers[-1]
    require(
        isinstance(head, keras.layers.Dense),
        f"The last layer of your model is a `{type(head).__name__}`; a `Dense` layer is wanted.",
    )
    require(
        len(head.get_weights()[0]) != base.output.shape[-1]
        or base.output.shape[-1] == wanted.shape[-1],
        f"Your new layer sees the {base.output.shape[-1]} logits of the old one. Put it on the "
        "features before them.",
    )
    require(
        not np.allclose(outputs.sum(axis=1), 1, atol=1e-4),
        "Your model gives probabilities; leave the softmax out, the loss applies it.",
    )
    kernel, *bias = head.get_weights()
    logits = wanted @ kernel + (bias[0] if bias else 0) if kernel.shape[0] == len(wanted.T) else 0
    require(
        np.allclose(outputs, logits, atol=1e-3),
        "Your new layer does not see what the last layer of `base` saw. Does your model keep all "
        "the layers before it, with their weights?",
    )


def _small_network():
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, strides=2, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5)(x))


def _features(base, images):
    import keras

    features = keras.Model(base.input, base.layers[-2].output)
    return keras.ops.convert_to_numpy(features(images, training=False))


@with_new_head.accepts
def _(base, num_classes):
    import keras

    keep = keras.Model(base.input, base.layers[-1].input)
    return keras.Sequential([base.input, keep, keras.layers.Dense(num_classes)])


@with_new_head.accepts
def _(base, num_classes):
    import keras

    model = keras.Sequential(base.layers[:-1])
    model.add(keras.layers.Dense(num_classes))
    return model


@with_new_head.rejects("a Keras model is wanted")
def _(base, num_classes):
    import keras

    return keras.layers.Dense(num_classes)(base.layers[-2].output)


@with_new_head.rejects("You return `base` itself")
def _(base, num_classes):
    return base


@with_new_head.rejects("gives the shape (4, 5)")
def _(base, num_classes):
    import keras

    return keras.models.clone_model(base)


@with_new_head.rejects("sees the 5 logits")
def _(base, num_classes):
    import keras

    return keras.Model(base.input, keras.layers.Dense(num_classes)(base.output))


@with_new_head.rejects("gives probabilities")
def _(base, num_classes):
    import keras

    head = keras.layers.Dense(num_classes, activation="softmax")
    return keras.Model(base.input, head(base.layers[-2].output))


@with_new_head.rejects("with their weights")
def _(base, num_classes):
    import keras

    copy = keras.models.clone_model(base)
    return keras.Model(copy.input, keras.layers.Dense(num_classes)(copy.layers[-2].output))


@with_new_head.rejects("changes the weights")
def _(base, num_classes):
    import keras

    base.layers[-1].set_weights([0 * each for each in base.layers[-1].get_weights()])
    return keras.Model(base.input, keras.layers.Dense(num_classes)(base.layers[-2].output))


@with_new_head.rejects("a `Dense` layer is wanted")
def _(base, num_classes):
    import keras

    outputs = keras.layers.Dense(num_classes)(base.layers[-2].output)
    return keras.Model(base.input, keras.layers.Dropout(0.5)(outputs))


@question
def which_is_better():
    """On the same 2,000 images one network is right 94.1% of the time, another one 94.8%.

    Is the second one better?
    """
    return [
        wrong(
            "Yes: 94.8 is more than 94.1.",
            "On these images, yes. Would it be on 2,000 others? Look at the interval that "
            "`evaluate` prints.",
        ),
        correct(
            "You cannot tell: each figure is uncertain by about one point.",
            "The 95% interval of 94.8% on 2,000 images goes from 93.7% to 95.7%. And another "
            "seed would move both. Train each several times, or test on more images.",
        ),
        wrong(
            "No: such a difference is always chance.",
            "On 200,000 images the same two figures would be far apart, each uncertain by a "
            "tenth of a point.",
        ),
    ]


BAR = 0.90
MOST_PARAMETERS = 100_000
_passed: list[LeaderboardEntry] = []


@exercise(
    "Begin with the recipe of this lab: small batches, AdamW, one cycle with a large peak.",
    "`models.small_resnet(width=8)` has half as many channels in each layer as ours, and about a "
    "quarter of the parameters. With the time saved it can see each image more often.",
    "Where does a small network waste its parameters? `models.cost(model).show()` tells.",
)
def train_classifier(answer):
    """A network trained on all of `shapes`: its size, and the share of test images it knows."""
    import keras

    from dltlab import data

    images, labels = data.arrays("shapes", "train")
    test_images, test_labels = data.arrays("shapes", "test")
    start = perf_counter()
    model = answer(images, labels, 1)
    seconds = perf_counter() - start
    require(
        isinstance(model, keras.Model),
        f"You return an object of type `{type(model).__name__}`. Return the model.",
    )
    with attempt("reading the scores of the test images"):
        parts = np.split(test_images, 4)
        scores = np.concatenate([keras.ops.convert_to_numpy(model(part)) for part in parts])
    require(
        scores.shape == (len(test_labels), 10),
        f"For {len(test_labels):,} images your model gives the shape {scores.shape}; ten scores "
        "for each image are wanted.",
    )
    require(
        np.isfinite(scores).all(),
        "Some of your model's scores are no finite numbers. Is the learning rate too large?",
    )
    parameters = model.count_params()
    require(
        parameters <= MOST_PARAMETERS,
        f"Your network has {parameters:,} parameters; at most {MOST_PARAMETERS:,} are allowed.",
    )
    accuracy = np.mean(scores.argmax(axis=1) == test_labels)
    require(
        accuracy >= BAR,
        f"Your network classifies {accuracy:.4f} of the test images rightly; the bar is {BAR}.",
    )
    _passed.append(LeaderboardEntry.now(accuracy, parameters, seconds))
    return f"{accuracy:.4f} with {parameters:,} parameters; the bar is {BAR}."


def leaderboard(path):
    """Enter into the file `path` what has passed `train_classifier`, and show all of it."""
    show_leaderboard(add_to_leaderboard(path, _passed))
    _passed.clear()


def _linear(num_classes=10):
    import keras
    from keras import layers

    return keras.Sequential([keras.Input((32, 32, 3)), layers.Flatten(), layers.Dense(num_classes)])


@train_classifier.rejects("Return the model")
def _(images, labels, seed):
    model = _linear()
    model.compile(loss="mse")
    return model.fit(images[:1], np.zeros((1, 10)), verbose=0)


@train_classifier.rejects("Reading the scores of the test images raised")
def _(images, labels, seed):
    import keras
    from keras import layers

    stack = [layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), *stack])


@train_classifier.rejects("ten scores for each image")
def _(images, labels, seed):
    return _linear(num_classes=1)


@train_classifier.rejects("no finite numbers")
def _(images, labels, seed):
    model = _linear()
    model.set_weights([np.full_like(each, np.nan) for each in model.get_weights()])
    return model


@train_classifier.rejects("at most 100,000 are allowed")
def _(images, labels, seed):
    import keras
    from keras import layers

    flat = layers.Flatten()
    return keras.Sequential([keras.Input((32, 32, 3)), flat, layers.Dense(64), layers.Dense(10)])


@train_classifier.rejects("the bar is 0.9")
def _(images, labels, seed):
    import keras

    keras.utils.set_random_seed(seed)
    model = _linear()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(images[:1000], labels[:1000], verbose=0)
    return model
