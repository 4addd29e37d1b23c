"""Conventions of all images of the project: value range, colour order, degradation.

Images are NHWC, RGB, 112 high and 96 wide; uint8 on disk and on the wire, and
(x − 127.5) / 128 in float32 inside the networks, the convention of SphereFace.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from sicnn_jax.template import HEIGHT, WIDTH

__all__ = [
    'CONVENTION',
    'DEGRADATIONS',
    'check_float',
    'degrade',
    'enlarge',
    'keys',
    'to_float',
    'to_levels',
]

# Checkpoints store these words, so that a network never gets images that follow
# another convention than its training images.
CONVENTION = {
    'size': [HEIGHT, WIDTH],
    'colour_order': 'RGB',
    'value_range': '(x - 127.5) / 128',
}

DEGRADATIONS = ('bicubic', 'area')


def to_float(images: jax.Array) -> jax.Array:
    """Levels 0..255 of any dtype → float32 (x − 127.5) / 128, any shape."""
    return (jnp.asarray(images, jnp.float32) - 127.5) / 128


def check_float(images: jax.Array, network: str) -> None:
    """Raises TypeError if a network is given levels instead of `to_float` of them."""
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(
            f'{network} is given {images.dtype}; expected floats in −1 to 1: apply '
            'sicnn_jax.images.to_float to levels.'
        )


def to_levels(images: jax.Array) -> jax.Array:
    """Inverse of `to_float`: → uint8, rounded and clipped to 0..255."""
    return jnp.clip(jnp.round(images * 128 + 127.5), 0, 255).astype(jnp.uint8)


def degrade(hr: jax.Array, *, scale: int = 8, kind: str = 'bicubic') -> jax.Array:
    """Low-resolution faces as the networks see them, rounded to uint8 levels.

    It is linear and cheap, so it runs on the device, and only HR is transferred.

    Args:
      hr: integers [n, 112, 96, 3], levels 0..255.
      scale: downsampling factor, 8, 4 or 2.
      kind: 'bicubic', antialiased with a = −0.5 (Keys; MATLAB's imresize), or
        'area', the mean of scale × scale pixels.

    Returns:
      uint8 [n, 112 / scale, 96 / scale, 3].

    Raises:
      ValueError: for another kind.
      TypeError: for floats, which may come from `to_float`.
    """
    if not jnp.issubdtype(hr.dtype, jnp.integer):
        raise TypeError(
            f'degrade is given {hr.dtype}; expected levels 0 to 255 as integers: apply '
            'sicnn_jax.images.to_levels to floats.'
        )
    chex.assert_shape(hr, (None, HEIGHT, WIDTH, 3))
    n, h, w = hr.shape[0], HEIGHT // scale, WIDTH // scale
    levels = hr.astype(jnp.float32)
    if kind == 'bicubic':
        lr = jax.image.resize(levels, (n, h, w, 3), 'cubic', antialias=True)
    elif kind == 'area':
        lr = levels.reshape(n, h, scale, w, scale, 3).mean((2, 4))
    else:
        raise ValueError(
            f'degradation is {kind!r}; expected one of {", ".join(DEGRADATIONS)}.'
        )
    return jnp.clip(jnp.round(lr), 0, 255).astype(jnp.uint8)


def enlarge(lr: jax.Array) -> jax.Array:
    """Bicubic interpolation to 112×96, the baseline: uint8 [n, h, w, 3] → uint8."""
    shape = (lr.shape[0], HEIGHT, WIDTH, 3)
    hr = jax.image.resize(lr.astype(jnp.float32), shape, 'cubic', antialias=False)
    return jnp.clip(jnp.round(hr), 0, 255).astype(jnp.uint8)


def keys(distance: Any) -> Any:
    """Weight of a pixel at a distance in cubic interpolation (Keys, a = −0.5).

    Args:
      distance: 0 to 2, an array of NumPy or JAX.
    """
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return near * (distance < 1) + far * (distance >= 1)
