"""Exercises of lab 02, Image classification."""

from functools import cache
from time import perf_counter

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
    LeaderboardEntry,
    Number,
    add_to_leaderboard,
    attempt,
    correct,
    exercise,
    in_float32,
    question,
    random_arrays,
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
    returns=Array("array"),
    otherwise="Some of your numbers are not sums of the products of a window and the kernel.",
)
def convolve():
    yield random_arrays((9, 7), (3, 5))
    yield random_arrays((6, 8), (1, 3))
    yield random_arrays((5, 7), (2, 2))


@convolve.mistakes
def _(image, kernel):
    result = convolve.reference()(image, kernel)
    same_size = (
        f"Your array has the shape of the image, {image.shape}. Use only the places where the "
        "whole kernel lies in the image."
    )
    rows, columns = np.subtract(image.shape, result.shape)
    (top, bottom), (left, right) = (rows // 2, rows - rows // 2), (columns // 2, columns // 2)
    around = np.pad(image, ((top, bottom), (left, columns - right)))
    is_odd = all(length % 2 for length in kernel.shape)
    yield same_size, convolve.reference()(around, kernel) if is_odd else ...
    yield same_size, np.pad(result, ((0, rows), (0, columns)))
    yield same_size, np.pad(result, ((top, bottom), (left, columns - right)))
    yield (
        "In how many places does the kernel fit? You miss the last ones.",
        result[:-1, :-1],
        "Draw 5 columns and a kernel of 3: it can begin at columns 0, 1 and 2. Where does your "
        "loop end?",
    )
    yield (
        "You turn the kernel by 180°. Mathematicians do; networks lay it on as it is.",
        convolve.reference()(image, kernel[::-1, ::-1]),
    )
    yield "You return the mean of the products; return their sum.", result / kernel.size
    yield (
        "You move the kernel on by its own size. Move it on by one pixel, so that windows overlap.",
        result[:: kernel.shape[0], :: kernel.shape[1]],
    )
    yield "Rows and columns of your array are swapped.", result.T
    yield (
        "You add up the windows without the kernel's weights.",
        convolve.reference()(image, np.ones_like(kernel)),
    )


@convolve.accepts
def _(image, kernel):
    from scipy.signal import correlate2d

    return correlate2d(image, kernel, mode="valid").astype("float32").tolist()


@convolve.accepts
def _(image, kernel):
    import tensorflow as tf

    batch, filters = image[None, ..., None], kernel[..., None, None]
    return tf.nn.conv2d(batch, filters, strides=1, padding="VALID")[0, ..., 0]


@convolve.rejects("(3,3) (3,5)")
def _(image, kernel):
    windows = [[image[r : r + 3, c : c + 3] for c in range(3)] for r in range(7)]
    return np.array([[np.sum(window * kernel) for window in row] for row in windows])


def _parameters(text):
    return lambda value: f"`{{call}}`: {value[0]:,.0f} parameters. {text}"


def _macs(text):
    return lambda value: f"`{{call}}`: {value[1]:,.0f} multiply-adds. {text}"


@exercise(
    "One kernel looks at all channels of its input: it has size × size × channels_in weights. "
    "There is one kernel for each output channel.",
    "To the weights come the biases, one for each output channel.",
    "Each weight is used once at every place of the output, and there are height × width places. "
    "The bias is only added: it multiplies nothing.",
    returns=(Integer("number of parameters"), Integer("number of multiply-adds")),
    otherwise={
        "number of parameters": lambda value: (
            f"`{{call}}`: {value:,.0f} parameters is not what the layer has."
        ),
        "number of multiply-adds": lambda value: (
            f"`{{call}}`: {value:,.0f} multiply-adds is not what the layer does."
        ),
    },
)
def conv_cost():
    yield 9, 7, 3, 11, 5
    yield 32, 24, 6, 16, 3
    yield 8, 4, 7, 10, 1


@conv_cost.mistakes
def _(height, width, channels_in, channels_out, size):
    weights = size**2 * channels_in * channels_out
    macs = height * width * weights
    fitting = (height - size + 1) * (width - size + 1)
    yield (
        "`{call}`: the numbers are swapped; parameters come first.",
        (macs, weights + channels_out),
    )
    yield _parameters("Are the biases in it?"), (weights, ...)
    yield (
        _parameters("A kernel has weights for every input channel, not for one."),
        (size**2 * channels_out + channels_out, ...),
    )
    yield (
        _parameters("There is a kernel per output channel."),
        (size**2 * channels_in + channels_out, ...),
    )
    yield _parameters("There is a bias for each output channel."), (weights + channels_in, ...)
    yield _parameters("There is a bias for each output channel."), (weights + 1, ...)
    yield (
        _parameters("A kernel is size × size, not size."),
        (weights / size + channels_out, ...),
    )
    yield (
        _parameters("A kernel has size × size weights for each input channel, not one."),
        (channels_in * channels_out + channels_out, ...),
    )
    yield (
        _parameters(
            "Each kernel has weights for all input channels: multiply the numbers of channels."
        ),
        (size**2 * (channels_in + channels_out) + channels_out, ...),
    )
    yield (
        _parameters("A kernel is used at every place, but its weights are counted once."),
        (macs + channels_out, ...),
    )
    yield _macs("Does a bias multiply anything?"), (..., macs + height * width * channels_out)
    yield (
        _macs("That is one for each weight. At how many places is each weight used?"),
        (..., weights),
    )
    yield (
        _macs("You count the multiplication and the addition; one multiply-add is both."),
        (..., 2 * macs),
    )
    yield _macs("The weights are for all input channels already."), (..., channels_in * macs)
    yield _macs("A kernel looks at every input channel."), (..., macs / channels_in)
    yield _macs("There is a kernel for each output channel."), (..., macs / channels_out)
    yield _macs("A kernel is size × size, not size."), (..., macs / size)
    for places in (height, width):
        yield (
            _macs("That is one row or column of the output. It has height × width places."),
            (..., places * weights),
        )
    yield (
        _macs("The output is as high and as wide as the input, also at its edges."),
        (..., fitting * weights),
    )


@conv_cost.accepts
def _(height, width, channels_in, channels_out, size):
    import keras

    layer = keras.layers.Conv2D(channels_out, size, padding="same")
    layer(keras.Input((height, width, channels_in)))
    return np.array([layer.count_params(), height * width * np.prod(layer.kernel.shape)])


def _observe_block(answer, maps, training):
    """Return what a block with given weights computes, in training or outside of it."""
    import keras

    channels = maps.shape[-1]
    inputs = keras.Input(maps.shape[1:])
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
        f"For maps of shape {maps.shape[1:]} your block gives {tuple(outputs.shape[1:])}. A sum "
        'needs equal shapes: `padding="same"`, and as many channels as come in.',
    )
    kernels = [tuple(weight.shape) for weight in model.weights if len(weight.shape) == 4]
    norms = sum(weight.name == "moving_mean" for weight in model.weights)
    require(
        len(kernels) == 2,
        f"Your block has {len(kernels)} convolution{'s' * (len(kernels) != 1)}; it needs two.",
    )
    for shape in kernels:
        require(
            shape == (3, 3, channels, channels),
            f"A kernel of your block is {shape[0]} × {shape[1]}, from {shape[2]} channels to "
            f"{shape[3]}. Each should be 3 × 3 and keep the number of channels.",
        )
    require(
        norms == 2,
        f"Your block normalizes {norms} time{'s' * (norms != 1)}; it should before each of the "
        "two convolutions.",
    )
    set_weights(model)
    with attempt("calling your block on maps"):
        return model(maps, training=training)


@exercise(
    "Twice the same three layers: `layers.BatchNormalization()`, `layers.ReLU()`, "
    "`layers.Conv2D(channels, 3, padding='same', use_bias=False)`. Then `layers.Add()`.",
    "Keras layers are called on what comes before them: `x = layers.ReLU()(x)`. Begin with "
    "`x = layers.BatchNormalization()(inputs)` and keep `inputs` for the end.",
    "The sum comes last, with nothing after it: `return layers.Add()([x, inputs])`.",
    observe=_observe_block,
    returns=Array("output", atol=0.05),
    otherwise="With the same weights as ours, your block computes something else. Go through its "
    "layers: normalize, ReLU, convolve, twice; then add the input.",
)
def residual_block():
    for shape, training in (((3, 7, 9, 4), False), ((2, 5, 6, 3), True)):
        (maps,) = random_arrays(shape)
        yield 10 * maps.astype("float32"), training


# In these layouts B is batch normalization, R is a ReLU, C a convolution, + adds the shortcut, and
# S lets the shortcut begin there.
_LAYOUTS = {
    "BRCBRC": "What comes in is lost: add `inputs` at the end.",
    "BRCBRC+R": "A ReLU follows the sum, so the negative numbers of the shortcut are lost.",
    "BRCBRC++": "You add the inputs twice.",
    "BRC+BRC+": "You add the inputs after both convolutions; add them once, at the end.",
    "BRC+SBRC+": "You build two blocks of one convolution; add the inputs once, at the end.",
    "BRC+BRC": "You add the inputs after the first convolution; add them at the end.",
    "BSRCBRC+": "You add the normalized inputs; add them as they come in.",
    "BRSCBRC+": "You add the inputs after the first ReLU; add them as they come in.",
    "BRCSBRC+": "You add the result of the first convolution, not the inputs.",
    "BCBC+": "Your block is linear: there is no ReLU.",
    "BCBRC+": "The first ReLU is missing.",
    "BRCBC+": "The second ReLU is missing.",
    "RBCRBC+": "The ReLUs come before the normalizations; they should come after them.",
    "BRCRBRCR+": "The convolutions have a ReLU of their own. Leave their activation out.",
    "BRCBRCR+": "A ReLU follows the last convolution, so the block can only add, never subtract.",
    "BRCRBRC+": "A ReLU follows the first convolution; its place is after the normalization.",
    "BCRBCR+": "The ReLUs come after the convolutions; they should come before them.",
    "BRBRCC+": "The two convolutions follow each other. Normalize before each of them.",
    "BBRCRC+": "You normalize twice at the beginning; normalize before each convolution.",
    "BRCRCB+": "You normalize at the end; normalize before the second convolution.",
    "BRBCRC+": "You normalize twice before the first convolution, and not before the second.",
} | dict.fromkeys(
    ("CBRCB+", "CBRCBR+", "CBRCB+R", "CRBCRB+"),
    "The first thing your block does is a convolution. In this order of layers the normalization "
    "comes before it.",
)


def _block(layout, inputs, channels, *, size=3, padding="same"):
    from keras import layers

    x = shortcut = inputs
    for letter in layout:
        if letter == "S":
            shortcut = x
        elif letter == "+":
            x = layers.Add()([x, shortcut])
        elif letter == "C":
            x = layers.Conv2D(channels, size, padding=padding, use_bias=False)(x)
        else:
            x = {"B": layers.BatchNormalization, "R": layers.ReLU}[letter]()(x)
    return x


for _layout, _sentence in _LAYOUTS.items():
    residual_block.mistake(_sentence)(
        lambda inputs, channels, layout=_layout: _block(layout, inputs, channels)
    )


@residual_block.accepts
def _(inputs, channels):
    from keras import activations, layers

    x = inputs
    for _ in range(2):
        x = activations.relu(layers.BatchNormalization(scale=False, epsilon=1e-5)(x))
        x = layers.Conv2D(channels, (3, 3), padding="same")(x)
    return inputs + x


@residual_block.accepts
def _(inputs, channels):
    from keras import Sequential, layers

    def change():
        convolution = layers.Conv2D(channels, 3, padding="same", use_bias=False)
        return [layers.BatchNormalization(), layers.Activation("relu"), convolution]

    return layers.add([inputs, Sequential([*change(), *change()])(inputs)])


for _message, _layout, _options in (
    ("needs equal shapes", "BRCBRC", {"padding": "valid"}),
    ("Inputs have incompatible shapes", "BRCBRC+", {"padding": "valid"}),
    ("has 1 convolution;", "BRC+", {}),
    ("A kernel of your block is 5 × 5", "BRCBRC+", {"size": 5}),
    ("normalizes 0 times", "RCRC+", {}),
):
    residual_block.rejects(_message)(
        lambda inputs, channels, layout=_layout, options=_options: _block(
            layout, inputs, channels, **options
        )
    )


@residual_block.rejects("return what your last layer gives")
def _(inputs, channels):
    from keras import layers

    return layers.Conv2D(channels, 3, padding="same")


@question
def why_shortcut():
    """Set every kernel of a block without the shortcut to 0, then of one with it.

    What does a stack of fifty such blocks pass on from the image, and from the gradient back?
    """
    return [
        wrong(
            "In both cases nothing: the kernels are 0.",
            "Follow the sum at the end of a block once more. Which of its two parts goes through "
            "no kernel?",
        ),
        correct(
            "Without it nothing. With it the image itself, and the gradient back to the first "
            "layer.",
            "With kernels of 0, a block with the shortcut is the identity: it has to learn only "
            "what to add. In training, kernels begin at random, but the sum still carries the "
            "image and the gradient past them, so a deeper network need not be worse than a "
            "shallow one. Where a block changes the shape, as in `small_resnet`, a projection "
            "takes the place of the identity.",
        ),
        wrong(
            "Without it nothing. With it fifty times the image.",
            "The sum of a block is its input plus 0. What is the input of the next block?",
        ),
    ]


@exercise(
    "Two cases, parted at `warmup = 0.3 * num_steps`. Below it a straight line, above it half a "
    "cosine.",
    "The line begins at peak / 25 and reaches the peak when step = warmup.",
    "Let p run from 0 at the end of the rise to 1 at the last step: "
    "p = (step - warmup) / (num_steps - warmup). Then (1 + cos(π p)) / 2 falls from 1 to 0.",
    returns=Number("rate", atol=1e-6),
    otherwise="`{call}` is {value}. The rate begins at peak / 25, rises along a straight line to "
    "the peak during the first 30% of the steps, and falls along half a cosine to 0.",
)
def one_cycle():
    for num_steps, peak in ((100, 2.0), (400, 0.03)):
        for percent in (10, 50, 65, 90, 0, 30, 100):
            yield percent * num_steps // 100, num_steps, peak


@one_cycle.mistakes
def _(step, num_steps, peak):
    warmup = 0.3 * num_steps
    rising, falling = step / warmup, (step - warmup) / (num_steps - warmup)
    rate = one_cycle.reference()(step, num_steps, peak)
    straight = "`{call}` is {value}, which is not on a straight line from peak / 25 to the peak."
    cosine = "`{call}` is {value}: the fall is not half a cosine from the peak to 0."
    both_ends = "Put in both ends: step = 0 must give peak / 25, and step = warmup the peak itself."
    cosine_ends = (
        "Put in both ends of the fall, p = 0 and p = 1. The factor must be 1 and then 0; the "
        "cosine of 0 is 1, and that of π is -1."
    )
    starts = "`{call}` is {value}; the cycle begins at peak / 25."
    yield "`{call}` does not follow the peak.", one_cycle.reference()(step, num_steps, 2.0)
    yield (
        "`{call}` does not follow the number of steps.",
        (one_cycle.reference()(step, 100, peak) if step <= 100 else ...),
    )
    yield "`{call}` is 0: the first step would do nothing.", rate if step else 0.0
    yield (
        "You begin at 0: the first step would do nothing. Begin at peak / 25.",
        peak * rising if rising < 1 else rate,
    )
    yield starts, peak * (1 + np.cos(np.pi * step / num_steps)) / 2
    yield starts, peak if rising < 1 else rate
    yield starts, peak * (1 + 9 * rising) / 10 if rising < 1 else rate
    yield (
        "`{call}` is {value}: `np.cos` takes an angle in radians, so half a turn is π, not 180.",
        rate if rising < 1 else peak * (1 + np.cos(180 * falling)) / 2,
    )
    yield (
        "`{call}` is {value}: the rate is at its peak after 30% of the steps, not later.",
        np.interp(step, [0, num_steps / 2, num_steps], [peak / 25, peak, 0]),
    )
    yield "`{call}` is {value}; at the end the rate should be 0.", max(rate, peak / 25)
    yield straight, peak * 25 ** (rising - 1) if rising < 1 else rate
    yield straight, peak * (1 / 25 + rising) if rising < 1 else rate, both_ends
    half_cosine = (1 - np.cos(np.pi * rising)) / 2
    yield straight, peak * (1 + 24 * half_cosine) / 25 if rising < 1 else rate
    yield (
        "`{call}` is {value}, on a straight line down; it should fall along half a cosine.",
        rate if rising < 1 else peak * (1 - falling),
    )
    for fall in (
        np.cos(np.pi * falling / 2),
        np.cos(np.pi * falling),
        (1 + np.cos(np.pi * (step - warmup) / num_steps)) / 2,
        (1 + np.cos(np.pi * step / num_steps)) / 2,
        ((1 + np.cos(np.pi * falling)) / 2) ** 2,
    ):
        yield cosine, rate if rising < 1 else peak * fall, cosine_ends


@one_cycle.accepts
def _(step, num_steps, peak):
    warmup = 0.3 * num_steps
    if step <= warmup:
        return np.interp(np.float32(step), [0, warmup], [peak / 25, peak])
    return np.float32(peak * np.cos(np.pi / 2 * (step - warmup) / (num_steps - warmup)) ** 2)


@exercise(
    "The features are what the last layer but one of `base` gives: `base.layers[-2].output`.",
    "Put a new `layers.Dense(num_classes)` on them. It gives logits: leave the activation out.",
    "A new model is made of two ends: `keras.Model(base.input, new_outputs)`.",
)
@in_float32()
def with_new_head(answer):
    """Look at what a model with a new head computes from the features of its base."""
    import keras

    for size, channels, num_features, num_classes in ((8, 3, 6, 4), (10, 1, 5, 7)):
        base = _small_network(size, channels, num_features)
        before = [weights.copy() for weights in base.get_weights()]
        images = np.random.default_rng(1).normal(size=(32, size, size, channels))
        features = scores_of(keras.Model(base.input, base.layers[-2].output), images)
        model = answer(base, num_classes)
        require_model(model)
        require(model is not base, "You return `base` itself. Make a new model on its features.")
        outputs = scores_of(model, images, num_classes)
        require(
            all(map(np.array_equal, before, base.get_weights())),
            "Your function changes the weights of `base`.",
        )
        require_logits(model, images)
        _check_head(model, base, features, outputs)
        require(
            not any(hasattr(layer, "layers") for layer in model.layers),
            "Your model holds the layers of `base` in a single layer, a model in the model. The "
            "next exercise freezes them one by one, so they must be layers of your model itself: "
            "make it from `base.input` and what your new layer gives.",
        )


def _check_head(model, base, features, outputs):
    import keras

    *_, head = flat_layers(model)
    require(
        isinstance(head, keras.layers.Dense),
        f"The last layer of your model is a `{type(head).__name__}`; it should be the new `Dense`.",
    )
    num_inputs = head.kernel.shape[0]
    require(
        num_inputs == features.shape[1] or num_inputs != base.output.shape[-1],
        f"Your new layer sees the {num_inputs} logits of the old one. Put it on the features "
        "before them.",
    )
    require(
        num_inputs == features.shape[1],
        f"Your new layer sees {num_inputs} numbers; the last layer of `base` sees "
        f"{features.shape[1]}. Put it on the same features, with nothing between.",
    )
    extra = model.count_params() - head.count_params()
    extra -= base.count_params() - base.layers[-1].count_params()
    require(
        extra <= 0,
        f"Between the features and your new layer are others with {extra:,} parameters. Put it on "
        "the features, with nothing between.",
    )
    columns = np.column_stack([features, np.ones(len(features))])
    fitted = columns @ np.linalg.lstsq(columns, outputs)[0]
    require(
        np.allclose(outputs, fitted, atol=1e-3 * outputs.std()),
        "Your new layer does not see what the last layer of `base` saw. Does your model keep all "
        "the layers before it, with their weights?",
    )


def _small_network(size, channels, num_features):
    import keras
    from keras import layers

    inputs = keras.Input((size, size, channels))
    x = layers.Conv2D(num_features, 3, strides=2, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    base = keras.Model(inputs, layers.Dense(8)(x))
    set_weights(base)
    return base


@with_new_head.accepts
def _(base, num_classes):
    import keras

    return keras.Model(base.input, keras.layers.Dense(num_classes)(base.layers[-1].input))


@with_new_head.accepts
def _(base, num_classes):
    import keras

    copy = keras.models.clone_model(base)
    copy.set_weights(base.get_weights())
    return keras.Sequential([*copy.layers[:-1], keras.layers.Dense(num_classes, use_bias=False)])


def _with_head(base, num_classes, *, place=-2, hidden=None, activation=None, dropout=None):
    import keras

    x = base.layers[place].output
    x = x if hidden is None else keras.layers.Dense(hidden, activation="relu")(x)
    x = keras.layers.Dense(num_classes, activation=activation)(x)
    return keras.Model(base.input, x if dropout is None else keras.layers.Dropout(dropout)(x))


def _with_nested_base(base, num_classes):
    import keras

    keep = keras.Model(base.input, base.layers[-2].output)
    return keras.Sequential([base.input, keep, keras.layers.Dense(num_classes)])


def _with_zeros(base):
    base.set_weights([0 * weights for weights in base.get_weights()])
    return base


def _with_new_weights(base):
    import keras

    return keras.models.clone_model(base)


for _message, _answer in (
    ("return a Keras model", lambda base, number: _with_head(base, number).output),
    ("You return `base` itself", lambda base, number: base),
    ("has the shape (32, 8); expected (32, 4)", lambda base, number: _with_head(base, 8)),
    ("changes the weights", lambda base, number: _with_head(_with_zeros(base), number)),
    ("with their weights", lambda base, number: _with_head(_with_new_weights(base), number)),
    ("sees the 8 logits", lambda base, number: _with_head(base, number, place=-1)),
    ("Put it on the same features", lambda base, number: _with_head(base, number, hidden=16)),
    ("others with 42 parameters", lambda base, number: _with_head(base, number, hidden=6)),
    ("should be the new `Dense`", lambda base, number: _with_head(base, number, dropout=0.5)),
    ("Leave the softmax out", lambda base, number: _with_head(base, number, activation="softmax")),
    ("activation of the last", lambda base, number: _with_head(base, number, activation="relu")),
    ("activation of the last", lambda base, number: _with_head(base, number, activation="tanh")),
    ("in a single layer", _with_nested_base),
):
    with_new_head.rejects(_message)(_answer)


@exercise(
    "Keep only the images on which exactly one of the two networks is correct, and count how many "
    "of them each network has.",
    "`first & ~second` is true where only the first network is correct.",
    "`stats.binomtest(k, n).pvalue` is the probability of a result at least as unlikely as k of n "
    "when a fair coin is tossed n times. It needs n of 1 or more; with no toss, p is 1.",
    returns=Number("p-value", atol=1e-6),
    otherwise="`{call}` is {value}. Toss a fair coin for each image on which exactly one network "
    "is correct: `stats.binomtest` of how many the first one has, out of all of these.",
)
def mcnemar():
    for seed, num_images, accuracy in ((1, 40, 0.6), (2, 300, 0.7), (3, 90, 0.9)):
        first, second = np.random.default_rng(seed).random((2, num_images))
        yield first < 0.8, second < accuracy
    yield np.array([True, False, True]), np.array([True, False, True])


@mcnemar.mistakes
def _(first, second):
    from scipy import stats

    only_first, only_second = np.sum(first & ~second), np.sum(second & ~first)
    differ, num_images = only_first + only_second, len(first)
    yield (
        "You count every image. Where both networks are correct, or neither, the image says "
        "nothing about which is better.",
        stats.binomtest(only_first, num_images).pvalue,
    )
    yield (
        "You count every image on which the first network is correct; leave out those on which "
        "the second is correct, too.",
        stats.binomtest(np.sum(first), num_images).pvalue,
    )
    yield (
        "Your test is one-sided. Either network may be the better one: keep the default, "
        "`alternative='two-sided'`.",
        min(
            stats.binomtest(only_first, differ, alternative=side).pvalue
            for side in ("less", "greater")
        )
        if differ
        else ...,
    )
    yield (
        "You treat the two networks as if they had seen different images. The same images make "
        "pairs: look only at those on which the networks differ.",
        stats.fisher_exact([[first.sum(), second.sum()], [(~first).sum(), (~second).sum()]]).pvalue,
    )
    yield (
        "Your test is not paired: it treats the two networks as if they had seen different images. "
        "Look only at the images on which the networks differ.",
        stats.ttest_ind(first.astype(float), second.astype(float)).pvalue,
    )
    yield (
        "That is the paired t-test. It is approximate for few images, and gives nan where the "
        "networks agree on every image; `stats.binomtest` is exact.",
        stats.ttest_rel(first.astype(float), second.astype(float)).pvalue if differ else np.nan,
    )
    for correction in (0, 1):
        yield (
            "That is the approximation by a χ² distribution, which is poor for few images; "
            "`stats.binomtest` is exact.",
            stats.chi2.sf(max(0, abs(only_first - only_second) - correction) ** 2 / differ, 1)
            if differ
            else ...,
        )
    yield (
        "`{call}` is {value}, but the two networks agree on every image: that is no evidence for "
        "either, so p is 1.",
        ... if differ else 0.0,
    )


@mcnemar.accepts
def _(first, second):
    from math import comb

    fewer, more = sorted([np.sum(first > second), np.sum(second > first)])
    tosses = int(fewer + more)
    return min(1.0, 2 * sum(comb(tosses, k) for k in range(int(fewer) + 1)) / 2**tosses)


@question
def which_is_better():
    """On the same 2,000 images, one network classifies 94.1% correctly, another one 94.8%.

    What else do you need to know, to tell whether the second network is better on such images?
    """
    return [
        wrong(
            "Nothing: 94.8 is more than 94.1.",
            "On these images, yes. Would it be on 2,000 others? If 150 images were classified "
            "correctly by only one of the two, 68 by the first and 82 by the second, p is 0.29.",
        ),
        wrong(
            "Nothing: their 95% intervals, each about ±1 point, overlap, so it is chance.",
            "The intervals ignore that both networks saw the same images. If they differ on only "
            "14 images, all in favor of the second network, p is 0.0001.",
        ),
        correct(
            "On how many images each of them is correct where the other one is wrong.",
            "With 0 and 14 such images, p is 0.0001; with 68 and 82 it is 0.29. The two "
            "accuracies are the same in both cases. And this compares two trained networks: "
            "whether one way to train is better than another, only several seeds can tell.",
        ),
    ]


@exercise(
    "`data.arrays` has divided the pixels by 255. Undo that first.",
    "Then subtract the mean that the network was trained with, and divide by its scale.",
    returns=Array("array", atol=0.01),
    otherwise="Your array is not (pixel - 127) / 128, with pixels from 0 to 255.",
)
def preprocess():
    for seed, shape in ((1, (2, 5, 4, 3)), (2, (1, 8, 8, 3))):
        yield (np.random.default_rng(seed).random(shape, np.float32),)


@preprocess.mistakes
def _(images):
    pixels = 255 * images
    yield "You return the images as they are.", images
    yield "Your pixels are from 0 to 255. Now subtract 127, and divide by 128.", pixels
    yield (
        "The formula is for pixels from 0 to 255; yours are from 0 to 1. Multiply them first.",
        (images - 127) / 128,
    )
    yield "You have not divided by 128.", pixels - 127
    yield "You have not subtracted 127.", pixels / 128
    yield "Only the mean is divided: set parentheses around the difference.", pixels - 127 / 128
    yield (
        "The channels are in the wrong order; this network takes red, green, blue, as they come.",
        ((pixels - 127) / 128)[..., ::-1],
    )
    yield (
        "That is how torchvision's networks are fed, with a mean and a deviation for each channel. "
        "This one was trained with (pixel - 127) / 128.",
        (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225],
    )
    yield (
        "That is how VGG-16 is fed, with a mean for each channel and no scale. This network was "
        "trained with (pixel - 127) / 128.",
        pixels - [123.68, 116.78, 103.94],
    )
    yield (
        "You normalize each batch by its own mean and deviation. The network needs the constants "
        "that it was trained with.",
        (images - images.mean()) / images.std(),
    )


@preprocess.accepts
def _(images):
    return 2 * images - 1  # as Keras' MobileNet, and nearly the same


@exercise(
    "Set `model.trainable = True`, for the model as a whole: that sets all of its layers, too. "
    "Then go through `model.layers` and freeze those that must not be trained.",
    "The last layers are `model.layers[-num_layers:]`.",
    "`isinstance(layer, layers.BatchNormalization)` tells which layers must stay frozen.",
)
def unfreeze(answer):
    """Look at which layers of a network can be trained afterwards."""
    from keras import layers

    for num_layers, frozen in ((5, True), (4, False), (8, False), (1, True)):
        model = _network_with_norms()
        model.trainable = not frozen
        before = [weights.copy() for weights in model.get_weights()]
        returned = answer(model, num_layers)
        require_model(returned)
        require(returned is model, "You return another model; change the one you get.")
        require(
            len(before) == len(model.get_weights())
            and all(map(np.array_equal, before, model.get_weights())),
            "Your function changes the weights of the model.",
        )
        require(
            model.trainable,
            "The model as a whole is frozen, so nothing in it is trained, whatever its layers say: "
            "set `model.trainable = True` first.",
        )
        for place, layer in enumerate(model.layers):
            if not layer.weights:
                continue
            is_last = place >= len(model.layers) - num_layers
            is_norm = isinstance(layer, layers.BatchNormalization)
            where = f"With num_layers = {num_layers}, the layer `{layer.name}` is "
            is_trained = bool(layer.trainable_variables)
            require(
                is_trained or not is_last or is_norm,
                f"{where}one of the last {num_layers}, but cannot be trained afterwards.",
            )
            require(
                is_last or not is_trained,
                f"{where}not one of the last {num_layers}, but can be trained afterwards.",
            )
            require(
                not is_norm or not (is_trained or layer.trainable),
                f"{where}a batch normalization and can be trained afterwards. It would use the "
                "statistics of its few images, and forget those of ImageNet.",
            )


def _network_with_norms():
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv_1"),
            layers.BatchNormalization(name="norm_1"),
            layers.ReLU(name="relu_1"),
            layers.Conv2D(4, 3, name="conv_2"),
            layers.BatchNormalization(name="norm_2"),
            layers.ReLU(name="relu_2"),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dense(5, name="dense"),
        ]
    )


@unfreeze.accepts
def _(model, num_layers):
    from keras import layers

    model.trainable = True
    for layer in model.layers[:-num_layers]:
        layer.trainable = False
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    return model


def _unfrozen(model, num_layers, *, norms=False, others=True, whole=True):
    from keras import layers

    model.trainable = model.trainable or whole
    places = range(len(model.layers))
    last = places[len(places) - num_layers :] if num_layers < len(places) else places
    for place, layer in enumerate(model.layers):
        is_norm = isinstance(layer, layers.BatchNormalization)
        layer.trainable = (place in last or not others) and (norms or not is_norm)
    return model


def _without_counting_norms(model, num_layers):
    from keras import layers

    model.trainable = True
    counted = [item for item in model.layers if not isinstance(item, layers.BatchNormalization)]
    for layer in model.layers:
        layer.trainable = layer in counted[-num_layers:]
    return model


for _message, _answer in (
    ("return a Keras model", lambda model, number: model.layers[-number:]),
    ("return another model", lambda model, number: _network_with_norms()),
    ("changes the weights", lambda model, number: _unfrozen(_with_zeros(model), number)),
    ("as a whole is frozen", lambda model, number: model),
    ("as a whole is frozen", lambda model, number: _unfrozen(model, number, whole=False)),
    ("one of the last 5, but cannot", lambda model, number: _unfrozen(model, number - 1)),
    ("not one of the last 5", lambda model, number: _unfrozen(model, number + 4)),
    ("not one of the last 5", lambda model, number: _unfrozen(model, number, others=False)),
    ("statistics of its few images", lambda model, number: _unfrozen(model, number, norms=True)),
    ("not one of the last 4", _without_counting_norms),
):
    unfreeze.rejects(_message)(_answer)


MOST_PARAMETERS = 100_000
_passed: list[LeaderboardEntry] = []


@exercise(
    "Begin with the recipe of this lab: small batches, AdamW, one cycle with a large peak.",
    "`models.small_resnet(width=8)` has half as many channels in each layer as ours, and about a "
    "quarter of the parameters. In the time saved it can see each image more often.",
    "Which layers have most of the parameters? `models.cost(model).show()` says it.",
    smoke={"num_images": 2_000, "bar": 0.3},
)
def train_classifier(answer, num_images=None, bar=0.8):
    """Train on `shapes`; look at the number of parameters and the accuracy on test images."""
    images, labels = (array[:num_images].copy() for array in _shapes("train"))
    test_images, test_labels = _shapes("test")
    start = perf_counter()
    model = answer(images, labels, 1)
    seconds = perf_counter() - start
    require_model(model)
    batches = np.split(test_images, 4)
    scores = np.concatenate([scores_of(model, batch, num_scores=10) for batch in batches])
    parameters = model.count_params()
    require(
        parameters <= MOST_PARAMETERS,
        f"Your network has {parameters:,} parameters; at most {MOST_PARAMETERS:,} are allowed.",
    )
    accuracy = np.mean(scores.argmax(axis=1) == test_labels)
    require(
        accuracy >= bar,
        f"Your network classifies {accuracy:.4f} of the test images correctly; the bar is {bar}.",
    )
    _passed.append(LeaderboardEntry.now(accuracy, parameters, seconds))
    return f"{accuracy:.4f} with {parameters:,} parameters; the bar is {bar}."


@cache
def _shapes(split):
    from dltlab import data

    return data.arrays("shapes", split)


def leaderboard(path):
    """Enter into the file `path` what has passed `train_classifier`, and show all of it."""
    show_leaderboard(add_to_leaderboard(path, _passed))
    _passed.clear()


def _dense_network(*, hidden=None, num_classes=10, shape=(32, 32, 3), kernel="glorot_uniform"):
    from keras import Input, Sequential, layers

    flat = [layers.Flatten()] if hidden is None else [layers.Flatten(), layers.Dense(hidden)]
    scores = layers.Dense(num_classes, kernel_initializer=kernel)
    return Sequential([Input(shape), *flat, scores])


for _message, _classifier in (
    ("return a Keras model", lambda images, labels, seed: _dense_network().layers),
    ("(32, 32, 3) raised", lambda images, labels, seed: _dense_network(shape=(28, 28, 1))),
    ("expected (500, 10)", lambda images, labels, seed: _dense_network(num_classes=1)),
    ("at most 100,000 are allowed", lambda images, labels, seed: _dense_network(hidden=64)),
    (
        "are not finite",
        lambda images, labels, seed: _dense_network(
            kernel=lambda shape, dtype: np.full(shape, np.nan)
        ),
    ),
    ("the bar is 0.3", lambda images, labels, seed: _dense_network()),
):
    train_classifier.rejects(_message)(_classifier)
