"""Rates of layers: their fit, and one real measurement on the CPU."""

from time import perf_counter

import numpy as np
import pytest
import tensorflow as tf

from dltlab.devices.layer_rates import PASSES, Rate, fit_rate, measure_layer_rates

SIZES = np.array([[1e9, 1e4, 1e6], [1e6, 1e7, 1e5], [1e7, 1e3, 1e7], [5e8, 1e6, 1e6]])


def test_constants_are_found_again():
    constants = np.array([2e-11, 3e-9, 1e-10])
    rate = fit_rate(SIZES, SIZES @ constants, peak=1e12)
    assert [rate.per_flop, rate.per_weight_byte, rate.per_activation_byte] == pytest.approx(
        constants
    )


def test_no_constant_is_negative_or_beyond_the_peak():
    rate = fit_rate(SIZES, SIZES @ np.array([1e-12, 3e-9, 0]), peak=1e11)
    assert rate.per_flop == pytest.approx(1e-11)
    assert min(rate.per_weight_byte, rate.per_activation_byte) >= 0
    assert fit_rate(SIZES, np.zeros(4), peak=1e11) == Rate()


def test_every_kind_of_layer_is_measured_in_every_pass():
    with tf.device("CPU:0"):
        rates = measure_layer_rates(tf, peak=1e15, seconds=0.0, clock=perf_counter)
    *kinds, optimizer = rates
    assert {"Conv2D", "Dense", "BatchNormalization", "elementwise"} <= set(kinds)
    assert all(tuple(rates[kind]) == PASSES for kind in kinds)
    assert rates["Conv2D"]["forward"].per_flop > 0
    assert rates["Dense"]["input gradient"].per_weight_byte >= 0
    assert rates[optimizer]["forward"].per_weight_byte > 0
