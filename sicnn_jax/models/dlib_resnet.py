"""dlib's face recognition network (King 2017), read from its file: 29 convolutions.

It has 99.38% accuracy on LFW; its author left LFW's people out of the three million
training faces. The extra `dlib` installs the file; dlib itself is not needed.
"""

import importlib.util
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Float32, UInt8

from sicnn_jax import images
from sicnn_jax.errors import CheckpointError
from sicnn_jax.models.convolutions import convolution
from sicnn_jax.models.convolutions.pieces import direct
from sicnn_jax.models.layers import describe_faces

__all__ = [
    'CHIP',
    'FILE',
    'SIDE',
    'DlibResNet',
    'describe_chips',
    'find_file',
    'make_chips',
    'read_layers',
]

FILE = 'dlib_face_recognition_resnet_model_v1.dat'
_FEATURES = 128
# Faces in one batch of `fit`.
_BATCH = 64
# The network's input is a chip: a square of this many pixels a side.
SIDE = 150
# Maps points (x, y) of our aligned face to points of a chip: dlib's mean landmarks,
# fitted to the medians of dlib's own landmarks on 300 faces.
CHIP = np.array([[1.4782, 0.0, 2.855], [0.0, 1.4782, -32.544]])
# The levels it subtracts from red, green and blue; the difference is divided by 256.
_MEAN = (122.782, 117.001, 104.298)
# Channels and number of the residual blocks of each group. The first block halves the
# sides, except in the first group.
_GROUPS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
# The bytes in the file before the shape of a layer's numbers.
_CONVOLUTION, _AFFINE = b'\x05con_4\x01\x02', b'\x07affine_\x01\x02'
_DENSE = b'\x04fc_2\x01\x80\x02\x00\x01\x01\x02'


class DlibResNet(nn.Module):
    """dlib's network for aligned faces; `fit` gives its parameters.

    Attributes:
      activations: the groups of blocks, 1 to 5, whose outputs the perceptual loss
        compares.
    """

    activations: Sequence[int] = ()

    # The mean feature of this many faces stands for the mean of all.
    num_faces = 512
    num_groups = len(_GROUPS)
    feature_dim = _FEATURES

    def fit(self, faces: UInt8[np.ndarray, 'n 112 96 3']) -> dict[str, Any]:
        """The parameters: the arrays of dlib's file, and the mean feature of faces.

        The network was not trained on angles: its features lie on one side of the
        origin, and angles tell people apart only after the mean is subtracted. The
        activations of a group are in units of their spread, so that groups weigh alike.

        Raises:
          CheckpointError: the file is missing.
        """
        params = {'layers': read_layers(), 'centre': np.zeros(_FEATURES, np.float32)}
        params['centre'] = describe_faces(self, params, faces).mean(0)
        if self.activations:
            params['spreads'] = self._spreads(params, faces)
        return params

    @nn.compact
    def __call__(self, faces: Float[Array, 'n 112 96 3']) -> Float32[Array, 'n 128']:
        """Features of faces.

        Args:
          faces: RGB, (x − 127.5) / 128.

        Returns:
          With the mean feature subtracted, not normalised.
        """
        params = self.variables['params']
        return describe_chips(params['layers'], _chips(faces)) - params['centre']

    def activate(
        self, params: Mapping[str, Any], faces: Float[Array, 'n 112 96 3']
    ) -> tuple[Float32[Array, 'n h w c'], ...]:
        """The outputs of the groups that `activations` names, in units of their spread.

        Args:
          params: of `fit`.
          faces: RGB, (x − 127.5) / 128.
        """
        _, groups = _run(params['layers'], _chips(faces))
        return tuple(
            groups[group - 1] / params['spreads'][index]
            for index, group in enumerate(self.activations)
        )

    def _spreads(self, params, faces):
        """Standard deviation of each group's activations between faces, float32 [m]."""
        unscaled = {**params, 'spreads': np.ones(len(self.activations), np.float32)}
        activate = jax.jit(lambda faces: self.activate(unscaled, faces))
        batches = [
            activate(images.to_float(faces[start : start + _BATCH]))
            for start in range(0, len(faces), _BATCH)
        ]
        groups = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return np.array([np.sqrt(group.var(0).mean()) for group in groups], np.float32)


def describe_chips(layers: Any, levels: Float[Array, 'n 150 150 3']) -> Array:
    """The features that dlib's network gives to chips.

    Args:
      layers: from `read_layers`.
      levels: RGB, 0..255.

    Returns:
      float32 [n, 128].
    """
    return _run(layers, levels)[0]


def _chips(faces):
    images.check_float(faces, "dlib's network")
    return make_chips(faces.astype(jnp.float32) * 128 + 127.5)


def _run(layers, levels):
    """Features of chips, and the output of each group of blocks."""
    convolutions, groups = iter(layers['convolutions']), []

    def convolve(x, stride=1):
        layer = next(convolutions)
        if stride == 1:
            y = convolution(x, layer['kernel'], 'SAME')
        else:
            y = direct(x, layer['kernel'], 'VALID', (stride, stride))
        return y + layer['bias']

    x = (levels.astype(jnp.float32) - np.array(_MEAN, np.float32)) / 256
    x = nn.max_pool(nn.relu(convolve(x, 2)), (3, 3), (2, 2))
    for group, (_, depth) in enumerate(_GROUPS):
        for block in range(depth):
            halves = group > 0 and block == 0
            y = convolve(nn.relu(convolve(x, 2 if halves else 1)))
            x = nn.relu(_add(nn.avg_pool(x, (2, 2), (2, 2)) if halves else x, y))
        groups.append(x)
    return x.mean((1, 2)) @ layers['fc'], groups


def make_chips(levels: Float[Array, 'n 112 96 3']) -> Float[Array, 'n 150 150 3']:
    """Aligned faces in the form that dlib's network expects, by cubic interpolation.

    A chip shows more below the chin than our faces do, so their edge is repeated there.
    """
    height, width = levels.shape[1:3]
    columns, rows = _enlarging(width, *CHIP[0, ::2]), _enlarging(height, *CHIP[1, 1:])
    return jnp.einsum('rh,nhwc,sw->nrsc', rows, levels, columns)


def _enlarging(size, scale, offset):
    """float32 [150, size]: maps pixels along an axis of a face to pixels of a chip."""
    position = (np.arange(SIDE) - offset) / scale
    first = np.floor(position).astype(int)
    matrix = np.zeros((SIDE, size), np.float32)
    for tap in range(-1, 3):
        place = np.clip(first + tap, 0, size - 1)
        distance = np.abs(position - first - tap)
        np.add.at(matrix, (np.arange(SIDE), place), images.keys(distance))
    return matrix


def _add(x, y):
    """The sum of arrays [n, h, w, c], padded with zeros to the larger sizes."""
    shape = np.maximum(x.shape, y.shape)
    return sum(
        jnp.pad(each, [(0, more) for more in shape - each.shape]) for each in (x, y)
    )


def read_layers(path: Path | None = None) -> dict[str, Any]:
    """The parameters of dlib's file.

    Args:
      path: of the file; None for the file of the extra `dlib`.

    Returns:
      'convolutions', each merged with the affine layer behind it: kernel [k, k, c,
      features] and bias [features]; 'fc' [256, 128].

    Raises:
      CheckpointError: the file is missing, or is not dlib's.
    """
    path = path or find_file()
    data = path.read_bytes()
    channels, sizes = 3, [(7, 32)]
    sizes += [(3, width) for width, depth in _GROUPS for _ in range(2 * depth)]
    convolutions, place = [], 0
    for size, features in sizes:
        length = features * channels * size**2
        weights, place = _read(data, _CONVOLUTION, length + features, place, path)
        affine, place = _read(data, _AFFINE, 2 * features, place, path)
        kernel, bias = np.split(weights, [length])
        gain, shift = affine.reshape(2, features)
        kernel = kernel.reshape(features, channels, size, size).transpose(2, 3, 1, 0)
        convolutions.append({'kernel': kernel * gain, 'bias': bias * gain + shift})
        channels = features
    fc, _ = _read(data, _DENSE, channels * _FEATURES, place, path)
    return {'convolutions': convolutions, 'fc': fc.reshape(channels, _FEATURES)}


def find_file() -> Path:
    """The file of dlib's network; raises CheckpointError where there is none."""
    # The package is only found, not imported: its `__init__` needs an old setuptools.
    package = importlib.util.find_spec('face_recognition_models')
    if package and package.origin:
        path = Path(package.origin).with_name('models') / FILE
        if path.is_file():
            return path
    raise CheckpointError(
        "The weights of dlib's network are missing: pip install 'sicnn_jax[dlib]'."
    )


def _read(data, before, size, place, path):
    """The numbers of the next layer, float32, and where they end."""
    start = data.find(before, place) + len(before)
    shape = []
    for _ in range(4):
        # An integer is stored as its number of bytes, then the bytes, lowest first.
        end = start + 1 + int.from_bytes(data[start : start + 1])
        shape.append(int.from_bytes(data[start + 1 : end], 'little'))
        start = end
    end = start + 4 * math.prod(shape)
    if data.find(before, place) < 0 or math.prod(shape) != size or end > len(data):
        raise CheckpointError(
            f"{path} is damaged or of another network: expected dlib's {FILE}, which "
            f'has {size:,} numbers of a layer after byte {place:,}.'
        )
    return np.frombuffer(data, '<f4', size, start), end
