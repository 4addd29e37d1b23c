"""Updates and iterations of the compared methods: LapSRN, UR-DGN, Ma et al.

As in `algorithm.py`, they are pure functions (recipe, state, batch) → (state, metrics).
"""

import jax
import jax.numpy as jnp
from jax import Array

from sicnn_jax import images, losses, terms
from sicnn_jax.algorithm import super_resolve, update_cnnh
from sicnn_jax.descent import Updated, descend
from sicnn_jax.recipe import Batch, Recipe, apply, both, pairs
from sicnn_jax.train_state import TrainState

__all__ = ['adversarial', 'fit', 'pyramid', 'update_discriminator', 'update_pyramid']


def update_pyramid(
    recipe: Recipe, state: TrainState, lr: Array, pyramid: tuple[Array, ...]
) -> Updated:
    """One step of a network with a pyramid by its Charbonnier losses (LapSRN, Eq. 2).

    Args:
      recipe: provides CNNH, the loss scale and the optimiser.
      state: with network 'cnnh'.
      lr: float32 [n, 112 / scale, 96 / scale, 3].
      pyramid: float32 originals in the sizes of the network's levels, 112×96 last.

    Returns:
      The state with CNNH updated (`step` unchanged), and metrics.
    """

    def objective(params, part):
        levels = apply(recipe.cnnh, params['cnnh'], part['lr'], method='pyramid')
        compared = zip(levels, part['pyramid'], strict=True)
        loss = sum(losses.charbonnier_loss(*pair) for pair in compared)
        return recipe.loss_scale * loss, {'charbonnier_loss': loss}

    batch = {'lr': lr, 'pyramid': pyramid}
    return descend(recipe, state, ('cnnh',), objective, batch)


def update_discriminator(
    recipe: Recipe, state: TrainState, sr: Array, hr: Array
) -> Updated:
    """One step of the discriminator by the cross-entropy of HR and SR faces.

    Args:
      recipe: provides the discriminator and its optimiser.
      state: with network 'discriminator'.
      sr: float32 [n, 112, 96, 3]; no gradient reaches the network that made them.
      hr: float32 [n, 112, 96, 3].

    Returns:
      The state with the discriminator updated (`step` unchanged), and metrics.
    """
    batch = jax.lax.stop_gradient({'sr': sr, 'hr': hr})

    def objective(params, part):
        logits = terms.discriminate(recipe, params, both(part['hr'], part['sr']))
        loss = losses.discriminator_loss(*jnp.split(logits, 2))
        return loss, {'discriminator_loss': loss}

    return descend(recipe, state, ('discriminator',), objective, batch)


def pyramid(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """An iteration of LapSRN: compares its levels with bicubically reduced HR."""
    lr, hr, _ = pairs(recipe, batch)
    levels = [
        images.to_float(images.degrade(batch['hr'], scale=factor))
        for factor in (8, 4, 2)
        if factor < recipe.scale
    ]
    return update_pyramid(recipe, state, lr, (*levels, hr))


def adversarial(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """An iteration of UR-DGN: the discriminator, then CNNH through its new state."""
    lr, hr, _ = pairs(recipe, batch)
    sr = super_resolve(recipe, state, lr)
    state, discriminated = update_discriminator(recipe, state, sr, hr)
    state, hallucinated = update_cnnh(recipe, state, lr, hr)
    return state, discriminated | hallucinated


def fit(recipe: Recipe, state: TrainState, batch: Batch) -> Updated:
    """The only iteration of a network that was fitted when the stage began."""
    return state, {'fitted_finite': jnp.ones(())}
