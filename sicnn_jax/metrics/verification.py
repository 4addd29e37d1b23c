"""Identity similarity and face verification (Sec. 4.2): do faces show one person?"""

import collections
import dataclasses
from collections.abc import Callable

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float, Float64, Int, Shaped

# One pair of each kind in each of ten folds.
_FEWEST = 20


@dataclasses.dataclass(frozen=True)
class VerificationResult:
    """What `verify` found.

    Attributes:
      accuracy: mean over the folds of the fraction of pairs decided correctly.
      std: standard deviation of that fraction over the folds (population; the
        standard error in LFW's tables is std / √(folds − 1)).
      fold_accuracies: in the order of the sorted fold ids.
      thresholds: on the cosine, each chosen on the other folds.
      scores: of each pair when its fold was decided; ROC curves over all folds are
        made from them.
      right: whether each pair was decided correctly.
    """

    accuracy: float
    std: float
    fold_accuracies: Float64[np.ndarray, ' folds']
    thresholds: Float64[np.ndarray, ' folds']
    scores: Float64[np.ndarray, ' n']
    right: Bool[np.ndarray, ' n']


def pair_scores(
    features_a: Float[ArrayLike, 'n feature_dim'],
    features_b: Float[ArrayLike, 'n feature_dim'],
) -> Float64[np.ndarray, ' n']:
    """Cosine between the features of each pair.

    Args:
      features_a: not normalised.
      features_b: of the other face of each pair.

    Returns:
      In [−1, 1] up to rounding; 0 where a feature is zero.

    Raises:
      ValueError: the features are not of rank 2, differ in shape or are not finite.
    """
    features_a, features_b = _check_features(features_a, features_b)
    return np.sum(_normalize(features_a) * _normalize(features_b), axis=1)


def identity_similarity(
    features_a: Float[ArrayLike, 'n feature_dim'],
    features_b: Float[ArrayLike, 'n feature_dim'],
) -> float:
    """Mean cosine between the identity features of SR and HR faces (Tables 2 to 5).

    The paper takes the features of the CNNR trained on HR faces alone, never of the
    one that was updated together with CNNH.

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


def best_threshold(
    scores: Float[ArrayLike, ' n'], same: Bool[ArrayLike, ' n']
) -> float:
    """The threshold that decides most pairs correctly, a pair above it being 'same'.

    It is exact, not from a grid: all thresholds between two neighbouring scores decide
    alike, so the middle of each gap is tried, and the middle one of equally good ones
    wins.

    Args:
      scores: larger for more alike faces.
      same: whether the pair shows one person.

    Returns:
      The threshold. Where deciding every pair alike is best, it is 1 below or above all
      scores.

    Raises:
      ValueError: shapes differ, there is no pair, or scores are not finite.
    """
    scores, same = check_scores(scores, same)
    values, positions = np.unique(scores, return_inverse=True)
    # Cut i lies above the i smallest values. Different pairs below it and same pairs
    # above it are decided correctly.
    gained = np.bincount(positions, weights=np.where(same, -1, 1))
    right = np.sum(same) + np.concatenate([[0], np.cumsum(gained)])
    best = np.flatnonzero(right == right.max())
    cut = best[len(best) // 2]
    edges = np.concatenate([[values[0] - 2], values, [values[-1] + 2]])
    return float((edges[cut] + edges[cut + 1]) / 2)


def k_fold_accuracy(
    scores: Float[ArrayLike, ' n'],
    same: Bool[ArrayLike, ' n'],
    folds: Int[ArrayLike, ' n'] | int = 10,
) -> tuple[float, float]:
    """Verification accuracy over folds, each decided by the others' best threshold.

    It is LFW's protocol (Huang et al., 2007) for scores that involve no training.

    Args:
      scores: larger for more alike faces.
      same: whether the pair shows one person.
      folds: the fold of each pair; or a number of folds, to which same and different
        pairs are then dealt in turn.

    Returns:
      Mean accuracy over the folds, in [0, 1], and its standard deviation
      (population).

    Raises:
      ValueError: shapes differ, there are fewer than two folds, or scores are not
        finite.
    """
    scores, same = check_scores(scores, same)
    result = _verify(lambda _: scores, same, _fold_ids(folds, same))
    return result.accuracy, result.std


def verify(
    features_a: Float[ArrayLike, 'n feature_dim'],
    features_b: Float[ArrayLike, 'n feature_dim'],
    same: Bool[ArrayLike, ' n'],
    fold_ids: Int[ArrayLike, ' n'] | int,
) -> VerificationResult:
    """SphereFace's verification protocol (Liu et al., CVPR 2017), on LFW and others.

    For each fold: subtract the mean feature of the other folds, take the cosine,
    choose the threshold that is best on the other folds, and decide this fold.

    Args:
      features_a: not normalised; in the protocol the features of the image and of its
        mirror image, concatenated.
      features_b: of the other face of each pair.
      same: whether the pair shows one person.
      fold_ids: the fold of each pair; or a number of folds, to which same and
        different pairs are then dealt in turn.

    Returns:
      A `VerificationResult`, computed in float64.

    Raises:
      ValueError: shapes differ, there are fewer than two folds, or features are not
        finite.
    """
    features_a, features_b = _check_features(features_a, features_b)
    same = _check_same(same, len(features_a))

    def score(others):
        # Both sides have the same number of faces, so this is the mean over all.
        mean = (features_a[others].mean(axis=0) + features_b[others].mean(axis=0)) / 2.0
        return pair_scores(features_a - mean, features_b - mean)

    return _verify(score, same, _fold_ids(fold_ids, same))


def verify_sets(
    features: Float[ArrayLike, 'm feature_dim'],
    owners: Int[ArrayLike, ' m'],
    index_a: Int[ArrayLike, ' n'],
    index_b: Int[ArrayLike, ' n'],
    same: Bool[ArrayLike, ' n'],
    fold_ids: Int[ArrayLike, ' n'] | int,
) -> VerificationResult:
    """`verify` for sets of faces, such as the frames of videos, each with its feature.

    The score of two sets is the mean cosine over all pairs of a face of one and a face
    of the other.

    Args:
      features: of the faces, not normalised.
      owners: the set of each face, from 0.
      index_a, index_b: the two sets of each pair; none of them is empty.
      same: whether the pair shows one person.
      fold_ids: as in `verify`.

    Returns:
      A `VerificationResult`, computed in float64.

    Raises:
      ValueError: as `verify`.
    """
    features, _ = _check_features(features, features)
    owners, index_a, index_b = map(np.asarray, (owners, index_a, index_b))
    same = _check_same(same, len(index_a))
    means = _mean_features(features, owners)

    def score(others):
        mean = means[np.concatenate([index_a[others], index_b[others]])].mean(axis=0)
        # The mean of products of unit features is the product of their means.
        units = _mean_features(_normalize(features - mean), owners)
        return np.sum(units[index_a] * units[index_b], axis=1)

    return _verify(score, same, _fold_ids(fold_ids, same))


def draw_pairs(
    labels: Shaped[ArrayLike, ' n'], *, at_most: int
) -> tuple[
    Int[np.ndarray, ' num_pairs'],
    Int[np.ndarray, ' num_pairs'],
    Bool[np.ndarray, ' num_pairs'],
]:
    """Draws verification pairs from labelled (held-out) faces, always the same.

    It draws `at_most` pairs, or fewer if there are no more. Half show the same
    identity, half different ones; no pair occurs twice, in either order. Identities
    take turns, so that each gets the same number of pairs of each kind, give or take
    one, as long as identities with few faces have pairs left.

    Args:
      labels: the identity of each face.
      at_most: how many pairs to draw, even.

    Returns:
      index_a, index_b: into labels.
      same: alternately True and False, so that every even prefix is balanced as well.

    Raises:
      ValueError: at_most is odd or not positive, or there are too few pairs for ten
        folds with both kinds.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f'labels has the shape {labels.shape}, and should have [n].')
    if at_most < 2 or at_most % 2:
        raise ValueError(
            f'at_most is {at_most}; half of the pairs show the same identity, so it '
            f'should be a positive even number.'
        )
    _, identities, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    possible = 2 * _possible_pairs(sizes)
    if possible < min(at_most, _FEWEST):
        raise ValueError(
            f'The {len(labels):,} held-out faces of {len(sizes):,} identities have '
            f'{possible} verification pairs, half of the same identity; expected '
            f'at least {_FEWEST}. Hold out more identities that have several faces.'
        )
    faces = [np.flatnonzero(identities == identity) for identity in range(len(sizes))]
    wanted = min(at_most, possible) // 2
    rng = np.random.default_rng(0)
    same_pairs = _draw(faces, _turns_same(rng, sizes), wanted, rng)
    different_pairs = _draw(faces, _turns_different(rng, len(faces)), wanted, rng)
    pairs = np.stack([same_pairs, different_pairs], axis=1).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], np.tile([True, False], wanted)


def _possible_pairs(sizes):
    """How many pairs there are of the same identity, or of different ones if fewer."""
    faces = int(sizes.sum())
    same = int(np.sum(sizes * (sizes - 1) // 2))
    return min(same, faces * (faces - 1) // 2 - same)


def _turns_same(rng, sizes):
    """Yields (identity, identity) forever: all that have two faces, in turn."""
    eligible = np.flatnonzero(sizes >= 2)
    while True:
        for identity in rng.permutation(eligible):
            yield identity, identity


def _turns_different(rng, num_identities):
    """Yields two identities forever, all in turn."""
    waiting: list[int] = []
    while True:
        turn = rng.permutation(num_identities).tolist()
        if waiting == turn[:1]:
            turn[0], turn[-1] = turn[-1], turn[0]
        turn = waiting + turn
        yield from zip(turn[::2], turn[1::2], strict=False)
        # An identity left over waits for the next turn.
        waiting = turn[len(turn) // 2 * 2 :]


def _draw(faces, turns, wanted, rng):
    """Unused pairs of faces of the identities whose turn it is, int64 [wanted, 2]."""
    # A set would lose the order.
    pairs: dict[tuple[int, int], None] = {}
    used: collections.Counter[tuple[int, int]] = collections.Counter()
    while len(pairs) < wanted:
        first, second = sorted(map(int, next(turns)))
        a, b = faces[first], faces[second]
        possible = len(a) * (len(a) - 1) // 2 if first == second else len(a) * len(b)
        if used[first, second] == possible:
            continue
        used[first, second] += 1
        drawn = len(pairs)
        while len(pairs) == drawn:
            i, j = sorted((int(rng.choice(a)), int(rng.choice(b))))
            if i != j:
                pairs[i, j] = None
    return np.array(list(pairs), np.int64)


def _mean_features(features, owners):
    """The mean feature of each set, float64 [max(owners) + 1, feature_dim]."""
    sums = np.zeros((owners.max() + 1, features.shape[1]))
    np.add.at(sums, owners, features)
    # A set without faces is not in any pair.
    return sums / np.maximum(np.bincount(owners), 1)[:, None]


def _verify(
    score: Callable[[Bool[np.ndarray, ' n']], Float64[np.ndarray, ' n']],
    same: Bool[np.ndarray, ' n'],
    fold_ids: Int[np.ndarray, ' n'],
) -> VerificationResult:
    """The protocol; `score` gives all scores from which pairs are known."""
    accuracies, thresholds = [], []
    kept, right = np.empty(len(same)), np.empty(len(same), bool)
    for fold in np.unique(fold_ids):
        held = fold_ids == fold
        scores = score(~held)
        thresholds.append(best_threshold(scores[~held], same[~held]))
        kept[held] = scores[held]
        right[held] = (scores[held] > thresholds[-1]) == same[held]
        accuracies.append(np.mean(right[held]))
    return VerificationResult(
        accuracy=float(np.mean(accuracies)),
        std=float(np.std(accuracies)),
        fold_accuracies=np.array(accuracies),
        thresholds=np.array(thresholds),
        scores=kept,
        right=right,
    )


def _fold_ids(folds, same):
    if np.ndim(folds) == 0:
        # Each pair's number among those of its kind, from 1.
        number = np.where(same, np.cumsum(same), np.cumsum(~same))
        fold_ids = (number - 1) % int(folds)
    else:
        fold_ids = np.asarray(folds)
        if fold_ids.shape != same.shape:
            raise ValueError(
                f'The fold ids have the shape {fold_ids.shape}, but there are '
                f'{len(same)} pairs.'
            )
    if len(np.unique(fold_ids)) < 2:
        raise ValueError(
            'Pairs in at least two folds are needed: the threshold of each fold comes '
            'from the others.'
        )
    return fold_ids


def check_scores(
    scores: ArrayLike, same: ArrayLike
) -> tuple[Float64[np.ndarray, ' n'], Bool[np.ndarray, ' n']]:
    """Both as arrays [n]; raises ValueError as `best_threshold` does."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 1 or not scores.size:
        raise ValueError(
            f'scores has the shape {scores.shape}, and should have [n] with n ≥ 1.'
        )
    if not np.all(np.isfinite(scores)):
        raise ValueError('scores are not all finite: were the features finite?')
    return scores, _check_same(same, len(scores))


def _check_same(same: ArrayLike, num_pairs: int) -> np.ndarray:
    same = np.asarray(same)
    if same.shape != (num_pairs,):
        raise ValueError(
            f'same has the shape {same.shape}, but there are {num_pairs} pairs.'
        )
    # −1 for a pair of different people would count as true.
    if not np.isin(same, (0, 1)).all():
        raise ValueError(
            f'same has values such as {same[~np.isin(same, (0, 1))][0]}; expected '
            'booleans, or 1 where a pair shows one person and 0 where it does not.'
        )
    return same.astype(bool)


def _check_features(
    features_a: ArrayLike, features_b: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    features_a = np.asarray(features_a, np.float64)
    features_b = np.asarray(features_b, np.float64)
    if features_a.ndim != 2 or features_a.shape != features_b.shape:
        raise ValueError(
            f'Features should both have the shape [n, feature_dim], but have '
            f'{features_a.shape} and {features_b.shape}.'
        )
    if not (np.all(np.isfinite(features_a)) and np.all(np.isfinite(features_b))):
        raise ValueError('Features are not all finite: has the network diverged?')
    return features_a, features_b


def _normalize(features):
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(norms > 0, norms, 1.0)
