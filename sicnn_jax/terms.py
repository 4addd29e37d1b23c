"""The objective of CNNH: L_SR, and the weighted terms that a stage may add to it.

A new term is a function here and a line in `TERMS`. Its weight is the field
`NAME_weight` of a stage's config; α weighs the super-identity loss.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from sicnn_jax import losses
from sicnn_jax.recipe import Recipe, apply

__all__ = [
    'IDENTITY_TERMS',
    'TERMS',
    'Params',
    'Term',
    'adversarial',
    'discriminate',
    'draw_views',
    'feature_distance',
    'find_term',
    'hallucination_loss',
    'look',
    'perceptual',
    'super_identity',
]

Params = Mapping[str, Any]

# Folded into the key before the step; other draws of a step fold in the step first.
_STREAM = 3


def super_identity(recipe: Recipe, params: Params, sr: Array, hr: Array) -> Array:
    """L_SI (Eq. 3), which α weighs."""
    return losses.super_identity_loss(*_features(recipe, params, sr, hr))


def feature_distance(recipe: Recipe, params: Params, sr: Array, hr: Array) -> Array:
    """The loss that Sec. 3.4 argues against, on features that are not normalised."""
    return losses.feature_distance_loss(*_features(recipe, params, sr, hr))


def perceptual(recipe: Recipe, params: Params, sr: Array, hr: Array) -> Array:
    """Distance of activations inside CNNR (UR-DGN*, Sec. 4.4)."""
    inside = [recipe.cnnr.activate(params['cnnr'], faces) for faces in (sr, hr)]
    return losses.perceptual_loss(*inside)


def adversarial(recipe: Recipe, params: Params, sr: Array, hr: Array) -> Array:
    """The generator's loss: how well the discriminator detects SR faces (UR-DGN)."""
    return losses.generator_loss(discriminate(recipe, params, sr))


@dataclasses.dataclass(frozen=True)
class Term:
    """A term of CNNH's objective.

    Attributes:
      loss: (recipe, params, sr, hr) → scalar, the mean over the faces. `params` has
        the networks that it reads; their parameters get a gradient only in approach I.
      reads: names of those networks.
      views: whether SR and HR are first changed alike, see `draw_views`.
    """

    loss: Callable[[Recipe, Params, Array, Array], Array]
    reads: tuple[str, ...] = ()
    views: bool = False


TERMS = {
    'super_identity': Term(super_identity, reads=('cnnr',), views=True),
    'feature_distance': Term(feature_distance, reads=('cnnr',), views=True),
    'perceptual': Term(perceptual, reads=('cnnr',), views=True),
    'adversarial': Term(adversarial, reads=('discriminator',)),
}
# α weighs one of these.
IDENTITY_TERMS = ('super_identity', 'feature_distance')


def hallucination_loss(
    recipe: Recipe, params: Params, sr: Array, hr: Array, views: Array | None = None
) -> tuple[Array, dict[str, Array]]:
    """L_SR + Σ weight · term (Eq. 5 where the only term is α L_SI).

    Args:
      recipe: its `weights` name the terms. One whose weight is 0 is not computed.
      params: of the networks that these terms read.
      sr, hr: float32 [n, 112, 96, 3].
      views: from `draw_views`, for the terms with `views`; None for unchanged faces.

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
            faces = sr, hr
            if term.views and views is not None:
                faces = look(sr, views), look(hr, views)
            metrics[f'{name}_loss'] = loss = term.loss(recipe, params, *faces)
            total = total + weight * loss
    return total, metrics


def find_term(name: str) -> Term:
    """The term of that name; raises ValueError if there is none."""
    if name not in TERMS:
        raise ValueError(
            f"CNNH's objective has no term {name!r}; expected one of "
            f'{", ".join(TERMS)}.'
        )
    return TERMS[name]


def draw_views(recipe: Recipe, step: Array, count: int, axis: str) -> Array:
    """The views through which L_SI sees a device's faces, from (seed, step) alone.

    A recogniser that always sees the same pixels of a face can be fooled by a fine
    grid. Shifts and blurs prevent that.

    Args:
      recipe: provides the seed, `identity_shift` and `identity_blur`.
      step: int32.
      count: faces per device.
      axis: of the devices; each draws for all of them and takes its own part.

    Returns:
      float32 [count, 4]: whole pixels down and to the right; 1 if the face is
      mirrored, otherwise 0; standard deviation of the blur in pixels.
    """
    key = jax.random.fold_in(jax.random.key(recipe.seed), _STREAM)
    key = jax.random.fold_in(key, step)
    devices = jax.lax.psum(1, axis)
    drawn = jax.random.uniform(key, (devices, count, 4), jnp.float32)
    moved, mirrored, blur = jnp.split(drawn[jax.lax.axis_index(axis)], (2, 3), axis=1)
    farthest = recipe.identity_shift
    moved = jnp.floor(moved * (2 * farthest + 1)) - farthest
    return jnp.concatenate([moved, mirrored < 0.5, recipe.identity_blur * blur], axis=1)


def look(faces: Array, views: Array) -> Array:
    """Faces mirrored, moved and blurred; pixels from beyond an edge repeat it.

    Args:
      faces: float32 [n, h, w, 3].
      views: float32 [n, 4], from `draw_views`.
    """
    height, width = faces.shape[1:3]
    down, right, mirrored, blur = views.T[..., None]
    rows, columns = jnp.arange(height) - down, jnp.arange(width) - right
    columns = jnp.where(mirrored > 0, width - 1 - columns, columns)
    # Matrix products, because gathering is slow to differentiate on a CPU.
    return jnp.einsum(
        'nrh,nhwc,nsw->nrsc',
        _sampling(rows, blur, height).astype(faces.dtype),
        faces,
        _sampling(columns, blur, width).astype(faces.dtype),
        precision='highest',
    )


def _sampling(places, blur, size):
    """[n, m, size]: Gaussian weights of the pixels around each of the m places."""
    distance = jnp.arange(size) - jnp.clip(places, 0, size - 1)[..., None]
    # A Gaussian this narrow covers no other pixel.
    deviation = jnp.maximum(blur, 0.05)[..., None]
    return jax.nn.softmax(-0.5 * jnp.square(distance / deviation))


def discriminate(recipe: Recipe, params: Params, faces: Array) -> Array:
    """Logits of the discriminator, float32 [n]: positive for originals.

    Raises:
      ValueError: the recipe has no discriminator.
    """
    if recipe.discriminator is None:
        raise ValueError('The recipe has no discriminator: set Recipe.discriminator.')
    return apply(recipe.discriminator, params['discriminator'], faces)


def _features(recipe, params, *batches):
    return [apply(recipe.cnnr, params['cnnr'], faces) for faces in batches]
