"""Distances of images against sums written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.losses import charbonnier_loss, super_resolution_loss
from tests.losses.finite_differences import finite_differences


def _images(seed, shape=(3, 6, 5, 3)):
    return np.random.default_rng(seed).uniform(-1, 1, shape)


def test_it_is_the_sum_over_pixels_and_the_mean_over_the_batch():
    sr, hr = _images(0), _images(1)
    expected = sum(float(((a - b) ** 2).sum()) for a, b in zip(sr, hr, strict=True)) / 3
    loss = super_resolution_loss(jnp.asarray(sr), jnp.asarray(hr))
    assert loss.shape == () and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_by_hand():
    sr = jnp.zeros((2, 112, 96, 3)).at[0].set(0.5)
    # Half a unit in each of 32,256 values of the first of two images.
    assert super_resolution_loss(sr, jnp.zeros_like(sr)) == 32256 * 0.25 / 2


def test_gradient_is_twice_the_difference_over_the_batch():
    sr, hr = _images(0), _images(1)
    gradient = jax.grad(super_resolution_loss)(jnp.asarray(sr), jnp.asarray(hr))
    np.testing.assert_allclose(gradient, 2 * (sr - hr) / 3, rtol=1e-5, atol=1e-6)


def test_bfloat16_images_are_summed_in_float32():
    sr = jnp.asarray(_images(0, (2, 112, 96, 3)), jnp.bfloat16)
    hr = jnp.asarray(_images(1, (2, 112, 96, 3)), jnp.bfloat16)
    loss = super_resolution_loss(sr, hr)
    assert loss.dtype == jnp.float32
    difference = np.asarray(sr, np.float64) - np.asarray(hr, np.float64)
    np.testing.assert_allclose(loss, (difference**2).sum() / 2, rtol=1e-5)


def test_vmap_over_sets_of_images():
    sr, hr = jnp.asarray(_images(0, (2, 3, 6, 5, 3))), jnp.asarray(_images(1))
    losses = jax.vmap(super_resolution_loss, (0, None))(sr, hr)
    expected = [super_resolution_loss(images, hr) for images in sr]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


def _charbonnier(sr, hr, epsilon=1e-3):
    return np.sqrt((sr - hr) ** 2 + epsilon**2).sum() / len(sr)


def test_charbonnier_and_its_gradients():
    sr, hr = _images(0, (2, 3, 2, 3)), _images(1, (2, 3, 2, 3))
    # Equal here, where |x| has no derivative.
    sr[0, 0, 0] = hr[0, 0, 0]
    loss, gradients = jax.value_and_grad(charbonnier_loss, (0, 1))(
        jnp.asarray(sr), jnp.asarray(hr)
    )
    assert loss.shape == () and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, _charbonnier(sr, hr), rtol=1e-6)
    expected = (
        finite_differences(lambda x: _charbonnier(x, hr), sr),
        finite_differences(lambda x: _charbonnier(sr, x), hr),
    )
    for found, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5)


def test_charbonnier_of_equal_images_is_epsilon_a_value():
    images = jnp.zeros((2, 4, 4, 3))
    np.testing.assert_allclose(charbonnier_loss(images, images), 48e-3, rtol=1e-5)
    np.testing.assert_allclose(charbonnier_loss(images, images, 0.5), 24, rtol=1e-5)


@pytest.mark.parametrize('loss', [super_resolution_loss, charbonnier_loss])
@pytest.mark.parametrize(
    ('sr', 'hr'), [((2, 4, 4, 3), (1, 4, 4, 3)), ((4, 4, 3), (4, 4, 3))]
)
def test_shapes_that_would_broadcast_are_refused(loss, sr, hr):
    with pytest.raises(AssertionError):
        loss(jnp.zeros(sr), jnp.zeros(hr))
