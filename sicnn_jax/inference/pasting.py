"""Puts hallucinated faces back into their photograph."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from sicnn_jax.data import align
from sicnn_jax.inference.hallucinator import magnification

__all__ = ['paste_back']

# Enlarged photographs stay below this many pixels: 150 MB each.
_MAX_PASTED = 50_000_000


def paste_back(
    photo: UInt8[np.ndarray, 'height width 3'],
    faces: Sequence[tuple[UInt8[np.ndarray, '112 96 3'], Float[np.ndarray, '5 2']]],
    *,
    max_magnification: float,
) -> UInt8[np.ndarray, 'out_height out_width 3']:
    """A photograph, enlarged by bicubic interpolation, with faces put back into it.

    It is enlarged until its smallest face has 96×112 pixels, but to at most 50 million
    pixels, and never reduced.

    Args:
      photo: RGB.
      faces: the pixels and the landmarks, in the photograph, of each.
      max_magnification: of the photograph, at least 1.

    Returns:
      The photograph, m times as high and wide, with m from 1 to `max_magnification`.

    Raises:
      DatasetError: as `align.face_transform`.
    """
    wanted = max([1.0, *(magnification(landmarks) for _, landmarks in faces)])
    size = np.array(photo.shape[1::-1])
    possible = max(1.0, math.sqrt(_MAX_PASTED / size.prod()))
    enlarged = np.rint(size * min(wanted, max_magnification, possible)).astype(int)
    picture = np.asarray(
        Image.fromarray(photo).resize(tuple(enlarged), Image.Resampling.BICUBIC)
    )
    finer = enlarged / size
    for face, landmarks in faces:
        points = (np.asarray(landmarks) + 0.5) * finer - 0.5
        picture = align.paste_face(picture, face, align.face_transform(points))
    return picture
