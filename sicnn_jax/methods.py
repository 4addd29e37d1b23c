"""The methods that are compared: bicubic and the networks of a run, from HR faces."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from sicnn_jax import checkpoint, inference, models, train

# Stage whose CNNH is each learned method, in the order of the table.
STAGES = {'sr_only': 'sr_only', 'sicnn': 'domain_integrated'}


@dataclasses.dataclass(frozen=True)
class Methods:
    """Makes faces small and, by every method, large again.

    Attributes:
      scale: 8 or 4.
      degradation: of `images.degrade`.
      networks: method → CNNH and its parameters.
    """

    scale: int
    degradation: str
    networks: Mapping[str, tuple[models.CNNH, Any]] = dataclasses.field(
        default_factory=dict
    )

    def __call__(self, hr: np.ndarray) -> dict[str, np.ndarray]:
        """Every method's faces: 'lr', 'bicubic', the learned ones, and 'hr'.

        Args:
          hr: uint8 [n, 112, 96, 3].

        Returns:
          uint8 [n, 112, 96, 3] each, 'lr' [n, 112 / scale, 96 / scale, 3].
        """
        lr = inference.degrade_faces(hr, scale=self.scale, kind=self.degradation)
        faces = {'lr': lr, 'bicubic': inference.enlarge_faces(lr)}
        for method, (cnnh, params) in self.networks.items():
            faces[method] = inference.super_resolve(cnnh, params, lr)
        return faces | {'hr': hr}


def load_methods(config: ConfigDict, workdir: Path) -> Methods:
    """The methods of a run; bicubic alone where it trains none of `STAGES`.

    Raises:
      CheckpointError: a stage is not finished, or the networks know different
        degradations or scales.
    """
    directories = {
        method: train.stage_directory(config, stage, workdir)
        for method, stage in STAGES.items()
        if stage in config.stages
    }
    if not directories:
        return Methods(config.scale, config.degradation)
    loaded = {
        method: checkpoint.load_networks(directory, ['cnnh'])
        for method, directory in directories.items()
    }
    first, (_, record) = next(iter(loaded.items()))
    for method, (_, other) in loaded.items():
        checkpoint.check_record(
            other,
            {field: record[field] for field in ('convention', 'scale', 'degradation')},
            f'{directories[method]} (compared with {directories[first]})',
        )
    return Methods(
        record['scale'],
        record['degradation'],
        {
            method: (models.cnnh_from(record), params['cnnh'])
            for method, (params, record) in loaded.items()
        },
    )
