"""The fixed parts of a stage's training, and the faces that its updates see."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from sicnn_jax import images
from sicnn_jax.models import Discriminator, Recogniser

__all__ = ['Batch', 'Recipe', 'apply', 'both', 'pairs']

# {'hr': uint8 [n, 112, 96, 3], 'label': int32 [n]}, and for a stage with a teacher
# 'target': float32 [n, d]
Batch = Mapping[str, jax.Array]


# Compared by identity, so that it can be a static argument of `jax.jit`.
@dataclasses.dataclass(frozen=True, eq=False)
class Recipe:
    """Networks, losses, weights and optimisers of a stage.

    Attributes:
      cnnr: recognition network.
      cnnh: hallucination network, the paper's or a compared method's.
      optimizers: optimiser of each network that the stage may update.
      recognition_loss: L_FR, (features, class_weights, labels, annealing=λ) → scalar.
      annealing: step → λ of A-Softmax.
      scale: upscaling factor, 8 or 4.
      degradation: how LR is made from HR, see `images.degrade`.
      weights: of the terms added to L_SR in CNNH's objective, by their names in
        `terms.TERMS`; the paper's α is the weight of 'super_identity'. They are
        relative to L_SR, which is a sum over pixels.
      identity_shift, identity_blur: largest shift of SR and HR before L_SI, in pixels,
        and largest standard deviation of their blur; if either is not 0, both are also
        mirrored with probability ½. SR and HR are always changed alike.
      beta: β, weight of L_FR in the objective of approach I (Eq. 4).
      loss_scale: factor of the whole objective of CNNH. It changes only the gradient
        that clipping and Adam see; plain SGD on a sum over pixels needs it
        (docs/decisions.md).
      split_identities: each device holds the class weights of some identities, as
        `parallel.split` lays them out, instead of all of them.
      sampled_identities: number of identities that L_FR compares with, drawn in each
        step from the identities that a device holds; 0 for all.
      seed: of that draw, and of the draws before L_SI.
      discriminator: tells originals from super-resolved faces, for UR-DGN.
      microbatches: number of parts in which a device processes its batch, one after
        the other; the step is made with the mean of their gradients. Sampled
        identities are drawn for each part.
    """

    cnnr: Recogniser
    cnnh: nn.Module
    optimizers: Mapping[str, optax.GradientTransformation]
    recognition_loss: Callable[..., jax.Array]
    annealing: Callable[[jax.Array], jax.Array]
    scale: int = 8
    degradation: str = 'bicubic'
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    identity_shift: int = 0
    identity_blur: float = 0.0
    beta: float = 1.0
    loss_scale: float = 1.0
    split_identities: bool = False
    sampled_identities: int = 0
    seed: int = 0
    discriminator: Discriminator | None = None
    microbatches: int = 1


def pairs(recipe: Recipe, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Line 2 of Algorithm 1: N pairs, made from originals.

    Returns:
      LR, float32 [n, 112 / scale, 96 / scale, 3]; HR, float32 [n, 112, 96, 3], both
      (level − 127.5) / 128; labels, int32 [n].
    """
    lr = images.degrade(batch['hr'], scale=recipe.scale, kind=recipe.degradation)
    return images.to_float(lr), images.to_float(batch['hr']), batch['label']


def both(first: jax.Array, second: jax.Array) -> jax.Array:
    """Two batches as one, [n, ...] and [n, ...] → [2n, ...]."""
    return jnp.concatenate([first, second])


def apply(network: nn.Module, params: Any, faces: jax.Array, **how: Any) -> Any:
    """`network.apply` without mutable collections, typed as Any because of Flax."""
    return network.apply({'params': params}, faces, **how)
