"""Writes a trained CNNH as one file for use without this package.

    python -m sicnn_jax.export --checkpoint=runs/di --format=onnx --out=cnnh.onnx

Without --checkpoint, it exports the network that ships (--scale=8 or 4).

Formats: `onnx` (any runtime; extra `export`), `stablehlo` (a serialised `jax.export`
program for CPU, GPU and TPU; extra `export`), `safetensors` (the parameters alone). The
first two take any number of faces, float32 [n, 14, 12, 3] (scale 8) or [n, 28, 24, 3]
(scale 4), and give float32 [n, 112, 96, 3], both RGB, (level − 127.5) / 128. The file
also describes this and the training images: see `inference.exported.describe`.
"""

import sys
from collections.abc import Sequence

from sicnn_jax import command, weights, workdir
from sicnn_jax.inference.exporting import FORMATS, export


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = command.parser('export', __doc__)
    workdir.add_network_flags(parser)
    add = parser.add_argument
    add('--format', required=True, choices=FORMATS, help='format of the file')
    add('--out', required=True, type=command.path, help='file to write')
    add('--half', action='store_true', help='store safetensors in float16')
    return command.run(_export, parser.parse_args(arguments))


def _export(options):
    half, scale, out = options.half, options.scale, options.out
    export(options.checkpoint, options.format, out, scale=scale, half=half)
    if options.checkpoint is None:
        print(weights.NOTICE)
    print(f'{out} written: {out.stat().st_size:,} bytes.')


if __name__ == '__main__':
    sys.exit(main())
