"""Resampled means against what the central limit theorem says of them."""

import numpy as np
import pytest

from sicnn_jax.metrics import resampled_means

RNG = np.random.default_rng(0)


def test_they_spread_as_a_mean_does():
    values = RNG.normal(0.3, 2.0, 400)
    error = values.std() / np.sqrt(len(values))
    means = resampled_means(values)
    assert means.std() == pytest.approx(error, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=0.1 * error)
    bounds = values.mean() + 1.96 * error * np.array([-1, 1])
    np.testing.assert_allclose(np.percentile(means, (2.5, 97.5)), bounds, atol=0.03)


def test_equal_values_have_no_error():
    np.testing.assert_array_equal(resampled_means(np.full(7, 0.25)), 0.25)
