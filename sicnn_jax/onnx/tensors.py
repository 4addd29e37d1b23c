"""Reads the arrays of an ONNX file, from it or from files next to it."""

from pathlib import Path
from typing import Any

import numpy as np

from sicnn_jax.errors import CheckpointError


def read_tensor(tensor: Any, path: Path) -> np.ndarray:
    """The array of a `TensorProto`, in float32 if it is floating.

    Args:
      tensor: the message. One with external data is changed to hold it.
      path: of the ONNX file; external data is read from its folder only.

    Raises:
      CheckpointError: the array is damaged, or its data is missing or elsewhere.
    """
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL:
        tensor.raw_data = _external_data(tensor, path)
        tensor.data_location = TensorProto.DEFAULT
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    # Damage shows in many ways: for example, an unknown type raises KeyError.
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f'{path}: the array {tensor.name!r} is damaged: {error}. Fetch or export '
            'the file again.'
        ) from error
    return array.astype(np.float32) if is_floating(tensor.data_type) else array


def is_floating(data_type: int) -> bool:
    """Whether arrays of this `TensorProto.DataType` become float32."""
    from onnx import TensorProto

    names = ('FLOAT', 'FLOAT16', 'BFLOAT16', 'DOUBLE')
    return data_type in map(TensorProto.DataType.Value, names)


def _external_data(tensor, path):
    """The bytes that a tensor has in another file of the same folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get('location', '')
    file = _inside(location, tensor.name, path)
    try:
        offset, length = (int(entries.get(key, 0)) for key in ('offset', 'length'))
    except ValueError:
        offset = length = -1
    present = file.stat().st_size
    wanted = length or present - offset
    if min(offset, length) < 0 or not 0 <= wanted <= present - offset:
        raise CheckpointError(
            f'{path}: the array {tensor.name!r} should be {length or "all"} bytes '
            f'from byte {entries.get("offset", 0)} of {location!r}, which has '
            f'{present} bytes. Fetch both files again.'
        )
    with file.open('rb') as stream:
        stream.seek(offset)
        return stream.read(wanted)


def _inside(location, name, path):
    """The file at a location, if it is in the folder of the ONNX file."""
    folder = path.parent.resolve()
    file = (folder / location).resolve()
    if Path(location).is_absolute() or not file.is_relative_to(folder):
        raise CheckpointError(
            f'{path}: the array {name!r} should be in {location!r}; expected a '
            f'file inside the folder {folder}. If you trust it, load the network with '
            'the package onnx and save it as one file.'
        )
    if not file.is_file():
        raise CheckpointError(
            f'{path}: the array {name!r} should be in {location!r}, but there is '
            f'no file {file}. Put it there.'
        )
    return file
