"""Distances of images: the super-resolution loss (Eq. 1) and LapSRN's loss."""

import chex
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32


def super_resolution_loss(
    sr: Float[ArrayLike, 'n height width channels'],
    hr: Float[ArrayLike, 'n height width channels'],
) -> Float32[Array, '']:
    """Squared L2 distance between SR and HR images, Eq. 1 of the paper.

    It is a *sum* over pixels and channels, and the weight α = 8 of the super-identity
    loss is relative to it. With a mean, the same α would weigh height · width · 3 times
    as much.

    Args:
      sr: super-resolved faces, (x − 127.5) / 128.
      hr: the originals, in the same range.

    Returns:
      The mean over the batch; computed in float32 whatever the inputs are.

    Raises:
      AssertionError: the images are not of rank 4 or their shapes differ.
    """
    chex.assert_rank([sr, hr], 4)
    chex.assert_equal_shape([sr, hr])
    difference = jnp.asarray(sr, jnp.float32) - jnp.asarray(hr, jnp.float32)
    return jnp.mean(jnp.sum(jnp.square(difference), axis=(1, 2, 3)))


def charbonnier_loss(
    sr: Float[ArrayLike, 'n height width channels'],
    hr: Float[ArrayLike, 'n height width channels'],
    epsilon: float = 1e-3,
) -> Float32[Array, '']:
    """Robust distance of images, Σ √((sr − hr)² + ε²): LapSRN, Lai et al. 2017, Eq. 2.

    It is a *sum* over pixels and channels, as is `super_resolution_loss`.

    Args:
      sr: super-resolved faces, (x − 127.5) / 128.
      hr: the originals, in the same range.
      epsilon: ε, below which the distance is quadratic; positive, or equal images
        would have no gradient.

    Returns:
      The mean over the batch; computed in float32 whatever the inputs are. Equal
      images have a distance of ε for every value, not 0.

    Raises:
      AssertionError: the images are not of rank 4 or their shapes differ.
    """
    chex.assert_rank([sr, hr], 4)
    chex.assert_equal_shape([sr, hr])
    difference = jnp.asarray(sr, jnp.float32) - jnp.asarray(hr, jnp.float32)
    distance = jnp.sqrt(jnp.square(difference) + epsilon**2)
    return jnp.mean(jnp.sum(distance, axis=(1, 2, 3)))
