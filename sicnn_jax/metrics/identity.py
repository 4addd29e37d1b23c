"""Identity similarity (Sec. 4.2): are SR and HR the same person to a network?"""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float

from sicnn_jax.metrics.verification import pair_scores


def identity_similarity(
    features_a: Float[ArrayLike, 'n feature_dim'],
    features_b: Float[ArrayLike, 'n feature_dim'],
) -> float:
    """Mean cosine between the identity features of SR and HR faces (Tables 2 to 5).

    The paper takes the features of the CNNR trained on HR faces alone, never those
    of the one that was updated together with CNNH.

    Args:
      features_a: of super-resolved faces.
      features_b: of the originals, in the same order.

    Returns:
      The mean over the faces, in [−1, 1], computed in float64.

    Raises:
      ValueError: as `pair_scores` does, or there are no faces.
    """
    scores = pair_scores(features_a, features_b)
    if not scores.size:
        raise ValueError('The identity similarity of no faces is not defined.')
    return float(np.mean(scores))
