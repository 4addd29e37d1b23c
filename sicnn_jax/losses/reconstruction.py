"""The super-resolution loss (Eq. 1)."""

import chex
import jax
import jax.numpy as jnp


def super_resolution_loss(sr: jax.Array, hr: jax.Array) -> jax.Array:
    """Squared L2 distance between SR and HR images, Eq. 1 of the paper.

    A *sum* over pixels and channels: the weight α = 8 of the super-identity loss
    is relative to it. With a mean the same α would weigh height · width · 3 times
    as much.

    Args:
      sr: [n, height, width, channels], super-resolved faces, (x − 127.5) / 128.
      hr: [n, height, width, channels], the originals, in the same range.

    Returns:
      float32 scalar, the mean over the batch; computed in float32 whatever the
      inputs are.

    Raises:
      AssertionError: the images are not of rank 4 or their shapes differ.
    """
    chex.assert_rank([sr, hr], 4)
    chex.assert_equal_shape([sr, hr])
    difference = sr.astype(jnp.float32) - hr.astype(jnp.float32)
    return jnp.mean(jnp.sum(jnp.square(difference), axis=(1, 2, 3)))
