"""The uncertainty of a mean, by the bootstrap (Efron 1979)."""

import numpy as np
from jaxtyping import Float


def resampled_means(values: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' 2000']:
    """Means of samples of the same size, drawn from the values with replacement.

    Their standard deviation is the standard error of the mean, and their percentiles
    are its bounds. For paired differences, they tell whether one method is better.

    Args:
      values: of faces or pairs; pairs that share faces are not independent.

    Returns:
      The means of 2,000 samples; the draws depend only on the number of values.
    """
    rng = np.random.default_rng(0)
    count = len(values)
    return np.array(
        [values[rng.integers(0, count, count)].mean() for _ in range(2_000)]
    )
