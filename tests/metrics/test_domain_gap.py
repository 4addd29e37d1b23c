import numpy as np
import pytest

from sicnn_jax.metrics import domain_gap

RNG = np.random.default_rng(0)
IDENTITIES = np.repeat(np.arange(20), 5)


def test_centroid_distance_is_that_of_unit_vectors():
    hr = np.array([[2.0, 0.0], [5.0, 0.0]])
    sr = np.array([[0.0, 1.0], [0.0, 3.0]])
    assert domain_gap.centroid_distance(sr, hr) == pytest.approx(np.sqrt(2))
    assert domain_gap.centroid_distance(hr, 7 * hr) == pytest.approx(0)


def test_probe_is_at_chance_without_a_gap_and_finds_one():
    pytest.importorskip('sklearn')
    hr = RNG.normal(size=(100, 8))
    same = hr + 0.1 * RNG.normal(size=hr.shape)
    apart = hr + 6 * np.eye(8)[0]
    assert abs(domain_gap.probe_accuracy(same, hr, IDENTITIES) - 0.5) < 0.15
    assert domain_gap.probe_accuracy(apart, hr, IDENTITIES) > 0.9
