"""Keeps the people and photographs of tests out of training."""

import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable

import numpy as np

from sicnn_jax import text_files
from sicnn_jax.data import records
from sicnn_jax.data.preparing import convert

# Of 256 bits. Of the 56 million pairs of aligned LFW photographs, mirrored or not, the
# twelve nearest differ in at most 52 bits: the seven that were inspected are copies,
# some under two people's names; three inspected at 54 bits or more are not. Encoding a
# photograph again, halving, brightening or mirroring it changes at most 26 bits; moving
# its landmarks by 1 pixel changes at most 44 bits in 19 of 20 cases.
DUPLICATE_BITS = 48

# Rows of the distance table computed at once: 64 MB for 16,000 columns.
_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Excluded:
    """People and photographs to leave out of training.

    Attributes:
      identities: the path that names each, by `comparable_name`.
      keys: of faces that may have copies.
      fingerprints: of those faces, uint8 [n, FINGERPRINT_BYTES].
    """

    identities: dict[str, str]
    keys: list[str]
    fingerprints: np.ndarray


def read_excluded(paths: Iterable[str | os.PathLike]) -> Excluded:
    """Reads exclusions from files of names, one per line, and from our data sets.

    The names of a data set count if they have letters: if two sets number their
    identities, the seventh of each is not the same person.

    Raises:
      DatasetError: a path is neither, cannot be read, or names nobody.
    """
    identities: dict[str, str] = {}
    keys, fingerprints = [], []
    for path in map(pathlib.Path, paths):
        if not path.is_dir():
            names = read_names(path)
        else:
            names = set()
            for split in records.read_dataset_info(path).splits:
                for face in records.read_faces(path, split):
                    if re.search(r'[^\W\d_]', face.name):
                        names.add(face.name)
                    keys.append(f'{path}: {face.key}')
                    image = records.decode_image(face.image)
                    fingerprints.append(convert.fingerprint(image))
        identities.update((comparable_name(name), str(path)) for name in names)
    return Excluded(identities, keys, as_array(fingerprints))


def read_names(path: str | os.PathLike) -> set[str]:
    """The names in a file, one per line.

    Raises:
      DatasetError: the file cannot be read or is empty.
    """
    try:
        text = text_files.read_text(path)
    except (OSError, ValueError) as error:
        raise records.DatasetError(f'{path} cannot be read: {error}') from error
    names = {line.strip() for line in text.split('\n') if line.strip()}
    if not names:
        raise records.DatasetError(f'{path} is empty; expected one identity per line.')
    return names


def comparable_name(name: str) -> str:
    """A name in one spelling for all sets: `Beyoncé Knowles` is `beyonce_knowles`."""
    plain = unicodedata.normalize('NFKD', name).casefold()
    plain = ''.join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r'[\W_]+', '_', plain).strip('_')


def as_array(fingerprints: list[bytes]) -> np.ndarray:
    """Fingerprints as uint8 [n, FINGERPRINT_BYTES]."""
    joined = np.frombuffer(b''.join(fingerprints), np.uint8)
    return joined.reshape(-1, convert.FINGERPRINT_BYTES)


def near_duplicates(
    train: np.ndarray, test: np.ndarray, bits: int = DUPLICATE_BITS
) -> tuple[np.ndarray, np.ndarray]:
    """The test face that each training face is a copy of, mirrored or not.

    All are compared with all, by matrix products: 1.5 million with 13,000 in a few
    minutes.

    Args:
      train, test: fingerprints, uint8 [n, bytes] and [m, bytes].
      bits: how many may differ.

    Returns:
      The row of the nearest test face, −1 if none is near, and the number of bits that
      differ: int64 [n] each.
    """
    nearest = np.full(len(train), -1)
    distance = np.full(len(train), 8 * convert.FINGERPRINT_BYTES)
    if not len(test):
        return nearest, distance
    # With signs, a product counts the equal bits minus the different ones.
    columns = _signs(test)
    # Mirroring flips a bit at odd horizontal frequencies.
    mirror = np.where(np.arange(columns.shape[1]) % 2, -1, 1).astype(np.float32)
    both = np.concatenate([columns, columns * mirror])
    for start in range(0, len(train), _ROWS):
        rows = np.s_[start : start + _ROWS]
        differing = (both.shape[1] - _signs(train[rows]) @ both.T) / 2
        column = differing.argmin(axis=1)
        distance[rows] = differing[np.arange(len(column)), column]
        nearest[rows] = np.where(distance[rows] <= bits, column % len(test), -1)
    return nearest, distance


def _signs(fingerprints):
    return np.unpackbits(fingerprints, axis=1).astype(np.float32) * 2 - 1
