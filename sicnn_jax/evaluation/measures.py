"""Measures of one network on held-out faces, also while it trains."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sicnn_jax import inference, metrics
from sicnn_jax.models import Recogniser
from sicnn_jax.recipe import Recipe

__all__ = ['measure_hallucination', 'measure_recognition']


def measure_recognition(
    cnnr: Recogniser, hr: np.ndarray, labels: np.ndarray, *, num_pairs: int
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """Verification accuracy of CNNR: face and mirror image, ten folds.

    Args:
      cnnr: recognition network.
      hr: uint8 [n, 112, 96, 3].
      labels: int [n], their identities.
      num_pairs: the most pairs to draw.
    """
    a, b, same = metrics.draw_pairs(labels, at_most=num_pairs)

    def measure(params):
        features = inference.extract_features(cnnr, params['cnnr'], hr, mirror=True)
        result = metrics.verify(features[a], features[b], same, 10)
        return {'verification_accuracy': result.accuracy}

    return measure


def measure_hallucination(
    recipe: Recipe, hr: np.ndarray, reference: Any | None
) -> Callable[[dict[str, Any]], dict[str, float]]:
    """PSNR of held-out faces and, given a reference CNNR, identity similarity.

    Args:
      recipe: the networks and the degradation.
      hr: uint8 [n, 112, 96, 3].
      reference: parameters of the CNNR trained on HR only, or None.
    """
    lr = inference.degrade_faces(hr, scale=recipe.scale, kind=recipe.degradation)
    if reference is not None:
        hr_features = inference.extract_features(recipe.cnnr, reference, hr)

    def measure(params):
        sr = inference.super_resolve(recipe.cnnh, params['cnnh'], lr)
        psnr = float(metrics.psnr(sr, hr).mean())
        if reference is None:
            return {'psnr': psnr}
        features = inference.extract_features(recipe.cnnr, reference, sr)
        similarity = metrics.identity_similarity(features, hr_features)
        return {'psnr': psnr, 'identity_similarity': similarity}

    return measure
