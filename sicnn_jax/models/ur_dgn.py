"""UR-DGN, a generator and a discriminator of faces (Yu & Porikli 2016)."""

from collections.abc import Sequence
from functools import partial

import chex
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Float32

from sicnn_jax.images import check_float
from sicnn_jax.models.cnnh import check_small
from sicnn_jax.models.layers import Conv, Deconv, Dense, Dtype, average_pool
from sicnn_jax.template import HEIGHT, WIDTH

_SLOPE = 0.2


class URDGN(nn.Module):
    """The generator: ×2 deconvolutions, ReLU after each, up to 112×96.

    Attributes:
      scale: 8 (from 12×14) or 4 (from 24×28).
      widths: channels of the three levels of the 8× network; the 4× network lacks the
        first level, as in CNNH (Sec. 4.5).
      depth: convolutions after the deconvolution of a level.
      kernel_size: of every layer.
      init_std: see `CNNR`; it covers every layer except the last.
      dtype: of the computation. Images are returned in float32.
      param_dtype: of the parameters.
    """

    scale: int = 8
    widths: Sequence[int] = (256, 128, 64)
    depth: int = 1
    kernel_size: int = 5
    init_std: float | None = 1.0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w 3']) -> Float32[Array, 'n 112 96 3']:
        """Super-resolved faces.

        Args:
          images: 14×12 (scale 8) or 28×24 (scale 4), RGB, (x − 127.5) / 128.

        Returns:
          In (−1, 1) like the input.

        Raises:
          ValueError: for another scale.
        """
        check_small(images, self.scale, 'URDGN')
        settings = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        settings['kernel_size'] = self.kernel_size
        x = images
        for level, width in enumerate(self.widths, start=1):
            if level == 1 and self.scale == 4:
                continue
            name = f'deconv{level}'
            x = nn.relu(Deconv(width, self.init_std, **settings, name=name)(x))
            for index in range(1, self.depth + 1):
                name = f'conv{level}_{index}'
                x = nn.relu(Conv(width, self.init_std, **settings, name=name)(x))
        x = Conv(3, **settings, name='reconstruction')(x)
        return jnp.tanh(x.astype(jnp.float32))


class Discriminator(nn.Module):
    """Tells originals from super-resolved faces by convolutions, each with pooling.

    Attributes:
      widths: channels of the levels.
      kernel_size: of the convolutions.
      init_std: see `CNNR`.
      dtype: of the computation. Logits are returned in float32.
      param_dtype: of the parameters.
    """

    widths: Sequence[int] = (32, 64, 128, 256)
    kernel_size: int = 5
    init_std: float | None = 1.0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, 'n 112 96 3']) -> Float32[Array, ' n']:
        """Logits of being an original.

        Args:
          images: RGB, (x − 127.5) / 128.

        Returns:
          Any number; higher is more like an original.
        """
        check_float(images, 'The discriminator')
        chex.assert_shape(images, (None, HEIGHT, WIDTH, 3))
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        conv = partial(
            Conv, init_std=self.init_std, **types, kernel_size=self.kernel_size
        )
        x = images
        for level, width in enumerate(self.widths, start=1):
            x = conv(width, name=f'conv{level}')(x)
            x = average_pool(nn.leaky_relu(x, _SLOPE))
        x = x.reshape(x.shape[0], -1)
        x = Dense(1, self.init_std, **types, name='logit')(x)
        return x[:, 0].astype(jnp.float32)
