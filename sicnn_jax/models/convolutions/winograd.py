"""Convolutions by Winograd's minimal filtering."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sicnn_jax.models.convolutions.pieces import (
    Padding,
    interleave,
    output_size,
    over_tiles,
    pad,
    while_tracing,
    with_steps,
)

# Multiplying this many tiles by a matrix takes as long as reading the matrix.
_READING = 64

# Winograd's minimal filtering F(m, r), by (m, r): m outputs of an r-tap filter g over
# m + r - 1 inputs d are y = A [(G g) ⊙ (B d)], with m + r - 1 multiplications.
_INPUT = {
    (2, 3): ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    (2, 2): ((1, -1, 0), (0, 1, 0), (0, -1, 1)),
    (4, 3): (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
_KERNEL = {
    (2, 3): ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    (2, 2): ((1, 0), (1, 1), (0, 1)),
    (4, 3): (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
_OUTPUT = {
    (2, 3): ((1, 1, 1, 0), (0, 1, -1, -1)),
    (2, 2): ((1, 1, 0), (0, 1, 1)),
    (4, 3): (
        (1, 1, 1, 1, 1, 0),
        (0, 1, -1, 2, -2, 0),
        (0, 1, 1, 4, 4, 0),
        (0, 1, -1, 8, -8, 1),
    ),
}


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def winograd_convolution(
    x: Float[Array, 'n h w c'],
    kernel: Float[Array, 'r s c features'],
    padding: Padding,
    m: int = 2,
) -> Float[Array, 'n out_h out_w features']:
    """Convolution by Winograd's minimal filtering (Lavin & Gray 2016, F(m×m, r×s)).

    A 3×3 convolution takes 16 multiplications instead of 36 for 2 × 2 outputs, or 36
    instead of 144 for 4 × 4. They are matrix products over all tiles, as are both
    gradients. Rounding differs from the direct way by about 1e-6 of the largest output
    in tiles of 2 × 2, and 1e-5 in tiles of 4 × 4.

    Args:
      x: the input.
      kernel: r and s are 2 or 3.
      padding: ((top, bottom), (left, right)), less than r and s.
      m: side of a tile, 2, or 4 where r and s are 3.
    """
    return _filter(x, kernel, padding, m)


def _winograd_forward(x, kernel, padding, m):
    return winograd_convolution(x, kernel, padding, m), (x, kernel)


def _winograd_backward(padding, m, residuals, gradient):
    x, kernel = residuals
    r, s = kernel.shape[:2]
    turned = tuple(
        (side - 1 - before, side - 1 - after)
        for side, (before, after) in zip((r, s), padding, strict=True)
    )
    x_gradient = _filter(gradient, kernel, turned, m, transposed=True)
    _, h, w, _ = gradient.shape
    padded = pad(gradient, ((0, -h % m), (0, -w % m)))
    steps = [slice(start, None, m) for start in range(m)]
    outputs = [[with_steps(padded, row, column) for column in steps] for row in steps]
    products = _pairwise(
        over_tiles,
        _input_tiles(x, kernel, padding, m),
        _mix_both(_transpose(_OUTPUT[m, r]), _transpose(_OUTPUT[m, s]), outputs),
    )
    taps = _mix_both(_transpose(_KERNEL[m, r]), _transpose(_KERNEL[m, s]), products)
    return x_gradient, jnp.stack([jnp.stack(row) for row in taps])


winograd_convolution.defvjp(_winograd_forward, _winograd_backward)


def frozen_convolution(
    x: Float[Array, 'n h w c'], kernel: Float[Array, '3 3 c features'], padding: Padding
) -> Float[Array, 'n out_h out_w features']:
    """`winograd_convolution` with a kernel that is a constant of the traced program.

    Everything that depends on the kernel alone is computed while tracing. That allows
    tiles of 4 × 4 outputs, F(4×4, 3×3): 36 multiplications instead of 64, but with 36
    matrices, which take long to compute from the kernel, and long to read where faces
    are few and small. Rounding differs from the direct way by about 1e-5 of the largest
    output. It has the gradient of `winograd_convolution`.

    Args:
      x: the input.
      kernel: not traced.
      padding: as `winograd_convolution`.
    """
    m = min(
        (2, 4),
        key=lambda m: (m + 2) ** 2 * (_READING + count_tiles(x, kernel, padding, m)),
    )

    @jax.custom_vjp
    def of(x):
        return _filter(x, kernel, padding, m)

    of.defvjp(
        lambda x: jax.vjp(lambda x: winograd_convolution(x, kernel, padding), x),
        lambda pull_back, gradient: pull_back(gradient),
    )
    return of(x)


def _filter(x, kernel, padding, m, *, transposed=False):
    """Winograd's convolution in tiles of m × m; transposed, with the kernel turned.

    The transposed convolution sums over features. The kernel's matrices are not
    transposed for it: where they are large, that would take longer than the
    convolution.
    """
    r, s = kernel.shape[:2]
    h, w = output_size(x, kernel, padding)
    kernel_tiles = _turned_kernel_tiles if transposed else _kernel_tiles
    matrices = kernel_tiles(kernel, m)
    contracted = ((3,), (int(transposed),)), ((), ())
    multiply = functools.partial(jax.lax.dot_general, dimension_numbers=contracted)
    products = _pairwise(multiply, _input_tiles(x, kernel, padding, m), matrices)
    outputs = _mix_both(_OUTPUT[m, r], _OUTPUT[m, s], products)
    return interleave(outputs)[:, :h, :w]


def _tiles(x, kernel, padding, m):
    """How many tiles of m × m outputs there are, vertically and horizontally."""
    return [-(-size // m) for size in output_size(x, kernel, padding)]


def count_tiles(x: Array, kernel: Array, padding: Padding, m: int) -> int:
    """The number of tiles of m × m outputs in a batch."""
    return len(x) * math.prod(_tiles(x, kernel, padding, m))


def _input_tiles(x, kernel, padding, m):
    """B d Bᵀ of every tile: (m + r − 1) × (m + s − 1) arrays [n, tiles, tiles, c]."""
    sides = kernel.shape[:2]
    tiles = _tiles(x, kernel, padding, m)
    margins = [
        (before, m * count + side - 1 - size - before)
        for count, side, size, (before, _) in zip(
            tiles, sides, x.shape[1:3], padding, strict=True
        )
    ]
    padded = pad(x, margins)
    rows, columns = (
        [slice(start, start + m * (count - 1) + 1, m) for start in range(m + side - 1)]
        for count, side in zip(tiles, sides, strict=True)
    )
    shifted = [[with_steps(padded, row, column) for column in columns] for row in rows]
    return _mix_both(*(_INPUT[m, side] for side in sides), shifted)


def _kernel_tiles(kernel, m):
    """G g Gᵀ: (m + r − 1) × (m + s − 1) matrices [c, features]."""
    rows, columns = (_KERNEL[m, side] for side in kernel.shape[:2])
    with while_tracing(kernel):
        return _mix_both(rows, columns, [list(row) for row in kernel])


def _turned_kernel_tiles(kernel, m):
    """`_kernel_tiles` of the kernel turned by 180°."""
    if m > 2:
        return _kernel_tiles(kernel[::-1, ::-1], m)
    # The kernel's tiles, the outer ones exchanged; XLA has them from the forward pass.
    first, *inner, last = _kernel_tiles(kernel, m)
    return [[row[-1], *row[1:-1], row[0]] for row in (last, *inner, first)]


def _pairwise(function, *grids):
    """The results for each pair of arrays at the same place of two grids."""
    return [
        [function(*pair) for pair in zip(*rows, strict=True)]
        for rows in zip(*grids, strict=True)
    ]


def _mix_both(rows, columns, grid):
    """rows · grid · columnsᵀ, of a grid of arrays."""
    mixed = [_mix(rows, column) for column in zip(*grid, strict=True)]
    return [_mix(columns, row) for row in zip(*mixed, strict=True)]


def _mix(matrix: Sequence[Sequence[float]], arrays: Sequence[Array]) -> list[Array]:
    """Each row's sum of weighted arrays."""
    return [
        sum(
            array if weight == 1 else weight * array
            for weight, array in zip(row, arrays, strict=True)
            if weight
        )
        for row in matrix
    ]


def _transpose(matrix):
    return tuple(zip(*matrix, strict=True))
