"""Writes a trained CNNH as one file for use without this package.

    python -m sicnn_jax.export --checkpoint=runs/di --format=onnx --out=cnnh.onnx

Without --checkpoint it is the network that ships (--scale=8 or 4).

Formats: `onnx` (any runtime; extra `export`), `stablehlo` (a serialised `jax.export`
program for CPU, GPU and TPU; extra `export`), `safetensors` (the parameters alone). The
first two take any number of faces, float32 [n, 14, 12, 3] (scale 8) or [n, 28, 24, 3]
(scale 4), and give float32 [n, 112, 96, 3], both RGB, (level − 127.5) / 128. That and
what the network was trained on is stored with it: see `describe`.
"""

import argparse
import functools
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sicnn_jax import command, images, models, packed, weights, workdir
from sicnn_jax.data import align
from sicnn_jax.models.convolution import on_any_backend
from sicnn_jax.results_file import write_whole

FORMATS = ('onnx', 'stablehlo', 'safetensors')
PLATFORMS = ('cpu', 'cuda', 'rocm', 'tpu')

# Of ONNX; runtimes of 2022 and later know it.
_OPSET, _IR_VERSION = 17, 8
_INPUT, _OUTPUT = 'lr', 'sr'


class MissingExtraError(ValueError):
    """A format needs a package that is not installed."""


def describe(record: Mapping[str, Any]) -> dict[str, str]:
    """What the user of a file has to know, as the strings that file formats store.

    Args:
      record: of a checkpoint.

    Returns:
      'input', 'output' (shape and layout), 'colour_order', 'value_range', 'scale',
      'degradation' (how the faces that it was trained on were made small), 'template'
      (where the five landmarks of a face lie in 96×112) and 'record' (JSON).
    """
    height, width = models.LR_SHAPES[record['scale']]
    return {
        'input': f'{_INPUT}: float32 [n, {height}, {width}, 3], NHWC',
        'output': f'{_OUTPUT}: float32 [n, {images.HEIGHT}, {images.WIDTH}, 3], NHWC',
        'colour_order': images.CONVENTION['colour_order'],
        'value_range': '(level - 127.5) / 128 of levels 0..255, in and out',
        'scale': str(record['scale']),
        'degradation': record['degradation'],
        'template': json.dumps(np.asarray(align.TEMPLATE).tolist()),
        'record': json.dumps(record, ensure_ascii=False),
    }


def to_stablehlo(
    params: Any, record: Mapping[str, Any], platforms: Sequence[str] = PLATFORMS
) -> bytes:
    """CNNH with its parameters as a serialised `jax.export.Exported`, in float32.

    `jax.export.deserialize(data).call(lr)` runs it; lr is float32 [n, h, w, 3] for any
    n. The program is for all platforms, so its convolutions are XLA's own.

    Args:
      params: of CNNH.
      record: of its checkpoint.
      platforms: that it can run on, of `PLATFORMS`.

    Raises:
      MissingExtraError: flatbuffers is not installed.
    """
    from jax import export

    cnnh = models.cnnh_from(record).clone(dtype=jnp.float32)
    (n,) = export.symbolic_shape('n')
    lr = jax.ShapeDtypeStruct((n, *models.LR_SHAPES[cnnh.scale], 3), jnp.float32)
    with on_any_backend():
        program = export.export(
            jax.jit(lambda lr: cnnh.apply({'params': params}, lr)), platforms=platforms
        )(lr)
    try:
        return bytes(program.serialize())
    except ImportError as error:
        raise _missing('stablehlo', 'flatbuffers') from error


def to_safetensors(
    params: Any, record: Mapping[str, Any], *, half: bool = False
) -> bytes:
    """The parameters of CNNH, named `dense_block1/conv2/kernel`, with `describe`.

    Kernels are [k, k, in, out]. The record in the metadata says the network's sizes.
    The package reads such a file where it takes a checkpoint.

    Args:
      params: of CNNH.
      record: of its checkpoint.
      half: in float16.

    Raises:
      ValueError: a number is too large for float16.
    """
    return packed.pack('cnnh', params, record, describe(record), half=half)


def to_onnx(params: Any, record: Mapping[str, Any]) -> bytes:
    """CNNH with its parameters as an ONNX model, in float32.

    Built from the layers and not traced: what XLA is given to be fast is not what an
    ONNX runtime is fast with.

    Args:
      params: of CNNH.
      record: of its checkpoint.

    Raises:
      MissingExtraError: onnx is not installed.
    """
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise _missing('onnx', 'onnx') from error

    scale = record['scale']
    graph = _Graph(helper)
    graph.add('Transpose', _INPUT, perm=[0, 3, 1, 2])
    planes = graph.last
    _add_cnnh(graph, params)
    if models.cnnh_from(record).bicubic_skip:
        graph.add('Add', graph.last, graph.enlarge(planes, scale))
    else:
        graph.add('Tanh', graph.last)
    graph.add('Transpose', graph.last, perm=[0, 2, 3, 1], output=_OUTPUT)

    def value(name, height, width):
        return helper.make_tensor_value_info(
            name, TensorProto.FLOAT, ['n', height, width, 3]
        )

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            'CNNH',
            [value(_INPUT, *models.LR_SHAPES[scale])],
            [value(_OUTPUT, images.HEIGHT, images.WIDTH)],
            graph.arrays,
        ),
        opset_imports=[helper.make_opsetid('', _OPSET)],
        ir_version=_IR_VERSION,
        producer_name='sicnn_jax',
    )
    helper.set_model_props(model, describe(record))
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def stages(params: Mapping[str, Any]) -> Iterator[int]:
    """Numbers of the upscaling stages that a CNNH has: 1 to 3, or 2 and 3 (scale 4)."""
    return (stage for stage in (1, 2, 3) if f'deconv{stage}' in params)


class _Graph:
    """ONNX nodes, each by default fed by the one before it."""

    def __init__(self, helper: types.ModuleType) -> None:
        self._helper = helper
        self.nodes: list[Any] = []
        self.arrays: list[Any] = []
        self.last = ''

    def add(self, kind, *inputs, output='', **attributes):
        self.last = output or f'{kind}_{len(self.nodes)}'
        self.nodes.append(
            self._helper.make_node(kind, inputs, [self.last], **attributes)
        )
        return self.last

    def array(self, name, value):
        from onnx import numpy_helper

        value = np.array(value, np.float32, order='C')
        self.arrays.append(numpy_helper.from_array(value, name))
        return name

    def conv(self, name, params, x):
        k = params['kernel'].shape[0]
        kernel = self.array(f'{name}.weight', params['kernel'].transpose(3, 2, 0, 1))
        bias = self.array(f'{name}.bias', params['bias'])
        return self.add('Conv', x, kernel, bias, pads=[k // 2] * 4)

    def deconv(self, name, params, x):
        k = params['kernel'].shape[0]
        # ONNX scatters where JAX gathers, so the kernel is turned around.
        kernel = params['kernel'][::-1, ::-1].transpose(2, 3, 0, 1)
        kernel = self.array(f'{name}.weight', kernel)
        bias = self.array(f'{name}.bias', params['bias'])
        # Of the 2h + k − 2 rows the 'SAME' ones, before which JAX has ⌈k / 2⌉ zeros.
        before = k - 1 - (k + 1) // 2
        after = k - 2 - before
        return self.add(
            'ConvTranspose',
            x,
            kernel,
            bias,
            strides=[2, 2],
            pads=[before, before, after, after],
        )

    def enlarge(self, x, scale):
        """Bicubic as `jax.image.resize`: a = −0.5, weights at edges normalised."""
        scales = self.array('enlargement.scales', [1, 1, scale, scale])
        return self.add(
            'Resize',
            x,
            '',
            scales,
            mode='cubic',
            cubic_coeff_a=-0.5,
            exclude_outside=1,
            coordinate_transformation_mode='half_pixel',
        )

    def prelu(self, name, params, x):
        slope = self.array(f'{name}.weight', params['slope'].reshape(-1, 1, 1))
        return self.add('PRelu', x, slope)

    def dense_block(self, name, params, x):
        for layer in range(1, len(params) // 2 + 1):
            y = self.conv(f'{name}.conv{layer}', params[f'conv{layer}'], x)
            y = self.prelu(f'{name}.prelu{layer}', params[f'prelu{layer}'], y)
            x = self.add('Concat', x, y, axis=1)
        return x


def _add_cnnh(graph, params):
    """The layers of `models.CNNH` but for its tanh, NCHW."""

    def conv_prelu(kind, name, prelu, x):
        return graph.prelu(prelu, params[prelu], kind(name, params[name], x))

    x = conv_prelu(graph.conv, 'stem', 'stem_prelu', graph.last)
    for stage in stages(params):
        block = f'dense_block{stage}'
        x = graph.dense_block(block, params[block], x)
        x = conv_prelu(graph.deconv, f'deconv{stage}', f'deconv_prelu{stage}', x)
        x = conv_prelu(graph.conv, f'mapping{stage}', f'mapping_prelu{stage}', x)
    x = graph.dense_block('dense_block_final', params['dense_block_final'], x)
    graph.conv('reconstruction', params['reconstruction'], x)


def _missing(kind, package):
    return MissingExtraError(
        f"--format={kind} needs the package {package}: pip install 'sicnn_jax[export]'."
    )


def export(
    checkpoint: str | os.PathLike | None,
    kind: str,
    out: Path,
    *,
    scale: int | None = None,
    half: bool = False,
) -> None:
    """Writes a trained CNNH as a file; a `stablehlo` one has `describe` beside it.

    Args:
      checkpoint, scale: as `source` and `scale` of `workdir.load_cnnh`.
      kind: of `FORMATS`.
      out: the file, written whole or not at all.
      half: of `safetensors`: in float16.

    Raises:
      ValueError: the format is unknown or has no `half`, a number is too large for
        it, the checkpoint is none, or an extra is missing.
    """
    writers: dict[str, Callable[..., bytes]] = {
        'onnx': to_onnx,
        'stablehlo': to_stablehlo,
        'safetensors': functools.partial(to_safetensors, half=half),
    }
    if kind not in writers:
        raise ValueError(f'format is {kind!r}; expected one of {", ".join(FORMATS)}.')
    if half and kind != 'safetensors':
        raise ValueError(f'half is for the format safetensors; this one is {kind}.')
    params, record, _ = workdir.load_cnnh(checkpoint, scale)
    write_whole(out, writers[kind](params, record))
    if kind == 'stablehlo':
        text = json.dumps(describe(record), indent=2, ensure_ascii=False) + '\n'
        write_whole(out.with_name(out.name + '.json'), text.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m sicnn_jax.export', description=__doc__.splitlines()[0]
    )
    workdir.add_network_flags(parser)
    parser.add_argument('--format', required=True, choices=FORMATS)
    parser.add_argument('--out', required=True, type=Path, help='the file to write')
    parser.add_argument('--half', action='store_true', help='safetensors in float16')
    return command.run(_export, parser.parse_args(arguments))


def _export(options):
    export(
        options.checkpoint,
        options.format,
        options.out,
        scale=options.scale,
        half=options.half,
    )
    if options.checkpoint is None:
        print(weights.NOTICE)
    print(f'{options.out} written: {options.out.stat().st_size:,} bytes.')


if __name__ == '__main__':
    sys.exit(main())
