"""The held-out faces that methods are compared on, and pairs of them."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import checkpoint, metrics
from sicnn_jax.data import dataset, records
from sicnn_jax.evaluation.pairs import (
    PairIndices,
    choose_folds,
    index_pairs,
    read_pairs,
)
from sicnn_jax.names import ByName


class NobodyHeldOutError(records.DatasetError):
    """A run was trained on everybody in its data."""


@dataclasses.dataclass(frozen=True)
class Pairs(PairIndices):
    """Verification pairs among the faces.

    Attributes:
      shown: int [m], indices of the faces that quality and similarity are averaged
        over: the faces of the reported folds.
    """

    shown: np.ndarray

    def verify(self, features: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean accuracy of the reported folds, and which of their pairs are right.

        Args:
          features: float [n, d] of all faces.
        """
        a, b = features[self.a], features[self.b]
        result = metrics.verify(a, b, self.same, self.fold)
        averaged = np.isin(np.unique(self.fold), self.fold[self.reported])
        accuracy = float(result.fold_accuracies[averaged].mean())
        return accuracy, result.right[self.reported]


def load_test_faces(
    config: ConfigDict,
    workdir: Path,
    *,
    data: str = '',
    split: str = 'test',
    pairs: str = '',
    folds: tuple[int, ...] = (),
    report: tuple[int, ...] = (),
) -> tuple[np.ndarray, Pairs, dict[str, Any]]:
    """Held-out faces and verification pairs of them.

    Args:
      config, workdir: of the run; its data are the default.
      data: a directory of shards instead.
      split: of the shards.
      pairs: a list that `read_pairs` reads, of keys of the shards; else pairs are
        drawn, in ten folds. Without `data` and `pairs`, the config's list and folds
        are used, if it names them.
      folds: of `pairs`, numbered from 1; all by default. Only the faces of their pairs
        are evaluated.
      report: folds to average over; all by default. The others only give the
        threshold.

    Returns:
      uint8 [n, 112, 96, 3], the pairs, and what the results say about both.

    Raises:
      NobodyHeldOutError: the data of the run have no split `test`.
      DatasetError: the faces cannot be read, or faces of the pairs are missing.
    """
    limit = config.evaluation.final_faces or None
    if not data and not pairs and config.evaluation.get('pairs_file'):
        pairs = config.evaluation.pairs_file
        folds, report = config.evaluation.folds, config.evaluation.reported_folds
    if not data and not pairs:
        faces = dataset.open_faces(config.data, workdir)
        hr, labels = faces.test_faces(limit)
        source = config.data.dir or config.data.source
        if not len(hr):
            raise NobodyHeldOutError(
                f"{source} has no held-out people (split 'test'): give others by "
                '--data, or by --pairs with --images.'
            )
        return hr, draw_pairs(config, labels), _about(source, labels, faces.fingerprint)
    directory = Path(data or config.data.dir or workdir / 'data')
    hr, labels = dataset.read_split(directory, split, limit)
    # Networks are trained on the people of the other splits.
    fingerprint = records.fingerprint(directory) if split == 'test' else None
    if not pairs:
        about = _about(str(directory), labels, fingerprint)
        return hr, draw_pairs(config, labels), about
    keys = records.read_keys(directory, split)
    rows = ByName({key: index for index, key in enumerate(keys)})
    listed = choose_folds(read_pairs(pairs).pairs, folds, report, pairs)
    wanted = {key for pair in listed for key in (pair.key_a, pair.key_b)}
    missing = sorted(key for key in wanted if key not in rows)
    if missing:
        raise records.DatasetError(
            f'{pairs} names {missing[0]} and {len(missing) - 1} more faces that are '
            f'not in the split {split!r} of {directory}. Choose folds that are, or '
            'give photographs by --images.'
        )
    kept = sorted({rows[key] for key in wanted})
    places = {keys[index]: row for row, index in enumerate(kept)}
    found = index_pairs(listed, ByName(places), report)
    shown = np.unique(np.stack([found.a, found.b])[:, found.reported])
    chosen = Pairs(**vars(found), shown=shown)
    hr, labels = hr[kept], labels[kept]
    return hr, chosen, _about(str(directory), labels[shown], fingerprint)


def draw_pairs(config: ConfigDict, labels: np.ndarray) -> Pairs:
    """Verification pairs among faces, as many as the config wants, in ten folds."""
    a, b, same = metrics.draw_pairs(labels, at_most=config.evaluation.final_pairs)
    # Pairs alternate between same and different, so every fold holds both.
    fold = np.arange(len(same)) // 2 % 10 + 1
    reported = np.ones(len(same), bool)
    return Pairs(a, b, same, fold, reported, shown=np.arange(len(labels)))


def are_new(about: Mapping[str, Any], stages: Iterable[Path]) -> bool:
    """Whether people are known to be new to networks: held out from their training.

    Args:
      about: from `load_test_faces`.
      stages: directories of the networks, whose records describe their data.
    """
    trained_on = [checkpoint.read_record(stage) or {} for stage in stages]
    return all(
        record.get('data', {}).get('fingerprint', '') == about['fingerprint']
        for record in trained_on
    )


def describe_people(results: Mapping[str, Any]) -> str:
    """How many people there are in results, and whether the networks know them."""
    # Older results lack the field.
    new = results.get('never_seen', True)
    known = 'never seen' if new else 'that the networks may have been trained on'
    return f'{results["identities"]:,} identities {known}'


def _about(source, labels, fingerprint):
    return {
        'data': source,
        'fingerprint': fingerprint,
        'faces': len(labels),
        'identities': len(np.unique(labels)),
    }
