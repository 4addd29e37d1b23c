"""Losses of the paper and of the methods it compares: pure jax.numpy."""

from sicnn_jax.losses.adversarial import discriminator_loss, generator_loss
from sicnn_jax.losses.identity import (
    feature_distance_loss,
    normalize,
    super_identity_loss,
)
from sicnn_jax.losses.margin import (
    a_softmax_loss,
    annealing_schedule,
    arcface_loss,
    cosface_loss,
    cosine_logits,
    margin_diagnostics,
    recognition_loss,
    sample_identities,
)
from sicnn_jax.losses.perceptual import perceptual_loss
from sicnn_jax.losses.reconstruction import charbonnier_loss, super_resolution_loss

__all__ = [
    'a_softmax_loss',
    'annealing_schedule',
    'arcface_loss',
    'charbonnier_loss',
    'cosface_loss',
    'cosine_logits',
    'discriminator_loss',
    'feature_distance_loss',
    'generator_loss',
    'margin_diagnostics',
    'normalize',
    'perceptual_loss',
    'recognition_loss',
    'sample_identities',
    'super_identity_loss',
    'super_resolution_loss',
]
