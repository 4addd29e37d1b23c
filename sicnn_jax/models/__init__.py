"""The networks of the paper and of the methods it compares, as Flax Linen modules."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sicnn_jax.models.cnnh import CNNH, CNNH_SIZES, LR_SHAPES, STAGES
from sicnn_jax.models.cnnr import CNNR, block_activations
from sicnn_jax.models.lapsrn import LapSRN
from sicnn_jax.models.position_patch import PositionPatch
from sicnn_jax.models.ur_dgn import URDGN, Discriminator

__all__ = [
    'CNNH',
    'CNNH_SIZES',
    'CNNR',
    'KINDS',
    'LR_SHAPES',
    'STAGES',
    'URDGN',
    'Discriminator',
    'LapSRN',
    'PositionPatch',
    'block_activations',
    'cnnh_from',
    'cnnr_from',
    'discriminator_from',
]

# What enlarges faces, by `cnnh.kind`. Each takes `scale`, and LR to HR in a call.
KINDS = {
    'cnnh': CNNH,
    'lapsrn': LapSRN,
    'position_patch': PositionPatch,
    'ur_dgn': URDGN,
}


def cnnr_from(record: Mapping[str, Any]) -> CNNR:
    """The CNNR that the record of a checkpoint (or a run) describes."""
    return _build(CNNR, record['models']['cnnr'], 'cnnr')


def cnnh_from(record: Mapping[str, Any]) -> nn.Module:
    """What enlarges faces, CNNH or another of `KINDS`, by the record of a checkpoint.

    Args:
      record: of a checkpoint or a run. One without a kind, as all were before there
        were others, describes CNNH.

    Raises:
      ValueError: the kind is unknown, or has no such field.
    """
    described = dict(record['models']['cnnh'])
    kind = described.pop('kind', 'cnnh')
    if kind not in KINDS:
        raise ValueError(f'cnnh.kind is {kind!r}; expected one of {", ".join(KINDS)}.')
    return _build(KINDS[kind], described, 'cnnh', scale=record['scale'])


def discriminator_from(record: Mapping[str, Any]) -> Discriminator:
    """The discriminator that the record of a checkpoint (or a run) describes."""
    return _build(Discriminator, record['models']['discriminator'], 'discriminator')


def _build(module, described, name, **settings):
    """JSON to a module: lists as tuples, which hash, and dtypes by name."""
    fields = set(module.__dataclass_fields__) - {'parent', 'name', 'scale'}
    unknown = sorted(set(described) - fields)
    if unknown:
        raise ValueError(
            f'{name} has the field {unknown[0]!r}, which a {module.__name__} does not '
            f'have: expected {", ".join(sorted(fields))}. Fields of another kind of '
            'network are replaced all together: start from a config of that kind.'
        )
    return module(
        **settings,
        **{
            field: jnp.dtype(value)
            if field.endswith('dtype')
            else tuple(value)
            if isinstance(value, list)
            else value
            for field, value in described.items()
        },
    )
