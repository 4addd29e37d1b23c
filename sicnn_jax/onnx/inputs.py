"""The input that a third-party network expects and its ONNX file does not describe.

A JSON file next to it (`model.json` for `model.onnx`) has the fields of `OnnxInput`,
such as the colour order.
"""

import dataclasses
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float, Num, UInt8
from PIL import Image

from sicnn_jax import text_files
from sicnn_jax.errors import CheckpointError
from sicnn_jax.images import HEIGHT, WIDTH

__all__ = [
    'OnnxInput',
    'check_exists',
    'columns_of',
    'complete',
    'fit_faces',
    'open_with',
    'read_input',
]


def open_with(path: Path, package: str) -> ModuleType:
    """The package that reads a network's file.

    Args:
      path: of the file.
      package: of the extra `onnx`: 'onnx' or 'onnxruntime'.

    Raises:
      CheckpointError: the file or the package is missing.
    """
    check_exists(path)
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise CheckpointError(
            f"{path} needs one more package: pip install 'sicnn_jax[onnx]'."
        ) from error


def check_exists(path: Path) -> None:
    """Raises CheckpointError if there is no such file."""
    if not path.is_file():
        raise CheckpointError(f'The network {path} is missing.')


@dataclasses.dataclass(frozen=True)
class OnnxInput:
    """The input that a network expects. The defaults suit InsightFace's networks.

    Attributes:
      size: (height, width) in pixels; () for the file's size, or 112×112 if it is open.
      mean, scale: the network gets (level − mean) · scale; numbers, or three of
        them in its colour order.
      colour_order: 'RGB' or 'BGR'.
      layout: 'NCHW' or 'NHWC'; '' for the file's layout.
      mirror: whether the mirrored face is described as well for verification.
      centred: as in `Judge`.
      output: name of the features; '' for the first output.
    """

    size: tuple[int, ...] = ()
    mean: float | tuple[float, ...] = 127.5
    scale: float | tuple[float, ...] = 1 / 127.5
    colour_order: str = 'RGB'
    layout: str = ''
    mirror: bool = True
    centred: bool = False
    output: str = ''

    def __post_init__(self) -> None:
        def check(fits, field, expected):
            if not fits:
                raise CheckpointError(
                    f'{field} of the ONNX network is {getattr(self, field)!r}; '
                    f'expected {expected}.'
                )

        sized = isinstance(self.size, tuple) and len(self.size) in (0, 2)
        sized = sized and all(isinstance(n, int) for n in self.size)
        check(sized, 'size', 'height and width')
        check(self.colour_order in ('RGB', 'BGR'), 'colour_order', 'RGB or BGR')
        check(self.layout in ('', 'NCHW', 'NHWC'), 'layout', 'NCHW or NHWC')
        for field in ('mean', 'scale'):
            check(_are_numbers(getattr(self, field)), field, '1 or 3 numbers')
        for field in ('mirror', 'centred'):
            check(isinstance(getattr(self, field), bool), field, 'true or false')
        largest = np.abs(self._normalize(np.array([[0.0] * 3, [255.0] * 3]))).max()
        # Networks take numbers around 1, or levels of 0 to 255.
        check(
            0 < largest <= 300,
            'scale',
            'a factor, such as 1 / 127.5 = 0.00784: the network would get '
            f'numbers up to {largest:.3g}',
        )

    def arrange(self, faces: Num[Any, 'n h w 3']) -> Float[Any, 'n _ _ _']:
        """Faces of the network's size in the form that it takes.

        Args:
          faces: RGB, levels 0..255, of NumPy or JAX.
        """
        if self.colour_order == 'BGR':
            faces = faces[..., ::-1]
        numbers = self._normalize(faces)
        return numbers.transpose(0, 3, 1, 2) if self.layout == 'NCHW' else numbers

    def _normalize(self, levels):
        """Levels 0..255 in the network's colour order → its input numbers."""
        return (levels - np.asarray(self.mean)) * np.asarray(self.scale)

    def describe(self) -> str:
        """A description in words, for example for a message."""
        height, width = self.size
        return (
            f'{height}×{width} pixels (height×width), (level − {self.mean}) · '
            f'{self.scale}, {self.colour_order}, {self.layout}'
        )


def _are_numbers(value):
    values = value if isinstance(value, tuple) else (value,)
    return len(values) in (1, 3) and all(type(each) in (int, float) for each in values)


def read_input(path: str | os.PathLike, settings: Mapping[str, Any] = {}) -> OnnxInput:
    """Reads the description of an ONNX file's input.

    Args:
      path: of the ONNX file; the JSON next to it may be missing.
      settings: fields of `OnnxInput` that override those of the JSON.

    Raises:
      CheckpointError: the JSON is damaged, or a field is unknown or wrong.
    """
    path = Path(path).with_suffix('.json')
    fields: dict[str, Any] = {}
    if path.is_file():
        try:
            fields = dict(json.loads(text_files.read_text(path)))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f'{path} cannot be read: {error}') from error
    fields |= settings
    known = [field.name for field in dataclasses.fields(OnnxInput)]
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise CheckpointError(
            f'{path} has a field {unknown[0]!r}; expected some of {", ".join(known)}.'
        )
    try:
        # JSON has no tuples.
        hashable: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return OnnxInput(**hashable)
    except TypeError as error:
        raise CheckpointError(f'{path}: {error}') from error


def fit_faces(
    faces: UInt8[np.ndarray, 'n 112 96 3'], size: tuple[int, int]
) -> UInt8[np.ndarray, 'n height width 3']:
    """Faces in another shape: the sides padded or cropped, then resized.

    Padding repeats the edge. For 112×112 pixels it is 8 on each side, which brings the
    landmarks onto ArcFace's template: our template, moved 8 pixels to the right.
    Resizing is bicubic, without aliasing.

    Args:
      faces: RGB or BGR.
      size: (height, width).
    """
    height, width = size
    faces = faces[:, :, columns_of(size)]
    if faces.shape[1:3] == (height, width):
        return faces
    resized = [
        Image.fromarray(face).resize((width, height), Image.Resampling.BICUBIC)
        for face in faces
    ]
    return np.stack([*map(np.asarray, resized)])


def columns_of(size: tuple[int, int]) -> np.ndarray:
    """The columns of a face, padded or cropped to the shape of (height, width)."""
    height, width = size
    wide = round(HEIGHT * width / height)
    # The source of the first column, which is beyond the face or within it.
    first = (WIDTH - wide) // 2
    return np.clip(np.arange(first, first + wide), 0, WIDTH - 1)


def complete(
    expected: OnnxInput, shape: Sequence[Any], path: str | os.PathLike
) -> OnnxInput:
    """The expected input, completed by the declarations of the file.

    Args:
      expected: from the settings.
      shape: of the input; open sizes are not integers.
      path: of the file.

    Raises:
      CheckpointError: the settings contradict the file.
    """
    if len(shape) != 4:
        raise CheckpointError(
            f'{path} takes the shape {shape}; expected a batch of RGB images.'
        )
    layout = expected.layout or ('NHWC' if shape[3] == 3 and shape[1] != 3 else 'NCHW')
    sizes = [shape[layout.index(axis)] for axis in 'CHW']
    # A dimension that the file leaves open is a name or None.
    size = expected.size or tuple(n if isinstance(n, int) else 112 for n in sizes[1:])
    for declared, said in zip(sizes, (3, *size), strict=True):
        if isinstance(declared, int) and declared != said:
            raise CheckpointError(
                f'{path} takes the shape {shape}, but its settings say {layout} with '
                f'{size[0]}×{size[1]} pixels (height×width): correct layout or size.'
            )
    return dataclasses.replace(expected, size=size, layout=layout)
