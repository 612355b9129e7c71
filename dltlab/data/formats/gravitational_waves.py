"""Gravitational waves of merging black holes in the noise of a detector, from a seed."""

from typing import Annotated, cast

import numpy as np
from pydantic import Field

from dltlab.data.card import ALL, SPLITS, Seed, SignalCard, SplitName
from dltlab.data.formats.registry import register
from dltlab.errors import Invalid

MIN_TOTAL_MASS, MAX_MASS_RATIO = 40.0, 2.0  # where the waveform is accurate
MIN_FREQUENCY = 20.0  # Hz; below, the noise of the ground hides everything
MAX_FREQUENCY = 0.48  # of the sampling rate: just below half of it
PEAK_RANGE = 0.05, 0.25  # seconds before the end of a window, between which a signal peaks

_SUN_SECONDS = 4.925490947641267e-06  # G M / c³ of the Sun
_CHIRPS_AT_ONCE = 16  # their arrays fit into a processor's cache, which is four times as fast
_TEMPLATE_SECONDS = 4.0  # longer than the signal of any allowed masses from 20 Hz on

# Coefficients (a, b, c) of a·η² + b·η + c, with η = m1·m2 / (m1 + m2)².
_FREQUENCIES = {
    "merger": (6.6389e-01, -1.0321e-01, 1.0979e-01),
    "ringdown": (1.3278, -2.0642e-01, 2.1957e-01),
    "width": (1.1383, -1.7700e-01, 4.6834e-02),
    "cut": (1.7086, -2.6592e-01, 2.8236e-01),
}
_PHASES = {  # by the power of (π M f)^(1/3), plus 5
    0: (-1.5829e-01, 8.7016e-02, -3.3382e-02),
    2: (3.2967e01, -1.9000e01, 2.1345),
    3: (-3.0849e02, 1.8211e02, -2.1727e01),
    4: (1.1525e03, -7.1477e02, 9.9692e01),
    6: (1.2057e03, -8.4233e02, 1.8046e02),
}

Range = Annotated[list[float], Field(min_length=2, max_length=2)]


@register("gravitational_waves")
class GravitationalWavesCard(SignalCard):
    """Windows of one second of whitened noise, half of them with a gravitational wave.

    The noise has a standard deviation of 1. The signals have random masses, phases and times, and
    all the same signal-to-noise ratio. Labels: 0 is noise, 1 is a signal.

    Attributes:
        seed: Of masses, phases, times and noise. The splits have different random streams.
        snr: The optimal signal-to-noise ratio of each signal, in its window.
        total_mass: The smallest and the largest total mass, in solar masses; the logarithm is
            uniformly distributed.
        mass_ratio: The smallest and the largest ratio of the masses, uniformly distributed.
    """

    seed: Seed
    snr: Annotated[float, Field(gt=0)]
    total_mass: Range
    mass_ratio: Range

    def read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the windows and labels of a split, or of "all"."""
        if split != ALL:
            return self._read_split(cast(SplitName, split))
        parts = [self._read_split(name) for name in self.splits]
        windows, labels = zip(*parts, strict=True)
        return np.concatenate(windows), np.concatenate(labels)

    def _read_split(self, split: SplitName) -> tuple[np.ndarray, np.ndarray]:
        # RandomState's stream never changes; those of newer generators may between versions.
        random = np.random.RandomState([self.seed, SPLITS.index(split)])
        count = self.splits[split].size
        labels = random.permutation(np.arange(count) % 2)
        num_signals = int(labels.sum())
        low, high = np.log(self.total_mass)
        total_mass = np.exp(low + (high - low) * random.random_sample(num_signals))
        low, high = self.mass_ratio
        ratio = low + (high - low) * random.random_sample(num_signals)
        mass_2 = total_mass / (1 + ratio)
        chirps = whitened_chirps(total_mass - mass_2, mass_2, self.sampling_rate)
        phases = 2 * np.pi * random.random_sample(num_signals)
        low, high = PEAK_RANGE
        before_end = low + (high - low) * random.random_sample(num_signals)
        windows = random.standard_normal((count, self.samples)).astype(np.float32)
        windows[labels == 1] += self.snr * chirps_in_windows(
            chirps, phases, np.round(before_end * self.sampling_rate).astype(int), self.samples
        )
        return windows, labels.astype(np.int64)


def chirps_in_windows(
    chirps: np.ndarray, phases: np.ndarray, before_end: np.ndarray, samples: int
) -> np.ndarray:
    """Cut a window out of each chirp, with a signal-to-noise ratio of 1.

    Args:
        chirps: complex64 `(n, m)`, as `whitened_chirps` returns them.
        phases: The phase of each signal, in radians, `(n,)`.
        before_end: The samples from the peak to the end of the window, integers `(n,)`.
        samples: The length of a window.

    Returns:
        float32 `(n, samples)`; the sum of the squares of each row is 1.
    """
    starts = chirps.shape[1] // 2 + before_end - samples
    columns = starts[:, np.newaxis] + np.arange(samples)
    windows = np.take_along_axis(chirps, columns, axis=1)
    windows = (windows * np.exp(1j * phases)[:, np.newaxis]).real
    windows /= np.linalg.norm(windows, axis=1, keepdims=True)
    return windows.astype(np.float32)


def ligo_psd(frequencies: np.ndarray) -> np.ndarray:
    """Return the noise of an Advanced LIGO detector at its design sensitivity.

    It is an analytic fit to the zero-detuned high-power design (P. Ajith, Phys. Rev. D 84, 084037,
    2011, arXiv:1107.1267, equation 4.7), whose square root is within 6% of that design between 30
    and 2,000 Hz.

    Args:
        frequencies: In Hz, above 0, of any shape.

    Returns:
        The one-sided power spectral density of the strain, in 1/Hz, of the same shape.
    """
    x = np.asarray(frequencies, float) / 245.4
    return 1e-48 * (
        0.0152 * x**-4 + 0.2935 * x ** (9 / 4) + 2.7951 * x ** (3 / 2) - 6.5080 * x**0.75 + 17.7622
    )


def waveform(
    frequencies: np.ndarray, mass_1: np.ndarray | float, mass_2: np.ndarray | float
) -> np.ndarray:
    """Return the spectra of gravitational waves of two black holes that merge.

    The waveform is IMRPhenomA, for black holes that do not spin: inspiral, merger and ringdown in
    closed form (P. Ajith et al., Phys. Rev. D 77, 104017, 2008, arXiv:0710.2335, equations 4.13 to
    4.18; coefficients: P. Ajith, Class. Quantum Grav. 25, 114033, 2008, arXiv:0712.0343, table I).
    For total masses from 40 solar masses and mass ratios up to 2, its match with the newer
    IMRPhenomD is at least 0.99.

    Args:
        frequencies: In Hz, above 0, `(k,)`.
        mass_1: Of one black hole, in solar masses, as a detector sees it, `(n,)` or a number.
        mass_2: Of the other one.

    Returns:
        complex128 `(n, k)`, or `(k,)` for numbers, in arbitrary units; with NumPy's sign of the
        exponent, so that `irfft` gives a signal whose frequency rises.

    Raises:
        Invalid: A frequency is not above 0, or the masses are out of the range above.
    """
    frequencies = np.asarray(frequencies, float)
    first, second = np.broadcast_arrays(np.asarray(mass_1, float), np.asarray(mass_2, float))
    _check_masses(first, second)
    if not (frequencies > 0).all():
        raise Invalid("A frequency is 0 or less; give frequencies above 0, in Hz.")
    mass_1, mass_2 = first[..., np.newaxis], second[..., np.newaxis]
    total = mass_1 + mass_2
    eta = mass_1 * mass_2 / total**2
    scale = np.pi * total * _SUN_SECONDS

    def polynomial(a: float, b: float, c: float) -> np.ndarray:
        return cast(np.ndarray, a * eta**2 + b * eta + c)

    merger, ringdown, width, cut = (polynomial(*row) / scale for row in _FREQUENCIES.values())
    # Roots and products take a tenth of the time of powers.
    relative = frequencies / merger
    root = np.cbrt(relative)
    amplitude = 1 / np.where(relative < 1, relative * np.sqrt(root), root * root)
    lorentzian = width / (2 * np.pi) / ((frequencies - ringdown) ** 2 + width**2 / 4)
    at_ringdown = np.pi / 2 * width * (ringdown / merger) ** (-2 / 3)
    amplitude = np.where(frequencies < ringdown, amplitude, at_ringdown * lorentzian)
    amplitude = np.where(frequencies < cut, amplitude, 0)
    amplitude *= total ** (5 / 6) * merger ** (-7 / 6) * np.sqrt(eta)
    speed = np.cbrt(scale * frequencies)
    slow = 1 / speed
    powers = {0: slow * slow * slow * slow * slow, 2: slow * slow * slow, 3: slow * slow}
    powers |= {4: slow, 6: speed}
    phase = sum(polynomial(*row) / eta * powers[n] for n, row in _PHASES.items())
    return cast(np.ndarray, amplitude * np.exp(1j * phase))


def whitened_chirps(
    mass_1: np.ndarray,
    mass_2: np.ndarray,
    sampling_rate: int,
    *,
    seconds: float = _TEMPLATE_SECONDS,
    psd: np.ndarray | None = None,
) -> np.ndarray:
    """Return the signals of merging black holes as a whitened detector records them.

    A signal z is complex: its real part is the signal with a phase of 0, its imaginary part that
    with a phase of 90 degrees, so that any other phase φ is the real part of exp(iφ) z. The sum of
    the squares of either part is 1: multiplied by ρ, it has a signal-to-noise ratio of ρ in noise
    with a standard deviation of 1.

    Args:
        mass_1: Of one black hole of each pair, in solar masses, as a detector sees it, `(n,)`.
        mass_2: Of the other one, `(n,)`.
        sampling_rate: In Hz.
        seconds: The length of each signal.
        psd: The one-sided power spectral density of the noise, at the frequencies of NumPy's
            `rfftfreq` for this length and rate; by default `ligo_psd`.

    Returns:
        complex64 `(n, seconds * sampling_rate)`. The wave, before it is whitened, is strongest in
        the middle, so that templates for two detectors with different noise have one time.

    Raises:
        Invalid: The masses are out of range, as in `waveform`; the rate is too low for any signal;
            or `psd` has another length.
    """
    samples = round(seconds * sampling_rate)
    frequencies = np.fft.rfftfreq(samples, 1 / sampling_rate)
    is_used = (frequencies >= MIN_FREQUENCY) & (frequencies < MAX_FREQUENCY * sampling_rate)
    if frequencies[-1] < 4 * MIN_FREQUENCY:
        raise Invalid(f"sampling_rate is {sampling_rate}; use at least 160 Hz.")
    noise = ligo_psd(np.maximum(frequencies, 1)) if psd is None else np.asarray(psd)
    if noise.shape != frequencies.shape:
        raise Invalid(
            f"psd has the shape {noise.shape}; {seconds:g} s at {sampling_rate} Hz need "
            f"{frequencies.shape}: evaluate it at rfftfreq({samples}, 1 / {sampling_rate})."
        )
    used = np.flatnonzero(is_used)
    mass_1, mass_2 = np.broadcast_arrays(np.ravel(mass_1), np.ravel(mass_2))
    chirps = np.empty((len(mass_1), samples), np.complex64)
    for start in range(0, len(chirps), _CHIRPS_AT_ONCE):
        rows = slice(start, start + _CHIRPS_AT_ONCE)
        spectra = waveform(frequencies[used], mass_1[rows], mass_2[rows])
        chirps[rows] = _whitened(spectra, used, np.sqrt(noise[used]), samples)
    return chirps


def _whitened(
    spectra: np.ndarray, used: np.ndarray, amplitude: np.ndarray, samples: int
) -> np.ndarray:
    """Return whitened signals in time, with the peak of the wave in the middle.

    Args:
        spectra: complex128 `(n, k)`.
        used: The places of the spectra's frequencies among all `samples`, `(k,)`.
        amplitude: Of the noise at these frequencies, `(k,)`.
        samples: The length of the signals.

    Returns:
        complex128 `(n, samples)`.
    """
    padded = np.zeros((len(spectra), samples), complex)  # no negative frequencies
    padded[:, used] = spectra
    peaks = np.abs(np.fft.ifft(padded)).argmax(axis=1)
    padded[:, used] /= amplitude
    chirps = np.fft.ifft(padded)
    columns = (np.arange(samples) + peaks[:, np.newaxis] - samples // 2) % samples
    chirps = np.take_along_axis(chirps, columns, axis=1)
    # The real and the imaginary part each have half of the sum of the squares.
    chirps *= np.sqrt(2) / np.linalg.norm(chirps, axis=1, keepdims=True)
    return cast(np.ndarray, chirps)


def _check_masses(mass_1: np.ndarray, mass_2: np.ndarray) -> None:
    """Raise Invalid for the first pair for which the waveform is not accurate."""
    larger, smaller = np.maximum(mass_1, mass_2), np.minimum(mass_1, mass_2)
    # The tolerance is for sums and ratios that were rounded.
    is_valid = (smaller > 0) & (larger + smaller >= MIN_TOTAL_MASS * (1 - 1e-9))
    is_valid &= larger <= MAX_MASS_RATIO * smaller * (1 + 1e-9)
    if not is_valid.all():
        place = np.flatnonzero(~is_valid.ravel())[0]
        masses = f"{larger.ravel()[place]:g} and {smaller.ravel()[place]:g}"
        raise Invalid(
            f"The masses {masses} are out of range: this waveform is accurate for a total mass of "
            f"at least {MIN_TOTAL_MASS:g} solar masses and a ratio of at most {MAX_MASS_RATIO:g}."
        )
