"""Mean cosine of SR and HR features."""

import numpy as np
import pytest

from sicnn_jax.metrics import identity_similarity


def test_by_hand():
    sr = [[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]
    hr = [[5.0, 0.0], [0.0, -1.0], [1.0, 0.0]]
    similarity = identity_similarity(sr, hr)
    assert isinstance(similarity, float)
    assert similarity == pytest.approx((1 - 1 + 0.6) / 3, abs=1e-15)


def test_it_is_computed_in_float64():
    rng = np.random.default_rng(0)
    sr, hr = rng.normal(size=(2, 50, 16)).astype(np.float32)
    cosines = [
        float(np.dot(a, b)) / np.sqrt(float(np.dot(a, a)) * float(np.dot(b, b)))
        for a, b in zip(sr.astype(np.float64), hr.astype(np.float64), strict=True)
    ]
    assert identity_similarity(sr, hr) == pytest.approx(np.mean(cosines), abs=1e-14)


def test_zero_features_are_like_nobody():
    assert identity_similarity(np.zeros((1, 4)), np.ones((1, 4))) == 0.0


def test_errors():
    with pytest.raises(ValueError, match='no faces'):
        identity_similarity(np.zeros((0, 4)), np.zeros((0, 4)))
    with pytest.raises(ValueError, match='shape'):
        identity_similarity(np.zeros((2, 4)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match='not all finite'):
        identity_similarity(np.full((1, 4), np.nan), np.ones((1, 4)))
