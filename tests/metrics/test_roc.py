"""AUC, EER and TAR@FAR against closed forms and brute force."""

import numpy as np
import pytest
from scipy import integrate, stats

from sicnn_jax.metrics import auc, equal_error_rate, true_accept_rates


def _scores(seed, n=60, decimals=1):
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.arange(n) % 3 == 0)
    return np.round(rng.normal(size=n) + same, decimals), same


def _rates(scores, same):
    """False and true accepts at every threshold, one after the other."""
    thresholds = [np.inf, *sorted(set(scores), reverse=True)]
    return [
        (np.mean(scores[~same] >= t), np.mean(scores[same] >= t)) for t in thresholds
    ]


@pytest.mark.parametrize('seed', range(10))
def test_auc_is_the_share_of_ordered_pairs(seed):
    scores, same = _scores(seed)
    difference = scores[same][:, None] - scores[~same]
    expected = np.mean((difference > 0) + 0.5 * (difference == 0))
    assert auc(scores, same) == pytest.approx(expected, abs=1e-12)
    # The same area by trapezoids.
    far, tar = np.array(_rates(scores, same)).T
    assert auc(scores, same) == pytest.approx(integrate.trapezoid(tar, far), abs=1e-12)


@pytest.mark.parametrize('seed', range(10))
def test_tar_is_the_best_that_the_rate_allows(seed):
    scores, same = _scores(seed)
    rates = (0.0, 1e-3, 0.1, 0.225, 0.5, 1.0)
    expected = [
        max(tar for far, tar in _rates(scores, same) if far <= rate) for rate in rates
    ]
    np.testing.assert_allclose(true_accept_rates(scores, same, rates), expected)


@pytest.mark.parametrize('seed', range(10))
def test_equal_errors_lie_on_the_curve(seed):
    scores, same = _scores(seed)
    far, tar = np.array(_rates(scores, same)).T
    grid = np.linspace(0, 1, 200_001)
    # Upright parts of the curve make `interp` ambiguous: the rate is between sides.
    above = np.interp(grid, far, tar)
    crossing = grid[np.argmin(np.abs(grid - (1 - above)))]
    found = equal_error_rate(scores, same)
    if np.all(np.diff(far) > 0):
        assert found == pytest.approx(crossing, abs=1e-4)
    lower = max(f for f, t in zip(far, tar, strict=True) if f <= 1 - t)
    upper = min(f for f, t in zip(far, tar, strict=True) if f >= 1 - t)
    assert lower <= found <= upper


def test_two_normal_distributions():
    # At distance d: AUC Φ(d / √2), EER Φ(−d / 2), TAR Φ(d − Φ⁻¹(1 − FAR)).
    n, distance = 200_000, 1.5
    quantiles = stats.norm.ppf((np.arange(n) + 0.5) / n)
    scores = np.concatenate([quantiles, quantiles + distance])
    same = np.arange(2 * n) >= n
    assert auc(scores, same) == pytest.approx(
        stats.norm.cdf(distance / np.sqrt(2)), abs=1e-4
    )
    assert equal_error_rate(scores, same) == pytest.approx(
        stats.norm.cdf(-distance / 2), abs=1e-4
    )
    rates = np.array([1e-1, 1e-2, 1e-3])
    np.testing.assert_allclose(
        true_accept_rates(scores, same, rates),
        stats.norm.cdf(distance - stats.norm.isf(rates)),
        atol=1e-3,
    )


def test_extremes():
    same = np.array([True, True, False, False])
    assert auc([4, 3, 2, 1], same) == 1
    assert equal_error_rate([4, 3, 2, 1], same) == 0
    assert true_accept_rates([4, 3, 2, 1], same).tolist() == [1, 1, 1, 1]
    assert auc([1, 2, 3, 4], same) == 0
    assert equal_error_rate([1, 2, 3, 4], same) == 1
    assert auc([1, 1, 1, 1], same) == 0.5
    assert equal_error_rate([1, 1, 1, 1], same) == 0.5
    assert true_accept_rates([1, 1, 1, 1], same).tolist() == [0, 0, 0, 0]


def test_far_of_a_whole_number_of_pairs_is_reached():
    # 1 in 1,000 is one false accept, not none.
    scores = np.concatenate([np.arange(1000), [998.5]])
    same = np.arange(1001) == 1000
    assert true_accept_rates(scores, same, [1e-3]).tolist() == [1]


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match='shape'):
        auc([1, 2], [True])
    with pytest.raises(ValueError, match='not all finite'):
        auc([1, np.nan], [True, False])
    with pytest.raises(ValueError, match='both kinds'):
        equal_error_rate([1, 2], [True, True])
    with pytest.raises(ValueError, match='expected 0 to 1'):
        true_accept_rates([1, 2], [True, False], [1.5])
