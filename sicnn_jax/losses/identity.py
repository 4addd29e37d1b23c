"""The super-identity loss (Eq. 3) and the hypersphere it is measured on."""

import chex
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32

# A shorter vector has no direction. It is larger than the smallest float32 because the
# derivative of 1 / norm contains norm ** -3, which must stay finite.
_SMALLEST_NORM = 1e-12


def normalize(
    features: Float[ArrayLike, '*shape'], axis: int = -1
) -> Float32[Array, '*shape']:
    """Scales vectors to unit L2 norm: the projection onto the hypersphere.

    Args:
      features: vectors of any length and number.
      axis: along which the vectors lie.

    Returns:
      The unit vectors. Vectors shorter than 1e-12 have no direction and become zeros,
      with zero gradient. Norms must be below 1.8e19: the square of a larger one
      overflows float32, and the vector becomes zeros as well.
    """
    features = jnp.asarray(features, jnp.float32)
    squared = jnp.sum(jnp.square(features), axis=axis, keepdims=True)
    return features * inverse_norm(squared)


def inverse_norm(squared: Float32[Array, '*shape']) -> Float32[Array, '*shape']:
    """1 / ‖x‖ from ‖x‖²; 0, with zero gradient, where ‖x‖ is below 1e-12."""
    directed = squared > _SMALLEST_NORM**2
    # The inner `where` keeps the infinite derivative at zero out of the gradient; the
    # outer one alone would turn it into 0 · ∞.
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
      hr_features: of the originals, not normalised.

    Returns:
      In [0, 4], the mean over the batch; computed in float32 whatever the inputs are.

    Raises:
      AssertionError: the features are not of rank 2 or their shapes differ.
    """
    # 2 − 2 cos θ would cancel for nearly equal features, which are the aim.
    return _mean_squared_distance(normalize(sr_features), normalize(hr_features))


def feature_distance_loss(
    sr_features: Float[ArrayLike, 'n feature_dim'],
    hr_features: Float[ArrayLike, 'n feature_dim'],
) -> Float32[Array, '']:
    """Squared distance of identity features that are not normalised.

    Sec. 3.4 argues against this loss; it is here for comparison. Faces with long
    features count for more, and so does a feature's length, which A-Softmax ignores.
    The unit is the mean squared norm of the originals' features, a constant, so that
    one α suits both this loss and `super_identity_loss`, whose features have norm 1.

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
