"""CNNR, the face recognition network (Table 1)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import chex
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Float32

from sicnn_jax.images import check_float
from sicnn_jax.models.layers import Conv, Dense, Dtype, PReLU, average_pool
from sicnn_jax.template import HEIGHT, WIDTH


class CNNR(nn.Module):
    """Residual network from a face to its identity feature, Table 1 of the paper.

    Attributes:
      widths: channels of the four levels.
      depths: residual blocks after each level's pooling.
      feature_dim: length of the identity feature (the output of FC1).
      init_std: standard deviation that `init` gives every convolution's output on the
        batch it is called with (see `layers`); None draws Glorot weights and zero
        biases. The second convolution of a residual block starts at a fifth of it, so
        that depth does not add up.
      dtype: of the computation. Features are returned in float32.
      param_dtype: of the parameters.
    """

    widths: Sequence[int] = (64, 128, 256, 512)
    depths: Sequence[int] = (1, 2, 5, 3)
    feature_dim: int = 512
    init_std: float | None = 1.0
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def __post_init__(self) -> None:
        # With lists, the module could not be a static argument.
        self.widths, self.depths = tuple(self.widths), tuple(self.depths)
        super().__post_init__()

    @nn.compact
    def __call__(
        self, images: Float[Array, 'n 112 96 3']
    ) -> Float32[Array, 'n feature_dim']:
        """Identity features of faces.

        Args:
          images: RGB, (x − 127.5) / 128.

        Returns:
          Not normalised.

        Raises:
          TypeError: for integers, which are levels.
          ValueError: the numbers of widths and depths differ.
        """
        check_float(images, 'CNNR')
        if len(self.widths) != len(self.depths):
            raise ValueError(
                f'CNNR.widths is {self.widths} and CNNR.depths is {self.depths}; '
                'expected one of each for every level (the paper has four).'
            )
        chex.assert_shape(images, (None, HEIGHT, WIDTH, 3))
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        conv = partial(Conv, init_std=self.init_std, **types)
        residual_block = partial(ResidualBlock, init_std=self.init_std, **types)
        prelu = partial(PReLU, param_dtype=self.param_dtype)

        x = images
        levels = zip(self.widths, self.depths, strict=True)
        for level, (width, depth) in enumerate(levels, start=1):
            for suffix in ('a', 'b') if level == 1 else ('',):
                x = conv(width, padding='VALID', name=f'conv{level}{suffix}')(x)
                x = prelu(name=f'prelu{level}{suffix}')(x)
            x = average_pool(x)
            for block in range(1, depth + 1):
                x = residual_block(width, name=f'block{level}_{block}')(x)
        x = x.reshape(x.shape[0], -1)
        x = Dense(self.feature_dim, self.init_std, **types, name='fc1')(x)
        return x.astype(jnp.float32)

    def activate(
        self, params: Any, images: Float[Array, 'n 112 96 3']
    ) -> tuple[Float[Array, 'n 26 22 c2'], Float[Array, 'n 5 4 c4']]:
        """Activations at the end of the second and of the last residual block.

        UR-DGN* compares them (Sec. 4.4). A block is a row of Table 1: one or more
        `ResidualBlock`s.

        Args:
          params: its parameters.
          images: RGB, (x − 127.5) / 128.

        Returns:
          Arrays of widths[1] and widths[3] channels, in the network's dtype.
        """
        names = [f'block{level}_{self.depths[level - 1]}' for level in (2, 4)]
        _, captured = self.apply(
            {'params': params},
            images,
            capture_intermediates=lambda module, _: module.name in names,
            mutable='intermediates',
        )
        found = captured['intermediates']
        second, last = (found[name]['__call__'][0] for name in names)
        return second, last


class ResidualBlock(nn.Module):
    """x + PReLU(conv(PReLU(conv(x)))), 3×3."""

    width: int
    init_std: float | None = None
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, 'n h w c']) -> Float[Array, 'n h w c']:
        residual_std = None if self.init_std is None else self.init_std / 5
        types = {'dtype': self.dtype, 'param_dtype': self.param_dtype}
        y = x
        for index, std in enumerate((self.init_std, residual_std), start=1):
            y = Conv(self.width, std, **types, name=f'conv{index}')(y)
            y = PReLU(self.param_dtype, name=f'prelu{index}')(y)
        return x + y
