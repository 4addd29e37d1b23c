"""Losses of a generator and a discriminator (Goodfellow et al. 2014)."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32


def discriminator_loss(
    hr_logits: Float[ArrayLike, ' n'], sr_logits: Float[ArrayLike, ' m']
) -> Float32[Array, '']:
    """Cross-entropy of telling originals from super-resolved faces.

    −log σ(D(HR)) − log(1 − σ(D(SR))), each the mean over the batch.

    Args:
      hr_logits: D of originals; higher is more like an original.
      sr_logits: D of super-resolved faces.

    Returns:
      0 or more, 2 log 2 at chance; computed in float32 whatever the inputs are.

    Raises:
      AssertionError: the logits are not of rank 1.
    """
    chex.assert_rank([hr_logits, sr_logits], 1)
    return _softplus_mean(hr_logits, -1.0) + _softplus_mean(sr_logits)


def generator_loss(sr_logits: Float[ArrayLike, ' n']) -> Float32[Array, '']:
    """Non-saturating loss of the generator: −log σ(D(SR)), the mean over the batch.

    Unlike the gradient of log(1 − σ(D(SR))), this one does not vanish where the
    discriminator is sure.

    Args:
      sr_logits: D of super-resolved faces.

    Returns:
      0 or more, log 2 at chance; computed in float32 whatever the input is.

    Raises:
      AssertionError: the logits are not of rank 1.
    """
    chex.assert_rank(sr_logits, 1)
    return _softplus_mean(sr_logits, -1.0)


def _softplus_mean(logits, sign=1.0):
    """Mean of −log σ(−sign · x), finite for every finite x."""
    return jnp.mean(jax.nn.softplus(sign * jnp.asarray(logits, jnp.float32)))
