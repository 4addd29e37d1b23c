"""Operators of ONNX that move a window over an image: convolution and pooling.

Images are [n, channels, height, width], or have any other number of spatial axes.
`pads` has the padding before all axes, then the padding after them.
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sicnn_jax.axes import vary_alike

Margins = list[tuple[int, int]]


def conv(
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None = None,
    *,
    auto_pad: str = 'NOTSET',
    dilations: Sequence[int] = (),
    group: int = 1,
    kernel_shape: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> jax.Array:
    """ONNX's Conv. `kernel_shape` repeats the shape of the kernel."""
    axes = x.ndim - 2
    strides, dilations = tuple(strides) or (1,) * axes, tuple(dilations) or (1,) * axes
    margins = _margins(x, kernel.shape[2:], strides, dilations, pads, auto_pad)
    if axes == 2 and group == x.shape[1] == len(kernel) > 1:
        y = depthwise(x, kernel, strides, dilations, margins)
    else:
        y = _direct(x, kernel, strides, dilations, margins, group)
    return y if bias is None else y + bias.reshape(-1, *[1] * axes)


def max_pool(
    x: jax.Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = 'NOTSET',
    ceil_mode: int = 0,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    storage_order: int = 0,
    strides: Sequence[int] = (),
) -> jax.Array:
    """ONNX's MaxPool. `storage_order` is for its indices, which are not returned."""
    return _pool(
        x, jax.lax.max, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode
    )[0]


def average_pool(
    x: jax.Array,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = 'NOTSET',
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] = (),
    pads: Sequence[int] = (),
    strides: Sequence[int] = (),
) -> jax.Array:
    """ONNX's AveragePool."""
    sums, strides, dilations, margins = _pool(
        x, jax.lax.add, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode
    )
    # The number of values in each window: along each axis, then in all.
    counts = np.ones(())
    for axis, (before, after) in enumerate(margins):
        size = x.shape[2 + axis]
        first = np.arange(sums.shape[2 + axis]) * strides[axis] - before
        places = first[:, None] + np.arange(kernel_shape[axis]) * dilations[axis]
        low, high = (-before, size + after) if count_include_pad else (0, size)
        inside = ((places >= low) & (places < high)).sum(axis=1)
        counts = counts[..., None] * inside
    return sums / counts.astype(x.dtype)


def depthwise(
    x: Float[Array, 'n c h w'],
    kernel: Float[Array, 'c 1 r s'],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
    margins: Margins,
) -> Float[Array, 'n c out_h out_w']:
    """Convolution of each channel with its own kernel.

    On a CPU it is a sum of shifted products: XLA's own convolution takes several times
    as long, and its gradient even longer (benchmarks/studies/depthwise.py).
    """
    settings = strides, dilations, tuple(margins)
    return jax.lax.platform_dependent(
        *vary_alike(x, kernel),
        cpu=lambda x, kernel: shifted_products(x, kernel, *settings),
        default=lambda x, kernel: _direct(x, kernel, *settings, x.shape[1]),
    )


def _direct(x, kernel, strides, dilations, margins, groups):
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, margins, rhs_dilation=dilations, feature_group_count=groups
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def shifted_products(
    x: Float[Array, 'n c h w'],
    kernel: Float[Array, 'c 1 r s'],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    margins: tuple[tuple[int, int], ...],
) -> Float[Array, 'n c out_h out_w']:
    """`depthwise` as a sum of products, as is its gradient."""
    # For each tap, one number per channel: [c, 1, 1].
    taps = (kernel[:, :, *tap, None] for tap in np.ndindex(kernel.shape[2:]))
    shifts = _shifts(x, kernel, strides, dilations, margins)
    return sum(tap * part for tap, part in zip(taps, shifts, strict=True))


def _shifts(x, kernel, strides, dilations, margins):
    """The inputs of each tap of the kernel: r · s arrays [n, c, out_h, out_w]."""
    padded = _pad(x, [(*margin, 0) for margin in margins])
    spans = [
        size - (side - 1) * dilation
        for size, side, dilation in zip(
            padded.shape[2:], kernel.shape[2:], dilations, strict=True
        )
    ]
    for tap in np.ndindex(kernel.shape[2:]):
        rows, columns = (
            slice(index * dilation, index * dilation + span, stride)
            for index, dilation, span, stride in zip(
                tap, dilations, spans, strides, strict=True
            )
        )
        yield padded[:, :, rows, columns]


def _pad(x, margins):
    """Pads in space, and keeps XLA from repeating that for every tap."""
    zero = jnp.zeros((), x.dtype)
    padded = jax.lax.pad(x, zero, [(0, 0, 0), (0, 0, 0), *margins])
    return jax.lax.optimization_barrier(padded)


def _shifted_forward(x, kernel, strides, dilations, margins):
    return shifted_products(x, kernel, strides, dilations, margins), (x, kernel)


def _shifted_backward(strides, dilations, margins, residuals, gradient):
    x, kernel = residuals
    shifts = _shifts(x, kernel, strides, dilations, margins)
    taps = [jnp.sum(gradient * part, axis=(0, 2, 3)) for part in shifts]
    # The gradient, with gaps for the strides, is convolved with the turned kernel: the
    # gradient of a tap is added where its input was taken.
    turned = []
    for axis, (before, _) in enumerate(margins):
        size, count = x.shape[2 + axis], gradient.shape[2 + axis]
        reach = (kernel.shape[2 + axis] - 1) * dilations[axis]
        spread = (count - 1) * strides[axis] + 1
        turned.append((reach - before, size + before - spread, strides[axis] - 1))
    spread = _pad(gradient, turned)
    x_gradient = shifted_products(
        spread, kernel[:, :, ::-1, ::-1], (1, 1), dilations, ((0, 0), (0, 0))
    )
    return x_gradient, jnp.stack(taps, axis=-1).reshape(kernel.shape)


shifted_products.defvjp(_shifted_forward, _shifted_backward)


def _margins(x, sides, strides, dilations, pads, auto_pad):
    """Padding before and after, by axis."""
    axes = x.ndim - 2
    if auto_pad in ('NOTSET', ''):
        pads = tuple(pads) or (0,) * 2 * axes
        return list(zip(pads[:axes], pads[axes:], strict=True))
    if auto_pad == 'VALID':
        return [(0, 0)] * axes
    if auto_pad not in ('SAME_UPPER', 'SAME_LOWER'):
        raise ValueError(f'auto_pad is {auto_pad!r}; expected one that ONNX has.')
    margins = []
    for size, side, stride, dilation in zip(
        x.shape[2:], sides, strides, dilations, strict=True
    ):
        count = -(-size // stride)
        total = max(0, (count - 1) * stride + (side - 1) * dilation + 1 - size)
        less, more = total // 2, total - total // 2
        margins.append((less, more) if auto_pad == 'SAME_UPPER' else (more, less))
    return margins


def _pool(x, function, sides, strides, dilations, pads, auto_pad, ceil_mode):
    """Windows reduced by `jax.lax.max` or `add`; strides, dilations and margins.

    With `ceil_mode`, windows may reach beyond these margins.
    """
    axes = x.ndim - 2
    strides, dilations = tuple(strides) or (1,) * axes, tuple(dilations) or (1,) * axes
    margins = _margins(x, sides, strides, dilations, pads, auto_pad)
    padding = []
    for size, side, stride, dilation, (before, after) in zip(
        x.shape[2:], sides, strides, dilations, margins, strict=True
    ):
        steps = size + before + after - (side - 1) * dilation - 1
        # Windows must not begin in the padding after the image.
        more = math.ceil(steps / stride) * stride < size + before
        padding.append((before, after + (-steps % stride if ceil_mode and more else 0)))
    reduced = jax.lax.reduce_window(
        x,
        np.asarray(-np.inf if function is jax.lax.max else 0, x.dtype),
        function,
        (1, 1, *sides),
        (1, 1, *strides),
        [(0, 0), (0, 0), *padding],
        window_dilation=(1, 1, *dilations),
    )
    return reduced, strides, dilations, margins
