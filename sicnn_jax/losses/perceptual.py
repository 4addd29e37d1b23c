"""The perceptual loss (Johnson et al. 2016), on activations of CNNR (Sec. 4.4)."""

from collections.abc import Sequence

import chex
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32


def perceptual_loss(
    sr_activations: Sequence[Float[ArrayLike, 'n _ _ _']],
    hr_activations: Sequence[Float[ArrayLike, 'n _ _ _']],
) -> Float32[Array, '']:
    """Mean squared distance of activations, summed over the blocks they come from.

    It is a *mean* over height, width and channels, so that every block weighs the same
    whatever its size. Gradients flow into both arguments; where the originals are a
    fixed target, the caller stops them.

    Args:
      sr_activations: of super-resolved faces, after each block; a block has its own
        height, width and channels.
      hr_activations: of the originals, in the same shapes.

    Returns:
      0 or more; computed in float32 whatever the inputs are.

    Raises:
      ValueError: there are no activations.
      AssertionError: the activations are not of rank 4, or their number or shapes
        differ.
    """
    if not sr_activations:
        raise ValueError(
            'The perceptual loss has nothing to compare: expected CNNR, or another '
            'recogniser whose `activations` name some.'
        )
    chex.assert_equal(len(sr_activations), len(hr_activations))
    chex.assert_rank([*sr_activations, *hr_activations], 4)
    chex.assert_trees_all_equal_shapes(tuple(sr_activations), tuple(hr_activations))
    distances = [
        jnp.mean(
            jnp.square(jnp.asarray(sr, jnp.float32) - jnp.asarray(hr, jnp.float32))
        )
        for sr, hr in zip(sr_activations, hr_activations, strict=True)
    ]
    return jnp.sum(jnp.stack(distances))
