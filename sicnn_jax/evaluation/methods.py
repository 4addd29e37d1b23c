"""The compared methods: bicubic and the networks of a run, applied to HR faces."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from sicnn_jax import checkpoint, inference, models
from sicnn_jax.workdir import makes_cnnh, stage_directory


@dataclasses.dataclass(frozen=True)
class Learned:
    """A learned method: the stage that produces it, and its name in pictures."""

    stage: str
    title: str


# In the order of the paper's tables, with SICNN's control before it. Tables and their
# JSON name methods by these keys.
LEARNED = {
    'ma': Learned('ma', 'Ma et al.'),
    'lapsrn': Learned('lapsrn', 'LapSRN'),
    'ur_dgn': Learned('ur_dgn', 'UR-DGN'),
    'ur_dgn_perceptual': Learned('ur_dgn_perceptual', 'UR-DGN*'),
    'sr_only': Learned('sr_only', 'L_SR only'),
    'approach_i': Learned('approach_i', 'I'),
    'approach_ii': Learned('approach_ii', 'II'),
    'approach_iii': Learned('approach_iii', 'III'),
    'sicnn': Learned('domain_integrated', 'SICNN'),
}
TITLES = {
    'lr': 'input',
    'bicubic': 'bicubic',
    **{method: learned.title for method, learned in LEARNED.items()},
    'hr': 'original',
}


def compared_stages(config: ConfigDict) -> dict[str, str]:
    """The learned methods of a run and their stages.

    They are the methods of `LEARNED` in its order; then, under its own name, every
    other stage that trains a CNNH from which no stage of the run begins.
    """
    known = {
        method: learned.stage
        for method, learned in LEARNED.items()
        if learned.stage in config.stages
    }
    begun_from = {config[name].init.get('cnnh') for name in config.stages}
    return known | {
        name: name
        for name in config.stages
        if name not in {*known.values(), *begun_from} and makes_cnnh(config[name])
    }


@dataclasses.dataclass(frozen=True)
class Methods:
    """Makes faces small, and enlarges them again by every method.

    Attributes:
      scale: 8 or 4.
      degradation: as in `images.degrade`.
      networks: method → CNNH and its parameters.
    """

    scale: int
    degradation: str
    networks: Mapping[str, tuple[nn.Module, Any]] = dataclasses.field(
        default_factory=dict
    )

    def __call__(self, hr: np.ndarray) -> dict[str, np.ndarray]:
        """Every method's faces: 'lr', 'bicubic', the learned methods, and 'hr'.

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
    """The methods of a run; bicubic alone if it trains no CNNH.

    Raises:
      CheckpointError: a stage is not finished, or the networks were trained with
        different degradations or scales.
    """
    directories = {
        method: stage_directory(config, stage, workdir)
        for method, stage in compared_stages(config).items()
    }
    if not directories:
        return Methods(config.scale, config.degradation)
    loaded = {
        method: checkpoint.load_networks(directory, ['cnnh'])
        for method, directory in directories.items()
    }
    first, (_, record) = next(iter(loaded.items()))
    shared = ('convention', 'scale', 'degradation')
    expected = {field: record[field] for field in shared}
    for method, (_, other) in loaded.items():
        where = f'{directories[method]} (compared with {directories[first]})'
        checkpoint.check_record(other, expected, where)
    return Methods(
        record['scale'],
        record['degradation'],
        {
            method: (models.cnnh_from(record), params['cnnh'])
            for method, (params, record) in loaded.items()
        },
    )
