"""Transposed convolution, as small convolutions of the input."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from sicnn_jax.models.convolutions.choose import (
    convolution,
    is_frozen,
    pays_as_products,
)
from sicnn_jax.models.convolutions.pieces import interleave, while_tracing
from sicnn_jax.models.convolutions.winograd import frozen_convolution


def transposed_convolution(
    x: Float[Array, 'n h w c_in'], kernel: Float[Array, 'k k c_in c_out']
) -> Float[Array, 'n 2*h 2*w c_out']:
    """Stride-2 transposed convolution as sub-pixel convolution (Shi et al. 2016).

    An even output row meets only the kernel rows of one parity, an odd row only those
    of the other. So the four parities of output pixels are four small convolutions of
    the input, k² taps in all. XLA would convolve the zero-dilated input instead, whose
    gradient is an order of magnitude slower (benchmarks/speed/convolutions.py).

    Args:
      x: the input.
      kernel: k is 2 or more.

    Returns:
      As `jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')`.
    """
    frozen = is_frozen(x, kernel) and pays_as_products(x, kernel)
    if frozen and kernel.shape[:2] == (5, 5):
        return _all_phases(x, kernel)
    return interleave(
        [[_phase(x, kernel, row, column) for column in (0, 1)] for row in (0, 1)]
    )


def _all_phases(x, kernel):
    """The four phases of a frozen 5×5 kernel as one 3×3 convolution.

    This multiplies by some zeros, but transforms the input once instead of four times.
    """
    with while_tracing(kernel):
        taps = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
        # Rows 0, 2 and 4 belong to phase 1; rows 1 and 3, and a zero, to phase 0.
        taps = taps.reshape(3, 2, 3, 2, *kernel.shape[2:])[:, ::-1, :, ::-1]
        taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, kernel.shape[2], -1)
    y = frozen_convolution(x, taps, ((1, 1), (1, 1)))
    parts = jnp.split(y, 4, axis=-1)
    return interleave([parts[:2], parts[2:]])


def _phase(x, kernel, row, column):
    """Output pixels (2i + row, 2j + column) of the transposed convolution."""
    top, rows = _taps(kernel.shape[0], row)
    left, columns = _taps(kernel.shape[1], column)
    with while_tracing(kernel):
        taps = kernel[rows, columns]
    padding = ((top, taps.shape[0] - 1 - top), (left, taps.shape[1] - 1 - left))
    return convolution(x, taps, padding)


def _taps(k, parity):
    """Padding before the input, and the kernel taps that reach outputs of one parity.

    Output o = Σ_t kernel[t] · dilated[o + t − p] with p = ⌈k / 2⌉ zeros before the
    input (JAX's 'SAME'), and dilated[2i] = x[i], zero elsewhere.
    """
    before = (k + 1) // 2
    first = (before - parity) % 2
    return (before - parity - first) // 2, slice(first, None, 2)
