"""Measures hallucinated faces against their originals."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from sicnn_jax import images, metrics
from sicnn_jax.data import align
from sicnn_jax.data.records import DatasetError
from sicnn_jax.inference.hallucinator import Hallucinator

MEASURES = ('psnr', 'ssim', 'identity_similarity')


def align_original(
    hr: UInt8[np.ndarray, 'height width 3'],
    shape: Sequence[int],
    landmarks: Float[np.ndarray, '5 2'],
    path: Path,
) -> UInt8[np.ndarray, '112 96 3']:
    """The original of a face, from its photograph in another size or already aligned.

    Args:
      hr: the photograph or the aligned face, RGB.
      shape: shape of the hallucinated photograph, height and width first.
      landmarks: in that photograph.
      path: of the original, for the error.

    Raises:
      DatasetError: it is neither.
    """
    finer = np.array(hr.shape[1::-1]) / shape[1::-1]
    # Sizes are whole pixels, so the two factors may differ a little.
    if abs(finer[0] / finer[1] - 1) <= 2 / min(shape[:2]):
        return align.align_face(hr, (landmarks + 0.5) * finer - 0.5)
    if hr.shape[:2] == (images.HEIGHT, images.WIDTH):
        return hr
    raise DatasetError(
        f'{path} is {hr.shape[1]}×{hr.shape[0]}; expected an aligned face of '
        f'{images.WIDTH}×{images.HEIGHT}, or the {shape[1]}×{shape[0]} photograph in '
        'another size.'
    )


def measure(
    hallucinator: Hallucinator,
    methods: Mapping[str, np.ndarray],
    originals: Sequence[np.ndarray],
) -> list[dict[str, dict[str, float]]]:
    """PSNR, SSIM and identity similarity of each face, by method."""
    if not originals:
        return []
    hr = np.stack(originals)
    hr_features = hallucinator.features(hr)
    columns = {}
    for method, sr in methods.items():
        columns[method] = {'psnr': metrics.psnr(sr, hr), 'ssim': metrics.ssim(sr, hr)}
        features = hallucinator.features(sr)
        if features is not None and hr_features is not None:
            scores = metrics.pair_scores(features, hr_features)
            columns[method]['identity_similarity'] = scores
    return [
        {
            method: {name: float(values[row]) for name, values in column.items()}
            for method, column in columns.items()
        }
        for row in range(len(hr))
    ]


def summarise(entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Means of the measurements, by method; empty if there are none."""
    faces = (face for entry in entries for face in entry['faces'])
    measured = [face['measured'] for face in faces if 'measured' in face]
    return {
        method: {
            name: float(np.mean([row[method][name] for row in measured]))
            for name in values
        }
        for method, values in (measured[0].items() if measured else ())
    }
