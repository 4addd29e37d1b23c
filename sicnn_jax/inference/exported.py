"""What an exported file says about itself, and the error for a missing extra."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from sicnn_jax import images, models
from sicnn_jax.data import align

__all__ = ['describe', 'missing_extra']

INPUT, OUTPUT = 'lr', 'sr'


def describe(record: Mapping[str, Any]) -> dict[str, str]:
    """Metadata for users of an exported file, from a checkpoint's record.

    Returns:
      'input', 'output' (shape and layout), 'colour_order', 'value_range', 'scale',
      'degradation' (how the training faces were made small), 'template' (the place of
      a face's five landmarks in 96×112) and 'record' (JSON).
    """
    height, width = models.LR_SHAPES[record['scale']]
    return {
        'input': f'{INPUT}: float32 [n, {height}, {width}, 3], NHWC',
        'output': f'{OUTPUT}: float32 [n, {images.HEIGHT}, {images.WIDTH}, 3], NHWC',
        'colour_order': images.CONVENTION['colour_order'],
        'value_range': '(level - 127.5) / 128 of levels 0..255, in and out',
        'scale': str(record['scale']),
        'degradation': record['degradation'],
        'template': json.dumps(np.asarray(align.TEMPLATE).tolist()),
        'record': json.dumps(record),
    }


def missing_extra(kind: str, package: str) -> ValueError:
    """The error for a format that needs a package which is not installed."""
    return ValueError(
        f"--format={kind} needs the package {package}: pip install 'sicnn_jax[export]'."
    )
