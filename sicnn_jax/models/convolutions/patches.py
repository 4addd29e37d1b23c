"""Convolutions as one matrix product: with patches of the input, or for all taps."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sicnn_jax.models.convolutions.pieces import (
    Padding,
    direct,
    output_size,
    over_tiles,
    pad,
    while_tracing,
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def patch_convolution(
    x: Float[Array, 'n h w c'], kernel: Float[Array, 'r s c features'], padding: Padding
) -> Float[Array, 'n out_h out_w features']:
    """Convolution as one matrix product of the kernel with patches of the input.

    Each of its gradients is one matrix product, too. This way pays where patches are
    small: for pictures, and for few pixels with a large kernel, which is read as it is.

    Args:
      x: the input.
      kernel: of any size.
      padding: ((top, bottom), (left, right)), less than r and s.
    """
    return _patches(x, kernel, padding) @ kernel.reshape(-1, kernel.shape[-1])


def _patches(x, kernel, padding):
    """The input patch of each output: [n, out_h, out_w, r · s · c]."""
    size = output_size(x, kernel, padding)
    return _windows(x, padding, size, np.ndindex(kernel.shape[:2]))


def _windows(x, padding, size, corners):
    """Parts of the padded input, side by side as channels."""
    h, w = size
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    return jnp.concatenate(
        [padded[:, i : i + h, j : j + w] for i, j in corners], axis=-1
    )


def _patch_forward(x, kernel, padding):
    return patch_convolution(x, kernel, padding), (x, kernel)


def _patch_backward(padding, residuals, gradient):
    x, kernel = residuals
    kernel_gradient = over_tiles(_patches(x, kernel, padding), gradient)
    patches = jnp.einsum(
        'nhwf,pf->nhwp', gradient, kernel.reshape(-1, kernel.shape[-1])
    )
    # The gradient of each patch is added where the patch was taken.
    _, give_back = jax.vjp(lambda x: _patches(x, kernel, padding), x)
    return *give_back(patches), kernel_gradient.reshape(kernel.shape)


patch_convolution.defvjp(_patch_forward, _patch_backward)


def tap_convolution(
    x: Float[Array, 'n h w c'], kernel: Float[Array, 'k k c features']
) -> Float[Array, 'n h w features']:
    """'SAME' convolution to few features as one matrix product for all taps.

    Its k² parts are shifted and summed, which pays where c is not small compared with
    k² · features.

    Args:
      x: the input.
      kernel: k is odd.
    """
    n, h, w, channels = x.shape
    k, _, _, features = kernel.shape
    with while_tracing(kernel):
        by_tap = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    products = x.reshape(-1, channels) @ by_tap
    side = k // 2
    padded = pad(products.reshape(n, h, w, -1), ((side, side), (side, side)))
    taps: Any = padded.reshape(*padded.shape[:3], k, k, features)
    return sum(taps[:, i : i + h, j : j + w, i, j] for i in range(k) for j in range(k))


@jax.custom_vjp
def image_convolution(
    x: Float[Array, 'n h w c'], kernel: Float[Array, 'k k c features']
) -> Float[Array, 'n h w features']:
    """'SAME' convolution to few features, such as a picture, with a fast gradient.

    Each gradient is one matrix product with the k × k patches of the output's gradient.
    Gathering them costs the same for any c, so it pays where c is large: on a CPU,
    XLA's own gradients take 1.2 to 1.8 times as long from 24 channels on, but less time
    with 16 (benchmarks/speed/convolutions.py).

    Args:
      x: the input.
      kernel: k is odd.
    """
    return direct(x, kernel, 'SAME')


def _image_convolution_forward(x, kernel):
    return image_convolution(x, kernel), (x, kernel)


def _image_convolution_backward(residuals, gradient):
    x, kernel = residuals
    k, _, channels, _ = kernel.shape
    margin = (k // 2, k // 2)
    # Tap (i, j) of the kernel took input (y, x) to output (y − i, x − j).
    corners = reversed([*np.ndindex(k, k)])
    patches = _windows(gradient, (margin, margin), gradient.shape[1:3], corners)
    by_tap = kernel.transpose(0, 1, 3, 2)
    x_gradient = patches @ by_tap.reshape(-1, channels)
    kernel_gradient = jnp.einsum(
        'nhwp,nhwc->pc', patches, x, preferred_element_type=jnp.float32
    ).astype(kernel.dtype)
    return x_gradient, kernel_gradient.reshape(by_tap.shape).transpose(0, 1, 3, 2)


image_convolution.defvjp(_image_convolution_forward, _image_convolution_backward)
