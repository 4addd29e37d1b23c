"""The super-identity loss (Eq. 3) and the hypersphere it is measured on."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32

# Below it a vector has no direction. Larger than the smallest float32 because the
# derivative of 1 / norm holds norm ** -3, which has to stay finite.
_SMALLEST_NORM = 1e-12


def normalize(
    features: Float[ArrayLike, '*shape'], axis: int = -1
) -> Float32[Array, '*shape']:
    """Scales vectors to unit L2 norm: the projection onto the hypersphere.

    Args:
      features: vectors of any length and number.
      axis: along which the vectors lie.

    Returns:
      The unit vectors. Those shorter than 1e-12 have no direction and become zeros,
      with zero gradient. Norms are to be below 1.8e19: the square of a larger one is
      no float32, and such a vector becomes zeros, too.
    """
    features = jnp.asarray(features, jnp.float32)
    squared = jnp.sum(jnp.square(features), axis=axis, keepdims=True)
    return features * inverse_norm(squared)


def inverse_norm(squared: Float32[Array, '*shape']) -> Float32[Array, '*shape']:
    """1 / ‖x‖ from ‖x‖²; 0, with zero gradient, where ‖x‖ is below 1e-12."""
    directed = squared > _SMALLEST_NORM**2
    # The inner `where` keeps the infinite derivative at zero out of the gradient,
    # where the outer one would turn it into 0 · ∞.
    inverse = jax.lax.rsqrt(jnp.where(directed, squared, 1.0))
    return jnp.where(directed, inverse, 0.0)


def super_identity_loss(
    sr_features: Float[ArrayLike, 'n feature_dim'],
    hr_features: Float[ArrayLike, 'n feature_dim'],
) -> Float32[Array, '']:
    """Squared distance of L2-normalised identity features, Eq. 3 of the paper.

    Equals 2 − 2 cos θ. Gradients flow into both arguments; where the features of
    the originals are a fixed target (Algorithm 1), the caller stops them.

    Args:
      sr_features: of super-resolved faces, not normalised.
      hr_features: of the originals, likewise.

    Returns:
      In [0, 4], the mean over the batch; computed in float32 whatever the inputs are.

    Raises:
      AssertionError: the features are not of rank 2 or their shapes differ.
    """
    # Not as 2 − 2 cos θ, which cancels for the nearly equal features it aims at.
    return _mean_squared_distance(normalize(sr_features), normalize(hr_features))


def feature_distance_loss(
    sr_features: Float[ArrayLike, 'n feature_dim'],
    hr_features: Float[ArrayLike, 'n feature_dim'],
) -> Float32[Array, '']:
    """Squared distance of identity features as they are, not on the hypersphere.

    What Sec. 3.4 argues against, to compare with: faces with long features count for
    more, and so does how long they are, which A-Softmax does not look at. In units of
    the mean squared norm of the originals' features, a constant, so that one α weighs
    it as it does `super_identity_loss`, whose features have the norm 1.

    Args:
      sr_features: of super-resolved faces.
      hr_features: of the originals.

    Returns:
      0 or more, the mean over the batch; computed in float32 whatever the inputs are.

    Raises:
      AssertionError: the features are not of rank 2 or their shapes differ.
    """
    sr_features = jnp.asarray(sr_features, jnp.float32)
    hr_features = jnp.asarray(hr_features, jnp.float32)
    distance = _mean_squared_distance(sr_features, hr_features)
    unit = jax.lax.stop_gradient(jnp.mean(jnp.sum(jnp.square(hr_features), axis=-1)))
    return distance / jnp.maximum(unit, _SMALLEST_NORM)


def _mean_squared_distance(
    a: Float32[Array, 'n feature_dim'], b: Float32[Array, 'n feature_dim']
) -> Float32[Array, '']:
    chex.assert_rank([a, b], 2)
    chex.assert_equal_shape([a, b])
    return jnp.mean(jnp.sum(jnp.square(a - b), axis=-1))
