"""A function applied to any number of faces, in batches of few sizes."""

from collections.abc import Callable, Sequence

import numpy as np

_BATCH = 64


def in_batches(
    function: Callable, faces: np.ndarray, sizes: Sequence[int] | None = None
) -> np.ndarray:
    """Applies a function to batches of few sizes: it is compiled for each once.

    Args:
      function: of at least one face, to an output of each.
      faces: any number.
      sizes: of batches, ascending. As many as the last says go through at once; what
        remains is padded to the smallest that holds it. Default: one of 64, or of all
        the faces where there are fewer.
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
