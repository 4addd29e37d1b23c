"""Layers that several networks share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt8

from sicnn_jax import images
from sicnn_jax.batches import in_batches
from sicnn_jax.models.convolutions import convolution, transposed_convolution

__all__ = [
    'Conv',
    'Deconv',
    'Dense',
    'Dtype',
    'PReLU',
    'average_pool',
    'describe_faces',
]

Dtype = Any

_EPSILON = 1e-6
# A channel that varies over the initialisation batch by less than this share of its
# largest value varies only by rounding (one face, blank images, a dead channel).
_CONSTANT = 1e-4


class PReLU(nn.Module):
    """max(x, 0) + slope · min(x, 0) with one learned slope per channel, initially 0.25.

    See He et al. 2015. `flax.linen.PReLU` has one slope for all channels, so it is
    not the paper's layer.
    """

    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, '*batch c']) -> Float[Array, '*batch c']:
        slope = self.param(
            'slope', nn.initializers.constant(0.25), x.shape[-1:], self.param_dtype
        )
        return jnp.where(x >= 0, x, x * _by_channel(slope.astype(x.dtype), x))


class _DataInitialised(nn.Module):
    """A linear layer with bias whose initialisation can look at its output.

    With `init_std` set, `init` rescales the drawn kernel and sets the bias so that
    every output channel has zero mean and standard deviation `init_std` over its batch
    (Krähenbühl et al. 2016; Mishkin & Matas 2016). A channel that does not vary over
    the batch keeps the kernel as drawn. Networks without normalisation layers do not
    train without this: see docs/decisions.md. `apply` is unaffected.
    """

    features: int
    init_std: float | None = None
    kernel_init: Callable = nn.initializers.glorot_uniform()
    dtype: Dtype = jnp.float32
    param_dtype: Dtype = jnp.float32

    def _apply(self, x, kernel_shape, linear):
        kernel = self.param('kernel', self.kernel_init, kernel_shape, self.param_dtype)
        bias = self.param(
            'bias', nn.initializers.zeros, (self.features,), self.param_dtype
        )
        x = x.astype(self.dtype)
        y = linear(x, kernel.astype(self.dtype))
        if self.is_initializing() and self.init_std is not None:
            axes = tuple(range(y.ndim - 1))
            statistics = y.astype(jnp.float32)
            std = statistics.std(axes)
            varies = std > _CONSTANT * jnp.abs(statistics).max(axes)
            gain = jnp.where(varies, self.init_std / (std + _EPSILON), 1.0)
            bias = jnp.where(varies, -statistics.mean(axes) * gain, 0.0)
            scaled = kernel * _by_channel(gain.astype(kernel.dtype), kernel)
            self.put_variable('params', 'kernel', scaled)
            self.put_variable('params', 'bias', bias.astype(kernel.dtype))
            y = y * _by_channel(gain.astype(self.dtype), y)
        return y + _by_channel(bias.astype(self.dtype), y)


class Conv(_DataInitialised):
    """Convolution, stride 1.

    Attributes:
      kernel_size: side of the square kernel, stored as [k, k, c, features].
      padding: 'SAME' or 'VALID'.
    """

    kernel_size: int = 3
    padding: str = 'SAME'

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n h w c']
    ) -> Float[Array, 'n out_h out_w features']:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        return self._apply(x, shape, partial(convolution, padding=self.padding))


class Dense(_DataInitialised):
    """Fully connected layer."""

    @nn.compact
    def __call__(self, x: Float[Array, 'n c']) -> Float[Array, 'n features']:
        return self._apply(x, (x.shape[-1], self.features), jnp.dot)


class Deconv(_DataInitialised):
    """Transposed convolution, stride 2.

    It equals `flax.linen.ConvTranspose(features, (k, k), (2, 2), 'SAME')` with the same
    kernel [k, k, c, features].
    """

    kernel_size: int = 5

    @nn.compact
    def __call__(
        self, x: Float[Array, 'n h w c']
    ) -> Float[Array, 'n 2*h 2*w features']:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        return self._apply(x, shape, transposed_convolution)


def _by_channel(values, x):
    """Values [c] reshaped to the rank of x, whose last axis has the channels."""
    return values.reshape(*[1] * (x.ndim - 1), -1)


def average_pool(x: Float[Array, 'n h w c']) -> Float[Array, 'n out_h out_w c']:
    """3×3 average pool, stride 2, ceil mode, dividing by the valid pixels.

    It is SphereFace's Caffe layer: an output is ⌈(h−1)/2⌉ high and ⌈(w−1)/2⌉ wide, and
    windows that hang over the lower or right border average the pixels inside. One axis
    is pooled after the other, by sums of strided slices; their gradient is ten times as
    fast on a CPU as `reduce_window`'s.
    """
    return _pool_axis(_pool_axis(x, 1), 2)


def _pool_axis(x, axis):
    size = x.shape[axis]
    out = -(-(size - 3) // 2) + 1
    overhang = 2 * out + 1 - size
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, overhang)
    padded = jnp.pad(x, padding)
    total = sum(
        jax.lax.slice_in_dim(padded, start, start + 2 * out - 1, 2, axis)
        for start in range(3)
    )
    valid = jnp.full(out, 3.0).at[-1].add(-overhang)
    shape = [1] * x.ndim
    shape[axis] = out
    return total / valid.reshape(shape).astype(x.dtype)


def describe_faces(
    network: nn.Module, params: Any, faces: UInt8[np.ndarray, 'n 112 96 3']
) -> Float[np.ndarray, 'n d']:
    """The outputs of a network for any number of faces, for `fit`.

    Args:
      network: [n, 112, 96, 3] → [n, d].
      params: its parameters.
      faces: RGB.
    """

    @jax.jit
    def describe(params, levels):
        return network.apply({'params': params}, images.to_float(levels))

    # Up to 64 faces at a time, without padding.
    return in_batches(partial(describe, params), faces, range(1, 65))
