"""CNNH, the face hallucination network (Fig. 2a)."""

from collections.abc import Sequence
from functools import partial

import chex
import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Float32

from sicnn_jax.images import check_float
from sicnn_jax.models.layers import Conv, Deconv, Dtype, PReLU
from sicnn_jax.template import HEIGHT, WIDTH

# The size of a low-resolution face at each upscaling factor, height × width.
LR_SHAPES = {scale: (HEIGHT // scale, WIDTH // scale) for scale in (8, 4)}

# Doublings of the 8× network.
STAGES = 3

# The number of values that a field of CNNH may have instead of one: one for each
# resolution, or for each stage.
CNNH_SIZES = {
    'width': STAGES + 1,
    'growth': STAGES + 1,
    'depth': STAGES,
    'deconv_width': STAGES,
}

PerStage = int | Sequence[int]


def check_small(images: Array, scale: int, network: str) -> None:
    """Checks the small faces that a network is given.

    Raises:
      ValueError: the scale is neither 8 nor 4.
      TypeError: for integers, which are levels.
      AssertionError: the faces do not have the size of this scale.
    """
    if scale not in LR_SHAPES:
        raise ValueError(f'{network}.scale is {scale}; expected 8 or 4.')
    check_float(images, network)
    chex.assert_shape(images, (None, *LR_SHAPES[scale], 3))


class CNNH(nn.Module):
    """Dense blocks and learned ×2 upscaling from a small face to 112×96, Fig. 2a.

    A stage is a dense block, DeConv, and a mapping convolution that reduces the
    channels; the 4× network is the 8× one without its first stage (Sec. 4.5).

    `width` and `growth` are one number, or four: one for each resolution, from 14×12 to
    112×96. `depth` and `deconv_width` are one number, or three: one for each stage. The
    first number of each has no effect in the 4× network.

    Attributes:
      scale: 8 (from 12×14) or 4 (from 24×28).
      width: channels that a resolution begins with, from the stem or the mapping of a
        stage.
      growth: channels that each layer of a dense block adds.
      depth: layers in the dense block of a stage.
      deconv_width: channels of the deconvolutions.
      deconv_kernels: kernel sizes of the three deconvolutions of the 8× network.
      final_depth: layers in the dense block before the reconstruction.
      reconstruction_gain: factor of the initial weights of the reconstruction; if it is
        small, the first faces are grey.
      bicubic_skip: the reconstruction is added to the bicubic enlargement of the input,
        without tanh. Fig. 2a has no such skip; short training gains much from it.
      init_std: see `CNNR`; it covers every layer except the reconstruction.
      dtype: of the computation. Images are returned in float32.
      param_dtype: of the parameters.
    """

    scale: int = 8
    width: PerStage = 64
    growth: PerStage = 32
    depth: PerStage = 6
    deconv_width: PerStage = 256
    deconv_kernels: Sequence[int] = (3, 5, 5)
    final_depth: int = 2
    reconstruction_gain: float = 1.0
    bicubic_skip: bool = False
    init_std: float | None = 1.0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, 'n h w 3']) -> Float32[Array, 'n 112 96 3']:
        """Super-resolved faces.

        Args:
          images: 14×12 (scale 8) or 28×24 (scale 4), RGB, (x − 127.5) / 128.

        Returns:
          In (−1, 1) like the input; not bounded with `bicubic_skip`.

        Raises:
          ValueError: for another scale, or another number of sizes.
          TypeError: for integers, which are levels.
        """
        check_small(images, self.scale, 'CNNH')
        widths, growths = self._sizes('width'), self._sizes('growth')
        depths, deconv_widths = self._sizes('depth'), self._sizes('deconv_width')
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        conv = partial(Conv, init_std=self.init_std, **types)
        dense_block = partial(DenseBlock, init_std=self.init_std, **types)
        prelu = partial(PReLU, self.param_dtype)

        first = 0 if self.scale == 8 else 1
        x = conv(widths[first], name='stem')(images)
        x = prelu(name='stem_prelu')(x)
        for stage in range(first + 1, STAGES + 1):
            x = dense_block(
                growths[stage - 1], depths[stage - 1], name=f'dense_block{stage}'
            )(x)
            x = self.upscaling(deconv_widths[stage - 1], stage)(x)
            x = prelu(name=f'deconv_prelu{stage}')(x)
            x = conv(widths[stage], kernel_size=1, name=f'mapping{stage}')(x)
            x = prelu(name=f'mapping_prelu{stage}')(x)
        x = dense_block(growths[STAGES], self.final_depth, name='dense_block_final')(x)
        # Glorot's initialisation, times the gain.
        glorot = nn.initializers.variance_scaling(
            self.reconstruction_gain**2, 'fan_avg', 'uniform'
        )
        x = Conv(3, None, glorot, **types, kernel_size=5, name='reconstruction')(x)
        x = x.astype(jnp.float32)
        if self.bicubic_skip:
            images = images.astype(jnp.float32)
            return x + jax.image.resize(images, x.shape, 'cubic', antialias=False)
        return jnp.tanh(x)

    def upscaling(self, features: int, stage: int) -> nn.Module:
        """The layer that doubles height and width: DeConv."""
        return Deconv(
            features,
            self.init_std,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_size=self.deconv_kernels[stage - 1],
            name=f'deconv{stage}',
        )

    def _sizes(self, field):
        """One number per stage or resolution, from a field that may be one number."""
        given, count = getattr(self, field), CNNH_SIZES[field]
        sizes = (given,) * count if isinstance(given, int) else tuple(given)
        if len(sizes) != count:
            raise ValueError(
                f'CNNH.{field} is {given}; expected one number, or {count} of them.'
            )
        return sizes


class DenseBlock(nn.Module):
    """3×3 layers, each of which sees all earlier ones: c → c + depth · growth channels.

    It follows Huang et al. 2017, without bottlenecks and normalisation.
    """

    growth: int
    depth: int
    init_std: float | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n h w out']:
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        for layer in range(1, self.depth + 1):
            y = Conv(self.growth, self.init_std, **types, name=f'conv{layer}')(x)
            y = PReLU(self.param_dtype, name=f'prelu{layer}')(y)
            x = jnp.concatenate([x, y.astype(x.dtype)], axis=-1)
        return x
