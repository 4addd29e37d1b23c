"""The networks of the paper and of the methods it compares, as Flax Linen modules."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sicnn_jax.models.cnnh import CNNH, CNNH_SIZES, LR_SHAPES, STAGES
from sicnn_jax.models.cnnr import CNNR
from sicnn_jax.models.dlib_resnet import DlibResNet
from sicnn_jax.models.lapsrn import LapSRN
from sicnn_jax.models.onnx_recogniser import OnnxRecogniser, describe_file
from sicnn_jax.models.position_patch import PositionPatch
from sicnn_jax.models.ur_dgn import URDGN, Discriminator

__all__ = [
    'CNNH',
    'CNNH_SIZES',
    'CNNR',
    'KINDS',
    'LR_SHAPES',
    'RECOGNISERS',
    'STAGES',
    'URDGN',
    'Discriminator',
    'DlibResNet',
    'LapSRN',
    'OnnxRecogniser',
    'PositionPatch',
    'Recogniser',
    'check_file',
    'cnnh_from',
    'cnnr_from',
    'describe_file',
    'discriminator_from',
]

# Networks that enlarge faces, by `cnnh.kind`. Each has `scale`; a call maps LR to HR.
KINDS = {
    'cnnh': CNNH,
    'lapsrn': LapSRN,
    'position_patch': PositionPatch,
    'ur_dgn': URDGN,
}

Recogniser = CNNR | DlibResNet | OnnxRecogniser
# Networks that describe faces, by `cnnr.kind`. Each has `feature_dim`, and `activate`
# for the perceptual loss; one trained elsewhere has `fit`, which gives its parameters.
RECOGNISERS = {'cnnr': CNNR, 'dlib': DlibResNet, 'onnx': OnnxRecogniser}


def cnnr_from(record: Mapping[str, Any]) -> Recogniser:
    """The recognition network of a record: CNNR or another of `RECOGNISERS`.

    Args:
      record: of a checkpoint or a run. Records written before `kind` existed lack it,
        and describe CNNR.

    Raises:
      ValueError: the kind is unknown, or has no such field.
    """
    return _build(RECOGNISERS, record['models']['cnnr'], 'cnnr')


def check_file(described: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless an ONNX file has a recognition network.

    Args:
      described: as for `describe_file`.
    """
    network = cnnr_from({'models': {'cnnr': describe_file(described)}})
    assert isinstance(network, OnnxRecogniser)
    network.check()


def cnnh_from(record: Mapping[str, Any]) -> nn.Module:
    """The network of a record that enlarges faces: CNNH or another of `KINDS`.

    Args:
      record: of a checkpoint or a run. Records written before `kind` existed lack it,
        and describe CNNH.

    Raises:
      ValueError: the kind is unknown, or has no such field.
    """
    return _build(KINDS, record['models']['cnnh'], 'cnnh', scale=record['scale'])


def discriminator_from(record: Mapping[str, Any]) -> Discriminator:
    """The discriminator that the record of a checkpoint (or a run) describes."""
    described = record['models']['discriminator']
    return _build({'discriminator': Discriminator}, described, 'discriminator')


def _build(kinds, described, name, **settings):
    """A module from JSON: lists become tuples, which hash, and names dtypes."""
    described = dict(described)
    kind = described.pop('kind', name)
    if kind not in kinds:
        raise ValueError(
            f'{name}.kind is {kind!r}; expected one of {", ".join(kinds)}.'
        )
    module = kinds[kind]
    fields = set(module.__dataclass_fields__) - {'parent', 'name', *settings}
    unknown = sorted(set(described) - fields)
    if unknown:
        raise ValueError(
            f'{name} has the field {unknown[0]!r}, which a {module.__name__} does not '
            f'have; expected {", ".join(sorted(fields))}. Another kind of network has '
            'other fields: start from a config of that kind.'
        )
    for field, value in described.items():
        if field.endswith('dtype'):
            described[field] = jnp.dtype(value)
        elif isinstance(value, list):
            described[field] = tuple(value)
    return module(**settings, **described)
