"""Selects which of the faces made are kept, and in which split."""

import collections
import dataclasses
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from sicnn_jax.data import records
from sicnn_jax.data.preparing import overlap

TRAIN, TEST = 'train', 'test'


@dataclasses.dataclass(frozen=True)
class Faces:
    """The faces to select from.

    Attributes:
      keys: of each face.
      names: the person that each shows, object [n].
      fingerprints: uint8 [n, bytes].
    """

    keys: Sequence[str]
    names: np.ndarray
    fingerprints: np.ndarray


class Selection:
    """Faces and splits, while one rule after the other is applied.

    Attributes:
      splits: indices of faces by name of the split.
      rejected: (index of a face, why), in the order of the rules.
    """

    def __init__(self, faces: Faces, given: Sequence[str] | None = None):
        """All faces for training, or in the splits given for each."""
        self._faces = faces
        self._splits_given = given is not None
        self.rejected: list[tuple[int, str]] = []
        self.splits = {TRAIN: np.arange(len(faces.keys))}
        if given is not None:
            split_of = np.asarray(given, object)
            # In the order of the data set.
            names = dict.fromkeys(given)
            self.splits = {name: np.flatnonzero(split_of == name) for name in names}

    def exclude_identities(
        self, excluded: Mapping[str, str], listed: Collection[str]
    ) -> None:
        """Removes training identities that are excluded and not in the test list."""
        found = {
            name: excluded.get(overlap.comparable_name(name))
            for name in set(self._faces.names).difference(listed)
        }
        self._reject(
            {
                name: f'identity is excluded: {name} is in {path}'
                for name, path in found.items()
                if path is not None
            }
        )

    def drop_rare(self, min_images: int, listed: Collection[str] = ()) -> None:
        """Removes training identities with too few faces, unless they are listed."""
        counts = collections.Counter(self._faces.names[self._train()])
        self._reject(
            {
                name: f'identity has too few images: {count} of {min_images}'
                for name, count in counts.items()
                if count < min_images and name not in listed
            }
        )

    def split(
        self, listed: Collection[str], test_identities: int | float, seed: int
    ) -> None:
        """Moves identities to the split `test`: those listed, or some at random.

        The remaining training faces are put into random order. Given splits stay as
        they are.

        Raises:
          DatasetError: nobody would remain for training.
        """
        train = self._train()
        if self._splits_given or not len(train):
            return
        rng = np.random.default_rng(seed)
        names = self._faces.names[train]
        test = set(listed) or set(_choose(sorted(set(names)), test_identities, rng))
        in_test = np.fromiter((name in test for name in names), bool, len(train))
        self.splits = {TRAIN: rng.permutation(train[~in_test]), TEST: train[in_test]}

    def drop_duplicates(self, excluded: overlap.Excluded, bits: int) -> None:
        """Removes training faces that are copies of faces of other splits or data sets.

        Args:
          excluded: faces of other data sets.
          bits: how many bits of their fingerprints may differ between copies; −1 keeps
            copies.
        """
        if bits < 0:
            return
        faces, train = self._faces, self._train()
        test = np.concatenate(
            [train[:0], *(f for name, f in self.splits.items() if name != TRAIN)]
        )
        keys = [*(faces.keys[i] for i in test), *excluded.keys]
        nearest, distance = overlap.near_duplicates(
            faces.fingerprints[train],
            np.concatenate([faces.fingerprints[test], excluded.fingerprints]),
            bits,
        )
        self.rejected += [
            (face, f'duplicate: of {keys[column]}, {away} bits away')
            for face, column, away in zip(
                train.tolist(), nearest.tolist(), distance.tolist(), strict=True
            )
            if column >= 0
        ]
        self.splits[TRAIN] = train[nearest < 0]

    def filled(self) -> dict[str, np.ndarray]:
        """The splits that have faces."""
        return {name: faces for name, faces in self.splits.items() if len(faces)}

    def _train(self):
        return self.splits.get(TRAIN, np.empty(0, np.int64))

    def _reject(self, reasons):
        """Removes training faces of people for a reason, given by name."""
        train = self._train()
        names = self._faces.names[train]
        out = np.fromiter((name in reasons for name in names), bool, len(train))
        self.rejected += [
            (face, reasons[self._faces.names[face]]) for face in train[out].tolist()
        ]
        if TRAIN in self.splits:
            self.splits[TRAIN] = train[~out]


def _choose(names, test_identities, rng):
    if not test_identities:
        return []
    count = test_identities
    if test_identities < 1:
        count = max(1, round(test_identities * len(names)))
    if not 0 < count < len(names):
        raise records.DatasetError(
            f'test_identities is {test_identities}, which leaves no identity for '
            f'training: there are {len(names)}.'
        )
    return [names[i] for i in rng.permutation(len(names))[:count]]
