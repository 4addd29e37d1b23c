"""CNNH, the face hallucination network (Fig. 2a)."""

from collections.abc import Sequence
from functools import partial

import chex
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Float32

from sicnn_jax.models.layers import Conv, Deconv, Dtype, PReLU

# A low-resolution face of each upscaling factor, height × width.
LR_SHAPES = {8: (14, 12), 4: (28, 24)}


class CNNH(nn.Module):
    """Dense blocks and learned ×2 upscaling from a small face to 112×96, Fig. 2a.

    A stage is a dense block, DeConv, and a mapping convolution that reduces the
    channels; the 4× network is the 8× one without its first stage (Sec. 4.5).

    Attributes:
      scale: 8 (from 12×14) or 4 (from 24×28).
      width: channels of the stem and of each mapping.
      growth: channels that each layer of a dense block adds.
      depth: layers of the dense block of a stage.
      deconv_width: channels of the deconvolutions.
      deconv_kernels: kernel sizes of the three deconvolutions of the 8× network.
      final_depth: layers of the dense block before the reconstruction.
      init_std: see `CNNR`; it covers every layer but the reconstruction.
      dtype: of the computation. Images are returned in float32.
      param_dtype: of the parameters.
    """

    scale: int = 8
    width: int = 64
    growth: int = 32
    depth: int = 6
    deconv_width: int = 256
    deconv_kernels: Sequence[int] = (3, 5, 5)
    final_depth: int = 2
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
        if self.scale not in LR_SHAPES:
            raise ValueError(f'CNNH.scale is {self.scale}; expected 8 or 4.')
        chex.assert_shape(images, (None, *LR_SHAPES[self.scale], 3))
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        settings = {'init_std': self.init_std, **types}
        prelu = partial(PReLU, self.param_dtype)

        x = prelu(name='stem_prelu')(Conv(self.width, **settings, name='stem')(images))
        first_stage = 1 if self.scale == 8 else 2
        for stage, kernel in enumerate(self.deconv_kernels, start=1):
            if stage < first_stage:
                continue
            x = DenseBlock(
                self.growth, self.depth, **settings, name=f'dense_block{stage}'
            )(x)
            x = Deconv(
                self.deconv_width,
                kernel_size=kernel,
                **settings,
                name=f'deconv{stage}',
            )(x)
            x = prelu(name=f'deconv_prelu{stage}')(x)
            x = Conv(self.width, kernel_size=1, **settings, name=f'mapping{stage}')(x)
            x = prelu(name=f'mapping_prelu{stage}')(x)
        x = DenseBlock(
            self.growth, self.final_depth, **settings, name='dense_block_final'
        )(x)
        x = Conv(3, kernel_size=5, init_std=None, **types, name='reconstruction')(x)
        return jnp.tanh(x.astype(jnp.float32))


class DenseBlock(nn.Module):
    """3×3 layers that each see all before them: c → c + depth · growth channels.

    Huang et al. 2017, without bottlenecks and normalisation.
    """

    growth: int
    depth: int
    init_std: float | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n h w out']:
        for layer in range(1, self.depth + 1):
            y = Conv(
                self.growth,
                self.init_std,
                dtype=self.dtype,
                param_dtype=self.param_dtype,
                name=f'conv{layer}',
            )(x)
            y = PReLU(self.param_dtype, name=f'prelu{layer}')(y)
            x = jnp.concatenate([x, y.astype(x.dtype)], axis=-1)
        return x
