"""Augmentation of training faces: small changes of place and of light, on the device.

Faces are mirrored and shifted where they are read (`pipeline`, `dataset`); changes that
take interpolation or arithmetic are made here, by randomness from (seed, step) alone.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from sicnn_jax import images

__all__ = ['NONE', 'Augmentation', 'augment']

# Separates these draws from the other random draws of a step.
_STREAM = 2


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far each face may be changed; every draw is uniform, and 0 turns it off.

    Attributes:
      zoom: the face is enlarged or reduced by up to this share, about the middle.
      rotation: it is turned by up to this many degrees, about the middle.
      brightness: it is made lighter or darker by up to this share of 255 levels.
      contrast: distances from its mean level change by up to this share.
      saturation: distances from the grey of each pixel change by up to this share.
    """

    zoom: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether pixels are interpolated."""
        return bool(self.zoom or self.rotation)

    @property
    def relights(self) -> bool:
        """Whether levels change."""
        return bool(self.brightness or self.contrast or self.saturation)

    def draw(self, batch_size: int, seed: int, step: int) -> dict[str, np.ndarray]:
        """The draws that `augment` needs for the global batch of a step.

        Returns:
          {'draws': float32 [batch_size, 5] in [−1, 1)}, one column for each field; or
          {} if nothing is changed.
        """
        if not (self.moves or self.relights):
            return {}
        rng = np.random.default_rng([seed, _STREAM, step])
        count = len(dataclasses.fields(self))
        return {'draws': rng.uniform(-1, 1, (batch_size, count)).astype(np.float32)}


NONE = Augmentation()


def augment(
    augmentation: Augmentation,
    hr: UInt8[Array, 'n h w 3'],
    draws: Float[Array, 'n 5'],
) -> UInt8[Array, 'n h w 3']:
    """Turns, zooms and relights faces, then rounds and clips them to levels.

    The draws are those of `Augmentation.draw`.
    """
    zoom, rotation = draws.T[:2]
    brightness, contrast, saturation = draws.T[2:, :, None, None, None]
    x = hr.astype(jnp.float32)
    if augmentation.moves:
        angle = math.radians(augmentation.rotation) * rotation
        x = jax.vmap(_turn)(x, 1 + augmentation.zoom * zoom, angle)
    if augmentation.relights:
        # The shares of red, green and blue are those of BT.601.
        grey = (x @ jnp.array([0.299, 0.587, 0.114]))[..., None]
        x = grey + (1 + augmentation.saturation * saturation) * (x - grey)
        mean = x.mean((1, 2, 3), keepdims=True)
        x = mean + (1 + augmentation.contrast * contrast) * (x - mean)
        x = x + 255 * augmentation.brightness * brightness
    return jnp.clip(jnp.round(x), 0, 255).astype(jnp.uint8)


def _turn(x, factor, angle):
    """A face enlarged and turned about its middle; its edges are repeated.

    It takes two passes of cubic interpolation, along rows and then along columns
    (Catmull & Smith 1980), with half the taps of one pass in two dimensions.
    """
    height, width, _ = x.shape
    rows, columns = (jnp.arange(size) - (size - 1) / 2 for size in (height, width))
    rows = rows[:, None]
    cosine, sine = jnp.cos(angle) / factor, jnp.sin(angle) / factor
    # Output (row, column) is input (cosine · row + sine · column, cosine · column −
    # sine · row). The first pass finds, for an input row and an output column, the
    # input column.
    output_row = (rows - sine * columns) / cosine
    x = _interpolate(x, cosine * columns - sine * output_row + (width - 1) / 2, 1)
    return _interpolate(x, cosine * rows + sine * columns + (height - 1) / 2, 0)


def _interpolate(x, positions, axis):
    """x [h, w, 3] at positions [h, w] along an axis: Keys' cubic kernel, a = −0.5."""
    first = jnp.floor(positions)
    offset = positions - first
    last = x.shape[axis] - 1
    total = 0.0
    for tap in range(-1, 3):
        place = jnp.clip(first.astype(jnp.int32) + tap, 0, last)
        values = jnp.take_along_axis(x, place[..., None], axis, mode='clip')
        total += images.keys(jnp.abs(offset - tap))[..., None] * values
    return total
