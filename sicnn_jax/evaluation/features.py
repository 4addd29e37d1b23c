"""Features of the sides of pairs, and how well they verify the pairs."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sicnn_jax import metrics
from sicnn_jax.evaluation.judge import Judge
from sicnn_jax.evaluation.pairs import PairIndices
from sicnn_jax.evaluation.verification_sets import Chunk

# Ways to combine the features of a face and of its mirror image.
FLIPS = ('concat', 'mean', 'none')


@dataclasses.dataclass(frozen=True)
class Described:
    """Features float [m, d] and int [m], the side of pairs that each belongs to."""

    features: np.ndarray
    owners: np.ndarray


def describe(
    chunks: Iterable[Chunk],
    recognisers: Sequence[Judge],
    show: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    *,
    flip: str = 'concat',
    each: bool = False,
) -> dict[tuple[str, str], Described]:
    """The features that networks give to faces, as each method shows them.

    Args:
      chunks: sides int [n] and faces uint8 [n, 112, 96, 3], from `Album`.
      recognisers: with different names.
      show: faces → faces by method.
      flip: one of `FLIPS`.
      each: keep the features of each face; else their mean over each side.

    Returns:
      Features by recogniser and method.
    """
    found: dict[tuple[str, str], list[Described]] = {}
    for sides, hr in chunks:
        for method, faces in show(hr).items():
            for judge in recognisers:
                seen = _features(judge, faces, flip)
                if each:
                    part = Described(seen, sides)
                else:
                    # The sum of the ones is the number of faces.
                    ones = np.pad(seen, ((0, 0), (0, 1)), constant_values=1)
                    part = _total(ones, sides)
                found.setdefault((judge.name, method), []).append(part)
    return {key: _join(parts, each) for key, parts in found.items()}


def measure(described: Described, pairs: PairIndices, *, each: bool) -> dict[str, Any]:
    """Accuracy, AUC, EER and TAR@FAR of the reported folds.

    Args:
      described: from `describe`.
      pairs: of its sides.
      each: as given to `describe`.

    Returns:
      A row of the results.

    Raises:
      ValueError: as `metrics.verify` and `metrics.auc`.
    """
    features, owners = described.features, described.owners
    if each:
        result = metrics.verify_sets(
            features, owners, pairs.a, pairs.b, pairs.same, pairs.fold
        )
    else:
        place = np.empty(owners.max() + 1, int)
        place[owners] = np.arange(len(owners))
        a, b = features[place[pairs.a]], features[place[pairs.b]]
        result = metrics.verify(a, b, pairs.same, pairs.fold)
    averaged = np.isin(np.unique(pairs.fold), pairs.fold[pairs.reported])
    accuracies = result.fold_accuracies[averaged]
    scores, same = result.scores[pairs.reported], pairs.same[pairs.reported]
    rates = metrics.true_accept_rates(scores, same)
    return {
        'accuracy': float(accuracies.mean()),
        'std': float(accuracies.std()),
        'fold_accuracies': accuracies.tolist(),
        'auc': metrics.auc(scores, same),
        'eer': metrics.equal_error_rate(scores, same),
        'tar_at_far': {
            f'{far:g}': float(rate)
            for far, rate in zip(metrics.FALSE_ACCEPT_RATES, rates, strict=True)
        },
    }


def _features(judge, faces, flip):
    alone, both = judge.describe(faces)
    if flip == 'none':
        return alone
    if flip == 'mean' and judge.mirrored:
        return (both[:, : alone.shape[1]] + both[:, alone.shape[1] :]) / 2
    return both


def _total(features, owners):
    """Sums over each side."""
    sides, position = np.unique(owners, return_inverse=True)
    sums = np.zeros((len(sides), features.shape[1]))
    np.add.at(sums, position, features)
    return Described(sums, sides)


def _join(parts, each):
    features = np.concatenate([part.features for part in parts])
    owners = np.concatenate([part.owners for part in parts])
    if each:
        return Described(features, owners)
    # A video may span several chunks.
    total = _total(features, owners)
    return Described(total.features[:, :-1] / total.features[:, -1:], total.owners)
