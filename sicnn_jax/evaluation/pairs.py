"""Lists of verification pairs: LFW's pairs.txt, YTF's splits.txt, CSV."""

import collections
import dataclasses
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from sicnn_jax import text_files

__all__ = [
    'Pair',
    'PairIndices',
    'VerificationSet',
    'choose_folds',
    'index_pairs',
    'read_csv_pairs',
    'read_lfw_pairs',
    'read_pairs',
    'read_ytf_pairs',
]

_CSV_COLUMNS = ('path_a', 'path_b', 'same')
_TRUTHS = {'1': True, 'true': True, '0': False, 'false': False}


class Pair(NamedTuple):
    """Keys of two images or videos, same person or not, fold from 0."""

    key_a: str
    key_b: str
    same: bool
    fold: int


class VerificationSet(NamedTuple):
    """Pairs, and their images if those are not files of a directory.

    `kind` is 'lfw', 'ytf' (with keys of videos), 'csv' or the name of a `.bin`;
    `images` are encoded, by key.
    """

    kind: str
    pairs: list[Pair]
    images: Mapping[str, bytes] | None = None


@dataclasses.dataclass(frozen=True)
class PairIndices:
    """Verification pairs among described faces.

    Attributes:
      a, b: indices of the two faces.
      same: whether they show one person.
      fold: of each pair; the threshold of a fold comes from all others.
      reported: whether each pair is in a fold that is averaged over.
    """

    a: Int[np.ndarray, ' n']
    b: Int[np.ndarray, ' n']
    same: Bool[np.ndarray, ' n']
    fold: Int[np.ndarray, ' n']
    reported: Bool[np.ndarray, ' n']


def read_pairs(path: str | os.PathLike) -> VerificationSet:
    """Reads a list of pairs: `.csv`, else YTF's if line 1 has commas, else LFW's.

    Returns:
      The pairs in the order of the file.

    Raises:
      ValueError: the file cannot be read, has no pairs, or has a malformed line, which
        the message names.
    """
    if pathlib.Path(path).suffix.lower() == '.csv':
        return VerificationSet('csv', read_csv_pairs(path))
    if ',' in _read(path).partition('\n')[0]:
        return VerificationSet('ytf', read_ytf_pairs(path))
    return VerificationSet('lfw', read_lfw_pairs(path))


def read_lfw_pairs(path: str | os.PathLike) -> list[Pair]:
    """Reads the pairs.txt of LFW (Huang et al., 2007).

    The header says `folds pairs`; then each fold has that many lines `Name i j` of the
    same person and as many lines `Name i Other j` of different people. An example of a
    key is `Name/Name_0001.jpg`.

    Raises:
      ValueError: as `read_pairs`, or lines are missing or left over.
    """
    header, *lines = _read(path).rstrip().split('\n')
    try:
        folds, per_kind = map(int, header.split())
    except ValueError:
        raise ValueError(
            f'{path}, line 1: expected the number of folds and of pairs of each kind '
            f'per fold, found {header!r}.'
        ) from None
    if len(lines) != 2 * folds * per_kind:
        raise ValueError(
            f'{path}, line 1: announces {folds} folds of 2 · {per_kind} pairs, so '
            f'{2 * folds * per_kind} lines should follow it, but {len(lines)} do.'
        )
    pairs = []
    for position, line in enumerate(lines):
        fold, within = divmod(position, 2 * per_kind)
        same = within < per_kind
        fields = line.split()
        try:
            if same:
                name, first, second = fields
                other = name
            else:
                name, first, other, second = fields
            keys = _lfw_key(name, first), _lfw_key(other, second)
        except ValueError:
            form = 'Name i j' if same else 'Name i Other j'
            raise ValueError(
                f'{path}, line {position + 2}: expected {form!r} with image numbers '
                f'from 1, found {line!r}.'
            ) from None
        pairs.append(Pair(*keys, same=same, fold=fold))
    return pairs


def read_ytf_pairs(path: str | os.PathLike) -> list[Pair]:
    """Reads the splits.txt of YouTube Faces (Wolf, Hassner, Maoz, CVPR 2011).

    A header is followed by lines `split number, first name, second name, is same`. A
    name such as `Name/2` names a person and a folder with the frames of one video, and
    is the key. Raises ValueError as `read_pairs` does.
    """
    pairs = []
    for number, line in enumerate(_read(path).split('\n'), start=1):
        fields = [field.strip() for field in line.split(',')]
        if not line.strip() or (number == 1 and not fields[0].isdigit()):
            continue
        try:
            split, first, second, same = fields
            if not first or not second or int(split) < 1:
                raise ValueError(line)
            # Lists from Windows have backslashes.
            first, second = (name.replace('\\', '/') for name in (first, second))
            pairs.append(Pair(first, second, _TRUTHS[same.lower()], int(split) - 1))
        except (KeyError, ValueError):
            raise ValueError(
                f"{path}, line {number}: expected 'split number, first name, second "
                f"name, is same' with splits from 1 and 0 or 1, found {line!r}."
            ) from None
    return _some(pairs, path)


def read_csv_pairs(path: str | os.PathLike) -> list[Pair]:
    """Reads a CSV with the columns path_a, path_b, same and, optionally, fold.

    The paths are the keys; `same` is 1 or 0, true or false; `fold` counts from 1.
    Without it, the pairs of each kind are dealt in turn to ten folds.

    Raises:
      ValueError: as `read_pairs`, or a column is missing.
    """
    reader = text_files.csv_rows(_read(path))
    columns = reader.fieldnames or []
    lacking = [column for column in _CSV_COLUMNS if column not in columns]
    if lacking:
        raise ValueError(
            f'{path} has no column {lacking[0]!r}; it has {", ".join(columns)}. '
            f'Expected {", ".join(_CSV_COLUMNS)} and, optionally, fold.'
        )
    pairs: list[Pair] = []
    dealt: collections.Counter[bool] = collections.Counter()
    for row in reader:
        try:
            same = _TRUTHS[row['same'].strip().lower()]
            fold = int(row['fold']) - 1 if 'fold' in columns else dealt[same] % 10
            if not row['path_a'] or not row['path_b'] or fold < 0:
                raise ValueError(row)
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError(
                f'{path}, line {reader.line_num}: expected two paths, 0 or 1, and a '
                f'fold from 1 if there is such a column, found {row}.'
            ) from None
        dealt[same] += 1
        pairs.append(Pair(row['path_a'], row['path_b'], same, fold))
    return _some(pairs, path)


def choose_folds(
    pairs: Sequence[Pair],
    folds: Collection[int],
    report: Collection[int],
    source: str | os.PathLike,
) -> list[Pair]:
    """The pairs of some folds.

    Args:
      pairs: of a list.
      folds: to keep, numbered from 1; all if empty.
      report: folds to average over, numbered from 1; only checked here.
      source: names the list in errors.

    Raises:
      ValueError: `report` names a missing fold, or fewer than two folds are left.
    """
    chosen = [pair for pair in pairs if not folds or pair.fold + 1 in folds]
    found = sorted({pair.fold + 1 for pair in chosen})
    if len(found) < 2:
        raise ValueError(
            f'Only the folds {found} of {source} are left; expected two or more: the '
            f'threshold of each comes from the others. For a single fold: --report.'
        )
    unknown = sorted(set(report) - set(found))
    if unknown:
        raise ValueError(
            f'--report names fold {unknown[0]}; expected some of {found}, the folds '
            f'of {source} that --folds keeps.'
        )
    return chosen


def index_pairs(
    pairs: Sequence[Pair], places: Mapping[str, int], report: Collection[int]
) -> PairIndices:
    """Pairs by the positions of their keys; an empty `report` counts all folds."""
    fold = np.array([pair.fold + 1 for pair in pairs], int)
    return PairIndices(
        a=np.array([places[pair.key_a] for pair in pairs], int),
        b=np.array([places[pair.key_b] for pair in pairs], int),
        same=np.array([pair.same for pair in pairs], bool),
        fold=fold,
        reported=np.isin(fold, list(report) or fold),
    )


def _read(path):
    try:
        return text_files.read_text(path)
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} cannot be read as pairs: {error}') from error


def _some(pairs, path):
    if not pairs:
        raise ValueError(f'{path} lists no pairs.')
    return pairs


def _lfw_key(name, number):
    if int(number) < 1:
        raise ValueError(number)
    return f'{name}/{name}_{int(number):04d}.jpg'
