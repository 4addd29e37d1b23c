"""The hypersphere and the super-identity loss against float64 NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax.losses import (
    feature_distance_loss,
    normalize,
    super_identity_loss,
)
from tests.losses.finite_differences import finite_differences


def _features(seed, shape=(4, 7)):
    return 3.0 * np.random.default_rng(seed).normal(size=shape)


def _reference_loss(sr, hr):
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(sr, hr, strict=True)]
    return np.mean(2 - 2 * np.array(cosines))


def test_loss_is_two_minus_two_cosines():
    sr, hr = _features(0), _features(1)
    loss = super_identity_loss(jnp.asarray(sr), jnp.asarray(hr))
    assert loss.shape == () and loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, _reference_loss(sr, hr), rtol=1e-5)


def test_gradients_of_both_arguments():
    sr, hr = _features(0), _features(1)
    gradients = jax.grad(super_identity_loss, (0, 1))(jnp.asarray(sr), jnp.asarray(hr))
    expected = (
        finite_differences(lambda x: _reference_loss(x, hr), sr),
        finite_differences(lambda x: _reference_loss(sr, x), hr),
    )
    for found, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(('factor', 'expected'), [(2.5, 0.0), (-0.3, 4.0)])
def test_range(factor, expected):
    features = jnp.asarray(_features(0))
    loss, gradient = jax.value_and_grad(super_identity_loss)(
        factor * features, features
    )
    np.testing.assert_allclose(loss, expected, atol=1e-6)
    # Both ends are stationary.
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)


def test_small_angles_do_not_cancel():
    hr = jnp.asarray([[1.0, 0.0]])
    loss = super_identity_loss(jnp.asarray([[1.0, 1e-4]]), hr)
    np.testing.assert_allclose(loss, 1e-8, rtol=1e-4)


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize('norm', [0.0, 1e-30, 1e-18, 1e-13, 1e-11, 1e-6, 1e15])
def test_no_norm_gives_nan(norm, dtype):
    sr = jnp.asarray([[norm, 0.0, 0.0], [1.0, 2.0, 3.0]], dtype)
    hr = jnp.asarray([[1.0, 1.0, 0.0], [3.0, 2.0, 1.0]], dtype)
    function = jax.jit(jax.value_and_grad(super_identity_loss, (0, 1)))
    for arguments in ((sr, hr), (hr, sr), (sr, sr)):
        loss, gradients = function(*arguments)
        assert loss.dtype == jnp.float32 and 0 <= loss <= 4
        for gradient in gradients:
            assert gradient.dtype == dtype and jnp.all(jnp.isfinite(gradient))


def test_zero_features_are_no_direction_and_get_no_gradient():
    features = jnp.asarray([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(normalize(features), [[0, 0], [0.6, 0.8]], rtol=1e-6)
    gradient = jax.grad(lambda x: jnp.sum(normalize(x)))(features)
    np.testing.assert_array_equal(gradient[0], 0.0)
    assert jnp.any(gradient[1] != 0)


def test_normalize_along_another_axis():
    weights = _features(0)
    expected = weights / np.linalg.norm(weights, axis=0)
    found = normalize(jnp.asarray(weights), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bfloat16_is_computed_in_float32():
    sr = jnp.asarray(_features(0), jnp.bfloat16)
    hr = jnp.asarray(_features(1), jnp.bfloat16)
    exact = super_identity_loss(sr.astype(jnp.float32), hr.astype(jnp.float32))
    assert super_identity_loss(sr, hr) == exact


def test_jit_and_vmap():
    sr, hr = jnp.asarray(_features(0, (3, 4, 7))), jnp.asarray(_features(1, (3, 4, 7)))
    losses = jax.jit(jax.vmap(super_identity_loss))(sr, hr)
    expected = [super_identity_loss(a, b) for a, b in zip(sr, hr, strict=True)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_shapes_that_would_broadcast_are_refused():
    with pytest.raises(AssertionError):
        super_identity_loss(jnp.ones((4, 7)), jnp.ones((1, 7)))
    with pytest.raises(AssertionError):
        super_identity_loss(jnp.ones(7), jnp.ones(7))


def test_feature_distance_and_its_gradient():
    sr, hr = _features(0), _features(1)
    unit = np.mean(np.sum(hr**2, -1))

    def reference(sr):
        return np.mean(np.sum((sr - hr) ** 2, -1)) / unit

    loss, gradient = jax.value_and_grad(feature_distance_loss)(
        jnp.asarray(sr), jnp.asarray(hr)
    )
    np.testing.assert_allclose(loss, reference(sr), rtol=1e-5)
    expected = finite_differences(reference, sr)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_feature_distance_of_unit_features_is_the_super_identity_loss():
    sr, hr = normalize(_features(0)), normalize(_features(1))
    np.testing.assert_allclose(
        feature_distance_loss(sr, hr), super_identity_loss(sr, hr), rtol=1e-5
    )


def test_feature_distance_counts_lengths():
    features = jnp.asarray(_features(0), jnp.bfloat16)
    assert feature_distance_loss(2 * features, features) == pytest.approx(1.0)
    assert feature_distance_loss(jnp.zeros((2, 3)), jnp.zeros((2, 3))) == 0.0
