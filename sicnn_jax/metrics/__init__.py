"""Image quality, identity similarity and face verification."""

from sicnn_jax.metrics.identity import identity_similarity
from sicnn_jax.metrics.image_quality import luminance, psnr, ssim
from sicnn_jax.metrics.verification import (
    LFWPair,
    VerificationResult,
    best_threshold,
    k_fold_accuracy,
    make_pairs,
    pair_scores,
    read_lfw_pairs,
    verify,
)

__all__ = [
    'LFWPair',
    'VerificationResult',
    'best_threshold',
    'identity_similarity',
    'k_fold_accuracy',
    'luminance',
    'make_pairs',
    'pair_scores',
    'psnr',
    'read_lfw_pairs',
    'ssim',
    'verify',
]
