"""Applies a function to any number of faces, in batches of few sizes."""

from collections.abc import Callable, Sequence

import numpy as np

_BATCH = 64


def in_batches(
    function: Callable, faces: np.ndarray, sizes: Sequence[int] | None = None
) -> np.ndarray:
    """Applies a function to batches of few sizes, so it is compiled once for each.

    Args:
      function: takes one or more faces and returns an output for each.
      faces: any number.
      sizes: of batches, ascending. Faces are processed in batches of the last size; the
        rest is padded to the smallest size that holds it. By default one size, 64, or
        the number of faces if there are fewer.
    """
    if not len(faces):
        nothing = np.zeros((1, *faces.shape[1:]), faces.dtype)
        return np.asarray(function(nothing))[:0]
    sizes = sizes or (min(_BATCH, len(faces)),)
    outputs = []
    for start in range(0, len(faces), sizes[-1]):
        batch = faces[start : start + sizes[-1]]
        missing = next(size for size in sizes if size >= len(batch)) - len(batch)
        padded = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        outputs.append(np.asarray(function(padded))[: len(batch)])
    return np.concatenate(outputs)
