"""Simulated gravitational waves: the waveform, its scale, and the windows of a card."""

import numpy as np
import pytest

from dltlab.data import arrays, info, ligo_psd, load, whitened_chirps
from dltlab.data.formats.gravitational_waves import PEAK_RANGE, chirps_in_windows, waveform
from dltlab.errors import Invalid

FREQUENCIES = np.array([20.0, 50, 100, 150, 200, 250, 350])
# Of 36 + 29 solar masses, relative to 100 Hz; from an implementation that was compared with
# lalsimulation's IMRPhenomA.
AMPLITUDES = np.array([6.53830243, 2.2449241, 1, 0.68503834, 0.56548669, 0.4884598, 0])
PHASES = np.array([-2.85017131, -2.08563365, 0, 3.09214736, -1.56309672, -0.82189272])


def match(first: np.ndarray, second: np.ndarray, psd: np.ndarray) -> float:
    """Return the overlap of two spectra, maximized over time and phase."""
    product = np.fft.ifft(first * second.conj() / psd, 8 * len(psd))
    norms = [np.sum(np.abs(spectrum) ** 2 / psd) for spectrum in (first, second)]
    return float(np.abs(product).max() * 8 * len(psd) / np.sqrt(norms[0] * norms[1]))


def frequency_at(chirp: np.ndarray, rate: int, place: int) -> float:
    """Return the frequency of a complex signal, from the phase over ten samples."""
    phase = np.unwrap(np.angle(chirp[place : place + 11]))
    return float((phase[-1] - phase[0]) / 10 * rate / (2 * np.pi))


def test_the_waveform_has_the_amplitudes_and_phases_of_the_reference():
    spectrum = waveform(FREQUENCIES, 36.0, 29.0)
    relative = spectrum / spectrum[2]
    assert np.allclose(np.abs(relative), AMPLITUDES, rtol=1e-6, atol=0)
    assert np.allclose(np.angle(relative)[:-1], PHASES, rtol=0, atol=1e-6)


def test_the_order_of_the_masses_does_not_matter_and_pairs_are_rows():
    both = waveform(FREQUENCIES, np.array([36.0, 29]), np.array([29.0, 36]))
    assert both.shape == (2, 7)
    assert np.allclose(both[0], both[1])
    assert np.allclose(both[0], waveform(FREQUENCIES, 36.0, 29.0))


@pytest.mark.parametrize("masses", [(20, 20), (30, 30), (36, 29), (50, 50), (50, 25)])
def test_the_waveform_matches_imrphenomd(masses):
    reason = "lalsimulation is not installed; the reference values are compared instead"
    lal = pytest.importorskip("lal", reason=reason)
    lalsimulation = pytest.importorskip("lalsimulation", reason=reason)
    step, low, high = 1 / 8, 20.0, 2048.0
    plus, _ = lalsimulation.SimInspiralChooseFDWaveform(
        *(mass * lal.MSUN_SI for mass in masses),
        *(0.0,) * 6,
        400e6 * lal.PC_SI,
        *(0.0,) * 5,
        *(step, low, high, low),
        None,
        lalsimulation.IMRPhenomD,
    )
    frequencies = np.arange(len(plus.data.data)) * step
    used = slice(round(low / step), None)
    ours = waveform(frequencies[used], *map(float, masses))
    density = map(lalsimulation.SimNoisePSDaLIGOZeroDetHighPower, frequencies[used].tolist())
    assert match(ours, plus.data.data[used], np.array(list(density))) >= 0.99


def test_the_design_noise_has_the_published_size():
    density = ligo_psd(np.array([30.0, 100.0, 1000.0]))
    assert np.allclose(density, [8.459e-47, 1.576e-47, 2.901e-47], rtol=1e-3)


@pytest.mark.parametrize("rate", [512, 1024, 4096])
def test_a_chirp_has_both_phases_with_a_ratio_of_one_and_its_frequency_rises(rate):
    (chirp,) = whitened_chirps(np.array([36.0]), np.array([29.0]), rate)
    assert chirp.dtype == np.complex64
    assert chirp.shape == (4 * rate,)
    assert np.allclose([np.sum(chirp.real**2), np.sum(chirp.imag**2)], 1, atol=1e-3)
    assert abs(np.sum(chirp.real * chirp.imag)) < 1e-3
    assert abs(int(np.abs(chirp).argmax()) - 2 * rate) < 0.02 * rate
    early, late = (frequency_at(chirp, rate, round(place * rate)) for place in (1.5, 1.98))
    assert 15 < early < 60 < late < 300


def test_templates_for_two_detectors_peak_at_the_same_time():
    rate, seconds = 2048, 4
    frequencies = np.fft.rfftfreq(seconds * rate, 1 / rate)
    rising = 1e-46 * (1 + (frequencies / 50) ** 4)
    masses = np.array([36.0]), np.array([29.0])
    peaks = []
    for psd in (None, rising):
        (chirp,) = whitened_chirps(*masses, rate, psd=psd)
        # Undo the whitening: the wave itself must be strongest in the middle.
        noise = ligo_psd(np.maximum(frequencies, 1)) if psd is None else psd
        spectrum = np.fft.fft(chirp)[: len(frequencies)] * np.sqrt(noise)
        peaks.append(int(np.abs(np.fft.ifft(spectrum, seconds * rate)).argmax()))
    assert peaks == [rate * seconds // 2] * 2


@pytest.mark.parametrize(
    ("masses", "options", "message"),
    [
        ((10.0, 10.0), {}, "masses 10 and 10 are out of range"),
        ((60.0, 20.0), {}, "ratio of at most 2"),
        ((30.0, 30.0), {"psd": np.ones(7)}, r"psd has the shape \(7,\).*rfftfreq\(4096"),
    ],
)
def test_masses_and_noise_that_do_not_fit_are_refused(masses, options, message):
    first, second = (np.array([mass]) for mass in masses)
    with pytest.raises(Invalid, match=message):
        whitened_chirps(first, second, 1024, **options)


def test_frequencies_and_sampling_rates_that_are_too_low_are_refused():
    with pytest.raises(Invalid, match="frequencies above 0"):
        waveform(np.array([0.0, 20]), 30.0, 30.0)
    with pytest.raises(Invalid, match="at least 160 Hz"):
        whitened_chirps(np.array([30.0]), np.array([30.0]), 100)


def test_a_window_has_a_ratio_of_one_and_its_peak_where_it_should_be():
    chirps = whitened_chirps(np.array([30.0, 50]), np.array([30.0, 40]), 1024)
    before_end = np.array([100, 200])
    windows = chirps_in_windows(chirps, np.array([0.0, 1.0]), before_end, 1024)
    assert windows.shape == (2, 1024)
    assert np.allclose(np.linalg.norm(windows, axis=1), 1, atol=1e-5)
    assert np.abs(1024 - np.abs(windows).argmax(axis=1) - before_end).max() < 20


def test_the_card_gives_windows_of_which_half_have_a_signal():
    card = info("gravitational_waves")
    windows, labels = arrays("gravitational_waves", "validation")
    assert windows.shape == (1000, card.samples)
    assert windows.dtype == np.float32
    assert labels.dtype == np.int64
    assert labels.mean() == 0.5
    noise, signals = windows[labels == 0], windows[labels == 1]
    assert noise.std() == pytest.approx(1, abs=0.01)
    # A signal with a ratio of 8 adds 64 to the sum of the squares.
    assert np.sum(signals**2, axis=1).mean() - card.samples == pytest.approx(64, abs=8)


def test_signals_peak_near_the_end_of_their_windows():
    windows, labels = arrays("gravitational_waves", "test")
    power = (windows[labels == 1] ** 2).mean(axis=0)
    rate = info("gravitational_waves").sampling_rate
    first, last = (len(power) - round(seconds * rate) for seconds in PEAK_RANGE[::-1])
    assert power[first:last].mean() > 1.1
    assert power[: len(power) // 4].mean() == pytest.approx(1, abs=0.05)


def test_equal_seeds_give_equal_windows_and_the_splits_differ():
    first, _ = arrays("gravitational_waves", "validation")
    again, _ = arrays("gravitational_waves", "validation")
    other, _ = arrays("gravitational_waves", "test")
    assert np.array_equal(first, again)
    assert not np.isclose(first[0], other[: len(first)]).all(axis=1).any()


def test_load_gives_batches_of_windows():
    batch, labels = next(iter(load("gravitational_waves", "validation", batch_size=8)))
    assert tuple(batch.shape) == (8, 1024)
    assert tuple(labels.shape) == (8,)
