"""MTCNN: three small networks, each of which looks at what the previous one proposed.

See Zhang et al., "Joint face detection and alignment using multitask cascaded
convolutional networks", 2016. Weights, thresholds and conventions are those of the
package `mtcnn`. Only its files of weights are read: its networks need TensorFlow.

Every network sees batches of one size, whatever the size of the picture, so that each
is compiled once. P-Net could see a picture of any size, but sees it in tiles.

Boxes are [n, 4], left, top, right and bottom in pixels.
"""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sicnn_jax.batches import in_batches
from sicnn_jax.models.convolutions.pieces import direct

# The size of the smallest face that is found, and the size at which P-Net sees it.
_SMALLEST, _CELL = 20, 12
_FACTOR = 0.709
# P-Net sees 12 pixels for each of its outputs, which are two pixels apart.
_STRIDE = 2
_OUTPUTS = 64
_TILE = _STRIDE * (_OUTPUTS - 1) + _CELL
# This many boxes are compared with all others at once.
_ROWS = 256


class Found(NamedTuple):
    """Faces in a picture, in descending order of score.

    Attributes:
      boxes: float64 [n, 4].
      scores: float64 [n], in [0, 1].
      landmarks: float64 [n, 5, 2], (x, y) in the order of `align.TEMPLATE`.
    """

    boxes: np.ndarray
    scores: np.ndarray
    landmarks: np.ndarray


def find(image: np.ndarray) -> Found:
    """Faces of 20 pixels and more, and their landmarks.

    It needs the extra `detect`. Several threads may call it.

    Args:
      image: uint8 [height, width, 3] RGB.
    """
    pixels = (np.asarray(image, np.float32) - 127.5) / 128
    boxes = _square(_strongest(*_propose(pixels), 0.7)[0])

    refined = _look(_r_net, 'rnet', pixels, boxes, 24, batch=64)
    keep = refined[:, 0] > 0.7
    boxes = _moved(boxes, refined[:, 1:5])[keep]
    boxes = _square(_strongest(boxes, refined[keep, 0], 0.7)[0])

    last = _look(_o_net, 'onet', pixels, boxes, 48, batch=16)
    keep = last[:, 0] > 0.8
    landmarks = _landmarks(boxes, last[:, 5:])[keep]
    boxes = _moved(boxes, last[:, 1:5])[keep]
    return Found(*_strongest(boxes, last[keep, 0], 0.7, landmarks, of_smaller=True))


@functools.cache
def _weights(network):
    """Arrays of a network, in the order of its layers."""
    import joblib

    # The package is not imported, because that would import TensorFlow.
    package = importlib.util.find_spec('mtcnn')
    assert package and package.submodule_search_locations
    (directory,) = package.submodule_search_locations
    return joblib.load(Path(directory) / 'assets' / 'weights' / f'{network}.lz4')


def _propose(pixels):
    """Boxes that P-Net takes for faces at some size, and their scores."""
    found = [(np.zeros((0, 4)), np.zeros(0))]
    scales = _scales(pixels.shape)
    if not len(scales):
        return found[0]
    for scale, outputs in zip(scales, _p_net_outputs(pixels, scales), strict=True):
        at = np.argwhere(outputs[..., 0] > 0.6)
        scores, moves = np.split(outputs[*at.T].astype(float), [1], axis=1)
        corner = _STRIDE * at[:, ::-1]
        # MTCNN's convention: from the second pixel to the end of the last.
        boxes = np.concatenate([corner + 1, corner + _CELL], axis=1)
        boxes = boxes + moves * (_CELL - 1)
        found.append(_strongest(boxes / scale, scores[:, 0], 0.5))
    return tuple(map(np.concatenate, zip(*found, strict=True)))


def _scales(shape):
    """Scales of the pyramid, from the smallest faces to those that fill the picture."""
    levels = -(np.log(min(shape[:2]) / _CELL) / np.log(_FACTOR) + 1)
    return _CELL / _SMALLEST * _FACTOR ** np.arange(max(0, np.round(levels)))


def _p_net_outputs(pixels, scales):
    """Scores and moves at each place [rows, columns, 5], at each scale."""
    totals = np.pad(pixels, ((1, 0), (1, 0), (0, 0))).cumsum(0, float).cumsum(1)
    levels = [_tiles(_shrunk(totals, scale)) for scale in scales]
    tiles = np.concatenate([tiles for tiles, _ in levels])
    outputs = in_batches(functools.partial(_p_net, _weights('pnet')), tiles, (8,))
    for tiles, (rows, columns) in levels:
        part, outputs = np.split(outputs, [len(tiles)])
        across = -(-columns // _OUTPUTS)
        joined = part.reshape(-1, across, _OUTPUTS, _OUTPUTS, 5).swapaxes(1, 2)
        joined = joined.reshape(-1, across * _OUTPUTS, 5)
        yield joined[:rows, :columns]


def _shrunk(totals, scale):
    """Means of a picture over areas whose edges may divide pixels.

    `totals` are sums of the pixels above and to the left of each pixel corner.
    """
    for axis in (0, 1):
        length = totals.shape[axis] - 1
        edges = np.linspace(0, length, int(length * scale) + 1)
        before = np.minimum(edges.astype(int), length - 1)
        part = np.expand_dims(edges - before, (1 - axis, 2))
        low, high = (np.take(totals, before + step, axis) for step in (0, 1))
        totals = (low + part * (high - low)) / edges[1]
    return np.diff(np.diff(totals, axis=0), axis=1).astype(np.float32)


def _tiles(pixels):
    """P-Net's inputs from a picture, and its number of outputs, down and across.

    A fourth channel marks the pixels that are inside the picture.
    """
    height, width = pixels.shape[:2]
    outputs = [(side - 1) // 2 - 4 for side in (height, width)]
    step = _STRIDE * _OUTPUTS
    size = [-(-count // _OUTPUTS) * step + _TILE - step for count in outputs]
    padded = np.zeros((*size, 4), np.float32)
    padded[:height, :width] = np.dstack([pixels, np.ones((height, width))])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (_TILE, _TILE), (0, 1))
    tiles = np.moveaxis(windows[::step, ::step], 2, -1)
    return tiles.reshape(-1, _TILE, _TILE, 4), outputs


def _look(network, name, pixels, boxes, size, batch):
    """The outputs of a network for boxes: score, moves and the rest, [n, …]."""
    crops = _crop(pixels, boxes, size)
    return in_batches(functools.partial(network, _weights(name)), crops, (batch,))


def _crop(pixels, boxes, size):
    """The inside of boxes, bilinearly at `size` points per side, [n, size, size, 3].

    The first and last points lie on the edges of the box. Outside the picture is grey.
    """
    height, width = pixels.shape[:2]
    steps = np.linspace(0, 1, size)
    lengths = np.array([width, height])
    first, last = (boxes[:, side] * (1 - 1 / lengths) for side in ((0, 1), (2, 3)))
    points = first[:, None] + (last - first)[:, None] * steps[:, None]
    inside = (points >= 0) & (points <= lengths - 1)
    before = np.clip(np.floor(points), 0, lengths - 1).astype(int)
    after = np.minimum(before + 1, lengths - 1)
    part = (points - before).astype(np.float32)
    left, right = before[:, None, :, 0], after[:, None, :, 0]
    x, y = part[:, None, :, 0, None], part[:, :, None, 1, None]

    def row(at):
        at = at[:, :, None, 1]
        return pixels[at, left] + x * (pixels[at, right] - pixels[at, left])

    top = row(before)
    crops = top + y * (row(after) - top)
    return crops * (inside[:, None, :, 0, None] & inside[:, :, None, 1, None])


def _strongest(boxes, scores, overlap, *more, of_smaller=False):
    """Boxes that no stronger box overlaps by more than a share, strongest first.

    The share is of the union, or of the smaller box. Equal scores are common near 1 in
    float32. The last of them counts as the strongest, as in the package; another choice
    would move a face by some pixels.
    """
    order = np.argsort(scores, kind='stable')[::-1]
    boxes = boxes[order]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    keep = np.ones(len(boxes), bool)
    for start in range(0, len(boxes), _ROWS):
        rows, columns = slice(start, start + _ROWS), slice(start + _ROWS)
        low = np.maximum(boxes[rows, None, :2], boxes[columns, :2])
        high = np.minimum(boxes[rows, None, 2:], boxes[columns, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=2)
        a, b = areas[rows, None], areas[columns]
        whole = np.minimum(a, b) if of_smaller else a + b - shared
        # Whether the box of a column comes before the box of a row.
        stronger = np.tri(len(shared), shared.shape[1], start - 1, dtype=bool)
        keep[rows] = ~np.any((shared > overlap * whole) & stronger, axis=1)
    kept = order[keep]
    return boxes[keep], scores[kept], *(each[kept] for each in more)


def _square(boxes):
    """Boxes made square, about the same middle."""
    size = boxes[:, 2:] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + (size - side) / 2
    return np.concatenate([corner, corner + side], axis=1)


def _moved(boxes, moves):
    """Boxes moved by multiples of their size, which includes the last pixel."""
    size = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + moves * np.tile(size, 2)


def _landmarks(boxes, points):
    size = boxes[:, None, 2:] - boxes[:, None, :2] + 1
    x_then_y = points.reshape(-1, 2, 5)
    return size * x_then_y.swapaxes(1, 2) + boxes[:, None, :2] - 1


@jax.jit
def _p_net(weights: Sequence[Any], tiles: jax.Array) -> jax.Array:
    """Score and moves [n, 64, 64, 5] of tiles [n, 138, 138, 4]."""
    x = _layer(tiles[..., :3], *weights[:3])
    # Less than any output of a convolution: pixels outside the picture never win.
    x = jnp.where(tiles[:, 2:, 2:, 3:] > 0, x, -1e9)
    x = nn.max_pool(x, (2, 2), (2, 2))
    x = _layer(_layer(x, *weights[3:6]), *weights[6:9])
    return _scored(*(_convolve(x, *weights[i : i + 2]) for i in (11, 9)))


@jax.jit
def _r_net(weights: Sequence[Any], faces: jax.Array) -> jax.Array:
    """Score and moves [n, 5] of faces [n, 24, 24, 3]."""
    x = _describe(faces, weights, ((3, 'SAME'), (3, 'VALID'), None))
    return _scored(x @ weights[14] + weights[15], x @ weights[12] + weights[13])


@jax.jit
def _o_net(weights: Sequence[Any], faces: jax.Array) -> jax.Array:
    """Score, moves and landmarks (five x, then five y) [n, 15] of [n, 48, 48, 3]."""
    x = _describe(faces, weights, ((3, 'SAME'), (3, 'VALID'), (2, 'SAME'), None))
    moves, landmarks, classes = (x @ weights[i] + weights[i + 1] for i in (15, 17, 19))
    return _scored(classes, moves, landmarks)


def _describe(x, weights, pools):
    """Convolutions, each with its pooling, and a fully connected layer."""
    for i, pool in enumerate(pools):
        x = _layer(x, *weights[3 * i : 3 * i + 3])
        if pool:
            size, padding = pool
            x = nn.max_pool(x, (size, size), (2, 2), padding)
    # The weights come from a layout with columns before rows.
    x = x.swapaxes(1, 2).reshape(len(x), -1)
    kernel, bias, slope = weights[3 * len(pools) : 3 * len(pools) + 3]
    return _prelu(x @ kernel + bias, slope)


def _scored(classes, *more):
    """The probability of a face, followed by the other outputs."""
    return jnp.concatenate([nn.softmax(classes)[..., 1:], *more], axis=-1)


def _layer(x, kernel, bias, slope):
    return _prelu(_convolve(x, kernel, bias), slope)


def _convolve(x, kernel, bias):
    return bias + direct(x, kernel, 'VALID')


def _prelu(x, slope):
    return jnp.where(x > 0, x, slope * x)
