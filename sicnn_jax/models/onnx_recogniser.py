"""A third-party recognition network, read from its ONNX file, in place of CNNR."""

import dataclasses
import functools
import hashlib
import json
import os
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
from sicnn_jax.models.layers import describe_faces
from sicnn_jax.onnx.graph import Graph, read_graph
from sicnn_jax.onnx.inputs import (
    OnnxInput,
    check_exists,
    columns_of,
    complete,
    read_input,
)
from sicnn_jax.onnx.interpret import evaluate

__all__ = ['OnnxRecogniser', 'describe_file']

_INPUT_FIELDS = [
    field.name for field in dataclasses.fields(OnnxInput) if field.name != 'mirror'
]
# Features that differ between faces by a smaller share do not depend on the face.
_LEAST_CHANGE = 1e-4


class OnnxRecogniser(nn.Module):
    """The network of an ONNX file for aligned faces; `fit` gives its parameters.

    The parameters are the arrays of the file, and may be trained; even then, batch
    normalisation is the affine map of inference.

    Attributes:
      file: its path. For the JSON file next to it, see `describe_file`.
      sha256: of the file; '' for any.
      size, mean, scale, colour_order, layout, centred, output: of `OnnxInput`.
      activations: names of node outputs that the perceptual loss compares.
    """

    file: str
    sha256: str = ''
    size: Sequence[int] = ()
    mean: float | Sequence[float] = 127.5
    scale: float | Sequence[float] = 1 / 127.5
    colour_order: str = 'RGB'
    layout: str = ''
    centred: bool = False
    output: str = ''
    activations: Sequence[str] = ()

    # The mean feature of this many faces stands for the mean of all.
    num_faces = 512

    @property
    def feature_dim(self) -> int:
        """Length of a feature. Raises CheckpointError if the output is not a vector."""
        return _feature_dim(self)

    def check(self) -> None:
        """Raises CheckpointError unless the file has a recognition network."""
        _ = self.feature_dim
        graph = _open(self.file, self.sha256)
        made = {node.outputs[0] for node in graph.nodes}
        for name in self.activations:
            if name not in made:
                raise CheckpointError(
                    f'cnnr.activations names {name!r}, but no node of {self.file} has '
                    f'that output; expected one such as {", ".join([*made][:8])}, …'
                )

    def fit(self, faces: UInt8[np.ndarray, 'n 112 96 3']) -> dict[str, Any]:
        """The parameters: the arrays of the file, and the mean feature of faces.

        The mean is 0 unless `centred`.

        Raises:
          CheckpointError: the file is missing or was replaced, is not a recognition
            network, or has features that do not depend on the face.
        """
        centre = np.zeros(self.feature_dim, np.float32)
        graph = _open(self.file, self.sha256)
        params = {'arrays': [*graph.parameters.values()], 'centre': centre}
        features = describe_faces(self, params, faces)
        change = features.std(0).max() / np.abs(features).max()
        if not change > _LEAST_CHANGE:
            raise CheckpointError(
                f'The features of {self.file} do not change with the face (only by a '
                f'share of {change:.1e}): check mean, scale and output in '
                f'{Path(self.file).with_suffix(".json").name}, or use another network.'
            )
        if self.centred:
            params['centre'] = features.mean(0)
        return params

    @nn.compact
    def __call__(
        self, faces: Float[Array, 'n 112 96 3']
    ) -> Float32[Array, 'n feature_dim']:
        """Features of faces.

        Args:
          faces: RGB, (x − 127.5) / 128.

        Returns:
          Not normalised; with their mean subtracted if `centred`.
        """
        params = self.variables['params']
        features = self._describe(params, faces)
        return features.reshape(len(faces), -1) - params['centre']

    def activate(
        self, params: Mapping[str, Any], faces: Float[Array, 'n 112 96 3']
    ) -> tuple[Array, ...]:
        """The outputs of the nodes that `activations` names, each [n, …].

        Args:
          params: of `fit`.
          faces: RGB, (x − 127.5) / 128.

        Raises:
          CheckpointError: the file has no such node.
        """
        if not self.activations:
            return ()
        return self._run(params, faces, tuple(self.activations))

    def _describe(self, params, faces):
        (features,) = self._run(params, faces, (self.output,) if self.output else ())
        return features

    def _run(self, params, faces, outputs):
        images.check_float(faces, 'The network of an ONNX file')
        graph = _open(self.file, self.sha256)
        arrays = dict(zip(graph.parameters, params['arrays'], strict=True))
        said = {name: getattr(self, name) for name in _INPUT_FIELDS}
        expected = complete(OnnxInput(**said), graph.shape, self.file)
        height, width = expected.size
        x = faces.astype(jnp.float32)[:, :, columns_of((height, width))]
        if x.shape[1:3] != (height, width):
            x = jax.image.resize(x, (len(x), height, width, 3), 'cubic')
        given = expected.arrange(x * 128 + 127.5)
        return jax.vmap(lambda x: evaluate(graph, arrays, x, outputs))(given)


def describe_file(described: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an `OnnxRecogniser`, completed from its file and that file's JSON.

    Args:
      described: `kind`, `file`, `activations`, perhaps `sha256`, and fields that
        override those of the JSON next to the file.

    Raises:
      CheckpointError: the file or the JSON is missing or damaged, or they contradict
        each other.
    """
    own = {field: described.get(field) for field in ('kind', 'file', 'activations')}
    if not own['file']:
        raise CheckpointError(
            'cnnr.file is empty: set it to the ONNX file of a recognition network.'
        )
    # An absolute path, so that the run can be read from other directories.
    own['file'] = os.path.abspath(own['file'])
    own['sha256'] = described.get('sha256') or _sha256(own['file'])
    said = {field: value for field, value in described.items() if field not in own}
    for field in said:
        if field not in _INPUT_FIELDS:
            raise CheckpointError(
                f'cnnr.{field} is not a field of an ONNX network; expected some of '
                f'{", ".join((*own, *_INPUT_FIELDS))}.'
            )
    expected = dataclasses.asdict(read_input(own['file'], said))
    # This field concerns verification, not the network.
    del expected['mirror']
    # In the form that a checkpoint will have.
    return json.loads(json.dumps(own | expected))


@functools.lru_cache(maxsize=4)
def _feature_dim(network: OnnxRecogniser) -> int:
    graph = _open(network.file, network.sha256)
    params = {'arrays': [*graph.parameters.values()]}
    face = jax.ShapeDtypeStruct((1, images.HEIGHT, images.WIDTH, 3), jnp.float32)
    shape = jax.eval_shape(lambda x: network._describe(params, x), face).shape[1:]
    if sum(size > 1 for size in shape) != 1:
        raise CheckpointError(
            f'{network.file} gives {list(shape)} for a face; expected a vector of '
            'features. Is it a recognition network, and does `output` name the vector?'
        )
    return max(shape)


@functools.lru_cache(maxsize=4)
def _open(file: str, sha256: str) -> Graph:
    graph = read_graph(file)
    if sha256 and _sha256(file) != sha256:
        raise CheckpointError(
            f'{file} is not the file of the run: its SHA-256 begins with '
            f'{_sha256(file)[:12]}; expected {sha256[:12]}. Restore the old file, or '
            'start a new workdir.'
        )
    return graph


def _sha256(path: str | os.PathLike) -> str:
    path = Path(path)
    check_exists(path)
    stat = path.stat()
    return _sha256_of(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=4)
def _sha256_of(path: Path, *_: int) -> str:
    """The SHA-256, computed once and not for each stage, unless the file changes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
