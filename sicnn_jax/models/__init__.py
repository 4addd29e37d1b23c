"""The networks of the paper as Flax Linen modules."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from sicnn_jax.models.cnnh import CNNH, LR_SHAPES
from sicnn_jax.models.cnnr import CNNR

__all__ = ['CNNH', 'CNNR', 'LR_SHAPES', 'cnnh_from', 'cnnr_from']


def cnnr_from(record: Mapping[str, Any]) -> CNNR:
    """The CNNR that the record of a checkpoint (or a run) describes."""
    return CNNR(**_fields(record['models']['cnnr']))


def cnnh_from(record: Mapping[str, Any]) -> CNNH:
    """The CNNH that the record of a checkpoint (or a run) describes."""
    return CNNH(scale=record['scale'], **_fields(record['models']['cnnh']))


def _fields(described):
    """JSON to module fields: lists as tuples, which hash, and dtypes by name."""
    return {
        field: jnp.dtype(value)
        if field.endswith('dtype')
        else tuple(value)
        if isinstance(value, list)
        else value
        for field, value in described.items()
    }
