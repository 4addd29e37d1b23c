"""The objective of CNNH: L_SR, and the terms that a stage may weigh beside it.

A new term is a function here and a line in `TERMS`. A stage weighs it by the field
`NAME_weight` of its config; α weighs the super-identity loss.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

from sicnn_jax import losses
from sicnn_jax.models import activations
from sicnn_jax.recipe import Recipe, apply

Params = Mapping[str, Any]


def super_identity(
    recipe: Recipe, params: Params, sr: jax.Array, hr: jax.Array
) -> jax.Array:
    """L_SI (Eq. 3), which α weighs."""
    return losses.super_identity_loss(*_features(recipe, params, sr, hr))


def feature_distance(
    recipe: Recipe, params: Params, sr: jax.Array, hr: jax.Array
) -> jax.Array:
    """The loss that Sec. 3.4 argues against: features are not normalised."""
    return losses.feature_distance_loss(*_features(recipe, params, sr, hr))


def perceptual(
    recipe: Recipe, params: Params, sr: jax.Array, hr: jax.Array
) -> jax.Array:
    """Distance of activations inside CNNR (UR-DGN*, Sec. 4.4)."""

    def inside(faces):
        return activations(recipe.cnnr, params['cnnr'], faces)

    return losses.perceptual_loss(inside(sr), inside(hr))


def adversarial(
    recipe: Recipe, params: Params, sr: jax.Array, hr: jax.Array
) -> jax.Array:
    """What the discriminator makes of super-resolved faces (UR-DGN)."""
    return losses.generator_loss(discriminate(recipe, params, sr))


@dataclasses.dataclass(frozen=True)
class Term:
    """A term of CNNH's objective.

    Attributes:
      loss: (recipe, params, sr, hr) → scalar, the mean over the faces. `params` has
        the networks that it reads; their parameters get no gradient but in approach I.
      reads: names of those networks.
    """

    loss: Callable[[Recipe, Params, jax.Array, jax.Array], jax.Array]
    reads: tuple[str, ...] = ()


TERMS = {
    'super_identity': Term(super_identity, reads=('cnnr',)),
    'feature_distance': Term(feature_distance, reads=('cnnr',)),
    'perceptual': Term(perceptual, reads=('cnnr',)),
    'adversarial': Term(adversarial, reads=('discriminator',)),
}
# α weighs one of these.
IDENTITY_TERMS = ('super_identity', 'feature_distance')


def hallucination_loss(
    recipe: Recipe, params: Params, sr: jax.Array, hr: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L_SR + Σ weight · term (Eq. 5 where the only term is α L_SI).

    Args:
      recipe: its `weights` name the terms. One whose weight is 0 is not computed.
      params: of the networks that these terms read.
      sr: float32 [n, 112, 96, 3].
      hr: likewise.

    Returns:
      The sum, and every loss by its name, such as 'super_identity_loss'.

    Raises:
      ValueError: there is no such term, or `params` lacks a network.
    """
    total = losses.super_resolution_loss(sr, hr)
    metrics = {'super_resolution_loss': total}
    for name, weight in recipe.weights.items():
        if weight:
            term = find_term(name)
            for network in term.reads:
                if network not in params:
                    raise ValueError(
                        f'The term {name!r} has the weight {weight}, but the state '
                        f'has no network {network!r}, which it reads.'
                    )
            metrics[f'{name}_loss'] = loss = term.loss(recipe, params, sr, hr)
            total = total + weight * loss
    return total, metrics


def find_term(name: str) -> Term:
    """The term of that name; raises ValueError if there is none."""
    if name not in TERMS:
        raise ValueError(
            f'There is no term {name!r} of the objective of CNNH; expected one of '
            f'{", ".join(TERMS)}.'
        )
    return TERMS[name]


def discriminate(recipe: Recipe, params: Params, faces: jax.Array) -> jax.Array:
    """Logits of the discriminator, float32 [n]: positive for originals.

    Raises:
      ValueError: the recipe has no discriminator.
    """
    if recipe.discriminator is None:
        raise ValueError('The recipe has no discriminator: give it one.')
    return apply(recipe.discriminator, params['discriminator'], faces)


def _features(recipe, params, *batches):
    return [apply(recipe.cnnr, params['cnnr'], faces) for faces in batches]
