"""The adversarial losses against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.losses import discriminator_loss, generator_loss
from tests.losses.finite_differences import finite_differences


def _logits(seed, n=5):
    return 3.0 * np.random.default_rng(seed).normal(size=n)


def _log_sigmoid(x):
    return np.log(1 / (1 + np.exp(-x)))


def _discriminator(hr, sr):
    return -_log_sigmoid(hr).mean() - np.log(1 - 1 / (1 + np.exp(-sr))).mean()


def _generator(sr):
    return -_log_sigmoid(sr).mean()


def test_discriminator_loss_and_its_gradients():
    hr, sr = _logits(0), _logits(1, 3)
    loss, gradients = jax.value_and_grad(discriminator_loss, (0, 1))(
        jnp.asarray(hr), jnp.asarray(sr)
    )
    assert loss.shape == () and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, _discriminator(hr, sr), rtol=1e-5)
    expected = (
        finite_differences(lambda x: _discriminator(x, sr), hr),
        finite_differences(lambda x: _discriminator(hr, x), sr),
    )
    for found, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_generator_loss_and_its_gradient():
    sr = _logits(0)
    loss, gradient = jax.value_and_grad(generator_loss)(jnp.asarray(sr))
    assert loss.shape == () and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, _generator(sr), rtol=1e-5)
    np.testing.assert_allclose(
        gradient, finite_differences(_generator, sr), rtol=1e-4, atol=1e-6
    )


def test_at_chance():
    zeros = jnp.zeros(4)
    np.testing.assert_allclose(discriminator_loss(zeros, zeros), 2 * np.log(2))
    np.testing.assert_allclose(generator_loss(zeros), np.log(2))


def test_a_sure_discriminator_still_teaches_the_generator():
    loss, gradient = jax.value_and_grad(generator_loss)(jnp.asarray([-100.0, -1e30]))
    assert loss == 5e29 + 50
    np.testing.assert_allclose(gradient, -0.5)


@pytest.mark.parametrize('sign', [-1, 1])
@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_no_logit_gives_nan(sign, dtype):
    logits = sign * jnp.asarray([0.0, 1.0, 90.0, 1e4, 1e30], dtype)
    for loss, arguments in (
        (discriminator_loss, (logits, logits)),
        (generator_loss, (logits,)),
    ):
        value, gradient = jax.value_and_grad(loss)(*arguments)
        assert value.dtype == jnp.float32 and gradient.dtype == dtype
        assert jnp.isfinite(value) and jnp.all(jnp.isfinite(gradient))


def test_other_ranks_are_refused():
    with pytest.raises(AssertionError):
        generator_loss(jnp.zeros((4, 1)))
    with pytest.raises(AssertionError):
        discriminator_loss(jnp.zeros(4), jnp.zeros((4, 1)))
