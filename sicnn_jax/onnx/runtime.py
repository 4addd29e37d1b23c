"""Runs third-party recognition networks in ONNX Runtime (extra `onnx`), as judges."""

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from sicnn_jax.batches import in_batches
from sicnn_jax.errors import CheckpointError
from sicnn_jax.onnx.inputs import OnnxInput, complete, fit_faces, open_with, read_input

_BATCH = 64
_DTYPES = {
    'tensor(float)': np.float32,
    'tensor(float16)': np.float16,
    'tensor(double)': np.float64,
}


@dataclasses.dataclass(frozen=True)
class OnnxNetwork:
    """A network that describes faces.

    Attributes:
      input: the input that it expects, complete.
      run: input of its dtype → features, for any n.
      dtype: of its input.
    """

    input: OnnxInput
    run: Callable[[Float[np.ndarray, 'n _ _ _']], Float[np.ndarray, 'n d']]
    dtype: Any

    def __call__(
        self, faces: UInt8[np.ndarray, 'n 112 96 3']
    ) -> tuple[Float[np.ndarray, 'n d'], Float[np.ndarray, 'n d_verification']]:
        """Features for similarity, and for verification with the mirrored faces.

        Args:
          faces: RGB.

        Returns:
          d and 2 · d numbers per face; d and d if it does not mirror.
        """
        chunks = [
            self._describe(faces[start : start + _BATCH])
            for start in range(0, len(faces), _BATCH)
        ]
        alone, both = zip(*chunks, strict=True)
        return np.concatenate(alone), np.concatenate(both)

    def _describe(self, faces):
        height, width = self.input.size
        faces = fit_faces(faces, (height, width))
        alone = self.run(self._prepare(faces))
        if not self.input.mirror:
            return alone, alone
        mirrored = self.run(self._prepare(faces[:, :, ::-1]))
        return alone, np.concatenate([alone, mirrored], axis=1)

    def _prepare(self, faces):
        return np.ascontiguousarray(self.input.arrange(faces), self.dtype)


def load_network(path: str | os.PathLike) -> OnnxNetwork:
    """Opens an ONNX file with ONNX Runtime, on any device that it supports.

    Args:
      path: of the file; the JSON next to it describes its input, see `read_input`.

    Raises:
      CheckpointError: the file is missing, damaged or not such a network, ONNX Runtime
        is missing, or the settings of the input contradict the file.
    """
    path = Path(path)
    onnxruntime = open_with(path, 'onnxruntime')
    expected = read_input(path)
    try:
        session = onnxruntime.InferenceSession(
            os.fspath(path), providers=onnxruntime.get_available_providers()
        )
    # ONNX Runtime's errors have no common base of their own.
    except Exception as error:
        raise CheckpointError(f'{path} cannot be opened: {error}') from error
    declared, *others = session.get_inputs()
    if others or declared.type not in _DTYPES:
        raise CheckpointError(
            f'{path} has {1 + len(others)} inputs, the first a {declared.type}; '
            f'expected one of {", ".join(_DTYPES)}.'
        )
    expected = complete(expected, declared.shape, path)
    outputs = [output.name for output in session.get_outputs()]
    if expected.output and expected.output not in outputs:
        raise CheckpointError(
            f'{path} has no output {expected.output!r}; it has {", ".join(outputs)}.'
        )
    output = expected.output or outputs[0]

    def describe(numbers):
        try:
            (features,) = session.run([output], {declared.name: numbers})
        except Exception as error:
            reason = ' '.join(str(error).split())
            raise CheckpointError(
                f'{path} fails when it is run on {len(numbers)} face(s): {reason}. '
                'Export it again with an open batch, or use another network.'
            ) from error
        return _check_features(features, len(numbers), path)

    # An open size is not a number, or 0.
    batch = declared.shape[0] if isinstance(declared.shape[0], int) else 0
    return OnnxNetwork(expected, _Batches(describe, batch), _DTYPES[declared.type])


@dataclasses.dataclass
class _Batches:
    """Input → features, in batches of the size that the file takes; 0 for any."""

    describe: Callable
    size: int

    def __call__(self, numbers: np.ndarray) -> np.ndarray:
        try:
            return in_batches(self.describe, numbers, (self.size or len(numbers) or 1,))
        except CheckpointError as error:
            if self.size or len(numbers) < 2:
                raise
            # It was exported for one face, with a batch that is open in name only.
            features = in_batches(self.describe, numbers, (1,))
            print(f'One face at a time: {error}', file=sys.stderr, flush=True)
            self.size = 1
            return features


def _check_features(features, rows, path):
    features = np.asarray(features, np.float32)
    if features.ndim < 2 or len(features) != rows:
        raise CheckpointError(
            f'{path} returns the shape {list(features.shape)} for {rows} faces; '
            'expected a feature of each. Does `output` name the features?'
        )
    return features.reshape(rows, -1)
