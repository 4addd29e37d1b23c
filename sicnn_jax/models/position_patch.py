"""Position-patch hallucination (Ma, Zhang & Qi 2010): no training, but stored faces."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Float32, Int, UInt8

from sicnn_jax.images import to_float
from sicnn_jax.models.cnnh import LR_SHAPES, check_small
from sicnn_jax.template import HEIGHT, WIDTH

# The patches of this many positions are in memory at once.
_TOGETHER = 16


def combination_weights(
    patches: Float[Array, 'm d'], training: Float[Array, 'n d'], regularisation: float
) -> Float32[Array, 'm n']:
    """Weights that combine training patches to each patch.

    They minimise ‖x − Σ_i w_i y_i‖² + τ Σ_i w_i² subject to Σ_i w_i = 1 (Ma et al.
    2010, Eq. 5, whose Gram matrix is singular where there are more training faces than
    values in a patch; τ makes the weights unique). With w = 1/n + v the constraint is
    Σ v = 0, which the ridge regression of x − ȳ on the centred y_i satisfies by itself.
    So one system of d equations is solved for all patches, instead of a system of n
    equations for each.

    Args:
      patches: x.
      training: y.
      regularisation: τ, positive.

    Returns:
      w, whose rows each sum to 1.
    """
    chex.assert_rank([patches, training], 2)
    mean = training.mean(0)
    centred = training - mean
    # Neighbouring pixels are nearly equal, and TF32 would not tell them apart.
    covariance = jnp.matmul(centred.T, centred, precision='highest')
    regularised = covariance + regularisation * jnp.eye(len(covariance))
    factor = jax.scipy.linalg.cho_factor(regularised)
    solved = jax.scipy.linalg.cho_solve(factor, (patches - mean).T)
    return 1 / len(training) + (centred @ solved).T


class PositionPatch(nn.Module):
    """Writes each LR patch as a combination of training patches at the same position.

    The same weights combine the HR patches of these faces, and overlapping pixels are
    averaged. The 'parameters' are the training faces; `fit` makes them.

    Attributes:
      scale: 8 (from 12×14) or 4 (from 24×28).
      patch: side of a patch, in LR pixels.
      overlap: LR pixels that neighbouring patches share; less than `patch`. The last
        patch of a row or column may share more, because it ends with the face.
      num_faces: training faces.
      regularisation: τ / num_faces, the assumed variance of the noise of LR values.
        Rounding to levels alone gives 5e-6.
    """

    scale: int = 8
    patch: int = 3
    overlap: int = 1
    num_faces: int = 1_000
    regularisation: float = 1e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, fits, expected in (
            ('scale', self.scale in LR_SHAPES, '8 or 4'),
            ('patch', 1 <= self.patch <= 12, '1 to 12 pixels'),
            ('overlap', 0 <= self.overlap < self.patch, 'from 0, less than patch'),
            ('num_faces', self.num_faces >= 1, 'at least 1'),
            ('regularisation', self.regularisation > 0, 'more than 0'),
        ):
            if not fits:
                raise ValueError(
                    f'PositionPatch.{field} is {getattr(self, field)}; expected '
                    f'{expected}.'
                )

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w 3']) -> Float32[Array, 'n 112 96 3']:
        """Super-resolved faces.

        Args:
          images: 14×12 (scale 8) or 28×24 (scale 4), RGB, (x − 127.5) / 128.

        Returns:
          In the range of the input, but not bounded by it.
        """
        check_small(images, self.scale, 'PositionPatch')
        height, width = LR_SHAPES[self.scale]

        def stored(name, size):
            shape = (self.num_faces, *size, 3)
            return to_float(self.param(name, nn.initializers.zeros, shape, jnp.uint8))

        lr, hr = stored('lr', (height, width)), stored('hr', (HEIGHT, WIDTH))
        side = self.patch
        strength = self.regularisation * self.num_faces

        def combine(position):
            """The HR patches [n, side · scale, side · scale, 3] of one position."""
            weights = combination_weights(
                _cut(images, position, side), _cut(lr, position, side), strength
            )
            large = side * self.scale
            patches = weights @ _cut(hr, position * self.scale, large)
            return patches.reshape(-1, large, large, 3)

        positions = jnp.asarray(patch_positions(height, width, side, self.overlap))
        patches = jax.lax.map(combine, positions, batch_size=_TOGETHER)
        return _average(patches, positions * self.scale)

    def fit(
        self,
        lr: UInt8[np.ndarray, 'num_faces h w 3'],
        hr: UInt8[np.ndarray, 'num_faces 112 96 3'],
    ) -> dict[str, UInt8[np.ndarray, 'num_faces _ _ 3']]:
        """The parameters that `apply` takes.

        Args:
          lr: 14×12 (scale 8) or 28×24 (scale 4), RGB.
          hr: the originals.
        """
        chex.assert_shape(lr, (self.num_faces, *LR_SHAPES[self.scale], 3))
        chex.assert_shape(hr, (self.num_faces, HEIGHT, WIDTH, 3))
        chex.assert_type([lr, hr], np.uint8)
        return {'lr': np.asarray(lr), 'hr': np.asarray(hr)}


def patch_positions(
    height: int, width: int, patch: int, overlap: int
) -> Int[np.ndarray, 'p 2']:
    """Upper left corners (y, x) of patches that cover an image."""
    rows, columns = (
        [*range(0, size - patch, patch - overlap), size - patch]
        for size in (height, width)
    )
    return np.array([(row, column) for row in rows for column in columns])


def _cut(images, position, side):
    """The patches of one position: [n, h, w, c] → [n, side · side · c]."""
    n, _, _, channels = images.shape
    corner = (0, *position, 0)
    patches = jax.lax.dynamic_slice(images, corner, (n, side, side, channels))
    return patches.reshape(n, -1)


def _average(patches, corners):
    """Images of overlapping patches: [p, n, s, s, 3] at [p, 2] → [n, 112, 96, 3]."""
    _, n, side, _, channels = patches.shape

    def add(sums, patch_and_corner):
        patch, (y, x) = patch_and_corner
        total, count = sums
        old = jax.lax.dynamic_slice(total, (0, y, x, 0), patch.shape)
        total = jax.lax.dynamic_update_slice(total, old + patch, (0, y, x, 0))
        covered = jax.lax.dynamic_slice(count, (y, x), (side, side)) + 1
        return (total, jax.lax.dynamic_update_slice(count, covered, (y, x))), None

    empty = jnp.zeros((n, HEIGHT, WIDTH, channels)), jnp.zeros((HEIGHT, WIDTH))
    (total, count), _ = jax.lax.scan(add, empty, (patches, corners))
    return total / count[..., None]
