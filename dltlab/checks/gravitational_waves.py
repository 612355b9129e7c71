"""Exercises of lab 13, Gravitational waves."""

from collections.abc import Iterator
from functools import cache

import numpy as np

from dltlab.data import whitened_chirps
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

BAR = 0.01  # of the glitches may pass
KEPT = 0.95  # of the waves
_SAMPLING_RATE = 1024
_BEFORE_END = 154  # samples from the peak to the end of a window


@exercise(
    "In the spectrum `np.fft.rfft(strain)`, each frequency is multiplied by one number.",
    "Noise of density S and bandwidth `sampling_rate` / 2 has the variance S · `sampling_rate` / 2."
    " Divide by the square root of this, frequency by frequency.",
    "`np.fft.irfft(spectrum, len(strain))` returns to the time domain; without the length, it loses"
    " a sample of an odd number of them.",
    returns=Array("whitened strain"),
    otherwise="Your whitened strain has other numbers. Which factor does each frequency get?",
)
def whiten():
    (strain, longer), (density, other) = random_arrays((30,), (21,)), random_arrays((16,), (11,))
    yield strain, 0.5 + density**2, 64
    yield longer, 0.5 + other**2, 100


@whiten.mistakes
def _(strain, psd, sampling_rate):
    spectrum, samples = np.fft.rfft(strain), len(strain)

    def signal(values):
        return np.fft.irfft(values, samples)

    yield (
        "You divide by the power. The strain is an amplitude: take the square root.",
        signal(spectrum / (psd * sampling_rate / 2)),
    )
    yield "You divide by the power. The strain is an amplitude.", signal(spectrum / psd)
    yield (
        "The shape of your spectrum is right, but not its scale: the variance is the density times "
        "the bandwidth, which is half of the sampling rate.",
        signal(spectrum / np.sqrt(psd)),
    )
    yield (
        "You take the sampling rate for the bandwidth. It is half of that, as the highest frequency"
        " is half of the sampling rate.",
        signal(spectrum / np.sqrt(psd * sampling_rate)),
    )
    yield (
        "You multiply by the amplitude of the noise. Whitening divides: where the noise is strong, "
        "the strain counts little.",
        signal(spectrum * np.sqrt(psd * sampling_rate / 2)),
    )
    white = spectrum / np.sqrt(psd * sampling_rate / 2)
    yield "You return the spectrum. Transform it back with `np.fft.irfft`.", white
    yield "You drop the phases: multiply the complex spectrum.", signal(np.abs(white))
    yield (
        "With an odd number of samples you lose one. Tell `np.fft.irfft` how many there are.",
        np.fft.irfft(white),
    )


@whiten.accepts
def _(strain, psd, sampling_rate):
    samples = len(strain)
    both_sides = np.concatenate([psd, psd[1 : (samples + 1) // 2][::-1]])
    return np.fft.ifft(np.fft.fft(strain) * np.sqrt(2 / sampling_rate / both_sides)).real


@exercise(
    "The square of the signal-to-noise ratio of a whitened signal is the sum of the squares of its "
    "samples.",
    "Divide the signal by the root of that sum: its ratio is 1 then. Multiply by the new one.",
    returns=Array("signal"),
    otherwise="Your signal is not the given one, times the number that makes its ratio `snr`.",
)
def scale_to_snr():
    short, long = random_arrays((9,), (40,))
    yield 0.3 + short, 8.0
    yield 0.2 + 3 * long, 5.0


@scale_to_snr.mistakes
def _(signal, snr):
    energy = np.sum(signal**2)
    yield (
        "You scale the largest sample to `snr`. That is the peak ratio: it depends on the sampling "
        "rate, because all samples count.",
        signal * snr / np.abs(signal).max(),
    )
    yield "You scale the largest sample to `snr`.", signal * snr / signal.max()
    yield (
        "You divide by the standard deviation, a mean over the samples. Each further sample adds to"
        " the ratio: take the sum.",
        signal * snr / signal.std(),
    )
    yield "You divide by a mean. Take the sum.", signal * snr / np.sqrt(np.mean(signal**2))
    yield "You divide by the sum of the squares: its root is missing.", signal * snr / energy
    yield (
        "The square of the ratio is the sum of the squares. Your signal has the root of `snr`.",
        signal * np.sqrt(snr / energy),
    )
    yield "You return the factor. Multiply the signal by it.", snr / np.sqrt(energy)
    yield "You multiply by `snr`, but the signal already has a ratio.", signal * snr


@scale_to_snr.accepts
def _(signal, snr):
    return [snr * float(value) / np.linalg.norm(signal) for value in signal]


@exercise(
    "A correlation is a product in the frequency domain: one transform is conjugated, the "
    "template's.",
    "`np.fft.ifft` of the product gives the sum for every shift at once. It is complex; its "
    "absolute value is the ratio with the best phase.",
    "`np.abs(np.fft.ifft(np.fft.fft(data) * np.fft.fft(template).conj()))`",
    returns=Array("signal-to-noise ratio"),
    otherwise="Your ratios are not the absolute values of the sums, for the shifts 0, 1, 2, …",
)
def matched_filter():
    for size, seed in ((12, 1), (25, 2)):
        data, real, imaginary = random_arrays((size,), (size,), (size,), seed=seed)
        yield data, real + 1j * imaginary


@matched_filter.mistakes
def _(data, template):
    spectrum, other = np.fft.fft(data), np.fft.fft(template)
    result = np.fft.ifft(spectrum * other.conj())
    yield (
        "You do not conjugate the template's transform, so the template is reversed in time: that "
        "is a convolution.",
        np.abs(np.fft.ifft(spectrum * other)),
    )
    yield (
        "You conjugate the transform of the data. Your ratios are those of the shifts in the "
        "opposite direction: conjugate the template's.",
        np.abs(np.fft.ifft(spectrum.conj() * other)),
    )
    yield (
        "You return the real part, which is that of one phase. A signal with another phase would "
        "be missed.",
        result.real,
    )
    yield (
        "You use only the real part of the template. A signal with another phase would be missed.",
        np.abs(np.fft.ifft(spectrum * np.fft.fft(template.real).conj())),
    )
    yield "You return the squares. Take the absolute values only.", np.abs(result) ** 2
    yield (
        "Your first value belongs to a shift of half of the data. It should be that of a shift of "
        "0: leave out `fftshift`.",
        np.abs(np.fft.fftshift(result)),
    )
    yield (
        "You divide by the number of samples; `np.fft.ifft` has already done so.",
        np.abs(result) / len(data),
    )
    yield "Transform back with `np.fft.ifft`.", np.abs(spectrum * other.conj())


@matched_filter.accepts
def _(data, template):
    return [abs(np.vdot(np.roll(template, shift), data)) for shift in range(len(data))]


@matched_filter.rejects("expected real numbers")
def _(data, template):
    return np.fft.ifft(np.fft.fft(data) * np.fft.fft(template).conj())


@exercise(
    "`scores > threshold` tells which windows are above. An alarm begins where a window is above "
    "and the one before it is not.",
    "The first window has none before it: `np.concatenate([[False], above[:-1]])`.",
    "`len(scores) * hop` is the time in seconds; an hour has 3,600.",
    returns=Number("rate"),
    otherwise="`{call}`: {value} is not the number of alarms per hour.",
)
def alarm_rate():
    yield np.array([1.0, 5, 6, 7, 2, 7, 1, 1, 9, 8, 8, 2]), 0.5, 4.0
    yield np.array([5.0, 6, 8, 1, 2, 7, 1]), 0.1, 4.5
    yield np.array([1.0, 2, 3, 1, 0]), 0.25, 9.0


@alarm_rate.mistakes
def _(scores, hop, threshold):
    above = scores > threshold
    begins = above & ~np.concatenate([[False], above[:-1]])
    hours = len(scores) * hop / 3600
    yield (
        "You count every window above the threshold. Windows that follow each other are one alarm.",
        above.sum() / hours,
    )
    yield (
        "You count where an alarm begins and where it ends. Count the beginnings.",
        np.abs(np.diff(above.astype(int))).sum() / hours,
    )
    yield (
        "You miss an alarm that begins with the first window.",
        (above[1:] & ~above[:-1]).sum() / hours,
    )
    yield "That is the rate per second. An hour has 3,600.", begins.sum() / (len(scores) * hop)
    yield "That is the rate per minute.", begins.sum() / hours / 60
    yield "That is the fraction of the windows, not a rate.", begins.mean()
    yield "That is the number of alarms. Divide by the time in hours.", begins.sum()
    yield (
        "A window does not last a second: the next one begins `hop` seconds later.",
        begins.sum() / (len(scores) / 3600),
    )


@alarm_rate.accepts
def _(scores, hop, threshold):
    count, was_above = 0, False
    for score in scores:
        count += score > threshold and not was_above
        was_above = score > threshold
    return 3600 * count / (hop * len(scores))


@exercise(
    "For a single shift: `np.hypot(h1, np.roll(l1, shift)).max()`.",
    "Take the largest value over all shifts from `-max_delay` to `max_delay`, both included: "
    "`range(-max_delay, max_delay + 1)`.",
    returns=Number("ratio"),
    otherwise="Your ratio is not the largest root of the sum of two squares, over all times and "
    "allowed delays.",
)
def loudest_coincidence():
    for size, at_h1, at_l1 in ((30, 10, 13), (40, 20, 17), (35, 8, 6), (50, 5, 30)):
        h1, l1 = np.abs(random_arrays((size,), (size,), seed=size))
        h1[at_h1] += 6
        l1[at_l1] += 5
        yield h1, l1, 3


@loudest_coincidence.mistakes
def _(h1, l1, max_delay):
    def loudest(shifts):
        return max(np.hypot(h1, np.roll(l1, shift)).max() for shift in shifts)

    yield "You allow for no delay between the detectors.", loudest([0])
    one_way = "The wave may reach either detector first. Your delays have one direction only."
    yield one_way, loudest(range(max_delay + 1))
    yield one_way, loudest(range(-max_delay, 1))
    yield (
        "You leave out one of the delays: `range` ends before its second number.",
        loudest(range(-max_delay, max_delay)),
    )
    yield (
        "You combine the loudest moment of each detector, however far apart they are. They must be "
        "within `max_delay` samples of each other.",
        np.hypot(h1.max(), l1.max()),
    )
    yield (
        "You add the ratios. The squares add up, as those of independent noise do.",
        max((h1 + np.roll(l1, shift)).max() for shift in range(-max_delay, max_delay + 1)),
    )
    yield (
        "You return the sum of the squares: take its root.",
        loudest(range(-max_delay, max_delay + 1)) ** 2,
    )


@loudest_coincidence.accepts
def _(h1, l1, max_delay):
    wrapped = np.concatenate([l1[-max_delay:], l1, l1[:max_delay]])
    windows = np.lib.stride_tricks.sliding_window_view(wrapped, 2 * max_delay + 1)
    return np.sqrt(np.max(h1**2 + windows.max(axis=1) ** 2))


@question
def alarms_of_windows():
    """A classifier says "signal" for 1% of windows of noise. It sees ten windows each second.

    How many of them are above its threshold in an hour?
    """
    return [
        wrong("About 36", "That would be one window each second. There are ten."),
        correct(
            "About 360",
            "3,600 · 10 · 0.01 = 360. Neighbors overlap, so there are fewer separate alarms. But "
            "LIGO's first observing run found three events in four months.",
        ),
        wrong("About 1", "Multiply: windows per hour, times the fraction."),
        wrong(
            "That depends on how many signals there are.",
            "False alarms come from noise. Signals are so rare that nearly all windows are noise.",
        ),
    ]


@question
def saturation():
    """Why do we rank candidates by the network's logit, and not by its probability?"""
    return [
        wrong(
            "The probability is calibrated, the logit is not.",
            "Calibration does not change the order: the probability rises with the logit.",
        ),
        correct(
            "In float32, the probabilities of all loud candidates are exactly 1.",
            "From a logit of about 17 on, the sigmoid rounds to 1. Then noise with 18 and a signal "
            "with 60 are equal, and no threshold separates them.",
        ),
        wrong(
            "The logit is the signal-to-noise ratio.",
            "It often rises with it, but nothing in the training says so.",
        ),
        wrong(
            "The sigmoid takes too long for hours of data.",
            "It is one operation for each window.",
        ),
    ]


@question
def smallest_rate():
    """The slides make one hour of background, and none is as loud as the event. What follows?"""
    return [
        wrong(
            "The rate of false alarms is 0.",
            "None in one hour happens easily even if the rate is one in two hours.",
        ),
        wrong(
            "The rate is below one in 203,000 years.",
            "That needs far more background. The published analysis used 16 days of data.",
        ),
        correct(
            "The rate is at most about a few per hour; we cannot claim less.",
            "With a rate of 3 per hour, an hour without any has a probability of exp(-3) = 5%. So "
            "less than 3 per hour is what one hour shows, at 95% confidence.",
        ),
        wrong(
            "Nothing, because slides are not real data.",
            "They are real noise. Only the times of the detectors are shifted, by more than light "
            "needs, so that no wave is in both.",
        ),
    ]


Event = tuple[np.ndarray, np.ndarray]


def events(count: int, seed: int) -> tuple[list[Event], list[Event]]:
    """Return waves and glitches in noise, each with the template that fits best.

    A glitch is a short oscillation, as of an instrument. All have ratios between 6 and 40, after
    filtering with a bank of 48 templates.

    Args:
        count: The number of waves, and of glitches.
        seed: Of all random numbers.

    Returns:
        Two lists of pairs: whitened data, float64 `(1024,)`, with noise of standard deviation 1;
        and the template, complex128 `(1024,)`, shifted to where it fits best. The sums of the
        squares of its real and its imaginary part are about 1.
    """
    random = np.random.RandomState(seed)
    total = np.exp(random.uniform(np.log(40), np.log(100), count))
    ratio = random.uniform(1, 2, count)
    phases = random.uniform(0, 2 * np.pi, (count, 1))
    waves = (_chirps(total, ratio) * np.exp(1j * phases)).real
    frequency = np.exp(random.uniform(np.log(40), np.log(150), (count, 1)))
    width = random.uniform(2, 8, (count, 1)) / (2 * np.pi * frequency)
    seconds = (np.arange(_SAMPLING_RATE) - _SAMPLING_RATE + _BEFORE_END) / _SAMPLING_RATE
    angle = 2 * np.pi * frequency * seconds + random.uniform(0, 2 * np.pi, (count, 1))
    glitches = np.exp(-((seconds / width) ** 2) / 2) * np.cos(angle)
    ratios = np.exp(random.uniform(np.log(6), np.log(40), count))
    waves_in_noise, glitches_in_noise = (
        list(_in_noise(signals, ratios, random)) for signals in (waves, glitches)
    )
    return waves_in_noise, glitches_in_noise


def _in_noise(
    signals: np.ndarray, ratios: np.ndarray, random: np.random.RandomState
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Scale signals to their ratios after filtering, add noise, and find their templates."""
    bank, spectra = _bank()
    for signal, ratio in zip(signals, ratios, strict=True):
        filtered = np.abs(np.fft.ifft(np.fft.fft(signal) * spectra.conj()))
        template, shift = np.unravel_index(filtered.argmax(), filtered.shape)
        data = signal * ratio / filtered.max() + random.standard_normal(len(signal))
        yield data, np.roll(bank[template], shift)


@cache
def _bank() -> tuple[np.ndarray, np.ndarray]:
    """Return 48 templates in windows, and their transforms."""
    power = -5 / 3  # of the mass, in which the phase of an inspiral is linear
    total = np.linspace(40**power, 100**power, 16) ** (1 / power)
    totals, ratios = np.meshgrid(total.clip(40, 100), [1.0, 1.5, 2.0])
    bank = _chirps(totals.ravel(), ratios.ravel())
    return bank, np.fft.fft(bank)


def _chirps(total_mass: np.ndarray, mass_ratio: np.ndarray) -> np.ndarray:
    """Return complex signals in windows of one second, complex128 `(n, 1024)`."""
    mass_2 = total_mass / (1 + mass_ratio)
    chirps = whitened_chirps(total_mass - mass_2, mass_2, _SAMPLING_RATE)
    start = chirps.shape[1] // 2 + _BEFORE_END - _SAMPLING_RATE
    windows = chirps[:, start : start + _SAMPLING_RATE].astype(complex)
    scaled: np.ndarray = windows * np.sqrt(2) / np.linalg.norm(windows, axis=1, keepdims=True)
    return scaled


def passing(rank, waves, glitches):
    """Return the fraction of the glitches above the threshold that keeps 95% of the waves."""
    scores = []
    for name, pairs in (("wave", waves), ("glitch", glitches)):
        ranks = [rank(data.copy(), template.copy()) for data, template in pairs]
        with attempt(f"reading your ranks of {len(pairs)} events ({name})"):
            values = np.array([float(value) for value in ranks])
        require(
            bool(np.isfinite(values).all()),
            f"Your rank of a {name} is {values[~np.isfinite(values)][:1]}: return a finite number.",
        )
        scores.append(values)
    return float(np.mean(scores[1] > np.quantile(scores[0], 1 - KEPT)))


@exercise(
    "Both have the same ratio, so it tells nothing. What remains of a wave if you subtract the "
    "template that fits best? And of a glitch?",
    "`c = np.vdot(template, data)` is complex: the best fit is `(c * template).real`. A bank is not"
    " perfect, so a loud wave leaves something, too: allow more for larger ratios.",
    "The test of B. Allen (2005): split the frequencies into 8 parts in which the template has "
    "equal power. In each, a wave has an eighth of c. Sum the squared differences.",
    smoke={"count": 100},
)
def rank_event(answer, count=300):
    """Measure how many glitches pass, on events that the answer has not seen."""
    share = passing(answer, *events(count, seed=7))
    plain = passing(lambda data, template: abs(np.vdot(template, data)), *events(count, seed=7))
    measured = (
        f"{share:.1%} of the glitches pass where {KEPT:.0%} of the waves are kept; by the ratio "
        f"alone, {plain:.0%} do."
    )
    require(share <= BAR, f"{measured} The bar is {BAR:.0%}.")
    return f"{measured} The bar is {BAR:.0%}."


@rank_event.accepts
def _(data, template):
    spectrum, other = np.fft.fft(data), np.fft.fft(template)
    power = np.cumsum(np.abs(other) ** 2)
    products = spectrum * other.conj() / len(data)
    parts = np.split(products, np.searchsorted(power, np.arange(1, 16) / 16 * power[-1]))
    sums = np.array([part.sum() for part in parts])
    return -np.sum(np.abs(sums - sums.mean()) ** 2) / (1 + 0.02 * abs(sums.sum()) ** 2)


@rank_event.rejects("of the glitches pass")
def _(data, template):
    return abs(np.vdot(template, data))


@rank_event.rejects("of the glitches pass")
def _(data, template):
    return -np.abs(data).max()


@rank_event.rejects("return a finite number")
def _(data, template):
    return np.nan
