"""Image quality, identity similarity and face verification."""

from sicnn_jax.metrics.domain_gap import centroid_distance, probe_accuracy
from sicnn_jax.metrics.image_quality import luminance, psnr, ssim
from sicnn_jax.metrics.resampling import resampled_means
from sicnn_jax.metrics.roc import (
    FALSE_ACCEPT_RATES,
    auc,
    equal_error_rate,
    true_accept_rates,
)
from sicnn_jax.metrics.verification import (
    VerificationResult,
    best_threshold,
    draw_pairs,
    identity_similarity,
    k_fold_accuracy,
    pair_scores,
    verify,
    verify_sets,
)

__all__ = [
    'FALSE_ACCEPT_RATES',
    'VerificationResult',
    'auc',
    'best_threshold',
    'centroid_distance',
    'draw_pairs',
    'equal_error_rate',
    'identity_similarity',
    'k_fold_accuracy',
    'luminance',
    'pair_scores',
    'probe_accuracy',
    'psnr',
    'resampled_means',
    'ssim',
    'true_accept_rates',
    'verify',
    'verify_sets',
]
