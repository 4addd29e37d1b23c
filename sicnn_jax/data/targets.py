"""A teacher's features of the faces of a data set, which CNNR learns by distillation.

`python -m sicnn_jax.describe` writes them to a file, in which faces are found by their
keys: it serves every data set made from the same photographs.
"""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sicnn_jax import results_file
from sicnn_jax.data import records

__all__ = ['Targets', 'read_targets', 'write_targets']


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """A teacher's features of the faces of a split.

    Attributes:
      teacher: its name, and a mark that tells it from others.
      features: in the order of the files, minus the mean of the training faces.
    """

    teacher: str
    features: Float32[np.ndarray, 'n d']

    @property
    def size(self) -> int:
        """Length of a feature."""
        return self.features.shape[1]


def write_targets(
    path: Path, teacher: str, keys: list[str], features: Float32[np.ndarray, 'n d']
) -> None:
    """Writes the whole file: the teacher's features as they are, by keys of faces."""
    described = {'teacher': teacher, 'keys': json.dumps(keys)}
    results_file.write_whole(path, save({'features': features}, metadata=described))


def read_targets(
    path: str | os.PathLike, directory: str | os.PathLike, split: str = 'train'
) -> Targets:
    """The features of the faces of a split, found in a file by the keys of the faces.

    Raises:
      DatasetError: the file is missing or damaged, or lacks some of the faces.
    """
    path = Path(path)
    if not path.is_file():
        raise records.DatasetError(
            f'data.targets: {path} is missing; python -m sicnn_jax.describe writes it.'
        )
    try:
        with safe_open(path, framework='numpy') as file:
            features = file.get_tensor('features')
            described = file.metadata()
        rows = {key: row for row, key in enumerate(json.loads(described['keys']))}
        teacher = described['teacher']
        if features.shape[:1] != (len(rows),) or not np.isfinite(features).all():
            raise ValueError(f'{len(rows)} keys, features {list(features.shape)}')
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise records.DatasetError(
            f'data.targets: {path} is damaged or not such a file: {error!r}. Write it '
            'again by python -m sicnn_jax.describe.'
        ) from error

    def find(split):
        keys = records.read_keys(directory, split)
        missing = [key for key in keys if key not in rows]
        if missing:
            raise records.DatasetError(
                f'data.targets: {path} lacks {len(missing):,} of {len(keys):,} faces '
                f'of {directory}, such as {missing[0]!r}: describe this data set by '
                'python -m sicnn_jax.describe.'
            )
        return features[[rows[key] for key in keys]]

    known = find('train')
    wanted = known if split == 'train' else find(split)
    return Targets(teacher, wanted - known.mean(0))
