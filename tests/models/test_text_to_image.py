"""Networks of text to image: shapes, ranges, and what makes a difference to their outputs."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dltlab import models
from dltlab.errors import Invalid

RANDOM = np.random.default_rng(1)
CAPTIONS = RANDOM.integers(0, 2, (3, 17)).astype("float32")
IMAGES = RANDOM.uniform(-1, 1, (3, 32, 32, 3)).astype("float32")
TIMES = np.array([[0.0], [0.5], [1.0]], "float32")


@pytest.fixture(autouse=True)
def _seed() -> None:
    keras.utils.set_random_seed(1)


def disturbed(model: keras.Model) -> keras.Model:
    """Give all weights random values, also those that begin with zeros."""
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(2).normal(0, 0.2, variable.shape))
    return model


def test_the_judge_gives_logits_for_each_attribute():
    judge = models.caption_judge()
    assert [np.shape(part) for part in judge(IMAGES)] == [(3, 2), (3, 6), (3, 4), (3, 5)]


def test_stage_one_paints_from_noise_and_condition():
    mean, log_variance = models.caption_encoder()(CAPTIONS)
    assert mean.shape == log_variance.shape == (3, 32)
    images = np.asarray(models.stackgan_generator()([tf.random.normal((3, 32)), mean]))
    assert images.shape == (3, 16, 16, 3)
    assert np.abs(images).max() <= 1


def test_stage_two_doubles_the_resolution():
    images = np.asarray(models.stackgan_refiner(width=8)([IMAGES[:, ::2, ::2], CAPTIONS]))
    assert images.shape == IMAGES.shape
    assert np.abs(images).max() <= 1


@pytest.mark.parametrize("size", [16, 32])
def test_a_discriminator_sees_image_and_caption(size):
    images = IMAGES[:, :size, :size]
    discriminator = models.stackgan_discriminator(size, width=8)
    logits = np.asarray(discriminator([images, CAPTIONS]))
    assert logits.shape == (3, 1)
    assert not np.allclose(logits, discriminator([images, CAPTIONS[::-1]]))
    assert not np.allclose(logits, discriminator([images[::-1], CAPTIONS]))


def test_a_flow_network_begins_with_zeros():
    images = models.flow_network(width=8)([IMAGES, TIMES, CAPTIONS])
    np.testing.assert_array_equal(images, np.zeros_like(IMAGES))


def test_time_caption_and_image_make_a_difference():
    network = disturbed(models.flow_network(width=8, num_blocks=2))
    outputs = np.asarray(network([IMAGES, TIMES, CAPTIONS]))
    assert outputs.shape == IMAGES.shape
    for inputs in (
        [IMAGES[::-1], TIMES, CAPTIONS],
        [IMAGES, TIMES[::-1], CAPTIONS],
        [IMAGES, TIMES, CAPTIONS[::-1]],
    ):
        assert not np.allclose(outputs, network(inputs), atol=1e-4)


def test_a_flow_network_knows_where_it_is():
    network = disturbed(models.flow_network(width=8, num_blocks=1))
    plain = np.zeros((1, 32, 32, 3), "float32")
    output = np.asarray(network([plain, TIMES[:1], CAPTIONS[:1]]))[0]
    assert not np.allclose(output[8:16], output[16:24], atol=1e-4)


def test_a_flow_network_sees_the_whole_image():
    network = disturbed(models.flow_network(width=8, num_blocks=1))
    other = IMAGES.copy()
    other[:, :4, :4] += 1
    difference = np.abs(
        np.asarray(network([IMAGES, TIMES, CAPTIONS])) - network([other, TIMES, CAPTIONS])
    )
    assert difference[:, -4:, -4:].max() > 1e-4


@pytest.mark.parametrize("sizes", [{"width": 0}, {"patch": 1}, {"patch": 5}, {"num_blocks": 0}])
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(Invalid, match=next(iter(sizes))):
        models.flow_network(**sizes)


def test_the_width_of_stage_two_is_a_multiple_of_its_groups():
    with pytest.raises(Invalid, match="width is 12"):
        models.stackgan_refiner(width=12)


def test_other_sizes_of_images_are_refused():
    with pytest.raises(Invalid, match="16 or 32"):
        models.stackgan_discriminator(24)
