"""Pieces that several ways to convolve share."""

import contextlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]


def direct(
    x: Array, kernel: Array, padding: str | Padding, strides: tuple[int, int] = (1, 1)
) -> Array:
    """XLA's own convolution."""
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def while_tracing(kernel: Array) -> contextlib.AbstractContextManager:
    """Inside, results computed from a constant kernel become constants."""
    if isinstance(kernel, jax.core.Tracer):
        return contextlib.nullcontext()
    return jax.ensure_compile_time_eval()


def output_size(x: Array, kernel: Array, padding: Padding) -> list[int]:
    """Height and width of the convolution."""
    return [
        size + sum(margin) - side + 1
        for size, side, margin in zip(x.shape[1:3], kernel.shape, padding, strict=False)
    ]


def pad(
    x: Float[Array, 'n h w c'], margins: Sequence[tuple[int, int]]
) -> Float[Array, 'n out_h out_w c']:
    """Pads height and width, and keeps XLA from repeating that in every tile."""
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *margins, (0, 0))))


def with_steps(
    x: Float[Array, 'n h w c'], rows: slice, columns: slice
) -> Float[Array, 'n out_h out_w c']:
    """`x[:, rows, columns]`; JAX 0.5 would turn slices with steps into a gather."""
    n, h, w, c = x.shape
    (top, bottom, down), (left, right, across) = rows.indices(h), columns.indices(w)
    return jax.lax.slice(
        x, (0, top, left, 0), (n, bottom, right, c), (1, down, across, 1)
    )


def over_tiles(x: Array, y: Array) -> Float[Array, 'c features']:
    """Σ over tiles of xᵀ y: a plain matrix product, fastest on XLA's CPU backend."""
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return jax.lax.dot_general(x, y, (((0,), (0,)), ((), ())))


def interleave(
    parts: Sequence[Sequence[Float[Array, 'n h w c']]],
) -> Float[Array, 'n rows*h columns*w c']:
    """Pixels (rows · i + row, columns · j + column) are `parts[row][column]`."""
    n, h, w, c = parts[0][0].shape
    rows = [jnp.stack(columns, axis=3) for columns in parts]
    size = (len(rows) * h, len(parts[0]) * w)
    return jnp.stack(rows, axis=2).reshape(n, *size, c)
