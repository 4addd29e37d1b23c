"""LapSRN, Laplacian pyramid super-resolution (Lai et al. 2017)."""

from functools import partial

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Float32, PRNGKeyArray

from sicnn_jax.models.cnnh import check_small
from sicnn_jax.models.layers import Conv, Deconv, Dtype

_SLOPE = 0.2
# The standard deviation of the first residuals, as a share of `init_std`: training
# begins with nearly bilinear interpolation.
_RESIDUAL = 0.01


def bilinear(
    key: PRNGKeyArray, shape: tuple[int, int, int, int], dtype: Dtype = jnp.float32
) -> Float[Array, '4 4 c d']:
    """Kernel whose deconvolution interpolates each channel bilinearly.

    Channel i becomes output i; outputs without a channel start at zero.
    """
    taps = np.array([0.25, 0.75, 0.75, 0.25])
    return jnp.asarray(np.einsum('h,w,cd->hwcd', taps, taps, np.eye(*shape[2:])), dtype)


class LapSRN(nn.Module):
    """Enlarges by 2 and adds a residual image at each level.

    Feature extraction: at each level, `depth` 3×3 convolutions and a 4×4 deconvolution,
    each followed by a leaky ReLU of slope 0.2. Reconstruction: a 4×4 deconvolution of
    the previous level's image, which begins as bilinear interpolation, plus the
    residual that a 3×3 convolution computes from the features.

    Attributes:
      scale: 8 (from 12×14, three levels) or 4 (from 24×28, two).
      width: channels of the features.
      depth: convolutions of a level.
      init_std: see `CNNR`.
      dtype: of the features' computation. Images are in float32.
      param_dtype: of the parameters.
    """

    scale: int = 8
    width: int = 64
    depth: int = 5
    init_std: float | None = 1.0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __call__(self, images: Float[Array, 'n h w 3']) -> Float32[Array, 'n 112 96 3']:
        """Super-resolved faces.

        Args:
          images: 14×12 (scale 8) or 28×24 (scale 4), RGB, (x − 127.5) / 128.

        Returns:
          In the range of the input, but not bounded by it.

        Raises:
          ValueError: for another scale.
        """
        return self.pyramid(images)[-1]

    @nn.compact
    def pyramid(
        self, images: Float[Array, 'n h w 3']
    ) -> tuple[Float32[Array, 'n _ _ 3'], ...]:
        """Images of every level, as `__call__`: the smallest first, 112×96 last."""
        check_small(images, self.scale, 'LapSRN')
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        conv = partial(Conv, self.width, self.init_std, **types)
        deconv = partial(
            Deconv, kernel_init=bilinear, kernel_size=4, param_dtype=self.param_dtype
        )

        def features(layer):
            return nn.leaky_relu(layer, _SLOPE)

        residual_std = None if self.init_std is None else _RESIDUAL * self.init_std
        x = features(conv(name='stem')(images))
        image, levels = images, []
        for level in range(1, self.scale.bit_length()):
            for index in range(1, self.depth + 1):
                x = features(conv(name=f'conv{level}_{index}')(x))
            name = f'deconv{level}'
            x = deconv(self.width, self.init_std, dtype=self.dtype, name=name)(x)
            x = features(x)
            residual = Conv(3, residual_std, **types, name=f'residual{level}')(x)
            enlarged = deconv(3, name=f'enlargement{level}')(image)
            image = enlarged + residual.astype(jnp.float32)
            levels.append(image)
        return tuple(levels)
