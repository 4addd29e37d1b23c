"""The super-identity loss (Eq. 3) and the hypersphere it is measured on."""

import chex
import jax
import jax.numpy as jnp

# Below it a vector has no direction. Larger than the smallest float32 because the
# derivative of 1 / norm holds norm ** -3, which has to stay finite.
_SMALLEST_NORM = 1e-12


def normalize(features: jax.Array, axis: int = -1) -> jax.Array:
    """Scales vectors to unit L2 norm: the projection onto the hypersphere.

    Args:
      features: [..., feature_dim] (or the vectors along another axis).
      axis: along which the vectors lie.

    Returns:
      float32, of the same shape. Vectors shorter than 1e-12 have no direction and
      become zeros, with zero gradient.
    """
    features = jnp.asarray(features, jnp.float32)
    squared = jnp.sum(jnp.square(features), axis=axis, keepdims=True)
    directed = squared > _SMALLEST_NORM**2
    # The inner `where` keeps the infinite derivative at zero out of the gradient,
    # where the outer one would turn it into 0 · ∞.
    inverse = jax.lax.rsqrt(jnp.where(directed, squared, 1.0))
    return features * jnp.where(directed, inverse, 0.0)


def cosine_similarity(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine of the angle between pairs of features.

    Args:
      a: [..., feature_dim], need not be normalised.
      b: of the same shape.

    Returns:
      float32 [...], in [−1, 1] up to rounding; 0 where a feature is zero.

    Raises:
      AssertionError: the shapes differ.
    """
    chex.assert_equal_shape([a, b])
    return jnp.sum(normalize(a) * normalize(b), axis=-1)


def super_identity_loss(sr_features: jax.Array, hr_features: jax.Array) -> jax.Array:
    """Squared distance of L2-normalised identity features, Eq. 3 of the paper.

    Equals 2 − 2 cos θ. Gradients flow into both arguments; where the features of
    the originals are a fixed target (Algorithm 1), the caller stops them.

    Args:
      sr_features: [n, feature_dim], features of super-resolved faces.
      hr_features: [n, feature_dim], features of the originals.

    Returns:
      float32 scalar in [0, 4], the mean over the batch; computed in float32
      whatever the inputs are.

    Raises:
      AssertionError: the features are not of rank 2 or their shapes differ.
    """
    chex.assert_rank([sr_features, hr_features], 2)
    chex.assert_equal_shape([sr_features, hr_features])
    # Not as 2 − 2 cos θ, which cancels for the nearly equal features it aims at.
    difference = normalize(sr_features) - normalize(hr_features)
    return jnp.mean(jnp.sum(jnp.square(difference), axis=-1))
