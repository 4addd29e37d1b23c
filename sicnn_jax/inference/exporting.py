"""A trained CNNH as one file: ONNX, StableHLO or safetensors."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from sicnn_jax import models, packed, paths, workdir
from sicnn_jax.inference.exported import describe, missing_extra
from sicnn_jax.inference.onnx_model import to_onnx
from sicnn_jax.models.convolutions import on_any_backend
from sicnn_jax.results_file import write_results, write_whole

__all__ = ['FORMATS', 'PLATFORMS', 'export', 'to_stablehlo']

FORMATS = ('onnx', 'stablehlo', 'safetensors')
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')


def to_stablehlo(params: Any, record: Mapping[str, Any]) -> bytes:
    """CNNH as a serialised `jax.export.Exported`, from its parameters and its record.

    `jax.export.deserialize(data).call(lr)` runs it; lr is float32 [n, h, w, 3] for any
    n. The program runs on all of `PLATFORMS`, so its convolutions are XLA's own.

    Raises:
      ValueError: flatbuffers is not installed.
    """
    from jax import export

    cnnh = models.cnnh_from(record).clone(dtype=jnp.float32)
    program = jax.jit(lambda lr: cnnh.apply({'params': params}, lr))
    (n,) = export.symbolic_shape('n')
    lr = jax.ShapeDtypeStruct((n, *models.LR_SHAPES[cnnh.scale], 3), jnp.float32)
    with on_any_backend():
        exported = export.export(program, platforms=PLATFORMS)(lr)
    try:
        return bytes(exported.serialize())
    except ImportError as error:
        raise missing_extra('stablehlo', 'flatbuffers') from error


def export(
    checkpoint: str | os.PathLike | None,
    kind: str,
    out: Path,
    *,
    scale: int | None = None,
    half: bool = False,
) -> None:
    """Writes a trained CNNH as a file, with the metadata that `describe` returns.

    The metadata of `stablehlo` is in a file next to it, with `.json` after its name;
    other formats hold it.

    Args:
      checkpoint, scale: as `source` and `scale` of `inference.Hallucinator`.
      kind: one of `FORMATS`.
      out: the file, written whole or not at all.
      half: writes `safetensors` in float16.

    Raises:
      ValueError: the format is unknown or has no `half`, a number is too large for
        float16, there is no such checkpoint, or an extra is missing.
    """
    if kind not in FORMATS:
        raise ValueError(f'format is {kind!r}; expected one of {", ".join(FORMATS)}.')
    if half and kind != 'safetensors':
        raise ValueError(f'half needs the format safetensors, but it is {kind}.')
    params, record, _ = workdir.load_cnnh(checkpoint, scale)
    if kind == 'onnx':
        data = to_onnx(params, record)
    elif kind == 'stablehlo':
        data = to_stablehlo(params, record)
    else:
        data = packed.pack('cnnh', params, record, describe(record), half=half)
    out = paths.local(out)
    write_whole(out, data)
    if kind == 'stablehlo':
        write_results(describe(record), out.with_name(out.name + '.json'))
