"""The layers that CNNR and CNNH share, each an exact function written the fast way."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

Dtype = Any

# Up to here `image_convolution` is the faster one.
_FEW_FEATURES = 4

# What stands in for the standard deviation of a channel that does not vary over
# the initialisation batch (blank images, a dead channel).
_EPSILON = 1e-6


class PReLU(nn.Module):
    """max(x, 0) + slope · min(x, 0) with one learned slope a channel, 0.25 at first.

    He et al. 2015. `flax.linen.PReLU` has one slope for all channels, so it is
    not the layer of the paper.
    """

    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        slope = self.param(
            'slope', nn.initializers.constant(0.25), x.shape[-1:], self.param_dtype
        )
        return jnp.where(x >= 0, x, x * slope.astype(x.dtype))


class _DataInitialised(nn.Module):
    """A linear layer with bias whose initialisation can look at its output.

    With `init_std` set, `init` rescales the drawn kernel and sets the bias so
    that over the batch it is given every output channel has zero mean and
    standard deviation `init_std` (Krähenbühl et al. 2016; Mishkin & Matas 2016).
    Networks without normalisation layers need it to train at all: see
    docs/decisions.md. `apply` is unaffected.
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
            gain = self.init_std / (statistics.std(axes) + _EPSILON)
            bias = -statistics.mean(axes) * gain
            self.put_variable('params', 'kernel', kernel * gain)
            self.put_variable('params', 'bias', bias)
            y = y * gain.astype(self.dtype)
        return y + bias.astype(self.dtype)


class Conv(_DataInitialised):
    """Convolution, stride 1: [n, h, w, c] → [n, h', w', features].

    Attributes:
      kernel_size: side of the square kernel, stored as [k, k, c, features].
      padding: 'SAME' or 'VALID'.
    """

    kernel_size: int = 3
    padding: str = 'SAME'

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def linear(x, kernel):
            if self.features <= _FEW_FEATURES and self.padding == 'SAME':
                return image_convolution(x, kernel)
            return _convolution(x, kernel, self.padding)

        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        return self._apply(x, shape, linear)


class Dense(_DataInitialised):
    """Fully connected layer: [n, c] → [n, features]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self._apply(x, (x.shape[-1], self.features), jnp.dot)


class Deconv(_DataInitialised):
    """Transposed convolution, stride 2: [n, h, w, c] → [n, 2h, 2w, features].

    Equal to `flax.linen.ConvTranspose(features, (k, k), (2, 2), 'SAME')` with the
    same kernel [k, k, c, features].
    """

    kernel_size: int = 5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        return self._apply(x, shape, transposed_convolution)


def _convolution(x, kernel, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


@jax.custom_vjp
def image_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """'SAME' convolution to few features, such as a picture, with a fast gradient.

    Both gradients are one matrix product each with the k × k patches of the output's
    gradient. Gathering them costs the same for any c, so it pays where c is large:
    XLA's own take 1.2 to 1.8 times as long on CPU from 24 channels on, and less with
    16 (benchmarks/convolutions.py).

    Args:
      x: [n, h, w, c].
      kernel: [k, k, c, features], k odd.

    Returns:
      [n, h, w, features].
    """
    return _convolution(x, kernel, 'SAME')


def _image_convolution_forward(x, kernel):
    return image_convolution(x, kernel), (x, kernel)


def _image_convolution_backward(residuals, gradient):
    x, kernel = residuals
    k, _, channels, _ = kernel.shape
    _, h, w, _ = gradient.shape
    margin = (0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)
    padded = jnp.pad(gradient, margin)
    # Tap (i, j) of the kernel took input (y, x) to output (y − i, x − j).
    patches = jnp.concatenate(
        [
            padded[:, k - 1 - i : k - 1 - i + h, k - 1 - j : k - 1 - j + w]
            for i in range(k)
            for j in range(k)
        ],
        axis=-1,
    )
    by_tap = kernel.transpose(0, 1, 3, 2)
    x_gradient = patches @ by_tap.reshape(-1, channels)
    kernel_gradient = jnp.einsum(
        'nhwp,nhwc->pc', patches, x, preferred_element_type=jnp.float32
    ).astype(kernel.dtype)
    return x_gradient, kernel_gradient.reshape(by_tap.shape).transpose(0, 1, 3, 2)


image_convolution.defvjp(_image_convolution_forward, _image_convolution_backward)


def transposed_convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Stride-2 transposed convolution as sub-pixel convolution (Shi et al. 2016).

    An output row of even index meets the kernel rows of one parity only and one
    of odd index those of the other, so the four parities of output pixels are
    four small convolutions of the input, k² taps in all. XLA would convolve the
    zero-dilated input instead, whose gradient is an order of magnitude slower
    (benchmarks/convolutions.py).

    Args:
      x: [n, h, w, c_in].
      kernel: [k, k, c_in, c_out], k odd, 3 or more.

    Returns:
      [n, 2h, 2w, c_out], as `jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')`.
    """
    phases = [[_phase(x, kernel, row, column) for column in (0, 1)] for row in (0, 1)]
    n, h, w, c = phases[0][0].shape
    rows = [jnp.stack(columns, axis=3) for columns in phases]
    return jnp.stack(rows, axis=2).reshape(n, 2 * h, 2 * w, c)


def _phase(x, kernel, row, column):
    """Output pixels (2i + row, 2j + column) of the transposed convolution."""
    (top, rows), (left, columns) = (
        _taps(kernel.shape[0], row),
        _taps(kernel.shape[1], column),
    )
    taps = kernel[rows, columns]
    padding = (
        (top, taps.shape[0] - 1 - top),
        (left, taps.shape[1] - 1 - left),
    )
    return _convolution(x, taps, padding)


def _taps(k, parity):
    """Padding before the input and kernel taps that reach outputs of one parity.

    Output o = Σ_t kernel[t] · dilated[o + t − p] with p = ⌈k / 2⌉ zeros before the
    input (JAX's 'SAME'), and dilated[2i] = x[i], zero elsewhere.
    """
    before = (k + 1) // 2
    first = (before - parity) % 2
    return (before - parity - first) // 2, slice(first, None, 2)


def average_pool(x: jax.Array) -> jax.Array:
    """3×3 average pool, stride 2, ceil mode, dividing by the valid pixels.

    The Caffe layer of SphereFace: [n, h, w, c] → [n, ⌈(h−1)/2⌉, ⌈(w−1)/2⌉, c],
    where windows that hang over the lower or right border average what is inside.
    One axis after the other, as sums of strided slices, whose gradient is ten
    times as fast as that of `reduce_window` on CPU.
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
