"""Stores one trained network in one safetensors file, with its record as metadata.

`checkpoint.load_networks` reads such a file in place of a stage's directory.
"""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from sicnn_jax.errors import CheckpointError

SUFFIX = '.safetensors'
CHECKSUM = 'crc32'
_NETWORK, _RECORD = 'network', 'record'


def pack(
    network: str,
    params: Any,
    record: Mapping[str, Any],
    about: Mapping[str, str] = {},
    *,
    half: bool = False,
) -> bytes:
    """A network as the content of a file.

    Args:
      network: its name, such as 'cnnh'.
      params: its parameters; the file names them like `dense_block1/conv2/kernel`, and
        kernels are [k, k, in, out].
      record: of its checkpoint, with the network's sizes.
      about: other metadata.
      half: in float16, with half as many bytes.

    Raises:
      ValueError: a number is too large for float16.
    """
    flat = flax.traverse_util.flatten_dict(params, sep='/')
    arrays = {name: _stored(np.asarray(x), half) for name, x in flat.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(
                f'{network} has a number in {name} that {array.dtype} cannot hold: '
                'write it in float32.'
            )
    record = {**record, CHECKSUM: checksum(arrays)}
    # ASCII keeps paths as they are: the path of an ONNX file may not be UTF-8.
    text = json.dumps(record)
    return save(arrays, metadata={**about, _NETWORK: network, _RECORD: text})


def _stored(array, half):
    """An array as stored: floats in float32 or float16, others as they are."""
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over='ignore'):
            array = array.astype(np.float16 if half else np.float32)
    return np.array(array, order='C')


def checksum(tree: Any) -> int:
    """CRC-32 of the bytes of all arrays."""
    total = 0
    for leaf in jax.tree.leaves(tree):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return total


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a file of `pack`: parameters by the network's name, in float32; the record.

    Raises:
      CheckpointError: the file is missing, damaged or of another kind.
    """
    # A file that the system cannot read may be intact, so its error is raised as it is.
    try:
        with safe_open(path, framework='numpy') as file:
            metadata = file.metadata() or {}
            flat = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(
            f'{path} is missing: expected a packed network.'
        ) from error
    except SafetensorError as error:
        raise CheckpointError(
            f'{path} is damaged or not a safetensors file: {error}. Copy it again.'
        ) from error
    for field in (_RECORD, _NETWORK):
        if field not in metadata:
            raise CheckpointError(
                f'{path} has no field {field!r} in its metadata; expected a file from '
                'python -m sicnn_jax.export or sicnn_jax.evaluation.judge, which '
                'describe the network there.'
            )
    record = json.loads(metadata[_RECORD])
    if record.get(CHECKSUM) != checksum(flat):
        raise CheckpointError(
            f'{path} is damaged: its arrays are not those that were saved. Copy it '
            'again.'
        )
    single = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in flat.items()
    }
    params = flax.traverse_util.unflatten_dict(single, sep='/')
    return {metadata[_NETWORK]: params}, record
