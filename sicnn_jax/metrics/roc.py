"""ROC curves: AUC, equal error rate, true accepts at a rate of false accepts.

A pair is accepted where its score is above the threshold; pairs with the same score are
accepted or rejected together.
"""

from collections.abc import Sequence

import numpy as np
import scipy
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float64

from sicnn_jax.metrics.verification import check_scores

# Verification is commonly reported at these rates of false accepts.
FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3, 1e-4)


def auc(scores: Float[ArrayLike, ' n'], same: Bool[ArrayLike, ' n']) -> float:
    """Area under the ROC curve: how often a same pair scores above a different one.

    The Mann-Whitney statistic; equal scores count half.

    Args:
      scores: larger for more alike faces.
      same: whether the pair shows one person.

    Returns:
      The area, in [0, 1]; 0.5 is chance.

    Raises:
      ValueError: shapes differ, scores are not finite, or one kind of pair is missing.
    """
    scores, same = _check(scores, same)
    num_same, num_different = np.sum(same), np.sum(~same)
    ranks = scipy.stats.rankdata(scores)
    above = ranks[same].sum() - num_same * (num_same + 1) / 2
    return float(above / (num_same * num_different))


def equal_error_rate(
    scores: Float[ArrayLike, ' n'], same: Bool[ArrayLike, ' n']
) -> float:
    """The error rate at which false accepts are as frequent as false rejects.

    Between two thresholds the ROC curve is a straight line, on which the two rates are
    equal at one point.

    Args:
      scores: larger for more alike faces.
      same: whether the pair shows one person.

    Returns:
      The rate, in [0, 1].

    Raises:
      ValueError: as `auc`.
    """
    false_accepts, true_accepts = _curve(*_check(scores, same))
    # This rises from −1 (nothing accepted) to 1 (everything), so it has one zero.
    excess = false_accepts - (1 - true_accepts)
    after = np.argmax(excess >= 0)
    share = excess[after] / (excess[after] - excess[after - 1])
    step = false_accepts[after] - false_accepts[after - 1]
    return float(false_accepts[after] - share * step)


def true_accept_rates(
    scores: Float[ArrayLike, ' n'],
    same: Bool[ArrayLike, ' n'],
    false_accept_rates: Sequence[float] = FALSE_ACCEPT_RATES,
) -> Float64[np.ndarray, ' rates']:
    """TAR@FAR: the largest share of same pairs accepted with no more false accepts.

    Nothing is interpolated: for a rate below 1 / (number of different pairs), it is
    the share accepted before the first different pair.

    Args:
      scores: larger for more alike faces.
      same: whether the pair shows one person.
      false_accept_rates: the shares of different pairs that may be accepted.

    Returns:
      In [0, 1], one for each rate.

    Raises:
      ValueError: as `auc`, or a rate is not in [0, 1].
    """
    rates = np.asarray(false_accept_rates, np.float64)
    if not np.all((rates >= 0) & (rates <= 1)):
        raise ValueError(f'Rates of false accepts are {rates}; expected 0 to 1.')
    false_accepts, true_accepts = _curve(*_check(scores, same))
    return true_accepts[np.searchsorted(false_accepts, rates, side='right') - 1]


def _curve(scores, same):
    """Rates of false and true accepts, rising, from nothing to everything accepted."""
    # Thresholds lie below the last pair of each score.
    order = np.argsort(-scores, kind='stable')
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true_accepts = np.cumsum(same[order])[last] / np.sum(same)
    false_accepts = np.cumsum(~same[order])[last] / np.sum(~same)
    return np.insert(false_accepts, 0, 0.0), np.insert(true_accepts, 0, 0.0)


def _check(scores: ArrayLike, same: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, same = check_scores(scores, same)
    if same.all() or not same.any():
        raise ValueError(
            f'Of {len(same)} pairs, {np.sum(same)} show the same person; a ROC curve '
            f'needs pairs of both kinds.'
        )
    return scores, same
