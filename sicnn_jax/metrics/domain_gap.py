"""How far apart SR and HR faces are in a feature space (Sec. 3.5, Fig. 4).

Figure 4 shows two clouds of features; the two numbers here measure their distance. They
need scikit-learn (extra `reproduce`).
"""

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float, Shaped


def centroid_distance(
    sr_features: Float[ArrayLike, 'n feature_dim'],
    hr_features: Float[ArrayLike, 'm feature_dim'],
) -> float:
    """Distance between the means of SR and HR features of unit norm.

    Args:
      sr_features: need not be normalised.
      hr_features: need not be normalised.

    Returns:
      In [0, 2]; 0 where the clouds share one centre.
    """
    sr, hr = _normalise(sr_features), _normalise(hr_features)
    return float(np.linalg.norm(sr.mean(0) - hr.mean(0)))


def probe_accuracy(
    sr_features: Float[ArrayLike, 'n feature_dim'],
    hr_features: Float[ArrayLike, 'n feature_dim'],
    identities: Shaped[ArrayLike, ' n'],
) -> float:
    """How well a linear probe tells SR from HR faces of people it has not seen.

    Logistic regression on features of unit norm, standardised, over five folds of
    identities.

    Args:
      sr_features: need not be normalised.
      hr_features: of the originals in the same order.
      identities: of five or more people.

    Returns:
      Accuracy in [0, 1]; 0.5 where the domains cannot be told apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([_normalise(sr_features), _normalise(hr_features)])
    is_hr = np.repeat([0, 1], len(features) // 2)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000))
    people = np.tile(np.asarray(identities), 2)
    scores = cross_val_score(probe, features, is_hr, groups=people, cv=GroupKFold(5))
    return float(scores.mean())


def _normalise(features):
    features = np.asarray(features, np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)
