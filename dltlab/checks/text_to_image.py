"""Exercises of lab 15, Text to image."""

from functools import cache
from itertools import pairwise

import numpy as np

from dltlab.exercises import (
    Array,
    Number,
    attempt,
    correct,
    exercise,
    question,
    random_arrays,
    require,
    wrong,
)


def _arrays(*shapes, seed=1):
    """Return random arrays in float32, the dtype of what a network computes."""
    return tuple(array.astype("float32") for array in random_arrays(*shapes, seed=seed))


def _require_graph(answer, *arguments):
    """Reject an answer that cannot be part of a compiled training step."""
    import tensorflow as tf

    with attempt("calling your function within `tf.function`, as the training does,"):
        tf.function(answer, autograph=False)(*map(tf.constant, arguments))


@exercise(
    "The logarithm of the variance is given. The standard deviation is "
    "`tf.exp(log_variance / 2)`; multiply the noise by it, and add the mean.",
    "`tf.exp(log_variance) + mean**2 - 1 - log_variance`, for each number. Half of the sum over "
    "the last axis is the divergence of one caption: `tf.reduce_sum(…, axis=1)`.",
    "`tf.reduce_mean` of these is the mean over the captions. Return the conditions first.",
    returns=(Array("conditions"), Number("divergence")),
    otherwise={
        "conditions": "Your conditions are not mean + standard deviation · noise.",
        "divergence": "Your conditions are correct. Your divergence is not the mean over the "
        "captions of ½ Σ (σ² + μ² − 1 − ln σ²).",
    },
)
def augment_condition():
    yield _arrays((4, 3), (4, 3), (4, 3))
    yield _arrays((3, 5), (3, 5), (3, 5), seed=2)
    yield _arrays((6, 2), (6, 2), (6, 2), seed=3)


@augment_condition.mistakes
def _(mean, log_variance, noise):
    variance = np.exp(log_variance)
    conditions = mean + np.sqrt(variance) * noise
    terms = variance + mean**2 - 1 - log_variance
    divergence = terms.sum(axis=1).mean() / 2

    yield (
        "You return the divergence first. Return the conditions, then the divergence.",
        (divergence, conditions),
    )
    yield (
        "You multiply the noise by the variance. Its square root is the standard deviation.",
        (mean + variance * noise, ...),
    )
    yield (
        "You multiply the noise by the logarithm of the variance. Take `tf.exp` of half of it.",
        (mean + log_variance * noise, ...),
    )
    yield (
        "Your standard deviation has the wrong sign in the exponent.",
        (mean + noise / np.sqrt(variance), ...),
    )
    yield "The noise makes no difference to your conditions.", (mean, ...)
    yield "The mean is missing in your conditions.", (np.sqrt(variance) * noise, ...)
    yield "Your divergence lacks the factor ½.", (..., 2 * divergence)
    yield (
        "Your divergence has the wrong sign: a divergence is never negative.",
        (..., -divergence),
    )
    yield (
        "Your divergence is the sum over the captions. Take the mean over them.",
        (..., terms.sum() / 2),
    )
    yield (
        "Your divergence is the mean over all numbers. Sum over the numbers of a caption, then "
        "take the mean over the captions.",
        (..., terms.mean() / 2),
    )
    yield (
        "Your divergence lacks the −1: it must be 0 for a standard normal distribution.",
        (..., (terms + 1).sum(axis=1).mean() / 2),
    )
    yield (
        "Your divergence lacks −ln σ².",
        (..., (terms + log_variance).sum(axis=1).mean() / 2),
    )
    yield "Your divergence lacks μ².", (..., (terms - mean**2).sum(axis=1).mean() / 2)
    yield (
        "In your divergence, μ is not squared.",
        (..., (terms - mean**2 + mean).sum(axis=1).mean() / 2),
    )
    yield (
        "Your divergence has the standard deviation where the variance belongs.",
        (..., (terms - variance + np.sqrt(variance)).sum(axis=1).mean() / 2),
    )


@augment_condition.behavior
def _(answer):
    """Call the answer in a graph."""
    _require_graph(answer, *_arrays((4, 3), (4, 3), (4, 3)))


@augment_condition.accepts
def _(mean, log_variance, noise):
    import tensorflow as tf

    deviation = tf.sqrt(tf.exp(log_variance))
    parts = deviation**2 + tf.square(mean) - 1 - 2 * tf.math.log(deviation)
    return [mean + deviation * noise, tf.reduce_mean(0.5 * tf.reduce_sum(parts, axis=-1))]


@augment_condition.accepts
def _(mean, log_variance, noise):
    import keras

    conditions = mean + keras.ops.exp(0.5 * log_variance) * noise
    parts = keras.ops.exp(log_variance) + mean * mean - 1.0 - log_variance
    return conditions, keras.ops.sum(parts) / (2 * mean.shape[0])


@augment_condition.rejects("symbolic")
def _(mean, log_variance, noise):
    variance = np.exp(log_variance)
    divergence = (variance + mean**2 - 1 - log_variance).sum(axis=1).mean() / 2
    return mean + np.sqrt(variance) * noise, divergence


@question
def why_mismatched():
    """A discriminator sees real images with their captions, and painted ones with theirs.

    It has to tell real from painted. What can a generator get away with?
    """
    return [
        wrong(
            "With noise: nobody compares its images with real ones.",
            "The discriminator has real images. It will soon tell noise from them.",
        ),
        wrong(
            "With nothing: the discriminator sees the caption, so it checks it.",
            "It sees the caption. But does it need it to tell real from painted?",
        ),
        correct(
            "With perfect images of anything: the discriminator need not read captions.",
            "All real images that it sees fit their captions, so it has no example of an image "
            "that is real and yet wrong. Pairs of real images with other captions are such "
            "examples: only by reading can it reject them.",
        ),
    ]


def _softplus(x):
    return np.logaddexp(0, x)


@exercise(
    "Logits become probabilities by the logistic function σ. −ln σ(x) is `tf.nn.softplus(-x)`, and "
    "−ln(1 − σ(x)) is `tf.nn.softplus(x)`.",
    "Real pairs should get large logits: `tf.nn.softplus(-real)`. The two wrong kinds should get "
    "small ones, each with half of the weight.",
    "`tf.reduce_mean` of the sum of the three terms.",
    returns=Number("loss"),
    otherwise="Your loss is not the mean of −ln σ(real) − ½ ln(1 − σ(mismatched)) − "
    "½ ln(1 − σ(fake)).",
)
def discriminator_loss():
    yield _arrays((5, 3), (5, 3), (5, 3))
    yield _arrays((4, 1), (4, 1), (4, 1), seed=2)
    yield tuple(500 * array for array in _arrays((6, 1), (6, 1), (6, 1), seed=3))


@discriminator_loss.mistakes
def _(real, mismatched, fake):
    right, other, painted = _softplus(-real), _softplus(mismatched), _softplus(fake)
    loss = np.mean(right + other / 2 + painted / 2)
    yield "Your loss is a sum over the pairs. Return the mean.", loss * real.size
    yield (
        "The mismatched pairs make no difference to your loss.",
        np.mean(right + painted),
    )
    yield (
        "The mismatched pairs make no difference to your loss.",
        np.mean(right + painted / 2),
    )
    yield (
        "You treat mismatched pairs as real ones. They should get small logits.",
        np.mean(right + _softplus(-mismatched) / 2 + painted / 2),
    )
    yield (
        "The two wrong kinds together have twice the weight of the real one: halve each.",
        np.mean(right + other + painted),
    )
    yield (
        "You take the mean of three kinds. Real pairs have the weight 1, the others ½ each.",
        np.mean(right + other + painted) / 3,
    )
    yield (
        "Your signs are the wrong way round: the loss is small if real pairs get large logits.",
        np.mean(_softplus(real) + _softplus(-mismatched) / 2 + _softplus(-fake) / 2),
    )
    yield (
        "You want painted images to pass for real ones. That is the generator's loss.",
        np.mean(right + other / 2 + _softplus(-fake) / 2),
    )
    yield "Your loss is negative: −ln of a probability is positive.", -loss
    # Of large logits, σ is exactly 0 or 1 in float32.
    overflow = np.inf if np.abs(np.concatenate([real, mismatched, fake])).max() > 100 else ...
    yield (
        "Large logits give an infinite loss, since σ is rounded to 0 or 1. Use "
        "`tf.nn.softplus`, or `tf.nn.sigmoid_cross_entropy_with_logits`.",
        overflow,
    )


@discriminator_loss.behavior
def _(answer):
    """Call the answer in a graph."""
    _require_graph(answer, *_arrays((4, 1), (4, 1), (4, 1)))


@discriminator_loss.accepts
def _(real, mismatched, fake):
    import tensorflow as tf

    entropy = tf.nn.sigmoid_cross_entropy_with_logits
    right = tf.reduce_mean(entropy(tf.ones_like(real), real))
    others = [tf.reduce_mean(entropy(tf.zeros_like(x), x)) for x in (mismatched, fake)]
    return right + 0.5 * (others[0] + others[1])


@discriminator_loss.accepts
def _(real, mismatched, fake):
    import keras

    entropy = keras.losses.BinaryCrossentropy(from_logits=True)
    ones, zeros = keras.ops.ones_like(real), keras.ops.zeros_like(real)
    return entropy(ones, real) + (entropy(zeros, mismatched) + entropy(zeros, fake)) / 2


@discriminator_loss.rejects("symbolic")
def _(real, mismatched, fake):
    return np.mean(_softplus(-real) + _softplus(mismatched) / 2 + _softplus(fake) / 2)


@discriminator_loss.rejects("is an array of shape")
def _(real, mismatched, fake):
    return _softplus(-real) + _softplus(mismatched) / 2 + _softplus(fake) / 2


@exercise(
    "The times have the shape (n,), the images (n, height, width, channels). "
    "`t = times[:, None, None, None]` fits both.",
    "The point at time t is `(1 - t) * noise + t * images`. What is its derivative by t?",
    "The velocity does not depend on t: `images - noise`.",
    returns=(Array("points"), Array("velocities")),
    otherwise={
        "points": "Your points do not lie on the straight line from the noise (t = 0) to the image "
        "(t = 1).",
        "velocities": "Your points are correct. The velocity is their derivative by t.",
    },
)
def straight_path():
    yield *_arrays((4, 5, 6, 3), (4, 5, 6, 3)), np.array([0.0, 0.3, 0.5, 0.9], "float32")
    yield *_arrays((3, 2, 2, 3), (3, 2, 2, 3), seed=2), np.array([0.1, 1.0, 0.7], "float32")
    yield *_arrays((2, 4, 4, 1), (2, 4, 4, 1), seed=3), np.array([0.6, 0.2], "float32")


@straight_path.mistakes
def _(images, noise, times):
    t = times[:, None, None, None]
    points, velocities = (1 - t) * noise + t * images, images - noise
    yield "You return the velocities first. Return points, then velocities.", (velocities, points)
    yield (
        "Your path runs backwards: at t = 0 it should be the noise, at t = 1 the image.",
        (t * noise + (1 - t) * images, ...),
    )
    yield (
        "You keep the variance constant, as some diffusion models do. Here the path is a straight "
        "line.",
        (np.sqrt(1 - t**2) * noise + t * images, ...),
    )
    yield (
        "You only add noise: the image should be multiplied by t.",
        (images + (1 - t) * noise, ...),
    )
    yield "Your velocity points from the image to the noise.", (..., -velocities)
    yield "Your velocity is the image itself, where the path ends.", (..., images)
    yield (
        "Your velocity is the way that is left. It is covered in the time 1 − t.",
        (..., images - points),
    )
    yield (
        "Your velocity is the way that lies behind. It was covered in the time t.",
        (..., points - noise),
    )


@straight_path.behavior
def _(answer):
    """Call the answer in a graph."""
    arrays = _arrays((4, 3, 3, 2), (4, 3, 3, 2))
    _require_graph(answer, *arrays, np.linspace(0, 1, 4, dtype="float32"))


@straight_path.accepts
def _(images, noise, times):
    import tensorflow as tf

    t = tf.reshape(times, (-1, 1, 1, 1))
    velocities = images - noise
    return noise + t * velocities, velocities


@straight_path.accepts
def _(images, noise, times):
    t = times[:, np.newaxis, np.newaxis, np.newaxis]
    return [t * images + noise - t * noise, -noise + images]


def _predictor(seed, size):
    """Return a function of points (n, size) and a time: a made-up prediction of clean points."""
    generator = np.random.default_rng(seed)
    matrix, shift = generator.normal(0, 0.4, (size, size)), generator.normal(size=size)

    def predict(points, time):
        return np.tanh(np.asarray(points) @ matrix + shift * (1 + float(time)))

    return predict


@exercise(
    "A loop over `range(num_steps)`. At its step number k the time is `t = k / num_steps`.",
    "From x to the predicted clean image there is the time 1 − t left: the velocity is "
    "`(predict(x, t) - x) / (1 - t)`.",
    "A step takes the time 1 / num_steps: `x = x + velocity / num_steps`. Begin with the noise.",
    returns=Array("result"),
    otherwise="Your result is not that of {call}: in each step, predict, take the velocity "
    "(prediction − x) / (1 − t), and go along it for the time 1 / num_steps.",
)
def sample():
    yield _predictor(1, 3), random_arrays((5, 3))[0], 4
    yield _predictor(2, 4), random_arrays((3, 4), seed=2)[0], 7
    yield _predictor(3, 6), random_arrays((2, 6), seed=3)[0], 1


def _steps(predict, noise, num_steps, velocity=None, count=None, time=None, first=0):
    """Return the result of steps with another velocity, number, times, or first step."""
    x, velocity = noise, velocity or (lambda x, clean, t: (clean - x) / (1 - t))
    for step in range(num_steps if count is None else count):
        t = (step + first) / num_steps
        clean = predict(x, t if time is None else time(step))
        x = x + velocity(x, clean, t) / num_steps
    return x


@sample.mistakes
def _(predict, noise, num_steps):
    def steps(*arguments, **options):
        return _steps(predict, noise, num_steps, *arguments, **options)

    yield "You take a single step: predict again after each.", predict(noise, 0.0)
    yield (
        "You do not divide by the time that is left: the velocity is (prediction − x) / (1 − t).",
        steps(lambda x, clean, t: clean - x),
    )
    yield (
        "Your steps are too long: a step takes the time 1 / num_steps.",
        steps(lambda x, clean, t: num_steps * (clean - x) / (1 - t)),
    )
    yield "You stop one step too early.", steps(count=num_steps - 1)
    yield (
        "All of your predictions are for the time 0: it advances by 1 / num_steps.",
        steps(time=lambda step: 0.0),
    )
    yield (
        "All of your predictions are for the time 0: it advances by 1 / num_steps.",
        steps(lambda x, clean, t: clean - x, time=lambda step: 0.0),
    )
    yield (
        "Your times are those of the end of each step, so you divide by 0 in the last one. The "
        "time of step k is k / num_steps.",
        steps(first=1),
    )
    yield (
        "Your predictions are for the end of each step. Predict at its beginning, k / num_steps.",
        steps(time=lambda step: (step + 1) / num_steps),
    )
    yield (
        "Your velocity leads away from the prediction.",
        steps(lambda x, clean, t: (x - clean) / (1 - t)),
    )
    yield (
        "Your velocity begins at the noise in each step. Begin where the last step ended.",
        steps(lambda x, clean, t: (clean - noise) / (1 - t)),
    )
    yield (
        "You multiply by the time that is left. Divide by it.",
        steps(lambda x, clean, t: (clean - x) * (1 - t)),
    )
    x = noise
    for step in range(num_steps):
        x = predict(x, step / num_steps)
    yield "You replace x by the prediction. Go only a part of the way to it in each step.", x


@sample.accepts
def _(predict, noise, num_steps):
    x, times = np.array(noise), np.linspace(0, 1, num_steps + 1)
    for start, end in pairwise(times):
        x += (end - start) * (predict(x, start) - x) / (1 - start)
    return x


@sample.accepts
def _(predict, noise, num_steps):
    x = noise
    for left in range(num_steps, 0, -1):  # each step goes 1 / left of the way to the prediction
        x = x + (predict(x, 1 - left / num_steps) - x) / left
    return x.tolist()


@sample.rejects("changes its argument `noise`")
def _(predict, noise, num_steps):
    for step in range(num_steps):
        noise += (predict(noise, step / num_steps) - noise) / (num_steps - step)
    return noise


@question
def guidance_of_two():
    """With the caption, the network predicts 0.6 for a pixel, and 0.2 without a caption.

    What does guidance 2 make of it?
    """
    return [
        wrong("0.4", "That is the mean of both. Guidance 2 goes beyond the caption."),
        wrong("0.8", "Where does the way from 0.2 to 0.6 lead, if you go it twice?"),
        correct(
            "1.0",
            "0.2 + 2 · (0.6 − 0.2) = 1.0. Guidance 1 is the prediction with the caption, 0 the one "
            "without.",
        ),
        wrong("1.2", "That is twice the prediction. What is multiplied by 2?"),
    ]


def _log(values):
    return np.log(np.maximum(values, 1e-30))


@exercise(
    "The mean over the images, `probabilities.mean(axis=0)`, says how often each class is painted.",
    "For each image: `np.sum(p * (np.log(p) - np.log(mean)))`. A probability of 0 contributes 0, "
    "but its logarithm is −∞: take the logarithm of `np.maximum(p, 1e-12)`.",
    "The mean of these numbers over the images, then `np.exp` of it.",
    returns=Number("score"),
    otherwise="Your score is not exp of the mean over the images of Σ p · (ln p − ln p̄).",
)
def inception_score():
    for shape, seed in (((6, 4), 1), ((5, 7), 2)):
        powers = np.exp(random_arrays(shape, seed=seed)[0])
        yield (powers / powers.sum(axis=1, keepdims=True),)
    yield (np.eye(5)[[0, 1, 1, 2, 3, 3]],)  # certain, and class 4 is never painted


@inception_score.mistakes
def _(probabilities):
    mean = probabilities.mean(axis=0)
    divergences = (probabilities * (_log(probabilities) - _log(mean))).sum(axis=1)
    entropies = -(probabilities * _log(probabilities)).sum(axis=1)
    score = np.exp(divergences.mean())
    yield "You return the mean divergence. The score is `np.exp` of it.", divergences.mean()
    yield (
        "You take `np.exp` for each image, then the mean. Take the mean first.",
        np.exp(divergences).mean(),
    )
    yield (
        "You add up the divergences of all images. Take their mean.",
        np.exp(divergences.sum()),
    )
    yield (
        "You take the mean over the classes, too. Add over the classes, then take the mean over "
        "the images.",
        np.exp(divergences.mean() / probabilities.shape[1]),
    )
    yield (
        "You only measure how different the images are among each other: exp of the entropy of the "
        "mean. How certain the judge is counts, too.",
        np.exp(-(mean * _log(mean)).sum()),
    )
    yield (
        "You only measure how certain the judge is of each image.",
        np.exp(entropies.mean()),
    )
    yield (
        "You only measure how certain the judge is of each image.",
        np.exp(-entropies.mean()),
    )
    yield "Your score has the wrong sign in the exponent: it is never below 1.", 1 / score
    rows = probabilities.mean(axis=1, keepdims=True)
    yield (
        "Your mean is that over the classes. Take the mean over the images, `axis=0`.",
        np.exp((probabilities * (_log(probabilities) - _log(rows))).sum(axis=1).mean()),
    )
    yield (
        "A probability of 0 gives 0 · (−∞), which is not a number. It should contribute 0: take "
        "`np.log(np.maximum(p, 1e-12))`.",
        np.nan if (probabilities == 0).any() else ...,
    )


@inception_score.accepts
def _(probabilities):
    from scipy.special import rel_entr

    mean = np.mean(probabilities, axis=0, keepdims=True)
    return np.exp(rel_entr(probabilities, mean).sum(axis=1).mean())


@inception_score.accepts
def _(probabilities):
    total, mean = 0.0, np.mean(probabilities, axis=0)
    for row in probabilities:
        total += sum(p * np.log(p / m) for p, m in zip(row, mean, strict=True) if p > 0)
    return float(np.exp(total / len(probabilities)))


@question
def blind_score():
    """A paints what the captions say, perfectly. B paints perfect images of random captions.

    Both paint all captions equally often. Which one has the higher inception score?
    """
    return [
        wrong(
            "A, because its images obey.",
            "Where in the formula of the score is the caption that was asked for?",
        ),
        correct(
            "Neither: the score does not know what was asked for.",
            "It rewards images that the judge is certain of, and that differ among each other. "
            "That is why this lab counts attributes that are obeyed, too.",
        ),
        wrong(
            "B, because random images are more diverse.",
            "Both paint all captions equally often.",
        ),
    ]


# The challenge.

BAR = 0.4  # of the error of the exercise's sampler
NUM_CALLS = 8
_NUM_POINTS, _FINE_STEPS = 200, 500
_RING = np.stack([np.cos(0.4 * np.pi * np.arange(5)), np.sin(0.4 * np.pi * np.arange(5))], axis=1)
# Mixtures of equal Gaussians: their centers, and their standard deviation.
_MIXTURES = (
    (_RING, 0.15),
    (np.array([[-1.5, 0.0], [0.0, 0.0], [1.5, 0.5]]), 0.3),
    (np.array([[1.0, 0.0], [-1.0, 0.5]]), 0.5),
)


def exact_prediction(
    centers: np.ndarray, deviation: float, points: np.ndarray, time: float
) -> np.ndarray:
    """Return the mean of all clean points that may have led to some points.

    It is what a perfect network would predict for a mixture of equal Gaussians.

    Args:
        centers: Those of the Gaussians, `(k, d)`.
        deviation: Their standard deviation.
        points: Points on the straight paths from standard normal noise, `(n, d)`.
        time: Of the points, in [0, 1].
    """
    variance = (1 - time) ** 2 + (time * deviation) ** 2
    offsets = points[:, np.newaxis] - time * centers
    exponents = -(offsets**2).sum(axis=-1) / (2 * variance)
    weights = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    clean = centers + time * deviation**2 / variance * offsets
    prediction: np.ndarray = (weights[..., np.newaxis] * clean).sum(axis=1)
    return prediction


@cache
def _references(number):
    """Return noise, where its paths end, and the error of the exercise's sampler, for a mixture."""
    centers, deviation = _MIXTURES[number]
    noise = np.random.default_rng(number).normal(size=(_NUM_POINTS, centers.shape[1]))

    def end(num_steps):
        return _steps(lambda x, t: exact_prediction(centers, deviation, x, t), noise, num_steps)

    ends = 2 * end(2 * _FINE_STEPS) - end(_FINE_STEPS)  # the error of first order cancels
    return noise, ends, _distance(end(NUM_CALLS), ends)


def _distance(points, others):
    return float(np.sqrt(np.mean((points - others) ** 2)))


@exercise(
    "A step of the exercise takes the prediction at its beginning for all of it. A better one is "
    "the prediction in its middle. You know the predictions of this step and of the one before: "
    "go on along the line through both.",
    "With steps from `start` to `end`: `middle = clean + (clean - old) * (end - start) / 2 / "
    "(start - old_start)`, then `x += (end - start) * (middle - x) / (1 - start)`. The last step "
    "ends at `middle`.",
    "The steps need not be equal. Near the end, the prediction changes fast: with "
    "`times = 1 - (1 - np.linspace(0, 1, num_calls + 1)) ** 1.5` the last steps are shorter.",
)
def sample_with_few_calls(answer):
    """Compare where the answer ends with where the exact paths end, for known distributions."""
    shares = []
    for number, (centers, deviation) in enumerate(_MIXTURES):
        noise, ends, euler = _references(number)
        num_calls = 0

        def predict(points, time, centers=centers, deviation=deviation, shape=noise.shape):
            nonlocal num_calls
            num_calls += 1
            require(num_calls <= NUM_CALLS, f"You call `predict` more than {NUM_CALLS} times.")
            time = Number("time").read(time)
            require(0 <= time <= 1, f"You predict for the time {time:.3g}; it is between 0 and 1.")
            points = Array("points").read(points, shape=shape)
            return exact_prediction(centers, deviation, points, time)

        result = Array("result").read(answer(predict, noise.copy(), NUM_CALLS), shape=noise.shape)
        shares.append(_distance(result, ends) / euler)
    measured = (
        f"With {NUM_CALLS} calls, your errors are {', '.join(f'{share:.2f}' for share in shares)} "
        f"of those of equal steps, for three distributions. The bar is {BAR} for each."
    )
    require(max(shares) <= BAR, measured)
    return measured


@sample_with_few_calls.accepts
def _(predict, noise, num_calls):
    times = 1 - (1 - np.linspace(0, 1, num_calls + 1)) ** 2
    x, old = noise, None
    for start, end in pairwise(times):
        clean = middle = predict(x, start)
        if old is not None:
            middle = clean + (clean - old[0]) * (end - start) / 2 / (start - old[1])
        old = clean, start
        x = x + (end - start) * (middle - x) / (1 - start)
    return x


@sample_with_few_calls.rejects("1.00, 1.00, 1.00 of those of equal steps")
def _(predict, noise, num_calls):
    return _steps(predict, noise, num_calls)


@sample_with_few_calls.rejects("The bar is 0.4 for each")
def _(predict, noise, num_calls):
    x = noise  # the midpoint rule with equal steps
    for step in range(num_calls // 2):
        t, length = 2 * step / num_calls, 2 / num_calls
        middle = x + length / 2 * (predict(x, t) - x) / (1 - t)
        t += length / 2
        x = x + length * (predict(middle, t) - middle) / (1 - t)
    return x


@sample_with_few_calls.rejects("You call `predict` more than 8 times")
def _(predict, noise, num_calls):
    return _steps(predict, noise, 100)


@sample_with_few_calls.rejects("between 0 and 1")
def _(predict, noise, num_calls):
    return predict(noise, 1.5)


@sample_with_few_calls.rejects("has the shape")
def _(predict, noise, num_calls):
    return predict(noise, 0.0)[0]
