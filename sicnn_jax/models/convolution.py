"""Convolutions, each an exact function written the way that is fast.

`convolution` and `transposed_convolution` choose the way by backend and shape; the
choices are measured by benchmarks/speed/convolutions.py, and those for constant
kernels, with `inference_options`, by benchmarks/speed/inference.py.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]

_ANY_BACKEND = contextvars.ContextVar('any_backend', default=False)
_WINOGRAD = contextvars.ContextVar('winograd', default=True)

# From so few channels `patch_convolution` is the faster one, to so few features
# `image_convolution`: those of a picture.
_FEW = 4

# From so many input × output features matrix products are the faster way; with fewer,
# what a step gains does not pay for the longer compilation of `winograd_convolution`.
_MANY_FEATURES = 32 * 64

# With more input × output features for each tile of 2 × 2 outputs `patch_convolution`
# is faster than to transform the kernel.
_LARGE_KERNEL = 2048

# From so many tiles of 2 × 2 outputs tiles of 4 × 4 are the faster ones in training, by
# more than their longer compilation takes.
_MANY_TILES = 4096

# From so many output features `frozen_convolution` is the faster one.
_WIDE = 64

# Multiplying so many tiles by a matrix takes as long as reading it.
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


# What XLA's CPU leaves to YNNPACK: by default its convolutions, too, which are computed
# by one core where output features are fewer than 128.
_YNNPACK = 'xla_cpu_experimental_ynn_fusion_type'


@functools.cache
def inference_options() -> dict[str, str]:
    """Compiler options for `jax.jit` of an inference.

    Empty for other backends, and for releases of XLA that have no such option. Programs
    of training are faster without.
    """
    options = {_YNNPACK: ''}
    if jax.default_backend() != 'cpu':
        return {}
    try:
        jax.jit(jnp.negative, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return {}
    return options


@contextlib.contextmanager
def on_any_backend() -> Iterator[None]:
    """What is traced inside is for other machines, too: no way is that of this one."""
    token = _ANY_BACKEND.set(True)
    try:
        yield
    finally:
        _ANY_BACKEND.reset(token)


@contextlib.contextmanager
def use_winograd(used: bool) -> Iterator[None]:
    """Whether what is traced inside has Winograd tiles where they are faster.

    Without, programs compile four times as fast, and where each core is a device of its
    own, light networks train no slower.
    """
    token = _WINOGRAD.set(used)
    try:
        yield
    finally:
        _WINOGRAD.reset(token)


def convolution(
    x: Float[Array, 'n h w c'],
    kernel: Float[Array, 'k l c features'],
    padding: str | Padding,
) -> Float[Array, 'n out_h out_w features']:
    """Convolution, stride 1, the fastest way for its shape.

    Args:
      x: the input.
      kernel: not turned, as networks have it.
      padding: 'SAME', 'VALID', or ((top, bottom), (left, right)), less than k and l.
    """
    *sides, channels, features = kernel.shape
    if not _has_ways(x):
        return _direct(x, kernel, padding)
    frozen = _is_frozen(x, kernel)
    margins = _margins(padding, sides)
    if features <= _FEW and sides[0] == sides[1] and sides[0] % 2 and padding == 'SAME':
        return (tap_convolution if frozen else image_convolution)(x, kernel)
    if channels <= _FEW and not frozen:
        return patch_convolution(x, kernel, margins)
    if _pays_as_products(x, kernel):
        if sides == [1, 1]:
            return x @ kernel[0, 0]
        if sides == [3, 3] and frozen:
            if features < _WIDE:
                return _direct(x, kernel, padding)
            return frozen_convolution(x, kernel, margins)
        if set(sides) <= {2, 3} and _WINOGRAD.get():
            tiles = _count_tiles(x, kernel, margins, 2)
            if channels * features > _LARGE_KERNEL * tiles:
                return patch_convolution(x, kernel, margins)
            m = 4 if tiles >= _MANY_TILES and sides == [3, 3] else 2
            return winograd_convolution(x, kernel, margins, m)
    return _direct(x, kernel, padding)


def _has_ways(x):
    """Whether a way other than XLA's own can be the faster one: on a CPU in float32.

    A GPU's convolutions are fast by themselves, and Winograd's sums would lose what
    bfloat16 has of precision.
    """
    on_cpu = jax.default_backend() == 'cpu' and not _ANY_BACKEND.get()
    return on_cpu and x.dtype == jnp.float32


def _pays_as_products(x, kernel):
    """Whether matrix products can be the faster way."""
    channels, features = kernel.shape[2:]
    return _has_ways(x) and channels * features >= _MANY_FEATURES


def _is_frozen(x, kernel):
    """Whether the kernel is a constant of the program that is being traced."""
    return isinstance(x, jax.core.Tracer) and not isinstance(kernel, jax.core.Tracer)


def _direct(x, kernel, padding):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
    )


def _margins(padding, sides):
    if padding == 'VALID':
        return ((0, 0), (0, 0))
    if padding == 'SAME':
        return tuple(((side - 1) // 2, side // 2) for side in sides)
    return padding


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def patch_convolution(
    x: Float[Array, 'n h w c'],
    kernel: Float[Array, 'r s c features'],
    padding: Padding,
) -> Float[Array, 'n out_h out_w features']:
    """Convolution as one matrix product of the kernel with patches of the input.

    Its gradients are one each, too. It pays where patches are small: of pictures, and
    of few pixels beside a large kernel, which is read as it is.

    Args:
      x: the input.
      kernel: of any size.
      padding: ((top, bottom), (left, right)), less than r and s.
    """
    return _patches(x, kernel, padding) @ _by_patch(kernel)


def _patches(x, kernel, padding):
    """What each output sees: [n, out_h, out_w, r · s · c]."""
    h, w = _output_size(x, kernel, padding)
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    return jnp.concatenate(
        [padded[:, i : i + h, j : j + w] for i, j in np.ndindex(kernel.shape[:2])],
        axis=-1,
    )


def _by_patch(kernel):
    return kernel.reshape(-1, kernel.shape[-1])


def _patch_forward(x, kernel, padding):
    return patch_convolution(x, kernel, padding), (x, kernel)


def _patch_backward(padding, residuals, gradient):
    x, kernel = residuals
    kernel_gradient = _over_tiles(_patches(x, kernel, padding), gradient)
    patches = jnp.einsum('nhwf,pf->nhwp', gradient, _by_patch(kernel))
    # What was taken from a place goes back to it.
    _, give_back = jax.vjp(lambda x: _patches(x, kernel, padding), x)
    (x_gradient,) = give_back(patches)
    return x_gradient, kernel_gradient.reshape(kernel.shape)


patch_convolution.defvjp(_patch_forward, _patch_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def winograd_convolution(
    x: Float[Array, 'n h w c'],
    kernel: Float[Array, 'r s c features'],
    padding: Padding,
    m: int = 2,
) -> Float[Array, 'n out_h out_w features']:
    """Convolution by Winograd's minimal filtering (Lavin & Gray 2016, F(m×m, r×s)).

    A 3×3 convolution takes 16 multiplications for 2 × 2 outputs instead of 36, or 36
    for 4 × 4 instead of 144, and they are matrix products over all tiles, as are both
    gradients. Rounding differs from the direct way by about 1e-6 of the largest output
    in tiles of 2 × 2, 1e-5 in tiles of 4 × 4.

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
    padded = _pad(gradient, ((0, -h % m), (0, -w % m)))
    outputs = [
        [padded[:, row::m, column::m] for column in range(m)] for row in range(m)
    ]
    products = [
        [_over_tiles(tile, output) for tile, output in zip(*rows, strict=True)]
        for rows in zip(
            _input_tiles(x, kernel, padding, m),
            _mix_both(_transpose(_OUTPUT[m, r]), _transpose(_OUTPUT[m, s]), outputs),
            strict=True,
        )
    ]
    taps = _mix_both(_transpose(_KERNEL[m, r]), _transpose(_KERNEL[m, s]), products)
    return x_gradient, jnp.stack([jnp.stack(row) for row in taps])


winograd_convolution.defvjp(_winograd_forward, _winograd_backward)


def frozen_convolution(
    x: Float[Array, 'n h w c'], kernel: Float[Array, '3 3 c features'], padding: Padding
) -> Float[Array, 'n out_h out_w features']:
    """`winograd_convolution` with a kernel that is a constant of the traced program.

    What is computed from the kernel alone is computed while tracing. That allows for
    tiles of 4 × 4 outputs, F(4×4, 3×3): 36 multiplications instead of 64, but of 36
    matrices, which take long to compute from the kernel, and to read where faces are
    few and small. Rounding differs from the direct way by about 1e-5 of the largest
    output. Its gradient is that of `winograd_convolution`.

    Args:
      x: the input.
      kernel: not traced.
      padding: as `winograd_convolution`.
    """
    m = min(
        (2, 4),
        key=lambda m: (m + 2) ** 2 * (_READING + _count_tiles(x, kernel, padding, m)),
    )

    @jax.custom_vjp
    def of(x):
        return _filter(x, kernel, padding, m)

    of.defvjp(
        lambda x: jax.vjp(lambda x: winograd_convolution(x, kernel, padding), x),
        lambda pull_back, gradient: pull_back(gradient),
    )
    return of(x)


def _while_tracing(kernel):
    """Inside, what is computed from a kernel that is a constant becomes one."""
    if isinstance(kernel, jax.core.Tracer):
        return contextlib.nullcontext()
    return jax.ensure_compile_time_eval()


def _filter(x, kernel, padding, m, *, transposed=False):
    """Winograd's convolution in tiles of m × m; transposed, with the kernel turned.

    A transposed one sums over features; the kernel's matrices are not transposed for
    it, which would take longer than the convolution where they are large.
    """
    r, s = kernel.shape[:2]
    h, w = _output_size(x, kernel, padding)
    matrices = (
        _turned_kernel_tiles(kernel, m) if transposed else _kernel_tiles(kernel, m)
    )
    contracted = ((3,), (int(transposed),)), ((), ())
    products = [
        [
            jax.lax.dot_general(tile, matrix, contracted)
            for tile, matrix in zip(*rows, strict=True)
        ]
        for rows in zip(_input_tiles(x, kernel, padding, m), matrices, strict=True)
    ]
    outputs = _mix_both(_OUTPUT[m, r], _OUTPUT[m, s], products)
    return interleave(outputs)[:, :h, :w]


def _output_size(x, kernel, padding):
    return [
        size + sum(margin) - side + 1
        for size, side, margin in zip(x.shape[1:3], kernel.shape, padding, strict=False)
    ]


def _tiles(x, kernel, padding, m):
    """How many tiles of m × m outputs there are, vertically and horizontally."""
    return [-(-size // m) for size in _output_size(x, kernel, padding)]


def _count_tiles(x, kernel, padding, m):
    """Tiles of m × m outputs of a batch."""
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
    padded = _pad(x, margins)
    rows, columns = (
        [slice(start, start + m * (count - 1) + 1, m) for start in range(m + side - 1)]
        for count, side in zip(tiles, sides, strict=True)
    )
    shifted = [[padded[:, row, column] for column in columns] for row in rows]
    return _mix_both(*(_INPUT[m, side] for side in sides), shifted)


def _kernel_tiles(kernel, m):
    """G g Gᵀ: (m + r − 1) × (m + s − 1) matrices [c, features]."""
    rows, columns = (_KERNEL[m, side] for side in kernel.shape[:2])
    with _while_tracing(kernel):
        return _mix_both(rows, columns, [list(row) for row in kernel])


def _turned_kernel_tiles(kernel, m):
    """`_kernel_tiles` of the kernel turned by 180°."""
    if m > 2:
        return _kernel_tiles(kernel[::-1, ::-1], m)
    # Those of the kernel, the outer ones exchanged: XLA has them from the forward pass.
    first, *inner, last = _kernel_tiles(kernel, m)
    return [[row[-1], *row[1:-1], row[0]] for row in (last, *inner, first)]


def _pad(x, margins):
    """Pads height and width, and keeps XLA from repeating that in every tile."""
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *margins, (0, 0))))


def _over_tiles(x, y):
    """Σ over tiles of xᵀ y: a plain matrix product, which XLA's CPU is fastest at."""
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return jax.lax.dot_general(x, y, (((0,), (0,)), ((), ())))


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


def interleave(
    parts: Sequence[Sequence[Float[Array, 'n h w c']]],
) -> Float[Array, 'n rows*h columns*w c']:
    """Pixels (rows · i + row, columns · j + column) are `parts[row][column]`."""
    n, h, w, c = parts[0][0].shape
    rows = [jnp.stack(columns, axis=3) for columns in parts]
    size = (len(rows) * h, len(parts[0]) * w)
    return jnp.stack(rows, axis=2).reshape(n, *size, c)


def tap_convolution(
    x: Float[Array, 'n h w c'], kernel: Float[Array, 'k k c features']
) -> Float[Array, 'n h w features']:
    """'SAME' convolution to few features as one matrix product for all taps.

    Its k² parts are shifted and summed, which pays where c is not small beside
    k² · features.

    Args:
      x: the input.
      kernel: k is odd.
    """
    n, h, w, channels = x.shape
    k, _, _, features = kernel.shape
    with _while_tracing(kernel):
        by_tap = kernel.transpose(2, 0, 1, 3).reshape(channels, -1)
    products = x.reshape(-1, channels) @ by_tap
    side = k // 2
    padded = _pad(products.reshape(n, h, w, -1), ((side, side), (side, side)))
    taps = padded.reshape(*padded.shape[:3], k, k, features)
    return sum(taps[:, i : i + h, j : j + w, i, j] for i in range(k) for j in range(k))


@jax.custom_vjp
def image_convolution(
    x: Float[Array, 'n h w c'], kernel: Float[Array, 'k k c features']
) -> Float[Array, 'n h w features']:
    """'SAME' convolution to few features, such as a picture, with a fast gradient.

    Both gradients are one matrix product each with the k × k patches of the output's
    gradient. Gathering them costs the same for any c, so it pays where c is large:
    XLA's own take 1.2 to 1.8 times as long on CPU from 24 channels on, and less with
    16 (benchmarks/speed/convolutions.py).

    Args:
      x: the input.
      kernel: k is odd.
    """
    return _direct(x, kernel, 'SAME')


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


def transposed_convolution(
    x: Float[Array, 'n h w c_in'], kernel: Float[Array, 'k k c_in c_out']
) -> Float[Array, 'n 2*h 2*w c_out']:
    """Stride-2 transposed convolution as sub-pixel convolution (Shi et al. 2016).

    An output row of even index meets the kernel rows of one parity only and one
    of odd index those of the other, so the four parities of output pixels are
    four small convolutions of the input, k² taps in all. XLA would convolve the
    zero-dilated input instead, whose gradient is an order of magnitude slower
    (benchmarks/speed/convolutions.py).

    Args:
      x: the input.
      kernel: k is 2 or more.

    Returns:
      As `jax.lax.conv_transpose(x, kernel, (2, 2), 'SAME')`.
    """
    frozen = _is_frozen(x, kernel) and _pays_as_products(x, kernel)
    if frozen and kernel.shape[:2] == (5, 5):
        return _all_phases(x, kernel)
    return interleave(
        [[_phase(x, kernel, row, column) for column in (0, 1)] for row in (0, 1)]
    )


def _all_phases(x, kernel):
    """The four phases of a frozen 5×5 kernel as one 3×3 convolution.

    It multiplies by some zeros, but transforms the input once instead of four times.
    """
    with _while_tracing(kernel):
        taps = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
        # Rows 0, 2, 4 are those of phase 1; rows 1 and 3, and a zero, of phase 0.
        taps = taps.reshape(3, 2, 3, 2, *kernel.shape[2:])[:, ::-1, :, ::-1]
        taps = taps.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, kernel.shape[2], -1)
    y = frozen_convolution(x, taps, ((1, 1), (1, 1)))
    parts = jnp.split(y, 4, axis=-1)
    return interleave([parts[:2], parts[2:]])


def _phase(x, kernel, row, column):
    """Output pixels (2i + row, 2j + column) of the transposed convolution."""
    (top, rows), (left, columns) = (
        _taps(kernel.shape[0], row),
        _taps(kernel.shape[1], column),
    )
    with _while_tracing(kernel):
        taps = kernel[rows, columns]
    padding = (
        (top, taps.shape[0] - 1 - top),
        (left, taps.shape[1] - 1 - left),
    )
    return convolution(x, taps, padding)


def _taps(k, parity):
    """Padding before the input and kernel taps that reach outputs of one parity.

    Output o = Σ_t kernel[t] · dilated[o + t − p] with p = ⌈k / 2⌉ zeros before the
    input (JAX's 'SAME'), and dilated[2i] = x[i], zero elsewhere.
    """
    before = (k + 1) // 2
    first = (before - parity) % 2
    return (before - parity - first) // 2, slice(first, None, 2)
