"""Degradation and value range against independent NumPy arithmetic."""

import jax.numpy as jnp
import numpy as np
import pytest

from sicnn_jax import images


def _faces(seed=0, n=2):
    return np.random.default_rng(seed).integers(
        0, 256, (n, images.HEIGHT, images.WIDTH, 3), dtype=np.uint8
    )


def _keys_matrix(size, scale):
    """Rows of MATLAB's imresize weights: Keys' kernel, a = −0.5, widened by scale."""
    centres = (np.arange(size // scale) + 0.5) * scale - 0.5
    t = np.abs(np.arange(size) - centres[:, None]) / scale
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t <= 1, near, np.where(t < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize('scale', [8, 4])
def test_bicubic_degradation_is_antialiased_keys(scale):
    hr = _faces()
    rows = _keys_matrix(images.HEIGHT, scale)
    columns = _keys_matrix(images.WIDTH, scale)
    expected = np.einsum('ih,jw,nhwc->nijc', rows, columns, hr.astype(np.float64))
    expected = np.clip(np.round(expected), 0, 255)
    lr = np.asarray(images.degrade(hr, scale=scale))
    assert lr.dtype == np.uint8
    assert lr.shape == (2, images.HEIGHT // scale, images.WIDTH // scale, 3)
    # float32 may round a level that lies half way the other way.
    assert np.abs(lr - expected).max() <= 1
    assert (lr == expected).mean() > 0.999


def test_area_degradation_is_the_mean_of_the_pixels():
    hr = _faces()
    lr = images.degrade(hr, scale=8, kind='area')
    expected = hr[:, :8, :8].astype(float).mean((1, 2))
    assert np.abs(np.asarray(lr)[:, 0, 0] - expected).max() <= 0.5


def test_constant_faces_survive_degradation_and_enlargement():
    hr = np.full((1, images.HEIGHT, images.WIDTH, 3), 200, np.uint8)
    for kind in images.DEGRADATIONS:
        lr = images.degrade(hr, kind=kind)
        np.testing.assert_array_equal(lr, 200)
    np.testing.assert_array_equal(images.enlarge(lr), hr)


def test_levels_round_trip_and_clip():
    levels = np.arange(256, dtype=np.uint8)
    floats = images.to_float(levels)
    assert floats.min() == pytest.approx(-127.5 / 128)
    assert floats.max() == pytest.approx(127.5 / 128)
    np.testing.assert_array_equal(images.to_levels(floats), levels)
    np.testing.assert_array_equal(images.to_levels(jnp.array([-9.0, 9.0])), [0, 255])


def test_unknown_degradation_names_the_choices():
    with pytest.raises(ValueError, match="'nearest'; expected one of bicubic, area"):
        images.degrade(_faces(), kind='nearest')


def test_floats_are_no_levels_to_degrade():
    with pytest.raises(TypeError, match='given float32; expected levels'):
        images.degrade(images.to_float(_faces()))
