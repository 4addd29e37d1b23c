"""Chooses how to compute a convolution, by backend and shape."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sicnn_jax.axes import vary_alike
from sicnn_jax.models.convolutions.patches import (
    image_convolution,
    patch_convolution,
    tap_convolution,
)
from sicnn_jax.models.convolutions.pieces import Padding, direct
from sicnn_jax.models.convolutions.winograd import (
    count_tiles,
    frozen_convolution,
    winograd_convolution,
)

_ANY_BACKEND = contextvars.ContextVar('any_backend', default=False)
_WINOGRAD = contextvars.ContextVar('winograd', default=True)

# With at most this many input channels `patch_convolution` is faster; with at most this
# many output features `image_convolution` is (RGB has 3).
_FEW = 4

# From this product of input and output features on, matrix products are faster; below
# it, a step gains too little to pay for `winograd_convolution`'s longer compilation.
_MANY_FEATURES = 32 * 64

# With more input × output features per tile of 2 × 2 outputs, `patch_convolution` is
# faster than transforming the kernel.
_LARGE_KERNEL = 2048

# From this many 2 × 2 tiles on, 4 × 4 tiles are faster in training even counting their
# longer compilation.
_MANY_TILES = 4096

# From this many output features on, `frozen_convolution` is faster.
_WIDE = 64


@contextlib.contextmanager
def on_any_backend() -> Iterator[None]:
    """Traces convolutions that suit any backend (for export)."""
    token = _ANY_BACKEND.set(True)
    try:
        yield
    finally:
        _ANY_BACKEND.reset(token)


@contextlib.contextmanager
def use_winograd(used: bool) -> Iterator[None]:
    """Sets whether programs traced inside use Winograd tiles where they are faster.

    Without them, programs compile four times as fast, and light networks train no
    slower where each core is its own device.
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
    """Convolution, stride 1, in the fastest way for its shape.

    Args:
      x: the input.
      kernel: as networks have it, not turned by 180°.
      padding: 'SAME', 'VALID', or ((top, bottom), (left, right)), less than k and l.
    """
    *sides, channels, features = kernel.shape
    if not _has_ways(x):
        return direct(x, kernel, padding)
    frozen = is_frozen(x, kernel)
    if not frozen:
        x, kernel = vary_alike(x, kernel)
    margins = _margins(padding, sides)
    if features <= _FEW and sides[0] == sides[1] and sides[0] % 2 and padding == 'SAME':
        return (tap_convolution if frozen else image_convolution)(x, kernel)
    if channels <= _FEW and not frozen:
        return patch_convolution(x, kernel, margins)
    if pays_as_products(x, kernel):
        if sides == [1, 1]:
            return x @ kernel[0, 0]
        if sides == [3, 3] and frozen:
            if features < _WIDE:
                return direct(x, kernel, padding)
            return frozen_convolution(x, kernel, margins)
        if set(sides) <= {2, 3} and _WINOGRAD.get():
            tiles = count_tiles(x, kernel, margins, 2)
            if channels * features > _LARGE_KERNEL * tiles:
                return patch_convolution(x, kernel, margins)
            m = 4 if tiles >= _MANY_TILES and sides == [3, 3] else 2
            return winograd_convolution(x, kernel, margins, m)
    return direct(x, kernel, padding)


def _has_ways(x):
    """Whether a way other than XLA's own can be faster: on a CPU in float32.

    A GPU's convolutions are fast already, and Winograd's sums would lose the little
    precision of bfloat16. For a batch whose size is a symbol (`jax.export`), it is
    unknown which way is faster.
    """
    on_cpu = jax.default_backend() == 'cpu' and not _ANY_BACKEND.get()
    sized = all(isinstance(size, int) for size in x.shape)
    return on_cpu and sized and x.dtype == jnp.float32


def pays_as_products(x: Array, kernel: Array) -> bool:
    """Whether matrix products can be faster."""
    channels, features = kernel.shape[2:]
    return _has_ways(x) and channels * features >= _MANY_FEATURES


def is_frozen(x: Array, kernel: Array) -> bool:
    """Whether the kernel is a constant of the program that is being traced."""
    return isinstance(x, jax.core.Tracer) and not isinstance(kernel, jax.core.Tracer)


def _margins(padding, sides):
    if padding == 'VALID':
        return ((0, 0), (0, 0))
    if padding == 'SAME':
        return tuple(((side - 1) // 2, side // 2) for side in sides)
    return padding
